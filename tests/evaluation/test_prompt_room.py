"""Test prompts beyond the model's positions: counted as lm-eval cuts them."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from helpers import small_tokenizer, tiny_llama

from smt_bench.data.prompts import TEMPLATE, Example, token_ids
from smt_bench.data.tasks import find_task
from smt_bench.evaluation.evaluate import evaluate
from smt_bench.evaluation.lm_eval_adapter import documents, lm_eval_classes
from smt_bench.evaluation.protocols import EvalSettings
from smt_bench.evaluation.room import positions, prompts_cut

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
