"""From an experiment to one row per run: capacity, memory, FLOPs, time, and where it fits. No data, no weights, no GPU."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from typing import Any

from smt_bench import methods
from smt_bench.evidence import published
from smt_bench.machine.spread import Spread
from smt_bench.machine.states import WEIGHT
from smt_bench.measuring.account import CATEGORIES, Account
from smt_bench.methods.base import Capacity
from smt_bench.plan.dry import DryRun, Workload
from smt_bench.plan.dry_runs import DryRuns, Structure, several_at_a_time
from smt_bench.plan.gpu.hardware import GPUS, NUMBERS, TIGHT, Gpu
from smt_bench.plan.gpu.roofline import Operations, StepTime, step_time
from smt_bench.plan.gpu.sharding import host_bytes, per_gpu
from smt_bench.plan.row import Anatomy, Row, Target
from smt_bench.questions.capacity import demand_of
from smt_bench.questions.experiment import TrainingExperiment
from smt_bench.questions.planner import NOTHING, Planner
from smt_bench.records.runs import Run

VERDICTS = ("no", "tight", "OK")
NEAR = 0.02  # percentage points between a requested and a published fraction that mean the same
STATES = 3  # two are kept until a third one is whole


class DryPlanner(Planner):
    """Builds an experiment's runs from sizes alone, and keeps those that the model cannot do instead of stopping at one.

    Attributes:
        refused: key of a run -> why it is impossible.
    """

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self.refused: dict[str, str] = {}

    def check_library(self, base: str) -> None:
        """Nothing: tensors without values need none."""

    def run(
        self,
        name: str,
        fraction: float | None,
        seed: int,
        lr: float | None = None,
        probes: tuple[str, ...] = (),
        recipe: Mapping[str, Any] = NOTHING,
        tuning: str = "",
        only: tuple[str, ...] = (),
        **changes: Any,
    ) -> tuple[Run, Any]:
        """One run, with its capacity or None."""
        run = self.question(name, fraction, seed, lr, probes, recipe, tuning, only, **changes)
        try:
            return super().run(name, fraction, seed, lr, probes, recipe, tuning, only, **changes)
        except ValueError as error:
            self.refused[run.key] = str(error)
            return run, None


def verdict(need: int, gpu: Gpu) -> str:
    """OK, tight (above `TIGHT` of what is free, where fragmentation decides) or no."""
    return "OK" if need <= TIGHT * gpu.free else "tight" if need <= gpu.free else "no"


def make_row(
    run: Run, capacity: Capacity | None, refusal: str | None, runs: DryRuns, anatomy: Anatomy, target: Target
) -> Row:
    """Plans one run.

    Args:
        run: the question.
        capacity: None where the run is impossible.
        refusal: then why.
        runs: executes each structure once.
        anatomy: of the model.
        target: where it is to go.
    """
    row = Row(run, capacity, target.gpus, refusal, published_pct(run))
    if capacity is None:
        return row
    dry = runs.run(*_structure(run))
    trained = dry.account.trained
    assert trained.get("tuning", 0) == capacity.trainable, f"{run.method.name}: {trained} train, planned {capacity}"
    account, work = dry.account, runs.workload
    method = methods.build(run.method.name, run.method.config, run.method.fraction, run.seed, run.train.steps)
    rule = demand_of(method, capacity.total, capacity.trainable, capacity.kept, anatomy.weights)
    row.rule = rule.states(work.precision, work.optimizer_dtype)
    row.account = account
    whole = {
        stage for stage, count in trained.items() if count == anatomy.total
    }  # ZeRO is for these (`training.updaters`)
    for stage, part in split(account).items():
        spreads = spreads_of(target, target.gpus, stage in whole)
        row.spreads[stage], row.peaks[stage] = place(part, target.gpu, spreads, anatomy.largest)
        row.phases |= phase_bytes(part, row.spreads[stage], anatomy.largest)
    row.fits = min((verdict(peak[0], target.gpu) for peak in row.peaks.values()), key=VERDICTS.index)
    row.host = max(host_bytes(trained.get(stage, 0), spread) for stage, spread in row.spreads.items())
    row.times = {
        stage: step_time(
            in_pieces(operations, target.pieces),
            trained[stage],
            anatomy.total,
            target.gpu,
            row.spreads[stage],
            target.efficiency,
        )
        for stage, operations in dry.operations.items()
    }
    row.disk = disk_bytes(dry, anatomy.total * WEIGHT[runs.workload.precision])
    row.seconds = run_seconds(run, dry, row.times)
    row.smallest = smallest(account, anatomy.largest, target, runs.workload.batch * target.gpus * target.pieces, whole)
    return row


def in_pieces(operations: Operations, pieces: int) -> Operations:
    """A step's operations where its examples come in so many micro-batches; the optimizer works once."""
    return Counter({kind: times * (1 if kind[0] else pieces) for kind, times in operations.items()})


def split(account: Account) -> dict[str, Account]:
    """The warm-up, if there is one, and the rest: a run may spread them differently."""
    parts: dict[str, Account] = {}
    for phase in account.phases:
        parts.setdefault("warmup" if phase.stage == "warmup" else "tuning", Account()).phases.append(phase)
    return parts


def spreads_of(target: Target, gpus: int, whole: bool) -> list[Spread]:
    """What to try for a stage: without ZeRO and offload, unless it trains the whole model, as the engine has it."""
    return target.spreads(gpus) if whole else [_plain(replace(target.spread, processes=gpus))]


def _plain(spread: Spread) -> Spread:
    return replace(spread, zero=0, offload=False)


def place(
    account: Account, gpu: Gpu, spreads: Sequence[Spread], largest: int
) -> tuple[Spread, tuple[int, str, dict[str, int]]]:
    """The first spread that fits, else the one that needs least; with its peak."""
    found = [(spread, per_gpu(account, spread, largest)) for spread in spreads]
    fitting = [one for one in found if verdict(one[1][0], gpu) != "no"]
    return fitting[0] if fitting else min(found, key=lambda one: one[1][0])


def run_seconds(run: Run, dry: DryRun, times: dict[str, StepTime]) -> float | None:
    """Training time: warm-up steps, then tuning steps."""
    if "tuning" not in times:
        return None
    warmup = dry.warmup_steps
    return sum(times[stage].total * n for stage, n in (("warmup", warmup), ("tuning", run.train.steps - warmup)) if n)


def disk_bytes(dry: DryRun, weights: int) -> int:
    """What a run's checkpoints take at most, in bytes.

    Args:
        dry: one step of every stage.
        weights: bytes of the model, saved once where a warm-up has moved them.
    """
    moved = weights if dry.account.trained.get("warmup") else 0
    return max(STATES * dry.saved.get("warmup", 0), moved + STATES * dry.saved.get("tuning", 0))


def phase_bytes(account: Account, spread: Spread, largest: int) -> dict[str, dict[str, dict[str, int]]]:
    """Stage -> phase -> bytes by category at that phase's peak, per GPU."""
    found: dict[str, dict[str, dict[str, int]]] = {}
    for phase in account.phases:
        one, _, categories = per_gpu(Account([phase]), spread, largest)
        found.setdefault(phase.stage, {})[phase.phase] = {c: categories[c] for c in CATEGORIES} | {"total": one}
    return found


def smallest(account: Account, largest: int, target: Target, batch: int, whole: Collection[str]) -> str | None:
    """The least total GPU memory that holds the run without offload, in as few GPUs as possible; the step's batch is kept.

    Args:
        account: of one GPU with `batch` / `target.gpus` examples.
        largest: numbers in the largest module.
        target: its ZeRO stage, where one was asked for, is kept.
        batch: examples per step over all GPUs.
        whole: stages that train the whole model, which alone are sharded.
    """
    parts = split(account)
    choices = sorted((n * gpu.memory, n, gpu.name) for gpu in GPUS.values() for n in NUMBERS if n <= batch)
    for _, n, name in choices:
        at_once = math.ceil(batch / target.gpus / target.pieces)
        own = math.ceil(batch / n)
        share = (own if target.pieces == 1 else min(own, at_once)) / at_once
        for spread in spreads_of(target, n, bool(whole)):
            if spread.offload and not target.spread.offload:
                continue
            peaks = (
                per_gpu(part, spread if stage in whole else _plain(spread), largest, share)[0]
                for stage, part in parts.items()
            )
            if verdict(max(peaks), GPUS[name]) == "OK":
                return f"{n} x {name}" + (f" ({spread.sharding})" if spread.sharding else "")
    return None


def published_pct(run: Run) -> float | None:
    """The percentage that the SMT paper prints for this method and model, where it is nearly the requested one."""
    if run.method.fraction is None:
        return None
    asked = 100 * run.method.fraction
    found: list[float] = []
    for table in (*published.PLATEAU.values(), *published.BY_TASK.values(), "smt_table1_speed"):
        rows = published.published(table)
        mine = rows[(rows["model"] == run.model.name) & (rows["method"].str.removesuffix("(best)") == run.method.name)]
        found += [float(p) for p in mine["params_pct"] if abs(p - asked) <= NEAR]
    return min(found, key=lambda p: abs(p - asked)) if found else None


def plan_rows(
    experiment: TrainingExperiment,
    planner: DryPlanner,
    workload: Workload,
    target: Target,
    watch: Any = lambda done, total, what: None,
) -> Sequence[Row]:
    """Every run of an experiment.

    Args:
        experiment: whose runs.
        planner: for the request.
        workload: of one GPU.
        target: where to.
        watch: called before each run with how many are done, of how many, and its method.
    """
    planner.open_without_data()
    planned = [(run, capacity) for run, capacity in experiment.runs(planner) if not run.parts]  # those train nothing
    whole, bases = Anatomy.of(workload.model, workload.layers), {run.train.base for run, _ in planned}
    runs = {base: DryRuns(replace(workload, base=base)) for base in bases}
    anatomies = {
        base: replace(whole, weights=planner.inventory.weight_bytes(WEIGHT[workload.precision], base)) for base in bases
    }
    # Nothing trains densely over 4 bits that ZeRO could shard.
    alone = replace(target, fixed=True, spread=replace(target.spread, zero=0, offload=False))
    rows = []
    structures: dict[str, list[Structure]] = {base: [] for base in bases}
    for run, capacity in planned:
        if capacity is not None:
            structures[run.train.base].append(_structure(run))
    with several_at_a_time([(runs[base], structures[base]) for base in bases]):
        for done, (run, capacity) in enumerate(planned):
            base = run.train.base
            watch(done, len(planned), run.method.name)
            to = alone if base else target
            rows.append(make_row(run, capacity, planner.refused.get(run.key), runs[base], anatomies[base], to))
    return rows


def _structure(run: Run) -> Structure:
    return run.method.name, run.method.config, run.method.fraction, run.train.steps
