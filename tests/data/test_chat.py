"""Conversations: the template, and a loss that is on the assistant's turns alone."""

from __future__ import annotations

from typing import Any

import pytest
from helpers import small_tokenizer
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from smt_bench.data import chat, chat_world, families, prompts
from smt_bench.data.cut import response_tokens
from smt_bench.data.datasets import unread
from smt_bench.data.example import Chat, Example, Posed, Turn, chat_of
from smt_bench.data.loading import load
from smt_bench.data.prompts import IGNORED, encode, question
from smt_bench.data.sources import sources
from smt_bench.models import build, locate

ASK, SAY = Turn("user", " Which food? "), Turn("assistant", "figs\n")
LONG = chat_of(
    (Turn("system", "Be short."), ASK, SAY, Turn("user", "And home?"), Turn("user", "Now."), Turn("assistant", "cave"))
)


def spaced() -> Any:
    """A tokenizer as LLaMA's: a space put before the text, and spaces that belong to the next word."""
    letters = sorted({c for t in LONG.turns for c in t.content} | set("<|>usertsistanysem\n"))
    pieces = [("<unk>", 0.0), ("</s>", 0.0), ("▁", -1.0), *((c, -2.0) for c in letters if c != " "), ("▁food", -1.0)]
    made = Tokenizer(models.Unigram(pieces, unk_id=0, byte_fallback=False))
    made.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="first")
    made.decoder = decoders.Metaspace(prepend_scheme="first")
    return PreTrainedTokenizerFast(tokenizer_object=made, unk_token="<unk>", eos_token="</s>")


TOKENIZERS = {"tiny": lambda: build.tokenizer(locate.locate("tiny")), "small": small_tokenizer, "spaced": spaced}


@pytest.fixture(params=TOKENIZERS)
def tokenizer(request: pytest.FixtureRequest) -> Any:
    return TOKENIZERS[request.param]()


def test_the_text_is_the_papers_and_the_loss_is_on_what_the_assistant_says(tokenizer: Any) -> None:
    text = (
        "<|system|>\nBe short.\n<|user|>\nWhich food?\n<|assistant|>\nfigs</s>\n"
        "<|user|>\nAnd home?\n<|user|>\nNow.\n<|assistant|>\ncave"
    ).replace("</s>", tokenizer.eos_token)
    item = encode(LONG, tokenizer, chat.NAME, False, 1000)
    assert list(item.ids) == [*prompts.token_ids(tokenizer, text), tokenizer.eos_token_id]
    learned = [[]]
    for number, label in zip(item.ids, item.labels):
        assert label in (IGNORED, number)
        if label != IGNORED:
            learned[-1].append(number)
            learned += [[]] if number == tokenizer.eos_token_id else []
    said = [tokenizer.decode(ids, skip_special_tokens=True).strip() for ids in learned[:-1]]
    assert said == ["figs", "cave"] and learned[-1] == []
    everything = encode(LONG, tokenizer, chat.NAME, True, 1000)
    assert everything.ids == everything.labels == item.ids


def test_one_turn_is_encoded_like_a_question_with_its_response(tokenizer: Any) -> None:
    plain = Example("Which food?", "", "figs", "")
    for cutoff in (5, 30, 300):
        assert encode(chat_of((ASK, SAY)), tokenizer, chat.NAME, False, cutoff) == encode(
            plain, tokenizer, chat.NAME, False, cutoff
        )


def test_a_cut_takes_the_end_and_changes_nothing_before_it(tokenizer: Any) -> None:
    whole = encode(LONG, tokenizer, chat.NAME, False, 1000)
    for cutoff in range(1, len(whole.ids)):
        item = encode(LONG, tokenizer, chat.NAME, False, cutoff)
        assert (item.ids, item.labels) == (whole.ids[:cutoff], whole.labels[:cutoff])
    assert response_tokens(whole) == sum(label != IGNORED for label in whole.labels)


def test_what_follows_the_last_answer_is_left_out() -> None:
    more = chat_of((*LONG.turns, Turn("user", "bye")))
    assert more == LONG and LONG.output == "figs\n\ncave"
    assert chat_of((ASK,)).output == "" and chat_of((ASK,)).turns == ()


def test_conversations_are_not_for_other_templates() -> None:
    with pytest.raises(ValueError, match="'llm-adapters' is not for conversations: train on them with 'tulu'"):
        encode(LONG, small_tokenizer(), "llm-adapters", False, 100)


def test_a_tokenizer_that_spells_its_end_of_text_is_refused() -> None:
    made = spaced()
    made.eos_token = "figs"  # read letter by letter, unlike a token that was added
    made._tokenizer.add_special_tokens([])
    broken = type("Spells", (), {"eos_token": "ca", "eos_token_id": 1, "__call__": lambda self, text: made(text)})()
    with pytest.raises(ValueError, match="does not read 'ca' as one end-of-text token"):
        encode(LONG, broken, chat.NAME, False, 1000)


def test_a_benchmarks_question_may_begin_the_answer() -> None:
    asked = Posed("Add.", "1, 2", "", "3", "def f():\n")
    assert question(asked, chat.NAME) == "<|user|>\nAdd.\n\n1, 2\n<|assistant|>\ndef f():\n"
    assert prompts.prompt(asked, chat.NAME) == "<|user|>\nAdd.\n\n1, 2\n<|assistant|>\n"


@pytest.mark.parametrize("mixture", chat_world.MIXTURES)
def test_an_embedded_mixture_teaches_what_its_benchmarks_ask_in_other_words(mixture: str) -> None:
    known = families.find("instructions").mixture_of(mixture)
    data = load(None, "instructions", [], 0, None, mixture=mixture)
    assert known is not None and len(data.train) == known.size == len(unread("instructions", 0, mixture).train)
    assert tuple(data.tests) == known.tasks == chat_world.MIXTURES[mixture]
    asked = {turn.content for e in data.train if isinstance(e, Chat) for turn in e.turns if turn.role == "user"}
    said = " ".join(e.output for e in data.train)
    for tests in data.tests.values():
        assert not asked & {e.instruction for e in tests}
        assert all(e.output in said for e in tests)  # the same fact, in a training record
        assert len(set(sources(families.find("instructions"), tests))) == 30  # beings
    assert load(None, "instructions", [], 0, None, seed=3, mixture=mixture).train_sha256 != data.train_sha256
    assert any(len(e.turns) > 2 for e in data.train if isinstance(e, Chat)) is (mixture == chat_world.MIXED)


def test_an_unknown_mixture_is_refused() -> None:
    with pytest.raises(ValueError, match="instructions has no mixture 'flan': choose from world-short, "):
        load(None, "instructions", [], 0, None, mixture="flan")
