"""Our tasks and examples in lm-eval's language, and what an answer says; its model around ours is `lm_eval_model`."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from smt_bench.data.example import Posed
from smt_bench.data.family import Task
from smt_bench.data.prompts import TEMPLATES, Example, question, shared_start, token_ids
from smt_bench.data.tasks import offered, parse, same, score
from smt_bench.evaluation import sandbox
from smt_bench.evaluation.lm_eval_model import lm_eval_classes
from smt_bench.evaluation.protocols import EvalSettings, finite


def documents(task: Task, examples: Sequence[Example], tokenizer: Any, settings: EvalSettings) -> list[dict[str, Any]]:
    """What lm-eval is given of each question: `index`, `text` (the context) and, to choose from, `options` and `choices`."""
    prompts = [question(example, settings.template) for example in examples]
    docs: list[dict[str, Any]] = [{"index": i, "text": text} for i, text in enumerate(prompts)]
    if settings.protocol_of(task) == "likelihood":
        before = f"{task.lead} " if task.lead else ""  # of an option, in a response
        lead = _split(tokenizer, prompts[0], before, task.options or ())
        for doc, example in zip(docs, examples):
            doc["text"] += lead
            doc["options"] = list(offered(task, example))
            doc["choices"] = [f"{before}{option}"[len(lead) :] for option in doc["options"]]
    else:
        for doc in docs:
            doc["text"] = _as_trained(tokenizer, doc["text"])
    return docs


def lm_eval_task(
    task: Task,
    examples: Sequence[Example],
    golds: Sequence[str | float],
    tokenizer: Any,
    settings: EvalSettings,
    folder: Path,
) -> Any:
    """An lm-eval task over a JSON file of these examples, written to `folder`."""
    protocol = settings.protocol_of(task)
    docs = documents(task, examples, tokenizer, settings)
    file = folder / f"{task.name}.json"
    file.write_text("".join(json.dumps(doc) + "\n" for doc in docs), encoding="utf-8")

    def process_results(doc: dict[str, Any], responses: list[Any]) -> dict[str, Any]:
        right = golds[doc["index"]]
        prediction: str | float | None
        loglik = worth = None
        sure: tuple[float | None, float | None] = (None, None)
        if protocol == "likelihood":
            scores = {option: score for option, (score, _) in zip(doc["options"], responses)}
            loglik = finite(scores.get(str(right), math.nan))
            broken = any(math.isnan(score) for score in scores.values())
            prediction = None if broken else max(scores, key=lambda option: scores[option])
            sure = (None, None) if broken else calibration(scores, str(right))
        else:
            prediction, worth = judged(task, examples[doc["index"]], right, responses[0])
        parsed = prediction is not None
        return {
            "acc": int(same(prediction, right) if worth is None else worth == 1), "parsed": int(parsed),
            "prediction": prediction, "loglik": loglik, "confidence": sure[0], "brier": sure[1], "score": worth,
            "text": None if protocol == "likelihood" else responses[0],
        }  # fmt: skip

    columns = ("prediction", "loglik", "confidence", "brier", "score", "text")
    aggregations = {"acc": "mean", "parsed": "mean"} | dict.fromkeys(columns, _not_aggregated)
    config: dict[str, Any] = {
        "task": task.name,
        "dataset_path": "json",
        # The data sets library caches beside the file: gone with the folder, and so never stale.
        "dataset_kwargs": {
            "data_files": {"test": str(file)},
            "cache_dir": str(folder / "cache"),
            "keep_in_memory": True,
        },
        "test_split": "test",
        "num_fewshot": 0,
        "doc_to_text": "text",
        "doc_to_target": "index",  # the gold answer is looked up, so that no JSON reader changes its type
        "target_delimiter": "",
        "process_results": process_results,
        "metric_list": [
            {"metric": name, "aggregation": how, "higher_is_better": True} for name, how in aggregations.items()
        ],
    }
    if protocol == "likelihood":
        config |= {"output_type": "multiple_choice", "doc_to_choice": "choices", "doc_to_target": 0}
    else:
        limits: dict[str, Any] = {
            "max_gen_toks": settings.new_tokens(task),
            "num_beams": settings.beams,
            "do_sample": False,
        }
        if settings.repetition_penalty != 1:
            limits["repetition_penalty"] = settings.repetition_penalty
        config |= {
            "output_type": "generate_until",
            "generation_kwargs": {"until": [TEMPLATES[settings.template].marker, *task.stops], **limits},
        }
    _, quiet_task = lm_eval_classes()
    return quiet_task(config=config)


def judged(task: Task, example: Example, right: str | float, response: str) -> tuple[str | float | None, float | None]:
    """What a generated answer says, and what it is worth (0 to 1) where the task grades answers.

    Of a program what became of it; `evaluate` has seen to it that running one is allowed.
    """
    said = parse(task, response)
    if not task.graded or said is None:
        return said, 0.0 if task.graded else None
    if not task.runs_code:
        return said, score(task, str(said), str(right))
    lead = example.lead if isinstance(example, Posed) else ""
    ended = sandbox.outcome(f"{lead}{response}\n\n{example.answer}\n")
    return ended, float(ended == sandbox.PASSES)


def calibration(scores: Mapping[str, float], right: str) -> tuple[float | None, float | None]:
    """How sure a model is of the option it chooses, and how far its probabilities are from the truth.

    Args:
        scores: log-likelihood of every option (nats).
        right: the gold option.

    Returns:
        The largest probability over the options, and the Brier score sum_k (p_k - [k is right])^2, 0 to 2 (Brier 1950);
        rounded to six digits, None where no option has a likelihood.
    """
    top = max(scores.values())
    if not math.isfinite(top):
        return None, None
    weights = {option: math.exp(score - top) for option, score in scores.items()}
    total = sum(weights.values())
    squares = sum((weight / total - (option == right)) ** 2 for option, weight in weights.items())
    return round(max(weights.values()) / total, 6), round(squares, 6)


def _as_trained(tokenizer: Any, text: str) -> str:
    """The prompt without those of its last spaces that training text fuses with the response, see `shared_start`."""
    start = shared_start(tokenizer, text, token_ids(tokenizer, text + "the"))
    return start[0] if start else text


def _split(tokenizer: Any, text: str, before: str, options: tuple[str, ...]) -> str:
    """How much of an answer goes into the context, so that the options differ in as few tokens as possible.

    Mostly "the correct answer is answer", leaving "1", "2", ...; where a tokenizer reads "answer1" as one token the
    context ends one word earlier, and in the worst case (the boundary to "is" is no token boundary) with the prompt.

    Args:
        tokenizer: the tokenizer.
        text: a prompt.
        before: what stands before the option in a response, with the space between them.
        options: all of the task's.

    Returns:
        The text to append to the prompt.
    """
    shared = os.path.commonprefix([f"{before}{option}" for option in options]).rstrip()
    for lead in dict.fromkeys((shared, before.rstrip())):
        head = token_ids(tokenizer, text + lead)
        wholes = [token_ids(tokenizer, f"{text}{before}{option}") for option in options]
        if all(len(whole) > len(head) and whole[: len(head)] == head for whole in wholes):
            return lead
    return ""


def _not_aggregated(_values: list[Any]) -> None:
    """A column that lm-eval carries along without a mean."""
