"""Evaluation with lm-eval: the model in memory, the tasks over local JSON, nothing from the network.

Two protocols. `likelihood` scores the answer options: everything that they share is part of the context, so that they
differ in one token and share one forward pass. `llm-adapters` generates and reads the first option (or the last number)
as the LLM-Adapters collection does, with its beams and lengths, but with the attention mask that its script leaves out.
Arithmetic tasks are generated under both. Separately, `response_loglik` gives the log-likelihood of held-out responses.

`lm_eval.evaluate` is called rather than `simple_evaluate`, which would reseed all random number generators, start git
and collect environment facts at every call, and return nothing on ranks other than 0.
"""

from __future__ import annotations

import logging
import math
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from smt_bench.data.family import Task
from smt_bench.data.prompts import Example
from smt_bench.data.tasks import find_task, gold
from smt_bench.evaluation import sandbox
from smt_bench.evaluation.heldout import response_loglik
from smt_bench.evaluation.lm_eval_adapter import lm_eval_task
from smt_bench.evaluation.lm_eval_model import borrowed, lm_eval_classes, quiet
from smt_bench.evaluation.protocols import EVALUATION_VERSION, PROTOCOLS, EvalSettings
from smt_bench.machine import parallel
from smt_bench.machine.watch import Progress
from smt_bench.models.precision import half

__all__ = ["EVALUATION_VERSION", "EvalSettings", "evaluate", "merge_shares", "response_loglik"]


def evaluate(
    model: Any,
    tokenizer: Any,
    tests: Mapping[str, Sequence[Example]],
    settings: EvalSettings,
    progress: Progress | None = None,
    allow_code: bool = False,
) -> dict[str, dict[str, Any]]:
    """Answers every test question and returns plain JSON per task.

    Args:
        model: a Hugging Face causal language model, plain or with modules replaced in place; left as it was found.
        tokenizer: its tokenizer; a missing padding token is borrowed for the call only.
        tests: examples by task name; their order is kept.
        settings: protocol, beams, lengths.
        progress: called after every batch.
        allow_code: whether programs that the model writes may be run, see `evaluation.sandbox`.

    Returns:
        Per task `n`, `accuracy` p (0 to 1), `stderr` (sqrt(p (1 - p) / n), the binomial standard error over examples),
        `format_failures` and `format_failure_rate` (no answer could be read; also counted as wrong), `protocol` (the
        one really used), and `examples`, columns in input order: `gold`, `prediction` (None if unreadable), `correct`,
        `parsed` (0 or 1) and `loglik`, the log-likelihood (nats) of what tells the gold option from the others given
        the text before; None if the answer was generated or the value is not finite. Equal likelihoods go to the
        option named first. Where options were scored also `confidence` and `brier`, of `lm_eval_adapter.calibration`; where the
        answer was generated `text`, all of it. Where
        answers have a score of their own (`Task.graded`) also that, `score`, 0 to 1: then p is its mean, `stderr` is of that, and
        `correct` is 1 where it is 1; the `prediction` of a program is what became of it, its `gold` that it passes.

    Raises:
        ValueError: unknown task, no examples, a gold answer that the task does not allow, or programs that may not be run.
    """
    if not tests:
        return {}
    tasks = {name: find_task(name) for name in tests}
    for name, examples in tests.items():
        if not examples:
            raise ValueError(f"{name}: no examples to evaluate: leave the task out")
    if not allow_code and (programs := [name for name, task in tasks.items() if task.runs_code]):
        raise ValueError(
            f"{programs[0]}: judging it runs programs that the model writes: allow that with --allow-code, or leave it out"
        )
    if any(task.runs_code for task in tasks.values()):
        sandbox.check()
    golds = {name: [gold(tasks[name], example) for example in tests[name]] for name in tests}

    from lm_eval import evaluate as run_lm_eval  # seconds to import; not for those who only need the settings
    from lm_eval.tasks import TaskManager

    language_model, _ = lm_eval_classes()
    totals = dict.fromkeys(PROTOCOLS, 0)
    for name in tests:
        totals[settings.protocol_of(tasks[name])] += len(tests[name])
    with tempfile.TemporaryDirectory(prefix="smt-bench-evaluation-") as folder, borrowed(model, tokenizer), quiet():
        lm = language_model(
            pretrained=model,
            tokenizer=tokenizer,
            backend="causal",
            batch_size=settings.batch_size,
            softmax_dtype=torch.float32,
            mixed_precision_dtype=half(model),
        )
        lm.report = _counter(totals, progress)
        for name, task in tasks.items():
            if settings.protocol_of(task) == "llm-adapters" and lm.max_length <= settings.new_tokens(task):
                raise ValueError(
                    f"{name}: {settings.new_tokens(task)} new tokens leave no room for a prompt in the model's "
                    f"{lm.max_length} positions: generate fewer"
                )
        built = [lm_eval_task(tasks[n], tests[n], golds[n], tokenizer, settings, Path(folder)) for n in tests]
        loaded = TaskManager(include_defaults=False).load(built)
        logging.getLogger("lm_eval").setLevel(logging.WARNING)  # a prompt cut to the model's length is announced
        samples = run_lm_eval(lm=lm, task_dict=loaded, bootstrap_iters=0)["samples"]
        for protocol, total in totals.items():
            lm.report(protocol, total)  # equal prompts share a pass, so the counter may have stopped short
    return {
        name: _summary(tasks[name], settings.protocol_of(tasks[name]), golds[name], samples[name]) for name in tests
    }


def _counter(totals: Mapping[str, int], progress: Progress | None) -> Callable[[str, int], None]:
    """Adds up examples per protocol and passes them on."""
    done = dict.fromkeys(totals, 0)

    def report(protocol: str, count: int) -> None:
        before, done[protocol] = done[protocol], min(done[protocol] + count, totals[protocol])
        if progress and done[protocol] > before:
            progress(protocol, done[protocol], totals[protocol])

    return report


def merge_shares(shares: Sequence[Mapping[str, dict[str, Any]]], tasks: Sequence[str]) -> dict[str, dict[str, Any]]:
    """Puts the results of several processes together, each of which answered its `parallel.share` of every task.

    Args:
        shares: what `evaluate` gave, by rank; a task without examples for a process is missing there.
        tasks: all tasks, in order.
    """
    whole = {}
    for task in tasks:
        found = [share[task] for share in shares if task in share]
        columns = found[0]["examples"]
        merged = {name: parallel.merge([part["examples"][name] for part in found]) for name in columns}
        whole[task] = totals(found[0]["protocol"], merged)
    return whole


def _summary(
    task: Task, protocol: str, golds: Sequence[str | float], samples: Sequence[Mapping[str, Any]]
) -> dict[str, Any]:
    """One task's result from the samples that lm-eval logged."""
    ordered = sorted(samples, key=lambda sample: sample["doc_id"])
    assert len(ordered) == len(golds), "lm-eval answered another number of examples"
    columns = {
        "gold": [sandbox.PASSES] * len(golds) if task.runs_code else list(golds),
        "prediction": [sample["prediction"] for sample in ordered],
        "correct": [int(sample["acc"]) for sample in ordered],
        "parsed": [int(sample["parsed"]) for sample in ordered],
        "loglik": [sample["loglik"] for sample in ordered],
    }
    if protocol == "likelihood":
        columns |= {name: [sample[name] for sample in ordered] for name in ("confidence", "brier")}
    else:
        columns["text"] = [sample["text"] for sample in ordered]
    if task.graded:
        columns["score"] = [sample["score"] for sample in ordered]
    return totals(protocol, columns)


def totals(protocol: str, columns: dict[str, list[Any]]) -> dict[str, Any]:
    """One task's result from its examples' columns."""
    n = len(columns["gold"])
    worth = columns.get("score")
    accuracy = sum(worth or columns["correct"]) / n
    variance = accuracy * (1 - accuracy) if worth is None else sum((w - accuracy) ** 2 for w in worth) / n
    failures = n - sum(columns["parsed"])
    return {
        "n": n,
        "accuracy": accuracy,
        "stderr": math.sqrt(variance / n),
        "format_failures": failures,
        "format_failure_rate": failures / n,
        "protocol": protocol,
        "examples": columns,
    }
