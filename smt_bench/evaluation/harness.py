"""lm-eval's own tasks, by name: `lm-eval:arc_easy`, `lm-eval:mmlu@5` with five examples shown, or `lm-eval:FILE.yaml`.

Prompts, few-shot examples, filters and the judgement are lm-eval's, data come from the hub or its cache. A group is one test set
of all of its tasks' questions. A record says of every question right or wrong, by the first of `METRICS` that the task has; where
lm-eval counts a response as right, `prediction` is the gold answer.
"""

from __future__ import annotations

import hashlib
import json
import logging
import math
import re
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

import torch

from smt_bench.data.loading import draw
from smt_bench.data.tasks import HARNESS
from smt_bench.evaluation.lm_eval_adapter import calibration
from smt_bench.evaluation.lm_eval_model import borrowed, lm_eval_classes, quiet
from smt_bench.evaluation.protocols import finite
from smt_bench.machine import parallel
from smt_bench.machine.watch import Progress
from smt_bench.models.precision import half

METRICS = ("acc", "exact_match", "em")  # of right and wrong, in the order in which one is chosen
FEWSHOT_SEED = 1234  # lm-eval's own
INVALID = "[invalid]"  # what its filters give where they find no answer
_ASKED = re.compile(r"(?P<name>.+?)(?:@(?P<shots>\d+))?")
_PLACES = ("dataset_kwargs", "metadata")  # of a task's config: where data lie, and what is said apart
Doc = tuple[str, int]  # task and number of the question in it


@cache
def _manager(file: bool) -> Any:
    from lm_eval.tasks import TaskManager

    with quiet():
        return TaskManager(include_defaults=not file)


@cache
def tasks_of(name: str) -> dict[str, Any]:
    """lm-eval's tasks by their own names: one, or those of a group; with their data.

    Args:
        name: as it is asked for, beginning with `HARNESS`.

    Raises:
        ValueError: no such task, its data cannot be had, or it has no metric of right and wrong.
    """
    found = _ASKED.fullmatch(name.removeprefix(HARNESS))
    if found is None:
        raise ValueError(f"--tasks {name}: write {HARNESS}NAME, or {HARNESS}NAME@SHOTS")
    called, shots, is_file = found["name"], found["shots"], found["name"].endswith((".yaml", ".yml"))
    if is_file and not Path(called).is_file():
        raise ValueError(f"--tasks {name}: no such file")
    try:
        with quiet():
            loaded = _manager(is_file).load(called)["tasks"]
    except KeyError:
        raise ValueError(f"--tasks {name}: lm-eval has no task of that name: see `lm_eval ls tasks`") from None
    except Exception as error:  # whatever a task's own code or the transport raises, the remedy is the same
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0][:120]
        raise ValueError(f"--tasks {name}: cannot be loaded ({reason}): is its data set in the hub's cache?") from None
    for task in loaded.values():
        if getattr(task, "UNSAFE_CODE", False) or getattr(task, "MULTIMODAL", False):
            raise ValueError(f"--tasks {name}: {task.task_name} runs code or shows pictures: leave it out")
        _metric(name, task)
        if shots is not None:
            task.set_config(key="num_fewshot", value=int(shots))
    if not loaded:
        raise ValueError(f"--tasks {name}: it holds no task")
    return dict(loaded)


def _metric(name: str, task: Any) -> str:
    has = [metric["metric"] for metric in task.config.metric_list or []]
    chosen = next((metric for metric in METRICS if metric in has), None)
    if chosen is None:
        raise ValueError(
            f"--tasks {name}: {task.task_name} has no metric of right and wrong ({', '.join(METRICS)}), only "
            f"{', '.join(map(str, has)) or 'its own'}: leave it out"
        )
    return chosen


def documents(name: str, limit: int | None) -> list[Doc]:
    """The questions that are used: of every task all, or so many, drawn as those of other test sets are."""
    return [
        (own, number)
        for own, task in tasks_of(name).items()
        for number in draw(len(task.eval_docs), len(task.eval_docs) if limit is None else limit)
    ]


def described(name: str, limit: int | None) -> str:
    """What a run's key says of a task: lm-eval's version, the task's, shots, metric, and hashes of config and questions."""
    import lm_eval

    tasks = tasks_of(name)
    configs = {own: {k: v for k, v in task.dump_config().items() if k not in _PLACES} for own, task in tasks.items()}
    docs = [tasks[own].eval_docs[number] for own, number in documents(name, limit)]
    versions = sorted({str(task.VERSION) for task in tasks.values()})
    shots = sorted({int(task.config.num_fewshot or 0) for task in tasks.values()})
    metrics = sorted({_metric(name, task) for task in tasks.values()})
    drawn = " drawn over all questions" if shots[-1] else ""  # once over the run's own, and before from run to run
    return (
        f"lm-eval {lm_eval.__version__}, version {'/'.join(versions)}, {'/'.join(map(str, shots))}-shot{drawn}, "
        f"{'/'.join(metrics)}, config {_hash(configs)}, {len(docs)} questions {_hash(docs)}"
    )


def _hash(values: Any) -> str:
    text = json.dumps(values, sort_keys=True, default=str, ensure_ascii=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def evaluate(
    model: Any, tokenizer: Any, names: Sequence[str], limit: int | None, batch: int, progress: Progress | None
) -> dict[str, dict[str, Any]]:
    """Columns of examples per task, of this process's share of the questions.

    Args:
        model: a Hugging Face causal language model; left as it was found.
        tokenizer: its tokenizer.
        names: tasks, as they are asked for.
        limit: questions of every one of lm-eval's tasks at most; None: all.
        batch: prompts per forward pass.
        progress: called after every task.

    Returns:
        By name the columns of `evaluate.evaluate`, `item` (number of the question, in a group with its task), and `text` where it
        was generated.
    """
    from lm_eval import evaluate as run_lm_eval

    language_model, _ = lm_eval_classes()
    found = {}
    with borrowed(model, tokenizer), quiet():
        lm = language_model(
            pretrained=model, tokenizer=tokenizer, backend="causal", batch_size=batch, softmax_dtype=torch.float32,
            mixed_precision_dtype=half(model),
        )  # fmt: skip
        lm.report = lambda protocol, count: None
        logging.getLogger("lm_eval").setLevel(logging.WARNING)
        for done, name in enumerate(names, start=1):
            tasks, mine = tasks_of(name), parallel.share(documents(name, limit))
            wanted = {own: [number for of, number in mine if of == own] for own in tasks}
            wanted = {own: numbers for own, numbers in wanted.items() if numbers}
            for own, numbers in wanted.items():
                _show(tasks[own], numbers)
            there = {"tasks": {own: tasks[own] for own in wanted}, "groups": {}, "group_map": {}}
            samples = (
                run_lm_eval(lm=lm, task_dict=there, samples=wanted, bootstrap_iters=0)["samples"] if wanted else {}
            )
            found[name] = _columns(name, tasks, mine, samples)
            if progress:
                progress(name, done, len(names))
    return found


def _show(task: Any, numbers: Sequence[int]) -> None:
    """Shows before every question the examples that lm-eval draws for it where it asks all of the task's questions in turn.

    Its draws go on from question to question: they would else depend on which are asked, on how many processes share them, and
    on what was drawn before.

    Args:
        task: one of lm-eval's; a kind without a sampler of its own is only given the seed.
        numbers: of the questions that will be asked, ascending.
    """
    task.set_fewshot_seed(seed=FEWSHOT_SEED)
    sampler = getattr(task, "sampler", None)
    if sampler is None:
        return
    asked, drawn = iter(numbers), 0
    draw_next = type(sampler).sample
    docs: list[Any] = []  # lm-eval makes them anew at every look

    def sample(n: int, eval_doc: Any = None, **others: Any) -> Any:
        nonlocal drawn
        number = next(asked)
        if eval_doc is not None and number > drawn and not docs:
            docs.append(task.eval_docs)
        for left_out in range(drawn, number):
            draw_next(sampler, n, None if eval_doc is None else docs[0][left_out], **others)
        drawn = number + 1
        return draw_next(sampler, n, eval_doc, **others)

    sampler.sample = sample


def _columns(name: str, tasks: dict[str, Any], docs: Sequence[Doc], samples: dict[str, Any]) -> dict[str, Any]:
    answered: dict[Doc, dict[str, Any]] = {}
    for own, found in samples.items():
        for sample in found:
            answered.setdefault((own, sample["doc_id"]), sample)  # of several filters the first
    rows = [_row(_metric(name, tasks[doc[0]]), tasks[doc[0]].OUTPUT_TYPE, answered[doc]) for doc in docs]
    columns: dict[str, Any] = {key: [row[key] for row in rows] for key in _NAMES}
    columns["item"] = [number if len(tasks) == 1 else f"{own}/{number}" for own, number in docs]
    if all(task.OUTPUT_TYPE in ("multiple_choice", "loglikelihood") for task in tasks.values()):
        del columns["text"]
    return columns


_NAMES = ("gold", "prediction", "correct", "parsed", "loglik", "confidence", "brier", "text")


def _row(metric: str, kind: str, sample: dict[str, Any]) -> dict[str, Any]:
    """One question's answer."""
    value, gold, answers = float(sample[metric]), str(sample["target"]), sample["filtered_resps"]
    if value not in (0.0, 1.0):
        raise ValueError(f"{metric} is {value:g} for a question: a metric of right and wrong is needed")
    row: dict[str, Any] = dict.fromkeys(_NAMES) | {"gold": gold, "correct": int(value)}
    if kind == "multiple_choice":
        scores = {str(i): float(answer[0]) for i, answer in enumerate(answers)}
        said = None if any(map(math.isnan, scores.values())) else max(scores, key=lambda option: scores[option])
        if gold in scores and said is not None:
            row |= dict(zip(("confidence", "brier"), calibration(scores, gold))) | {"loglik": finite(scores[gold])}
    elif kind == "loglikelihood":
        said, row["loglik"] = "another text", finite(float(answers[0][0]))
    else:
        answer = answers[0][0] if isinstance(answers[0], list) else answers[0]
        said = None if answer == INVALID else str(answer)
        row["text"] = str(sample["resps"][0][0])
    if value:
        said = gold
    elif said == gold:
        said = f"{said} (not as asked for)"
    return row | {"prediction": said, "parsed": int(said is not None)}
