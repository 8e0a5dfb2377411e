"""Builds the tokenizer of `tiny` and pretrains the model on part A of the world.

    python -m smt_bench.testbed.pretrain [--minutes 12] [--out smt_bench/testbed/weights]

The text: plain statements, short questions with their answer, and records in the prompt template and answer formats of
the downstream tasks, so that what fine-tuning has to add is facts and nothing else.
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

from smt_bench import prompts
from smt_bench.prompts import Example
from smt_bench.testbed import WEIGHTS, world
from smt_bench.testbed.world import pick, shuffled

STEPS = 2400
BATCH = 64
PEAK_LR = 2e-3
SEED = 0
SIDE_WEIGHT = 0.0  # names cannot be predicted
_BOS, _EOS, _PAD = "<s>", "</s>", "<pad>"


def build_tokenizer() -> PreTrainedTokenizerFast:
    """A byte-level unigram tokenizer whose pieces are the world's words.

    The fixed parts of the prompts are one token each. Digits stand alone, so "answer1" ends in the token "1". No token is
    put in front or behind by itself: the engine appends the end-of-text token.
    """
    empty = prompts.llm_adapters(Example("\0", "", "", ""))
    head, tail = empty.split("\0")
    response, indent = tail[: tail.index("Response:") + 9], tail[tail.index("Response:") + 9 :]
    fixed = [head, response, indent, *world.INTRO.values(), "the correct answer is", " The answer is"]
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
    """Draws pretraining sequences about part A: records in the prompt template, with the loss on the response."""

    def __init__(self, tokenizer: Any, rng: random.Random) -> None:
        self.tokenizer, self.rng, self.here = tokenizer, rng, world.world("a")
        self.facts = list(self.here.facts.items())

    def draw(self) -> tuple[list[int], list[float]]:
        """One record as token ids and loss weights; prompts weigh little, names cannot be predicted."""
        (task, attribute, name), value = pick(self.rng, self.facts)
        example = world.ask(task, attribute, name, value, int(self.rng.random() * 5))
        encoded = prompts.encode(example, self.tokenizer, "llm-adapters", False, 512)
        return list(encoded.ids), [SIDE_WEIGHT if label == prompts.IGNORED else 1.0 for label in encoded.labels]

    def batches(self, size: int, pool: int = 16) -> list[tuple[torch.Tensor, torch.Tensor]]:
        """A pool of padded batches (ids, weights), each B,T, of sequences of like length."""
        drawn = sorted((self.draw() for _ in range(size * pool)), key=lambda pair: len(pair[0]))
        out = []
        for start in range(0, len(drawn), size):
            chunk = drawn[start : start + size]
            longest = max(len(ids) for ids, _ in chunk)
            ids = torch.tensor([i + [self.tokenizer.pad_token_id] * (longest - len(i)) for i, _ in chunk])
            weights = torch.tensor([w + [0.0] * (longest - len(w)) for _, w in chunk])
            out.append((ids, weights))
        return shuffled(self.rng, out)


def accuracy(model: Any, tokenizer: Any, examples: list[Example]) -> float:
    """How often the last token of the gold answer is the likeliest among those of all the answers of the task, in %."""
    right = 0
    for start in range(0, len(examples), 100):
        chunk = examples[start : start + 100]
        rows = [tokenizer(prompts.prompt(e, "llm-adapters") + e.output).input_ids for e in chunk]
        longest = max(map(len, rows))
        ids = torch.tensor([row + [tokenizer.pad_token_id] * (longest - len(row)) for row in rows])
        with torch.no_grad():
            logits = model(input_ids=ids).logits
        for i, (row, example) in enumerate(zip(rows, chunk)):
            form = example.instruction.rsplit("Answer format: ", 1)[1].split("/")
            lasts = [tokenizer(" " + answer).input_ids[-1] for answer in form]
            right += lasts[int(logits[i, len(row) - 2, lasts].argmax())] == row[-1]
    return 100 * right / len(examples)


def loss_of(model: Any, ids_BT: torch.Tensor, weights_BT: torch.Tensor) -> torch.Tensor:
    """Weighted next-token loss."""
    logits = model(input_ids=ids_BT).logits[:, :-1]
    losses = torch.nn.functional.cross_entropy(logits.flatten(0, 1), ids_BT[:, 1:].flatten(), reduction="none")
    weights = weights_BT[:, 1:].flatten()
    return (losses * weights).sum() / weights.sum()


def main() -> None:
    """Trains and writes tokenizer, weights and a report."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=WEIGHTS)
    parser.add_argument("--steps", type=int, default=STEPS)
    arguments = parser.parse_args()
    torch.manual_seed(SEED)
    rng = random.Random("smt-bench pretraining")
    tokenizer = build_tokenizer()
    model = build_model(tokenizer).train()
    corpus = Corpus(tokenizer, rng)
    optimizer = torch.optim.AdamW(model.parameters(), lr=PEAK_LR, betas=(0.9, 0.95), weight_decay=0.01)
    started, step, losses = time.perf_counter(), 0, []
    while step < arguments.steps:
        for ids, weights in corpus.batches(BATCH):
            step += 1
            rate = min(step / 100, (arguments.steps - step + 1) / (arguments.steps * 0.9), 1.0)
            for group in optimizer.param_groups:
                group["lr"] = PEAK_LR * max(rate, 0.0)
            loss = loss_of(model, ids, weights)
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            optimizer.zero_grad()
            if step % 300 == 0:
                model.eval(); print({task: accuracy(model, tokenizer, _sample(corpus.here, task)) for task in world.TASKS["commonsense"]}); model.train()
            if step % 100 == 0:
                losses.append(round(loss.item(), 4))
                print(f"step {step} loss {losses[-1]} {time.perf_counter() - started:.0f} s", flush=True)
            if step == arguments.steps:
                break
    model.eval()
    unknown = {t: accuracy(model, tokenizer, items) for t, items in world.load("commonsense")[1].items()}
    known = {t: accuracy(model, tokenizer, _sample(corpus.here, t)) for t in world.TASKS["commonsense"]}
    print("accuracy on part A", known, "on part B", unknown)
    model.to(torch.bfloat16).save_pretrained(arguments.out)
    tokenizer.save_pretrained(arguments.out)
    report = {
        "script": "python -m smt_bench.testbed.pretrain",
        "world_version": world.VERSION,
        "seed": SEED,
        "steps": arguments.steps,
        "batch": BATCH,
        "peak_lr": PEAK_LR,
        "parameters": sum(p.numel() for p in model.parameters()),
        "losses_every_100_steps": losses,
        "accuracy_pct_part_a": known,
        "accuracy_pct_part_b": unknown,
        "seconds": round(time.perf_counter() - started, 1),
        "threads": torch.get_num_threads(),
    }
    (arguments.out / "training.json").write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")


def _sample(here: world.World, task: str, count: int = 200) -> list[Example]:
    facts = [(a, n, v) for (t, a, n), v in here.facts.items() if t == task]
    return [world.ask(task, *fact, world.TEST_WORDINGS[0]) for fact in shuffled(random.Random(task), facts)[:count]]


if __name__ == "__main__":
    main()
