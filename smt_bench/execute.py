"""One run, start to finish: `execute(run)` gives its record, whatever happens."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from itertools import islice
from typing import Any

import torch
from accelerate import PartialState

from smt_bench import methods
from smt_bench.data import families
from smt_bench.data.batches import training_order
from smt_bench.data.cut import count
from smt_bench.data.overlap import RULE
from smt_bench.data.prompts import Encoded, encode
from smt_bench.data.sources import sources
from smt_bench.data.tasks import HARNESS
from smt_bench.evaluation.evaluate import evaluate, merge_shares, totals
from smt_bench.evaluation.heldout import response_loglik
from smt_bench.evaluation.heldout import summary as heldout_summary
from smt_bench.evaluation.protocols import EVAL_BATCH, EvalSettings
from smt_bench.evaluation.room import fitting, positions, prompts_cut
from smt_bench.machine import facts, memory, parallel
from smt_bench.methods.base import Method
from smt_bench.models.build import load
from smt_bench.models.composing import composed
from smt_bench.models.inventory import inventory
from smt_bench.models.keeping import Keeping
from smt_bench.models.merging import merge
from smt_bench.models.pace import tokens_per_second
from smt_bench.models.preflight import check_causal
from smt_bench.questions.capacity import method_of
from smt_bench.questions.inputs import Inputs
from smt_bench.records.outcome import Diverged, recorded
from smt_bench.records.runs import Run
from smt_bench.records.store import Record
from smt_bench.training.best import Best
from smt_bench.training.loop import Loop


def execute(run: Run, inputs: Inputs) -> Record:
    """Trains and evaluates; the record says done, diverged, out_of_memory or failed.

    KeyboardInterrupt passes through, and so does `parallel.Gone`: an interrupted run has no record, but a checkpoint where
    `inputs.keeper` keeps them.
    """
    assert parallel.size() == inputs.spread.processes, f"{parallel.size()} processes; meant for {inputs.spread}"
    return recorded(run, lambda record: _execute(run, inputs, record))


def _execute(run: Run, inputs: Inputs, record: Record) -> None:
    """Fills the record part by part, so that a run that stops half-way keeps what was known by then."""
    seconds: dict[str, float] = record.setdefault("seconds", {})
    record["environment"]["spread"] = inputs.spread.to_dict()
    if inputs.recipe:
        record["recipe"] = inputs.recipe
    if run.train.base:  # what quantizes decides numbers too
        packages = {**record["environment"]["packages"], facts.QUANTIZES: facts.version_of(facts.QUANTIZES)}
        record["environment"]["packages"] = packages
    record["overlap"] = {"rule": RULE, "tests": inputs.data.overlap, "repeated": inputs.data.repeated}

    def clock(part: str, since: float) -> None:
        seconds[part] = round(time.perf_counter() - since, 3)

    # Of accelerate only the device: its environment variables (accumulation, precision) would change the numbers of a run.
    device = PartialState(cpu=not torch.cuda.is_available()).device
    memory.reset_peaks()
    peaks = memory.Phases(record.setdefault("memory_bytes", {}))
    start = time.perf_counter()
    where = device if inputs.device_map is None else None
    if run.parts:
        model, tokenizer, record["composition"] = _composed(run, inputs)
        model.to(device)
    else:
        model, tokenizer = load(inputs.located, run.train.precision, inputs.device_map, run.train.base, where)
    record["environment"]["attention"] = model.config._attn_implementation
    clock("load", start)
    peaks.end("load")
    check_causal(inputs.located.ref.name, model)
    record["layers"] = _layers(run, model)
    method, capacity = method_of(run, {name: tuple(p.shape) for name, p in model.named_parameters()})
    record["capacity"] = {
        "unit": capacity.unit,
        "units": capacity.units,
        "trainable": capacity.trainable,
        "total": capacity.total,
        "fraction": capacity.fraction,
    }

    record["cut"] = _cut(run, inputs, model, tokenizer, bool(capacity.trainable) and not run.parts)
    if run.parts:
        at_once = _at_once(run, inputs, model, tokenizer)
        record["environment"]["evaluation_batch"] = at_once
        record |= _judge(run, inputs, model, tokenizer, clock, at_once)
        peaks.end("evaluation")
        return

    def check() -> None:
        peaks.end("warmup" if method.warmup_steps else "attach")  # the warm-up with the choice that it ends with
        trainable = sum(p.numel() for p in model.parameters() if p.requires_grad)
        assert trainable == capacity.trainable, f"{trainable} numbers train, {capacity.trainable} were planned"

    best = Best(run.train.select_every, run.train.steps, _chooser(run, inputs, model, tokenizer))
    loop = training_loop(run, inputs, model, tokenizer, method, device, best if run.train.select == "best" else None)
    try:
        loop.train(check)
    finally:
        trained = loop.trained
        seconds |= trained.seconds
        record["training"] = {
            "losses": [round(loss, 6) for loss in trained.losses],
            "grad_norms": [None if norm is None else round(norm, 6) for norm in trained.grad_norms],
            "tokens": trained.tokens,
        }
        peaks.end("tuning")
        record["memory_bytes"] |= trained.bytes
        if ran := method.ran():
            record["environment"]["method"] = ran
        if inputs.keeper.resumed:
            record["resumed_at_steps"] = inputs.keeper.resumed
        if loop.probes:
            record["probes"] = {name: probe.result() for name, probe in loop.probes.items()}
    if loop.best is not None and capacity.trainable:
        record["selection"] = loop.best.result()
    record["method"] = method.describe() if loop.best is None else loop.best.describe(method)
    keeping = Keeping(run, inputs.located, inputs.keep) if parallel.rank() == 0 and capacity.trainable else None
    try:
        if keeping is not None:
            keeping.before_merge(method, model)
        unmerged = tokens_per_second(model) if capacity.trainable else None
        start = time.perf_counter()
        record["merge"] = merge(method, model)
        clock("merge", start)
        folded = "unmerged" not in record["merge"]
        record["pace"] = {"unmerged": unmerged, "merged": tokens_per_second(model) if folded else None}
        at_once = _at_once(run, inputs, model, tokenizer)
        record["environment"]["evaluation_batch"] = at_once
        record |= _judge(run, inputs, model, tokenizer, clock, at_once)
        peaks.end("evaluation")  # with merging
        if keeping is not None:
            start = time.perf_counter()
            if (adapter := keeping.after(method, model)) is not None:
                record["adapter"] = adapter
            clock("adapter", start)
    finally:
        if keeping is not None:
            keeping.drop()
    for part in (record["heldout"], *record.get("losses", {}).values()):
        if not math.isfinite(part["nll"] or 0.0):
            raise Diverged(run.train.steps, part["nll"])


def _composed(run: Run, inputs: Inputs) -> tuple[Any, Any, dict[str, Any]]:
    """The base with what the run's parts have learned added up.

    Raises:
        ValueError: a part is not kept here, or there are not two of them.
    """
    one, other = run.parts
    if inputs.keep is None:
        raise ValueError("the adapters of its parts are not kept here: `run composition` keeps them")
    return composed(inputs.located, (inputs.keep / one, inputs.keep / other))


def _layers(run: Run, model: Any) -> dict[str, Any]:
    """What of the model the method leaves out: numbers of experts, of its usual layers those that the model lacks, and others
    that were chosen in place of the usual ones."""
    found, config = inventory(model), methods.find(run.method.name).Config
    usual, asked = config().layers, config.from_dict(run.method.config).layers
    chosen = [] if not usual or found.resolve(usual, lenient=True) == asked else list(asked)
    return {
        "experts": found.experts,
        "lacking": [name for name in usual if name not in found.offered],
        "chosen": chosen,
    }


def _lengths(inputs: Inputs) -> list[int]:
    """Of the training examples, for the buckets, in characters: tokenising a large set would cost more than a short run."""
    return [len(e.instruction) + len(e.input) + len(e.output) for e in inputs.data.train]


def _cut(run: Run, inputs: Inputs, model: Any, tokenizer: Any, trains: bool) -> dict[str, Any]:
    """What does not fit: responses cut off, of the training examples that this run draws and the held-out ones; test prompts.

    Raises:
        ValueError: nothing is left of the response of any example that is drawn.
    """
    d, t = run.data, run.train
    drawn = None
    if trains:
        order = islice(training_order(_lengths(inputs), t.batch_size, run.seed), t.steps)
        examples = [inputs.data.train[i] for i in sorted({i for numbers in order for i in numbers})]
        drawn = count(examples, tokenizer, d.template, d.cutoff, inputs.watch)
        if drawn["empty"] == drawn["examples"]:
            raise ValueError(
                f"cut-off {d.cutoff} tokens leaves nothing of the response in any of the {len(examples):,} training records that "
                "this run draws: train more steps, or shorten the questions"
            )
    limit = positions(model.config, tokenizer)
    return {
        "training": drawn,
        "heldout": count(inputs.data.heldout, tokenizer, d.template, d.cutoff, inputs.watch),
        "prompts": prompts_cut(inputs.data.tests, tokenizer, _settings(run), limit),
    }


def _at_once(run: Run, inputs: Inputs, model: Any, tokenizer: Any) -> int:
    """Prompts per forward pass of the evaluation, the same in every process."""
    free = facts.free_memory()
    own = fitting(model, inputs.data.tests, tokenizer, _settings(run), run.data.cutoff, free)
    return int(min(parallel.gathered(own)))


def _settings(run: Run, at_once: int = EVAL_BATCH) -> EvalSettings:
    e = run.evaluation
    lengths = (e.max_new_tokens, e.max_new_tokens_math)
    return EvalSettings(e.protocol, e.beams, *lengths, at_once, run.data.template, e.repetition_penalty)


def _chooser(run: Run, inputs: Inputs, model: Any, tokenizer: Any) -> Callable[[], float]:
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
    found = inputs.data.tune(run.data.split_seed)
    assert sum(found) == run.data.tune, f"{sum(found)} held-out examples to choose by; {run.data.tune} were planned"
    return found


def training_loop(
    run: Run,
    inputs: Inputs,
    model: Any,
    tokenizer: Any,
    method: Method,
    device: torch.device,
    best: Best | None = None,
) -> Loop:
    """A run's training, not begun yet; arguments as `Loop`'s."""
    d, t = run.data, run.train

    def encoded(number: int) -> Encoded:
        return encode(inputs.data.train[number], tokenizer, d.template, d.train_on_inputs, d.cutoff)

    pad_id = tokenizer.pad_token_id if tokenizer.pad_token_id is not None else tokenizer.eos_token_id

    def on_step(step: int, loss: float) -> None:
        inputs.watch("train", step, t.steps, f"loss {loss:.3f}")
        inputs.on_step(step, loss)

    return Loop(
        run, model, method, _lengths(inputs), encoded, pad_id, device, on_step, inputs.keeper, inputs.spread, best
    )


def _judge(
    run: Run, inputs: Inputs, model: Any, tokenizer: Any, clock: Callable[[str, float], None], at_once: int
) -> dict[str, Any]:
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
