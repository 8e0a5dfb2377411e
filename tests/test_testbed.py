"""The embedded testbed: its data, its tokenizer and its weights."""

import hashlib
import json
from collections import Counter
from dataclasses import astuple
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from smt_bench import prompts
from smt_bench.prompts import Example
from smt_bench.testbed import WEIGHTS, world

# A change here changes every number measured with `tiny`: bump world.VERSION with it.
GOLDEN = {
    "commonsense": "?",
    "math": "?",
}
COMMONSENSE = world.TASKS["commonsense"]


def _flat(family: str) -> list[Example]:
    train, tests = world.load(family)
    return train + [example for items in tests.values() for example in items]


@pytest.fixture(scope="module")
def tokenizer() -> Any:
    return AutoTokenizer.from_pretrained(WEIGHTS)


@pytest.mark.parametrize("family", sorted(world.TASKS))
def test_data_are_the_same_everywhere(family: str) -> None:
    text = json.dumps([astuple(example) for example in _flat(family)])
    assert hashlib.sha256(text.encode()).hexdigest() == GOLDEN[family]


@pytest.mark.parametrize("family", sorted(world.TASKS))
def test_no_test_prompt_is_trained_on(family: str) -> None:
    train, tests = world.load(family)
    trained = {world.normalised(example) for example in train}
    for task, items in tests.items():
        prompts_seen = [world.normalised(example) for example in items]
        assert len(set(prompts_seen)) == len(items) == world.TEST_ITEMS, task
        assert not trained & set(prompts_seen), task


@pytest.mark.parametrize("task", COMMONSENSE)
def test_gold_answers_are_balanced(task: str) -> None:
    counts = Counter(example.answer for example in world.load("commonsense")[1][task])
    assert len(counts) == world.options(task)
    assert max(counts.values()) - min(counts.values()) <= 1


def test_parts_share_no_name() -> None:
    a, b = world.world("a"), world.world("b")
    assert not set(a.names) & set(b.names)
    for attribute, spec in world.ATTRIBUTES.items():
        counts = Counter(b.facts[name, attribute] for name in b.names)
        assert set(counts) == set(spec.values) and max(counts.values()) - min(counts.values()) <= 1


def test_gold_options_tell_the_facts() -> None:
    facts = world.world("b").facts
    for example in world.load("commonsense")[0]:
        if not example.answer.startswith("answer"):
            continue
        chosen = example.instruction.split(f"{example.answer.capitalize()}: ")[1].split()[0]
        assert any(
            value == chosen and f" {name} " in example.instruction.replace("?", " ")
            for (name, _), value in facts.items()
        )


def test_unknown_family_is_refused() -> None:
    with pytest.raises(ValueError, match="family='gsm8k'"):
        world.load("gsm8k")


@pytest.mark.parametrize("family", sorted(world.TASKS))
def test_tokenizer_reads_records_without_loss(tokenizer: Any, family: str) -> None:
    for example in _flat(family)[-600::7]:
        text = prompts.prompt(example, "llm-adapters") + example.output
        ids = tokenizer(text).input_ids
        assert tokenizer.decode(ids) == tokenizer.decode(ids, skip_special_tokens=True) == text
        assert len(ids) <= 45


@pytest.mark.parametrize("task", COMMONSENSE)
def test_answers_split_where_scoring_splits_them(tokenizer: Any, task: str) -> None:
    """Context + continuation encodes to the two encodings put together, for every way lm-eval may cut a response."""
    for example in world.load("commonsense")[1][task][:10]:
        head = prompts.prompt(example, "llm-adapters")
        for answer in example.instruction.rsplit(": ", 1)[1].split("/"):
            output = f"the correct answer is {answer}"
            whole = tokenizer(head + output).input_ids
            cuts = [head, head.rstrip(), head + "the correct answer is"]
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
    files = [path for path in Path(WEIGHTS).iterdir() if path.is_file()]
    assert sum(path.stat().st_size for path in files) <= 8e6
    assert {path.suffix for path in files} <= {".json", ".safetensors"}
    model = AutoModelForCausalLM.from_pretrained(WEIGHTS)
    assert {p.dtype for p in model.parameters()} == {torch.float32}
    assert 2e6 <= sum(p.numel() for p in model.parameters()) <= 4e6
    assert model.config.vocab_size >= len(tokenizer)
    assert (model.config.eos_token_id, model.config.pad_token_id) == (tokenizer.eos_token_id, tokenizer.pad_token_id)
