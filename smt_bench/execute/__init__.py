"""One run, start to finish: `execute(run)` gives its record, whatever happens.

Loading, training and merging are put together here, judging in `execute.judging`. May be imported by sweep, checks and
what stands above them.
"""

from __future__ import annotations

import math
import time
from typing import Any

import torch
from accelerate import PartialState

from smt_bench import methods
from smt_bench.data.overlap import RULE
from smt_bench.data.prompts import Encoded, encode
from smt_bench.execute.judging import chooser, judge, prompts_at_once, text_lengths, what_is_cut
from smt_bench.machine import facts, memory, parallel
from smt_bench.methods.base import Method
from smt_bench.models.build import load
from smt_bench.models.composing import composed
from smt_bench.models.inventory import inventory
from smt_bench.models.keeping import Keeping
from smt_bench.models.merging import merge
from smt_bench.models.pace import tokens_per_second
from smt_bench.models.precision import attend
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
    attend(model, run.data.cutoff)
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

    record["cut"] = what_is_cut(run, inputs, model, tokenizer, bool(capacity.trainable) and not run.parts)
    if run.parts:
        at_once = prompts_at_once(run, inputs, model, tokenizer)
        record["environment"]["evaluation_batch"] = at_once
        record |= judge(run, inputs, model, tokenizer, clock, at_once)
        peaks.end("evaluation")
        return

    def check() -> None:
        peaks.end("warmup" if method.warmup_steps else "attach")  # the warm-up with the choice that it ends with
        trainable = sum(p.numel() for p in model.parameters() if p.requires_grad)
        assert trainable == capacity.trainable, f"{trainable} numbers train, {capacity.trainable} were planned"

    best = Best(run.train.select_every, run.train.steps, chooser(run, inputs, model, tokenizer))
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
        at_once = prompts_at_once(run, inputs, model, tokenizer)
        record["environment"]["evaluation_batch"] = at_once
        record |= judge(run, inputs, model, tokenizer, clock, at_once)
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
        run, model, method, text_lengths(inputs), encoded, pad_id, device, on_step, inputs.keeper, inputs.spread, best
    )
