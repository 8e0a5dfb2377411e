"""`python -m smt_bench plan EXPERIMENT`, `plan claims` and `plan power EXPERIMENT`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from smt_bench.cli import options
from smt_bench.cli.options import say, show
from smt_bench.cli.values import numbers, own_recipe, setting, several
from smt_bench.machine.borders import folder_name
from smt_bench.machine.spread import MOST, Spread
from smt_bench.models import registry

LEAST = 0.001  # of the peaks: slower is something else
MOST_EFFECT = 100  # points
GPU, ATTENTION = "a100-80gb", "flash"

if TYPE_CHECKING:
    from smt_bench.plan.rows import DryPlanner
    from smt_bench.questions.experiment import TrainingExperiment


def plan(
    context: typer.Context,
    experiment: Annotated[
        str,
        typer.Argument(
            help="Name of the experiment; claims: the papers' efficiency statements; power: what an experiment can tell."
        ),
    ],
    of: Annotated[str | None, typer.Argument(metavar="[EXPERIMENT]", help="After power: the experiment.")] = None,
    model: Annotated[str, typer.Option(help="Registered model, Hugging Face id or local folder.")] = registry.PAPER,
    gpus: Annotated[int, typer.Option(help="GPUs, data-parallel.")] = 1,
    gpu: Annotated[str, typer.Option(help="Kind of GPU, e.g. a100-40gb.")] = GPU,
    batch_size: options.BatchSize = None,
    length: options.Length = None,
    layers: options.Layers = None,
    precision: options.Precision = None,
    optimizer_dtype: options.OptimizerDtype = None,
    checkpointing: options.Checkpointing = None,
    attention: Annotated[str, typer.Option(help="flash or eager.")] = ATTENTION,
    base: options.Base = None,
    zero_stage: Annotated[
        int | None, typer.Option("--zero", help="0 to 3; default: the first of 0, 2, 3 that fits.")
    ] = None,
    offload: Annotated[bool, typer.Option("--offload", help="Optimizer in main memory.")] = False,
    methods: Annotated[options.Many, typer.Option(help="Methods, separated by commas.")] = None,
    fractions: Annotated[options.Many, typer.Option(help="Trainable fractions in %, separated by commas.")] = None,
    tasks: Annotated[options.Many, typer.Option(help="Test tasks; math tasks plan math runs.")] = None,
    allow_code: options.AllowCode = False,
    settings: Annotated[
        list[str] | None, typer.Option("--set", help="A method's setting, e.g. smt.warmup_trains=false; repeatable.")
    ] = None,
    targets: options.Targets = None,
    preset: options.Preset = None,
    recipe: options.Recipe = None,
    efficiency: Annotated[
        str | None,
        typer.Option(
            help="Reached shares of the peaks: of products,of memory; one for both. Default: measured, else 0.5."
        ),
    ] = None,
    calibrate: Annotated[bool, typer.Option("--calibrate", help="Measure them on this machine.")] = False,
    results: Annotated[Path, typer.Option(help="Folder for tables and figures.")] = Path("results"),
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON, write nothing.")] = False,
    effect: Annotated[
        float | None, typer.Option(help="Of power: the difference looked for, in points; default 1.")
    ] = None,
) -> None:
    """Says what every run would train, cost and need: no weights, no data, no GPU."""
    from smt_bench.plan import side_by_side
    from smt_bench.plan.gpu.hardware import find
    from smt_bench.records.files import check_writable

    if (of is None) == (experiment == "power"):
        raise ValueError(
            "plan power: name the experiment, e.g. `plan power plateau`"
            if of is None
            else f"plan {experiment} {of}: only power takes one"
        )
    if effect is not None and (of is None or not 0 < effect <= MOST_EFFECT):
        raise ValueError(
            f"--effect {effect:g}: a difference above 0, of `plan power EXPERIMENT`, at most {MOST_EFFECT} points"
        )
    if of is not None:
        on_cost = {
            "gpus": gpus > 1, "gpu": gpu != GPU, "batch-size": batch_size, "length": length, "layers": layers,
            "precision": precision, "optimizer-dtype": optimizer_dtype, "checkpointing": checkpointing is not None,
            "attention": attention != ATTENTION, "base": base, "zero": zero_stage is not None, "offload": offload,
            "efficiency": efficiency, "calibrate": calibrate,
        }  # fmt: skip
        for option, given in on_cost.items():
            if given:
                raise ValueError(
                    f"--{option}: plan power says what differences can be told, not what runs cost: leave it out"
                )
    where = find(gpu)
    shares = _check(gpus, batch_size, efficiency, calibrate)
    if base and (zero_stage or offload):
        raise ValueError(
            f"--base {base}: nothing trains densely over it that ZeRO could shard: leave --zero and --offload out"
        )
    if not as_json:
        check_writable(f"results folder {results}", "--results", results / "plan")
    spread = Spread(gpus, zero=zero_stage or 0, offload=offload)
    if of is None and not calibrate:  # which measures what the cores reach
        context.with_resource(side_by_side.prepared())
    if experiment == "claims":
        from smt_bench.plan.claims import page

        page.main(results / "plan" / "claims", as_json)
        return
    from smt_bench.machine.fits import Machine
    from smt_bench.plan import output
    from smt_bench.plan.calibrate import Calibration
    from smt_bench.plan.calibrate import calibrate as measure
    from smt_bench.plan.dry import Workload
    from smt_bench.plan.gpu.roofline import Efficiency
    from smt_bench.plan.row import Target
    from smt_bench.plan.rows import DryPlanner, plan_rows
    from smt_bench.questions import refusals
    from smt_bench.questions.parts import asked_of, families_of
    from smt_bench.questions.request import Request

    asked = _experiment(of or experiment)
    request = Request(
        of or experiment, model, methods=tuple(several(methods, "--methods")),
        fractions_pct=numbers(fractions, float, "--fractions"),
        tasks=tuple(several(tasks, "--tasks")), settings=tuple(setting(text) for text in settings or []),
        targets=tuple(several(targets, "--targets")), batch_size=batch_size, length=length, layers=layers,
        checkpointing=checkpointing, precision=precision, optimizer_dtype=optimizer_dtype, base=base, allow_code=allow_code,
        default_family=asked.families[0], preset=preset, **own_recipe(recipe),
    )  # fmt: skip
    request = asked_of(request, asked, families_of(asked, request)[0])
    planner = DryPlanner(request, Machine((where.memory,) * gpus, 0), say)
    refusals.idle_settings(request, planner.shared, asked.method_names(planner))
    if of is not None:
        _power(asked, planner, results, effect, as_json)
        return
    chosen = planner.recipe
    examples = batch_size or chosen.batch_size
    if examples % gpus:
        raise ValueError(
            f"--gpus {gpus} with {examples} examples per step: choose a --batch-size that is a multiple of {gpus}"
        )
    share = examples // gpus
    at_once = share if batch_size else min(share, chosen.micro_batch_size)
    workload = Workload(
        model,
        at_once,
        length or chosen.cutoff,
        precision or "bf16",
        chosen.gradient_checkpointing if checkpointing is None else checkpointing,
        attention,
        optimizer_dtype=optimizer_dtype or "fp32",
        layers=layers,
    )
    measured: Calibration | None = None
    asked_for = None if shares is None else Efficiency(*shares)
    if calibrate:
        measured = measure()
        asked_for = measured.efficiency(where)
    target = Target(where, spread, zero_stage is not None, asked_for, -(-share // at_once))  # whole micro-batches
    rows = _watched(lambda watch: plan_rows(asked, planner, workload, target, watch))
    if as_json:
        print(json.dumps([row.to_dict() for row in rows], indent=1))
        return
    name = registry.find(model).name
    heading = f"Plan of {experiment}: {name} on {gpus} x {gpu}"
    table = output.table(rows, heading, output.notes(rows, workload, target, measured))
    output.show(table)
    files = output.write(rows, table, results / "plan" / experiment / folder_name(name), target)
    say("wrote " + ", ".join(str(f) for f in files))


def _power(asked: TrainingExperiment, planner: DryPlanner, results: Path, effect: float | None, as_json: bool) -> None:
    from smt_bench.plan.power import power_table

    table = power_table(asked, planner, results, 1.0 if effect is None else effect)
    if as_json:
        print(json.dumps(table.data, indent=1))
    else:
        show(table.to_markdown())


def _check(gpus: int, batch: int | None, efficiency: str | None, calibrate: bool) -> tuple[float, float] | None:
    """Refuses numbers that cannot be; the efficiencies asked for."""
    if not 1 <= gpus <= MOST:
        raise ValueError(f"--gpus {gpus}: choose 1 or more, at most {MOST:,}")
    if batch is not None and batch < 1:
        raise ValueError(f"--batch-size {batch}: choose a positive whole number")
    if efficiency is None:
        return None
    if calibrate:
        raise ValueError("--efficiency and --calibrate: choose one")
    shares = numbers([efficiency], float, "--efficiency")
    if len(shares) > 2 or not all(LEAST <= share <= 1 for share in shares):
        raise ValueError(
            f"--efficiency {efficiency}: choose one share for both, or that of products and that of memory, each at least "
            f"{LEAST} and at most 1, separated by a comma"
        )
    return shares[0], shares[-1]


def _experiment(name: str) -> TrainingExperiment:
    from smt_bench import experiments
    from smt_bench.questions.experiment import TrainingExperiment

    found = experiments.find(name)
    if not isinstance(found, TrainingExperiment):
        raise ValueError(f"{name} makes no training run: there is nothing to plan, choose an experiment that trains")
    return found


def _watched(work: Any) -> Any:
    """Runs with a status line on a terminal's standard error."""
    from rich.console import Console

    console = Console(stderr=True)
    if not console.is_terminal or not console.encoding.startswith("utf"):  # the wheel that turns is of braille
        return work(lambda done, total, what: None)
    with console.status("planning") as status:
        return work(lambda done, total, what: status.update(f"run {done + 1} of {total}: {what}"))
