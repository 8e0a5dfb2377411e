"""A trained model judged: held-out loss, test sets, lm-eval's own tasks, and what of the texts does not fit."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from itertools import islice
from typing import Any

from smt_bench.data import families
from smt_bench.data.batches import training_order
from smt_bench.data.cut import count
from smt_bench.data.sources import sources
from smt_bench.data.tasks import HARNESS
from smt_bench.evaluation.evaluate import evaluate, merge_shares, totals
from smt_bench.evaluation.heldout import response_loglik
from smt_bench.evaluation.heldout import summary as heldout_summary
from smt_bench.evaluation.protocols import EVAL_BATCH, EvalSettings
from smt_bench.evaluation.room import fitting, positions, prompts_cut
from smt_bench.machine import facts, parallel
from smt_bench.questions.inputs import Inputs
from smt_bench.records.runs import Run


def text_lengths(inputs: Inputs) -> list[int]:
    """Of the training examples, for the buckets, in characters: tokenising a large set would cost more than a short run."""
    return [len(e.instruction) + len(e.input) + len(e.output) for e in inputs.data.train]


def what_is_cut(run: Run, inputs: Inputs, model: Any, tokenizer: Any, trains: bool) -> dict[str, Any]:
    """What does not fit: responses cut off, of the training examples that this run draws, the held-out ones and those of which
    the loss alone is measured; test prompts.

    Raises:
        ValueError: nothing is left of the response of any example that is drawn.
    """
    d, t = run.data, run.train
    drawn = None
    if trains:
        order = islice(training_order(text_lengths(inputs), t.batch_size, run.seed), t.steps)
        examples = [inputs.data.train[i] for i in sorted({i for numbers in order for i in numbers})]
        drawn = count(examples, tokenizer, d.template, d.cutoff, inputs.watch)
        if drawn["empty"] == drawn["examples"]:
            raise ValueError(
                f"cut-off {d.cutoff} tokens leaves nothing of the response in any of the {len(examples):,} training records that "
                "this run draws: train more steps, or shorten the questions"
            )
    limit = positions(model.config, tokenizer)
    losses = {n: count(e, tokenizer, d.template, d.cutoff, inputs.watch) for n, e in inputs.data.losses.items()}
    return ({"losses": losses} if losses else {}) | {
        "training": drawn,
        "heldout": count(inputs.data.heldout, tokenizer, d.template, d.cutoff, inputs.watch),
        "prompts": prompts_cut(inputs.data.tests, tokenizer, _settings(run), limit),
    }


def prompts_at_once(run: Run, inputs: Inputs, model: Any, tokenizer: Any) -> int:
    """Prompts per forward pass of the evaluation, the same in every process."""
    free = facts.free_memory()
    own = fitting(model, inputs.data.tests, tokenizer, _settings(run), run.data.cutoff, free)
    return int(min(parallel.gathered(own)))


def _settings(run: Run, at_once: int = EVAL_BATCH) -> EvalSettings:
    e = run.evaluation
    lengths = (e.max_new_tokens, e.max_new_tokens_math)
    return EvalSettings(e.protocol, e.beams, *lengths, at_once, run.data.template, e.repetition_penalty)


def chooser(run: Run, inputs: Inputs, model: Any, tokenizer: Any) -> Callable[[], float]:
    """The loss on the part of the held-out examples that choices are made by, of the model as it is; over all processes."""
    d = run.data
    own = parallel.share([e for e, chosen in zip(inputs.data.heldout, _parts(run, inputs)) if chosen])

    def judge() -> float:
        found = response_loglik(model, tokenizer, own, d.template, d.cutoff, EVAL_BATCH)
        scored = [e for e in found if e["tokens"]]
        logliks = [math.nan if e["loglik"] is None else e["loglik"] for e in scored]
        total, tokens = parallel.total(math.fsum(logliks), float(sum(e["tokens"] for e in scored)))
        return -total / tokens if tokens else math.nan

    return judge


def _parts(run: Run, inputs: Inputs) -> list[bool]:
    """Which held-out examples choices are made by; nowhere where one set serves for both."""
    if not run.data.tune:
        return [False] * len(inputs.data.heldout)
    found = inputs.data.tune(run.data.split_seed, run.data.divided)
    if sum(found) != run.data.tune:
        raise ValueError(
            f"{sum(found)} held-out examples to choose by, {run.data.tune} were planned: the data have changed"
        )
    return found


def judge(
    run: Run, inputs: Inputs, model: Any, tokenizer: Any, clock: Callable[[str, float], None], at_once: int
) -> dict[str, Any]:
    """The parts of the record on what the model can do: `heldout`, `evaluation`, `texts`, and `losses` where asked for."""
    d = run.data
    start = time.perf_counter()
    heldout = response_loglik(
        model,
        tokenizer,
        parallel.share(inputs.data.heldout),
        d.template,
        d.cutoff,
        at_once,
        progress=inputs.watch,
    )
    clock("heldout", start)
    start = time.perf_counter()
    own = {task: part for task, examples in inputs.data.tests.items() if (part := parallel.share(examples))}
    scores = evaluate(model, tokenizer, own, _settings(run, at_once), inputs.watch, inputs.allow_code)
    if parallel.size() > 1:
        heldout = parallel.merge(parallel.gathered(heldout))
        scores = merge_shares(parallel.gathered(scores), list(inputs.data.tests))
    scores |= _harness(run, inputs, model, tokenizer, at_once)
    clock("evaluation", start)
    losses = _losses(run, inputs, model, tokenizer, at_once)
    family, judged = families.known(d.family), heldout_summary(heldout)
    judged["examples"]["cluster"] = sources(family, inputs.data.heldout)
    for task, result in scores.items():
        tests = inputs.data.tests.get(task)
        result["examples"]["cluster"] = list(range(result["n"])) if tests is None else sources(family, tests)
    if d.tune:
        judged["examples"]["tune"] = [int(chosen) for chosen in _parts(run, inputs)]
    texts = {task: _texts(inputs, task, result) for task, result in scores.items()}
    return {"heldout": judged, "evaluation": scores, "texts": texts} | ({"losses": losses} if losses else {})


def _harness(run: Run, inputs: Inputs, model: Any, tokenizer: Any, at_once: int) -> dict[str, dict[str, Any]]:
    """The results of lm-eval's own tasks.

    Raises:
        ValueError: they are not those that were asked for.
    """
    asked = {name: said for name, said in run.evaluation.tasks.items() if name.startswith(HARNESS)}
    if not asked:
        return {}
    from smt_bench.evaluation import harness  # seconds to import

    for name, said in asked.items():
        if (here := harness.described(name, inputs.limit)) != said:
            raise ValueError(f"{name} is {here} here, asked was {said}: use that version and data")
    found = harness.evaluate(model, tokenizer, list(asked), inputs.limit, at_once, inputs.watch)
    shares: list[dict[str, dict[str, Any]]] = parallel.gathered(found) if parallel.size() > 1 else [found]
    whole = {}
    for name in asked:
        parts = [share[name] for share in shares]
        columns = {column: parallel.merge([part.get(column, []) for part in parts]) for column in parts[0]}
        whole[name] = totals("lm-eval", columns)
    return whole


def _texts(inputs: Inputs, task: str, result: dict[str, Any]) -> dict[str, list[Any]]:
    """What the store keeps beside the record, taken out of a task's result: which items they are, and what was generated."""
    found = {"item": result["examples"].pop("item", None) or inputs.data.items.get(task) or list(range(result["n"]))}
    text = result["examples"].pop("text", None)
    return found if text is None else {**found, "text": text}


def _losses(run: Run, inputs: Inputs, model: Any, tokenizer: Any, at_once: int) -> dict[str, Any]:
    """Of the sets whose loss alone is measured: the loss of their responses, as that of held-out ones."""
    d, found = run.data, dict[str, Any]()
    for name, examples in inputs.data.losses.items():
        share = parallel.share(examples)
        scored = response_loglik(model, tokenizer, share, d.template, d.cutoff, at_once, progress=inputs.watch)
        if parallel.size() > 1:
            scored = parallel.merge(parallel.gathered(scored))
        found[name] = heldout_summary(scored)
        found[name]["examples"]["cluster"] = sources(families.known(d.family), examples)
    return found
