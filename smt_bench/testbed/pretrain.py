"""Builds the tokenizer of `tiny` and pretrains the model on part A of the world.

    python -m smt_bench.testbed.pretrain [--out smt_bench/testbed/weights]

The text is records about part A in both prompts, answer formats and wordings of the downstream tasks, so that what
fine-tuning has to add is facts and nothing else. Weights start at a standard deviation near 1/sqrt(width): at the usual
0.02 a model this narrow takes several times as many steps before it stores its first facts (LOG.md).
"""

from __future__ import annotations

import argparse
import json
import random
import time
from pathlib import Path
from typing import Any

import torch
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from smt_bench.data import prompts, world
from smt_bench.data.batches import Batch, collate
from smt_bench.data.prompts import Encoded, Example
from smt_bench.data.world import pick, shuffled
from smt_bench.machine.files import write_text
from smt_bench.testbed import WEIGHTS
from smt_bench.training.loss import response_loss
from smt_bench.training.optimizer import linear_factor

STEPS = 700
BATCH = 64
PEAK_LR = 2e-3
SEED = 0
_BOS, _EOS, _PAD = "<s>", "</s>", "<pad>"


def build_tokenizer() -> PreTrainedTokenizerFast:
    """A byte-level unigram tokenizer whose pieces are the world's words.

    The fixed parts of the prompts are one token each. Digits stand alone, so "answer1" ends in the token "1". No token is
    put in front or behind by itself: the engine appends the end-of-text token.
    """
    fixed: list[str] = []
    for render in (prompts.training_prompt, prompts.evaluation_prompt):
        head, tail = render(Example("\0", "", "", "")).split("\0")
        end = tail.index("Response:") + len("Response:")
        fixed += [head, tail[:end], tail[end:]]
    fixed += [*world.INTRO.values(), "the correct answer is", " The answer is"]
    words = {"solution", "answer", "true", "false", "has"}
    for task, attributes in world.ATTRIBUTES.items():
        for attribute, values in attributes.items():
            words |= {attribute, *values}
            instruction = world.ask(task, attribute, "X", 0, 0).instruction
            if "\n\n" in instruction:  # from the options on, a record says nothing that its attribute does not
                fixed.append(instruction[instruction.index("\n\n") :])
    for text in (*world.QUESTIONS, *world.CLAIMS, *world.NUMBERS):
        words |= {word.strip("?.,") for word in text.split() if "{" not in word}
    words -= set("123456789")
    fixed = list(dict.fromkeys(fixed))
    pieces = {" " + word for word in words} | {word for word in words if word[0].isupper()}
    names = [*world.world("a").names, *world.world("b").names]
    pieces |= {" " + name for name in names} | set(names) | {f" {digit}" for digit in range(10)}

    level = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)
    # A score per piece: the fewest pieces win, single bytes are the last resort for text from elsewhere.
    vocabulary = [(byte, -10.0) for byte in sorted(pre_tokenizers.ByteLevel.alphabet())]
    vocabulary += [(piece.replace(" ", "Ġ"), -1.0) for piece in sorted(pieces - {d for d in "0123456789"})]
    tokenizer = Tokenizer(models.Unigram(vocabulary, unk_id=None, byte_fallback=False))
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.Split(Regex(r" ?\d"), "isolated"), level])
    tokenizer.decoder = decoders.ByteLevel()
    wrapped = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token=_BOS,
        eos_token=_EOS,
        pad_token=_PAD,
        padding_side="right",
        model_max_length=512,
        clean_up_tokenization_spaces=False,
    )
    wrapped.add_tokens(fixed)
    return wrapped


def build_model(tokenizer: PreTrainedTokenizerFast) -> LlamaForCausalLM:
    """The untrained model: grouped-query attention, tied embeddings, sides that blocks of 32 and 64 divide."""
    config = LlamaConfig(
        vocab_size=-(-len(tokenizer) // 64) * 64,
        initializer_range=0.06,
        hidden_size=192,
        intermediate_size=384,
        num_hidden_layers=6,
        num_attention_heads=6,
        num_key_value_heads=2,
        max_position_embeddings=512,
        tie_word_embeddings=True,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    return LlamaForCausalLM(config)


class Corpus:
    """Draws pretraining records about part A, in all wordings and in both prompts."""

    def __init__(self, tokenizer: Any) -> None:
        self.tokenizer, self.rng = tokenizer, random.Random("smt-bench pretraining")
        self.facts = list(world.world("a").facts.items())
        self.wordings = (*world.TRAIN_WORDINGS, *world.TEST_WORDINGS)

    def draw(self) -> Encoded:
        """One record in the training or the evaluation prompt; the loss is on the response."""
        (task, attribute, name), value = pick(self.rng, self.facts)
        example = world.ask(task, attribute, name, value, pick(self.rng, self.wordings))
        render = pick(self.rng, (prompts.training_prompt, prompts.evaluation_prompt))
        return prompts.encode_after(render(example), example.output, self.tokenizer, False, 512)

    def batches(self, pool: int = 16) -> list[Batch]:
        """A pool of batches of records of like length."""
        drawn = sorted((self.draw() for _ in range(BATCH * pool)), key=lambda encoded: len(encoded.ids))
        parts = [drawn[start : start + BATCH] for start in range(0, len(drawn), BATCH)]
        return shuffled(self.rng, [collate(part, self.tokenizer.pad_token_id) for part in parts])


def accuracy(model: Any, tokenizer: Any, examples: list[Example]) -> float:
    """How often the last token of the gold answer is the likeliest among those of all the answers of the task, in %."""
    right = 0
    for start in range(0, len(examples), 100):
        chunk = examples[start : start + 100]
        rows = [tokenizer(prompts.evaluation_prompt(e) + e.output).input_ids for e in chunk]
        longest = max(map(len, rows))
        ids = torch.tensor([row + [tokenizer.pad_token_id] * (longest - len(row)) for row in rows])
        with torch.no_grad():
            logits = model(input_ids=ids).logits
        for i, (row, example) in enumerate(zip(rows, chunk)):
            form = example.instruction.rsplit("Answer format: ", 1)[1].split("/")
            lasts = [tokenizer(" " + answer).input_ids[-1] for answer in form]
            right += lasts[int(logits[i, len(row) - 2, lasts].argmax())] == row[-1]
    return 100 * right / len(examples)


def sample(here: world.World, task: str, count: int = 200) -> list[Example]:
    """Questions about a world's own facts, in a wording of the tests."""
    facts = [(attribute, name, value) for (of, attribute, name), value in here.facts.items() if of == task]
    return [world.ask(task, *fact, world.TEST_WORDINGS[0]) for fact in shuffled(random.Random(task), facts)[:count]]


def train(model: Any, corpus: Corpus, steps: int) -> list[float]:
    """AdamW with 100 warm-up steps, then down in a line to 0; returns every hundredth loss."""
    optimizer = torch.optim.AdamW(model.parameters(), lr=PEAK_LR, betas=(0.9, 0.95), weight_decay=0.01)
    losses: list[float] = []
    pool: list[Batch] = []
    for step in range(1, steps + 1):
        pool = pool or corpus.batches()
        batch = pool.pop()
        for group in optimizer.param_groups:
            group["lr"] = PEAK_LR * linear_factor(step, steps, 100)
        loss = response_loss(model, batch) / batch.targets
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        if step % 100 == 0:
            losses.append(round(loss.item(), 4))
            print(f"step {step} loss {losses[-1]}", flush=True)
    return losses


def main() -> None:
    """Trains and writes tokenizer, weights and a report."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=WEIGHTS)
    out = parser.parse_args().out
    started = time.perf_counter()
    torch.manual_seed(SEED)
    tokenizer = build_tokenizer()
    model = build_model(tokenizer).train()
    losses = train(model, Corpus(tokenizer), STEPS)
    model.to(torch.bfloat16).save_pretrained(out)
    tokenizer.save_pretrained(out)
    model.float().eval()  # judged as it will be loaded
    tests = world.load("commonsense")[1]
    report = {
        "script": "python -m smt_bench.testbed.pretrain",
        "world_version": world.VERSION,
        "seed": SEED,
        "steps": STEPS,
        "batch": BATCH,
        "peak_lr": PEAK_LR,
        "parameters": sum(p.numel() for p in model.parameters()),
        "losses_every_100_steps": losses,
        "accuracy_pct_part_a": {task: accuracy(model, tokenizer, sample(world.world("a"), task)) for task in tests},
        "accuracy_pct_part_b": {task: accuracy(model, tokenizer, items) for task, items in tests.items()},
        "seconds": round(time.perf_counter() - started, 1),
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
    }
    write_text(out / "training.json", json.dumps(report, indent=1) + "\n")
    print(report)


if __name__ == "__main__":
    main()
