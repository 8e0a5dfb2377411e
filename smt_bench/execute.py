"""One run, start to finish: `execute(run)` gives its record, whatever happens."""

from __future__ import annotations

import gc
import math
import time
import traceback
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from typing import Any, Protocol

import torch
from accelerate import PartialState

import methods
from methods.base import Capacity, Method, Shapes
from smt_bench import environment, parallel
from smt_bench.data import DataSet
from smt_bench.evaluate import EvalSettings, evaluate, merge_shares, response_loglik
from smt_bench.models import Located, load
from smt_bench.overlap import RULE
from smt_bench.prompts import Encoded, encode
from smt_bench.resume import Keeper
from smt_bench.runs import Measurement, Question, Run
from smt_bench.store import SCHEMA, Record
from smt_bench.train import Diverged, Loop
from smt_bench.zero import Zero

EVAL_BATCH = 32
TOLERANCE = 0.05  # realised against requested trainable fraction, relative


class Watcher(Protocol):
    """Sees a run go by; the progress bars are one."""

    def __call__(self, phase: str, done: int, total: int, note: str = "") -> None:
        """`done` of `total` units of `phase` are finished."""


def unwatched(phase: str, done: int, total: int, note: str = "") -> None:
    """Nobody looks."""


@dataclass
class Inputs:
    """What a run needs besides itself; shared by the runs of a sweep.

    Attributes:
        located: the model's files.
        data: examples; their hashes are in the run.
        device_map: for models spread over several GPUs.
        watch: progress.
        keeper: of this run's checkpoints; the default keeps none.
        zero: how phases that train everything are sharded over several processes.
    """

    located: Located
    data: DataSet
    device_map: str | None = None
    watch: Watcher = unwatched
    keeper: Keeper = field(default_factory=Keeper)
    zero: Zero | None = None


def plan(run: Run, shapes: Shapes) -> tuple[Method, Capacity]:
    """Builds the method and its capacity, before any weight is loaded.

    Raises:
        ValueError: the request is impossible, or its realised fraction is too far off.
    """
    m = run.method
    method = methods.build(m.name, m.config, m.fraction, run.seed, run.train.steps)
    capacity = method.capacity(shapes)
    check_fraction(m.name, m.fraction, capacity)
    return method, capacity


def check_fraction(name: str, fraction: float | None, capacity: Capacity) -> None:
    """Refuses a capacity more than `TOLERANCE` off the request, unless one capacity unit is larger than that.

    Raises:
        ValueError: the realised fraction is too far off.
    """
    if fraction is None:
        return
    off = abs(capacity.fraction - fraction) / fraction
    unit = capacity.unit_numbers / (fraction * capacity.total)
    if off > TOLERANCE and unit <= TOLERANCE:
        raise ValueError(
            f"{name}: fraction {fraction:.4%} becomes {capacity.fraction:.4%} ({capacity.units} {capacity.unit}), "
            f"{off:.0%} off: choose a fraction that it can meet"
        )


def execute(run: Run, inputs: Inputs) -> Record:
    """Trains and evaluates; the record says done, diverged, out_of_memory or failed.

    KeyboardInterrupt passes through, and so does `parallel.Gone`: an interrupted run has no record, but a checkpoint where
    `inputs.keeper` keeps them.
    """
    return _recorded(run, lambda record: _execute(run, inputs, record))


def measure(
    measurement: Measurement, answer: Callable[[Measurement, Watcher], dict[str, Any]], watch: Watcher
) -> Record:
    """Answers a measurement; the record is as that of a run, with `result` in place of what training gives."""

    def fill(record: Record) -> None:
        environment.reset_peaks()
        record["result"] = answer(measurement, watch)

    return _recorded(measurement, fill)


def failure(run: Question, message: str, log: Sequence[str]) -> Record:
    """The record of a run whose process died, so that it could not write one.

    Args:
        run: the run.
        message: what is known.
        log: the last lines the process wrote.
    """

    def fill(record: Record) -> None:
        raise ChildProcessError(message)

    record = _recorded(run, fill)
    status = "out_of_memory" if any("OutOfMemoryError" in line for line in log) else "failed"
    return {**record, "status": status, "message": message, "traceback": list(log), "memory_bytes": {}}


def _recorded(run: Question, fill: Callable[[Record], None]) -> Record:
    record: Record = {
        "schema": SCHEMA,
        "key": run.key,
        "run": run.to_dict(),
        "status": "failed",
        "message": None,
        "step": None,
        "started": datetime.now(UTC).isoformat(timespec="seconds"),
        "environment": dict(environment.describe()),
    }
    started = time.perf_counter()
    try:
        fill(record)
        record["status"] = "done"
    except Diverged as error:
        record |= {"status": "diverged", "message": str(error), "step": error.step}
        for part in ("heldout", "evaluation"):
            record.pop(part, None)
    except Exception as error:
        if parallel.size() > 1 and parallel.gone(error):
            raise parallel.Gone(_first_line(error)) from error
        # The sweep goes on: the record names what went wrong and where
        record |= {"message": _first_line(error), "traceback": traceback.format_exc().splitlines()[-12:]}
        # torch's CPU allocator has no exception of its own.
        if isinstance(error, (torch.OutOfMemoryError, MemoryError)) or "DefaultCPUAllocator" in str(error):
            record["status"] = "out_of_memory"
    record["finished"] = datetime.now(UTC).isoformat(timespec="seconds")
    seconds = record.setdefault("seconds", {})
    # A run that was interrupted also took what its checkpoint says of earlier processes.
    seconds["total"] = round(max(time.perf_counter() - started, sum(seconds.values())), 3)
    record.setdefault("memory_bytes", {}).update(environment.peak_memory())
    gc.collect()
    return record


def _execute(run: Run, inputs: Inputs, record: Record) -> None:
    """Fills the record part by part, so that a run that stops half-way keeps what was known by then."""
    seconds: dict[str, float] = {}
    record["seconds"] = seconds
    record["environment"] |= {"processes": parallel.size(), "zero": inputs.zero and asdict(inputs.zero)}
    record["overlap"] = {"rule": RULE, "tests": inputs.data.overlap}

    def clock(part: str, since: float) -> None:
        seconds[part] = round(time.perf_counter() - since, 3)

    # Of accelerate only the device: its environment variables (accumulation, precision) would change the numbers of a run.
    device = PartialState(cpu=not torch.cuda.is_available()).device
    environment.reset_peaks()
    start = time.perf_counter()
    model, tokenizer = load(inputs.located, run.train.precision, inputs.device_map)
    if inputs.device_map is None:
        model.to(device)
    clock("load", start)
    method, capacity = plan(run, {name: tuple(p.shape) for name, p in model.named_parameters()})
    record["capacity"] = {
        "unit": capacity.unit,
        "units": capacity.units,
        "trainable": capacity.trainable,
        "total": capacity.total,
        "fraction": capacity.fraction,
    }

    def check() -> None:
        trainable = sum(p.numel() for p in model.parameters() if p.requires_grad)
        assert trainable == capacity.trainable, f"{trainable} numbers train, {capacity.trainable} were planned"

    loop = _loop(run, inputs, model, tokenizer, method, device)
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
        record["memory_bytes"] = dict(trained.bytes)
        if inputs.keeper.resumed:
            record["resumed_at_steps"] = inputs.keeper.resumed
        if loop.probes:
            record["probes"] = {name: probe.result() for name, probe in loop.probes.items()}
    record["method"] = method.describe()
    start = time.perf_counter()
    method.merge(model)
    clock("merge", start)
    record |= _judge(run, inputs, model, tokenizer, clock)
    if not math.isfinite(record["heldout"]["nll"] or 0.0):
        raise Diverged(run.train.steps, record["heldout"]["nll"])


def _loop(run: Run, inputs: Inputs, model: Any, tokenizer: Any, method: Method, device: torch.device) -> Loop:
    d, t = run.data, run.train

    def encoded(number: int) -> Encoded:
        return encode(inputs.data.train[number], tokenizer, d.template, d.train_on_inputs, d.cutoff)

    # Buckets go by characters: tokenising a large training set first would cost more than a short run.
    lengths = [len(e.instruction) + len(e.input) + len(e.output) for e in inputs.data.train]
    pad_id = tokenizer.pad_token_id if tokenizer.pad_token_id is not None else tokenizer.eos_token_id

    def on_step(step: int, loss: float) -> None:
        inputs.watch("train", step, t.steps, f"loss {loss:.3f}")

    return Loop(run, model, method, lengths, encoded, pad_id, device, on_step, inputs.keeper, inputs.zero)


def _judge(run: Run, inputs: Inputs, model: Any, tokenizer: Any, clock: Callable[[str, float], None]) -> dict[str, Any]:
    e, d = run.evaluation, run.data
    start = time.perf_counter()
    heldout = response_loglik(
        model,
        tokenizer,
        parallel.share(inputs.data.heldout),
        d.template,
        d.cutoff,
        EVAL_BATCH,
        progress=inputs.watch,
    )
    clock("heldout", start)
    start = time.perf_counter()
    settings = EvalSettings(e.protocol, e.beams, e.max_new_tokens, e.max_new_tokens_math, EVAL_BATCH, d.template)
    own = {task: part for task, examples in inputs.data.tests.items() if (part := parallel.share(examples))}
    scores = evaluate(model, tokenizer, own, settings, progress=inputs.watch)
    if parallel.size() > 1:
        heldout = parallel.merge(parallel.gathered(heldout))
        scores = merge_shares(parallel.gathered(scores), list(inputs.data.tests))
    clock("evaluation", start)
    return {"heldout": _heldout(heldout), "evaluation": scores}


def _heldout(examples: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Mean negative log-likelihood per response token (nats), over all tokens together.

    None where no response fitted into the cut-off; NaN (the caller calls that diverged) where one is not finite.
    """
    scored = [e for e in examples if e["tokens"]]
    tokens = sum(e["tokens"] for e in scored)
    finite = all(e["loglik"] is not None for e in scored)
    total = sum(e["loglik"] for e in scored) if finite else math.nan
    return {
        "nll": -total / tokens if tokens else None,
        "examples": {
            "loglik": [None if e["loglik"] is None else round(e["loglik"], 6) for e in examples],
            "tokens": [e["tokens"] for e in examples],
        },
    }


def _first_line(error: BaseException) -> str:
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0]}" if lines else type(error).__name__
