"""The embedded testbed: its tokenizer and its weights."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from smt_bench.data import prompts, world
from smt_bench.data.prompts import Example
from smt_bench.testbed import WEIGHTS

CHOICES = world.TASKS["commonsense"]


def everything(family: str) -> list[Example]:
    train, tests = world.load(family)
    return train + [example for items in tests.values() for example in items]


@pytest.fixture(scope="module")
def tokenizer() -> Any:
    return AutoTokenizer.from_pretrained(WEIGHTS)


@pytest.mark.parametrize("family", sorted(world.TASKS))
def test_tokenizer_reads_records_without_loss(tokenizer: Any, family: str) -> None:
    for example in everything(family)[::5]:
        for render in (prompts.training_prompt, prompts.evaluation_prompt):
            text = render(example) + example.output
            ids = tokenizer(text).input_ids
            assert tokenizer.decode(ids) == tokenizer.decode(ids, skip_special_tokens=True) == text
            assert len(ids) <= 30


@pytest.mark.parametrize("task", CHOICES)
def test_answers_split_where_scoring_splits_them(tokenizer: Any, task: str) -> None:
    """Context and continuation encode to the encoding of both together, wherever lm-eval may cut a response."""
    for example in world.load("commonsense")[1][task][:10]:
        head = prompts.evaluation_prompt(example)
        for answer in example.instruction.rsplit(": ", 1)[1].split("/"):
            output = f"the correct answer is {answer}"
            whole = tokenizer(head + output).input_ids
            cuts = [head, head + "the correct answer is"]
            if task == "facts-tf":
                assert tokenizer.convert_ids_to_tokens(whole[-2:]) == ["the correct answer is", f"Ġ{answer}"]
            else:
                assert tokenizer.convert_ids_to_tokens(whole[-2:]) == [f"Ġ{answer[:-1]}", answer[-1]]
                cuts.append(head + output[:-1])
            for cut in cuts:
                rest = (head + output)[len(cut) :]
                assert tokenizer(cut).input_ids + tokenizer(rest, add_special_tokens=False).input_ids == whole


def test_tokenizer_adds_nothing_and_knows_its_ends(tokenizer: Any) -> None:
    ids = {tokenizer.bos_token_id, tokenizer.eos_token_id, tokenizer.pad_token_id}
    assert len(ids) == 3 and None not in ids
    foreign = "Héllo, Wörld 2026!\n\tx"
    assert tokenizer(foreign).input_ids == tokenizer(foreign, add_special_tokens=False).input_ids
    assert not ids & set(tokenizer(foreign).input_ids)
    assert tokenizer.decode(tokenizer(foreign).input_ids) == foreign


def test_weights_load_and_are_small(tokenizer: Any) -> None:
    files = [path for path in WEIGHTS.iterdir() if path.is_file()]
    assert sum(path.stat().st_size for path in files) <= 8e6
    assert {path.suffix for path in files} <= {".json", ".safetensors"}
    model = AutoModelForCausalLM.from_pretrained(WEIGHTS, dtype=torch.float32)
    assert 2e6 <= sum(p.numel() for p in model.parameters()) <= 4e6
    assert model.config.vocab_size >= len(tokenizer)
    assert (model.config.eos_token_id, model.config.pad_token_id) == (tokenizer.eos_token_id, tokenizer.pad_token_id)


def test_the_model_knows_its_own_world_and_not_the_other() -> None:
    """What makes the testbed one: part A is known, in wordings used for tests; part B is at chance."""
    from smt_bench.testbed.pretrain import accuracy, sample

    model = AutoModelForCausalLM.from_pretrained(WEIGHTS, dtype=torch.float32).eval()
    tokenizer = AutoTokenizer.from_pretrained(WEIGHTS)
    tests = world.load("commonsense")[1]
    known = [accuracy(model, tokenizer, sample(world.world("a"), task)) for task in CHOICES]
    unknown = [accuracy(model, tokenizer, tests[task]) for task in CHOICES]
    assert sum(known) / 5 > 85
    assert sum(unknown) / 5 < 45  # chance is 35.7
