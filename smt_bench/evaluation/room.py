"""Room for judging: test prompts that exceed a model's positions, which lm-eval cuts from the left, and how many fit at once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from smt_bench.data.prompts import Example, token_ids
from smt_bench.data.tasks import find_task
from smt_bench.evaluation.beams import prompt_bytes
from smt_bench.evaluation.lm_eval_adapter import documents
from smt_bench.evaluation.protocols import EVAL_BATCH, EvalSettings

_UNSAID = 2048  # lm-eval's assumption about a model that says nothing
SHARE = 0.5  # of free memory; the rest is for what is not counted
MOST_PROMPTS = 256  # beyond, a GPU is busy anyway
LONGEST = 32  # texts with the most characters, among which the one with the most tokens is looked for
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


def batch_size(row: int, free: int | None) -> int:
    """Prompts at a time: as many as fit into half of what is free, a power of two; `EVAL_BATCH` where nobody knows.

    Args:
        row: bytes of one, as `prompt_bytes` counts.
        free: bytes of the GPU's memory; None on a CPU.
    """
    if free is None:
        return EVAL_BATCH
    fitting = int(SHARE * free / row)
    return min(MOST_PROMPTS, 1 << max(0, fitting.bit_length() - 1)) if fitting else 1


def fitting(
    model: Any,
    tests: Mapping[str, Sequence[Example]],
    tokenizer: Any,
    settings: EvalSettings,
    cutoff: int,
    free: int | None,
) -> int:
    """How many prompts this run answers at a time: by its longest prompt and what a GPU has left; `EVAL_BATCH` on a CPU.

    Args:
        model: as it is judged.
        tests: by task.
        tokenizer: the model's.
        settings: of the evaluation.
        cutoff: tokens of held-out examples.
        free: bytes that the GPU has left; None on a CPU.
    """
    if free is None:
        return batch_size(1, None)
    limit, element = positions(model.config, tokenizer), next(model.parameters()).element_size()
    rows = [prompt_bytes(model.config, settings.beams, min(limit, cutoff), element, False)]
    for name, examples in tests.items():
        task = find_task(name)
        generates = settings.protocol_of(task) == "llm-adapters"
        texts = [
            doc["text"] + ("" if generates else max(doc["choices"], key=len))
            for doc in documents(task, examples, tokenizer, settings)
        ]
        longest = max(len(token_ids(tokenizer, text)) for text in sorted(texts, key=len)[-LONGEST:])
        length = min(limit, longest + (settings.new_tokens(task) if generates else 0))
        rows.append(prompt_bytes(model.config, settings.beams, length, element, generates))
    return batch_size(max(rows), free)
