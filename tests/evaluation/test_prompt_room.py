"""Test prompts beyond the model's positions: counted as lm-eval cuts them."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from helpers import small_tokenizer, tiny_llama
from transformers import LlamaConfig

from smt_bench.data.prompts import TEMPLATE, Example, token_ids
from smt_bench.data.tasks import find_task
from smt_bench.evaluation.beams import prompt_bytes
from smt_bench.evaluation.evaluate import evaluate
from smt_bench.evaluation.lm_eval_adapter import documents
from smt_bench.evaluation.lm_eval_model import lm_eval_classes
from smt_bench.evaluation.protocols import EVAL_BATCH, EvalSettings
from smt_bench.evaluation.room import batch_size, fitting, positions, prompts_cut

WORDS = (0, 3, 9, 20, 60, 61)
CHOICE = "Answer1: a Answer2: b Answer3: c"
TESTS = {
    "openbookqa": [Example(f"{'word ' * n}{n}? {CHOICE}", "", "", "answer1") for n in WORDS],
    "gsm8k": [Example("word " * n + str(n), "", "", "5") for n in WORDS],
}


@pytest.mark.parametrize("protocol", ["likelihood", "llm-adapters"])
@pytest.mark.parametrize("beyond", [-40, -1, 0, 1, 1000])
def test_prompts_are_counted_as_lm_eval_cuts_them(protocol: str, beyond: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """What reaches the model begins with <s> unless it was cut from the left; around the limit of the fourth prompt."""
    settings = EvalSettings(protocol, 1, 4, 8, 1, TEMPLATE)
    tokenizer = small_tokenizer()
    seen: set[tuple[int, ...]] = set()
    language_model, _ = lm_eval_classes()
    plain = {name: getattr(language_model, name) for name in ("_model_call", "_model_generate")}

    def watched(name: str) -> Any:
        def call(self: Any, *args: Any, **kwargs: Any) -> Any:
            ids_BT = args[0] if args else kwargs["context"]
            seen.update(tuple(row) for row in ids_BT.tolist())
            return plain[name](self, *args, **kwargs)

        return call

    for name in plain:
        monkeypatch.setattr(language_model, name, watched(name))
    for name, examples in TESTS.items():
        task = find_task(name)
        fourth = len(token_ids(tokenizer, documents(task, examples, tokenizer, settings)[3]["text"]))
        limit = fourth + beyond + (0 if settings.protocol_of(task) == "likelihood" else settings.new_tokens(task))
        seen.clear()
        evaluate(tiny_llama(max_position_embeddings=limit), tokenizer, {name: examples}, settings)
        cut = sum(row[0] != tokenizer.bos_token_id for row in seen)
        assert len(seen) == len(examples)
        assert prompts_cut({name: examples}, tokenizer, settings, limit) == {name: cut}
        assert cut == {-40: 3, -1: 3, 0: 2, 1: 2, 1000: 0}[beyond]


@pytest.mark.parametrize("changes", [{}, {"max_position_embeddings": 77}])
def test_positions_are_those_that_lm_eval_finds(changes: dict[str, int]) -> None:
    model, tokenizer = tiny_llama(**changes), small_tokenizer()
    lm = lm_eval_classes()[0](pretrained=model, tokenizer=tokenizer, batch_size=1)
    assert positions(model.config, tokenizer) == lm.max_length
    nested = SimpleNamespace(text_config=SimpleNamespace(n_ctx=9), max_position_embeddings=5)
    assert positions(nested, tokenizer) == 9
    assert positions(SimpleNamespace(), SimpleNamespace(model_max_length=int(1e30))) == 2048
    assert positions(SimpleNamespace(), SimpleNamespace(model_max_length=300)) == 300


def test_prompts_at_a_time_follow_what_a_gpu_has_left() -> None:
    """LLaMA-7B, four beams of 256 + 32 tokens in bf16: half a megabyte of cache a token, twice while beams change places."""
    config = LlamaConfig(
        hidden_size=4096, intermediate_size=11008, num_hidden_layers=32, num_attention_heads=32, vocab_size=32000
    )
    settings = EvalSettings("llm-adapters", 4, 32, 256, 32, "llm-adapters")
    row = prompt_bytes(config, settings.beams, 288, 2, True)
    cache = 2 * 32 * 4096 * 2 * 288 * 4
    assert cache == 603_979_776 and 2 * cache < row < 2.3 * cache
    assert [batch_size(row, free) for free in (10**9, 10 * 10**9, 60 * 10**9, 10**15)] == [1, 2, 16, 256]
    assert batch_size(row, None) == EVAL_BATCH, "a CPU keeps the batch it had"
    fewer = prompt_bytes(LlamaConfig(**{**config.to_dict(), "num_key_value_heads": 8}), settings.beams, 288, 2, True)
    assert row - fewer == pytest.approx(2 * cache * 3 / 4), "grouped keys and values are as many fewer"
    scored = prompt_bytes(config, settings.beams, 288, 2, False)
    assert scored > 8 * 288 * 32000, "logits of every position"


def test_the_longest_prompt_decides_how_many_fit() -> None:
    model, tokenizer = tiny_llama(), small_tokenizer()
    settings = EvalSettings("likelihood", 1, 4, 8, 32, TEMPLATE)
    assert fitting(model, TESTS, tokenizer, settings, 64, None) == EVAL_BATCH
    short = {"gsm8k": TESTS["gsm8k"][:1]}
    free = 100 * prompt_bytes(model.config, settings.beams, 64, 4, False)
    assert (
        fitting(model, short, tokenizer, settings, 64, free) > fitting(model, TESTS, tokenizer, settings, 64, free) >= 1
    )
