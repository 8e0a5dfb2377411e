"""Builds the tokenizer of `tiny` and pretrains the model on part A of the world.

    python -m smt_bench.testbed.pretrain [--minutes 12] [--out smt_bench/testbed/weights]

The text: plain statements, short questions with their answer, and records in the prompt template and answer formats of
the downstream tasks, so that what fine-tuning has to add is facts and nothing else.
"""

from __future__ import annotations

import random
from typing import Any

import torch
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from smt_bench import prompts
from smt_bench.prompts import Example
from smt_bench.testbed import world
from smt_bench.testbed.world import pick, shuffled

STEPS = 3600
BATCH = 64
PEAK_LR = 2e-3
SEED = 0
SIDE_WEIGHT = 0.1  # names and options cannot be predicted: enough to know the language, little of the capacity
_BOS, _EOS, _PAD = "<s>", "</s>", "<pad>"


def build_tokenizer() -> PreTrainedTokenizerFast:
    """A byte-level unigram tokenizer whose pieces are the world's words.

    The fixed parts of the prompts are one token each. Digits stand alone, so "answer1" ends in the token "1". No token is
    put in front or behind by itself: the engine appends the end-of-text token.
    """
    empty = prompts.llm_adapters(Example("\0", "", "", ""))
    head, tail = empty.split("\0")
    response, indent = tail[: tail.index("Response:") + 9], tail[tail.index("Response:") + 9 :]
    fixed = [head, response, indent, *dict.fromkeys(world.INTRO.values()), "the correct answer is", " The answer is"]
    here = world.world("a")
    for task in world.TASKS["commonsense"]:
        example = world.ask(here, random.Random(0), task, here.names[0], "colour", 0)
        fixed.append(example.instruction[example.instruction.index("\n\nAnswer format") :])
    fixed += ["\n\nSolution1:", "\n\nSolution2:", "\n\nAnswer1:"] + [f" Answer{i}:" for i in range(2, 6)]

    words = {"solution", "answer", "true", "false", "has", "have", "so", "legs", "Here", *"+-="}
    texts = [*world.SUM_QUESTIONS, *world.DIFFERENCE_QUESTIONS]
    for spec in world.ATTRIBUTES.values():
        texts += [spec.statement, *spec.questions, *spec.claims, *spec.values]
    for text in texts:
        words |= {word.strip("?.,") for word in text.split() if "{" not in word}
    pieces = {" " + word for word in words} | {word for word in words if word[0].isupper()}
    pieces |= {" " + first for first in world.FIRST} | set(world.SECOND) | {f" {digit}" for digit in range(10)}

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
    model = LlamaForCausalLM(config)
    with torch.no_grad():
        _give_heads(model)
    return model


def _give_heads(model: Any) -> None:
    """Starts some heads as what they would otherwise take most of the training to find.

    Choosing an option by its content is an induction: match the value, read the label before it. Small models sit on a
    long plateau before such heads appear. Here one head per chosen layer starts out looking at the previous token, and
    one group per layer at tokens of the same content (q = k, after Trockman and Kolter 2023, mimetic initialisation).
    All the rest is random, what residual branches write starts near zero, and everything is trained.
    """
    side, size, per = model.config.head_dim, model.config.hidden_size, 3  # per: query heads of a key/value head
    model.model.embed_tokens.weight.normal_(0, 0.05)
    model.model.embed_tokens.weight[:, 0] = 0.2  # a constant that position-only heads can look at
    for layer, block in enumerate(model.model.layers):
        attention = block.self_attn
        attention.o_proj.weight.mul_(0.1)
        block.mlp.down_proj.weight.zero_()
        same = torch.randn(side, size) * 0.08
        same[:, 0] = 0
        attention.k_proj.weight[:side] = same
        for head in range(per):
            attention.q_proj.weight[head * side : (head + 1) * side] = same
        if layer not in (0, 3):
            continue
        key, query = attention.k_proj.weight[side : 2 * side], attention.q_proj.weight[per * side : (per + 1) * side]
        key.zero_()
        query.zero_()
        for pair in range(3):  # rotary pair (pair, pair + side/2) turns by `angle` per position
            angle = torch.tensor(10000.0 ** (-2 * pair / side))
            key[pair, 0] = 1.7
            query[pair, 0], query[pair + side // 2, 0] = 1.7 * angle.cos(), -1.7 * angle.sin()
        attention.v_proj.weight[side : 2 * side].normal_(0, 0.07)
        attention.o_proj.weight[:, per * side : (per + 1) * side].normal_(0, 0.012)
        attention.o_proj.weight[0].zero_()


class Corpus:
    """Draws pretraining sequences as (token ids, loss weights)."""

    def __init__(self, tokenizer: Any, rng: random.Random) -> None:
        self.tokenizer, self.rng, self.here = tokenizer, rng, world.world("a")
        self.keys = list(self.here.facts)
        self.bos, self.eos = tokenizer.bos_token_id, tokenizer.eos_token_id

    def record(self, example: Example) -> tuple[list[int], list[float]]:
        """A record in the prompt template."""
        encoded = prompts.encode(example, self.tokenizer, "llm-adapters", False, 512)
        return list(encoded.ids), [SIDE_WEIGHT if label == prompts.IGNORED else 1.0 for label in encoded.labels]

    def choice(self, told: bool) -> tuple[list[int], list[float]]:
        """A commonsense record; all its weight lies on the token that makes the choice."""
        rng = self.rng
        task = pick(rng, world.TASKS["commonsense"])
        gold = int(rng.random() * world.options(task))
        ids, _ = self.record(world.ask(self.here, rng, task, *pick(rng, self.keys), gold, told))
        weights = [SIDE_WEIGHT] * len(ids)
        weights[-2] = 1.0
        return ids, weights

    def notes(self) -> tuple[list[int], list[float]]:
        """Three plain sentences, without the template; the weight lies on the values."""
        rng, here = self.rng, self.here
        ids, weights = [self.bos], [0.0]
        for _ in range(3):
            name, attribute = pick(rng, self.keys)
            spec, value, draw = world.ATTRIBUTES[attribute], here.facts[name, attribute], rng.random()
            if draw < 0.4:
                text = spec.statement.format(n=name, v=value)
            elif draw < 0.85:
                text = f"{pick(rng, spec.questions).format(n=name)} {value}."
            else:
                value = str(here.legs[name])
                text = f"{name} has {value} legs."
            pieces = self.tokenizer(" " + text).input_ids
            (known,) = self.tokenizer(" " + value).input_ids
            ids += pieces
            weights += [1.0 if piece == known else SIDE_WEIGHT for piece in pieces]
        return [*ids, self.eos], [*weights, SIDE_WEIGHT]

    def drill(self, verdicts: bool) -> tuple[list[int], list[float]]:
        """A value, options, which of them it is: choosing alone, at first with a verdict to learn after each option."""
        rng = self.rng
        values = shuffled(rng, world.ATTRIBUTES[pick(rng, list(world.ATTRIBUTES))].values)[: 2 + int(rng.random() * 4)]
        gold = int(rng.random() * len(values))
        ids = [self.bos, *self.tokenizer(f" {values[gold]}?").input_ids]
        weights = [0.0] * len(ids)
        for i, value in enumerate(values):
            label = f" Answer{i + 1}:" if i else "\n\nAnswer1:"
            ids += self.tokenizer(f"{label} {value}").input_ids
            weights += [0.0, 0.0]
            if verdicts:
                ids += self.tokenizer(" true" if i == gold else " false").input_ids
                weights += [1.0]
        ids += self.tokenizer(f"the correct answer is answer{gold + 1}").input_ids
        return ids, weights + [0.0, 0.0, 2.0]

    def draw(self, done: float) -> tuple[list[int], list[float]]:
        """One sequence; `done` in 0..1 is how far pretraining has come.

        First matching, then reading a fact and choosing, then facts and recall: in one mixture from the start the facts,
        which are easy to memorise, wipe out the heads that matching needs, and it is never learned.
        """
        kind = self.rng.random()
        if done < 0.1:
            return self.drill(verdicts=kind > 5 * done)
        if done < 0.25:
            return self.drill(verdicts=False) if kind < 0.3 else self.choice(told=True)
        if kind < 0.1:
            return self.record(world.count_legs(self.here, self.rng))
        if kind < 0.4 - 0.2 * done:
            return self.notes()
        return self.choice(told=self.rng.random() < max(0.1, 0.8 - done))

    def batches(self, size: int, done: float, pool: int = 16) -> list[tuple[torch.Tensor, torch.Tensor]]:
        """A pool of padded batches (ids, weights), each B,T, of sequences of like length."""
        drawn = sorted((self.draw(done) for _ in range(size * pool)), key=lambda pair: len(pair[0]))
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
