"""Which test prompts exceed a model's positions: lm-eval cuts them from the left."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from smt_bench.data.prompts import Example, token_ids
from smt_bench.data.tasks import find_task
from smt_bench.evaluation.lm_eval_adapter import documents
from smt_bench.evaluation.protocols import EvalSettings

_UNSAID = 2048  # lm-eval's assumption about a model that says nothing
_UNLIMITED = 1e18  # a tokenizer that knows no limit says a larger number


def positions(config: Any, tokenizer: Any) -> int:
    """Tokens that the model takes at most, as lm-eval finds out."""
    config = getattr(config, "text_config", None) or config
    for name in ("n_positions", "max_position_embeddings", "n_ctx"):
        if (found := getattr(config, name, None)) is not None:
            return int(found)
    said = getattr(tokenizer, "model_max_length", None)
    return int(said) if said is not None and said < _UNLIMITED else _UNSAID


def prompts_cut(
    tests: Mapping[str, Sequence[Example]], tokenizer: Any, settings: EvalSettings, limit: int
) -> dict[str, int]:
    """By task, how many prompts (with their longest answer option, or room for the answer) exceed the positions."""
    found = {}
    for name, examples in tests.items():
        task = find_task(name)
        docs = documents(task, examples, tokenizer, settings)
        if settings.protocol_of(task) == "llm-adapters":
            texts, room = [doc["text"] for doc in docs], limit - settings.new_tokens(task)
        else:
            texts = [doc["text"] + max(doc["choices"], key=len) for doc in docs]
            room = limit + 1  # the last token is only predicted
        found[name] = sum(len(token_ids(tokenizer, text)) > room for text in texts)
    return found
