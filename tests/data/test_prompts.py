"""Prompts: byte for byte those of the collection's scripts; tokens, masks and cut-offs across the border to the response."""

from __future__ import annotations

import hashlib
from typing import Any

import pytest
from helpers import ROOT, small_tokenizer
from tokenizers.processors import TemplateProcessing

from smt_bench.data import reading
from smt_bench.data.families import COMMONSENSE, MATH
from smt_bench.data.prompts import IGNORED, TEMPLATE, TEMPLATES, Example, encode, prompt, question, shared_start

CLAIM = "Please answer with true or false, question: is it?\n\nAnswer format: true/false"
PICK = "Pick: \n\nSolution1: left\n\nSolution2: right\n\nAnswer format: solution1/solution2"
CHOICE = "Is it?\n\nAnswer1: a Answer2: b\n\nAnswer format: answer1/answer2"
# Ten records in the collection's kinds, with their prompts' hashes (training, evaluation), made with `generate_prompt` of
# finetune.py and of commonsense_evaluate.py (AGI-Edgerunners/LLM-Adapters at 91770ab and 32e03af, NVlabs/DoRA at bd3ed6f).
RECORDS: list[tuple[Example, str, str]] = [
    (Example(CLAIM, "", "the correct answer is true", "true"), "199f73684b3212a0", "71e12886f9ef85ef"),
    (Example(PICK, "", "the correct answer is solution2", "solution2"),
     "2ebf1c564945da5b", "8560311947134c09"),
    (Example(CHOICE, "", "the correct answer is answer1", "answer1"), "4a56b4a98c40ffee", "7b59fe522efe5f06"),
    (Example(CHOICE, "Look.", "the correct answer is answer2", "answer2"), "73cb6b21097eec09", "7d898b395e7836b8"),
    (Example("How many?", "", "There are 2, so 3. The answer is 3.", "3.0"), "7dbe4d16521b4115", "8795c4d818039271"),
    (Example("How many?", "Two lines\nof input.", "The answer is 3.", "3.0"), "9e0a386c5280df79", "77fc7c07a946252a"),
    (Example(" spaces at both ends ", "", " and here ", "x"), "a411d819e161aa3e", "983afa9236801bcd"),
    (Example("Ein Satz über Größen – „ja“?", "", "naïve 答え", "x"), "faccf60d6b1f0024", "5f0e27bb49c185d7"),
    (Example("{braces} and \\n and %s", "{0}", "{}", "x"), "c5c1269de5b6fea3", "14818b84d0a46cd6"),
    (Example("A tab\there, a line\r\nthere", " ", "x", "x"), "34f22782a2a4491d", "21dde98f2a75fc9f"),
]  # fmt: skip
FIRST = "cea1ef0f1c242990"  # of the ten prompts of the collection's first days, one after the other


def sha(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def test_prompts_are_the_published_ones() -> None:
    for example, training, evaluation in RECORDS:
        assert (sha(prompt(example, TEMPLATE)), sha(question(example, TEMPLATE))) == (training, evaluation), example


def test_the_published_prompts_spelt_out() -> None:
    pad, plain = " " * 16, Example("Is it?", "", "yes", "yes")
    head = "Below is an instruction that describes a task. Write a response that appropriately completes the request."
    assert prompt(plain, TEMPLATE) == (
        f"{head}  \n\n{pad}### Instruction:\n{pad}Is it?\n{pad}\n{pad}### Response:\n{pad}"
    )
    assert question(plain, TEMPLATE) == f"{head} \n\n{pad}### Instruction:\n{pad}Is it?\n\n{pad}### Response:\n{pad}"
    longer = Example("Is it?", "Look.", "yes", "yes")
    assert f"the request. \n\n{pad}###" in prompt(longer, TEMPLATE)
    assert f"\n{pad}Is it?\n{pad}\n{pad}### Input:\n{pad}Look.\n{pad}\n{pad}### Resp" in prompt(longer, TEMPLATE)
    assert f"the request.\n\n{pad}###" in question(longer, TEMPLATE)
    assert f"\n{pad}Is it?\n\n{pad}### Input:\n{pad}Look.\n\n{pad}### Resp" in question(longer, TEMPLATE)


def test_older_records_keep_their_template_and_new_runs_have_the_new_one() -> None:
    assert sha("".join(prompt(e, "llm-adapters") for e, _, _ in RECORDS)) == FIRST
    assert all(prompt(e, "llm-adapters") == question(e, "llm-adapters") for e, _, _ in RECORDS)
    assert COMMONSENSE.template == MATH.template == TEMPLATE != "llm-adapters"
    for template in TEMPLATES:
        assert ("noqa" in prompt(RECORDS[0][0], template)) == (template == "llm-adapters")


@pytest.mark.parametrize(
    ("task", "hashed"), [("boolq", "b8a80a2792b885bb"), ("piqa", "b53cb9a0f2df9b25"), ("gsm8k", "8c196043da4705e1")]
)
def test_prompts_of_the_collections_own_records_are_the_published_ones(task: str, hashed: str) -> None:
    path = ROOT.parent / "shared" / "data" / "llm-adapters" / "dataset" / task / "test.json"
    if not path.is_file():
        pytest.skip("../shared/data/llm-adapters is not here")
    examples = reading.read_examples(path, ("input", "output"))[:10]
    assert sha("".join(prompt(e, TEMPLATE) + question(e, TEMPLATE) for e in examples)) == hashed


class Letters:
    """One token per character: enough of a tokenizer to see masks and cut-offs."""

    eos_token_id = 0

    def __call__(self, text: str) -> Any:
        return type("Ids", (), {"input_ids": [ord(c) for c in text]})


def test_masks_and_cutoff() -> None:
    example = Example("Q", "", "yes", "yes")
    head = len(prompt(example, TEMPLATE))
    masked = encode(example, Letters(), TEMPLATE, False, 500)
    assert list(masked.labels) == [IGNORED] * head + [ord(c) for c in "yes"] + [0]
    whole = encode(example, Letters(), TEMPLATE, True, 500)
    assert whole.labels == whole.ids == masked.ids
    cut = encode(example, Letters(), TEMPLATE, False, head + 2)
    assert list(cut.ids[-2:]) == [ord("y"), ord("e")]  # cut text gets no end-of-text token
    assert set(encode(example, Letters(), TEMPLATE, False, 10).labels) == {IGNORED}


class Pairs(Letters):
    """Joins characters in twos from the start, so that a prompt of odd length ends inside a token."""

    def __call__(self, text: str) -> Any:
        pairs = [text[i : i + 2] for i in range(0, len(text), 2)]
        return type("Ids", (), {"input_ids": [sum(ord(c) << 8 * k for k, c in enumerate(p)) for p in pairs]})


@pytest.mark.parametrize("instruction", ["Q", "QQ"])
def test_the_mask_ends_before_the_first_token_of_the_response(instruction: str) -> None:
    """A token that holds the last space and the first letter is to be learned: generation starts before it."""
    example = Example(instruction, "", "yes", "yes")
    head = prompt(example, TEMPLATE)
    item = encode(example, Pairs(), TEMPLATE, False, 500)
    assert item.labels.count(IGNORED) == len(head) // 2
    assert shared_start(Pairs(), head, item.ids) == (head[: len(head) // 2 * 2], len(head) // 2)


def test_the_mask_of_a_byte_level_tokenizer_leaves_the_response() -> None:
    tokenizer = small_tokenizer()
    for example, _, _ in RECORDS:
        item = encode(example, tokenizer, TEMPLATE, False, 5000)
        learned = tokenizer.decode([label for label in item.labels if label != IGNORED], skip_special_tokens=True)
        assert learned.strip() == example.output.strip()


def test_tokens_that_part_before_the_last_spaces_have_no_shared_start() -> None:
    assert shared_start(Letters(), "ab  ", [1, 2, 3]) is None


def appending(tokenizer: Any) -> Any:
    """The same tokenizer, putting the end-of-text token behind every text."""
    ends = [("<s>", tokenizer.bos_token_id), ("</s>", tokenizer.eos_token_id)]
    tokenizer.backend_tokenizer.post_processor = TemplateProcessing(single="<s> $A </s>", special_tokens=ends)
    assert tokenizer("x").input_ids[-1] == tokenizer.eos_token_id
    return tokenizer


@pytest.mark.parametrize("whole", [False, True])
@pytest.mark.parametrize("cutoff", [40, 5000])
def test_a_tokenizer_that_appends_the_end_trains_on_the_same_tokens(whole: bool, cutoff: int) -> None:
    for example, _, _ in RECORDS:
        plain = encode(example, small_tokenizer(), TEMPLATE, whole, cutoff)
        assert encode(example, appending(small_tokenizer()), TEMPLATE, whole, cutoff) == plain
