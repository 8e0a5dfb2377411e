"""The command `recipe`: the effective recipe as a file that `run --recipe` takes, every value with its source."""

from __future__ import annotations

from typing import Annotated

import typer

from smt_bench.cli.options import (
    BatchSize,
    Cutoff,
    Decays,
    Epochs,
    Heldout,
    LrWarmup,
    Many,
    MicroBatch,
    Model,
    Precision,
    Rates,
    Recipe,
    Schedule,
)
from smt_bench.cli.values import own_recipe, several
from smt_bench.models import registry


def recipe(
    model: Model = registry.DEFAULT,
    recipe: Recipe = None,
    tasks: Annotated[Many, typer.Option(help="Test tasks, which say the data family.")] = None,
    data: Annotated[str | None, typer.Option(help="Data of your own, whose family it is.")] = None,
    preset: Annotated[str | None, typer.Option(help="smoke or reference: as that has it.")] = None,
    lr: Rates = None,
    weight_decay: Decays = None,
    batch_size: BatchSize = None,
    micro_batch: MicroBatch = None,
    epochs: Epochs = None,
    cutoff: Cutoff = None,
    schedule: Schedule = None,
    lr_warmup: LrWarmup = None,
    heldout: Heldout = None,
    precision: Precision = None,
) -> None:
    """Prints the recipe in use as a file for `run --recipe FILE`, each value with its source."""
    from smt_bench.machine import fits
    from smt_bench.questions.planner import Planner
    from smt_bench.questions.recipe_sources import as_toml
    from smt_bench.questions.request import Request

    request = Request(
        "recipe",
        model,
        data,
        tasks=tuple(several(tasks, "--tasks")),
        preset=preset,
        precision=precision,
        **own_recipe(recipe, lr, weight_decay, batch_size, micro_batch, epochs, cutoff, schedule, lr_warmup, heldout),
    )
    print(as_toml(Planner(request, fits.here()), preset), end="")
