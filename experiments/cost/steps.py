"""What the measurements of training steps share: the methods, each at one fraction, and the sizes of a batch.

What is asked for beside the recipe's sizes stands in the settings, and so in the key, only where it is not the default.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, replace
from typing import Any

from smt_bench import methods
from smt_bench.machine import fits
from smt_bench.machine.states import WEIGHT, Demand
from smt_bench.models.build import config, listed, whole_model
from smt_bench.models.quantized import WORDS
from smt_bench.plan.dry import Workload
from smt_bench.questions.capacity import demand_of
from smt_bench.questions.experiment import MeasuringExperiment
from smt_bench.questions.grid import Cell, grid, middle
from smt_bench.questions.planner import Planner
from smt_bench.records.store import Record

PAPER_STEPS = 31_954  # commonsense: 3 epochs of 170,420 examples in batches of 16


class StepsExperiment(MeasuringExperiment):
    """Measures steps of methods on random weights and tokens."""

    takes_steps = True

    def check_machine(self, planner: Planner, names: Sequence[str]) -> None:
        """At least one of the methods must fit: each has its own outcome.

        Raises:
            ValueError: none does.
        """
        s, demands = self.settings_of_steps(planner), [planner.demand(name) for name in names]
        # What is installed after a warm-up can be measured without one that trains everything (`startable`).
        least = [replace(d, dense=d.dense and not d.trainable) for d in demands]
        reasons = {d.method: lacking(d, planner.here, s) for d in least}
        if names and all(reasons.values()):
            told = "; ".join(f"{name} {why}" for name, why in reasons.items())
            raise ValueError(f"model {planner.request.model}: {told}: choose fewer --layers, or --optimizer-dtype bf16")

    def method_names(self, planner: Planner) -> list[str]:
        """The five methods, or those asked for."""
        return planner.method_names(("full", "smt", "spiel", "lora", "dora"))

    def _cells(self, planner: Planner) -> list[Cell]:
        return grid(planner, self.method_names(planner), middle(planner))

    def check(self, planner: Planner) -> None:
        """Every fraction must be possible for every method, and the steps for the model."""
        s, r = self.settings_of_steps(planner), planner.request
        Workload(
            r.model, s["batch_size"], s["length"], s["precision"], optimizer_dtype=s.get("optimizer_dtype", "fp32"),
            layers=r.layers, base=s.get("base", ""),
        )  # fmt: skip
        for cell in self._cells(planner):
            planner.check_capacity(cell.method, cell.fraction)

    def settings(self, planner: Planner) -> dict[str, Any]:
        """What takes steps, and how large they are."""
        competing = []
        for cell in self._cells(planner):
            version, config = methods.find(cell.method).version, planner.config(cell.method, PAPER_STEPS)
            entry = {
                "name": cell.method,
                "version": version,
                "fraction": cell.fraction,
                "config": config,
                "variant": "",
            }
            if (half := planner.half(cell.method, cell.fraction, config, PAPER_STEPS)) is not None:
                entry["half"] = half
            competing.append(entry)
            if config.get("dropout"):
                # Drawing the masks is slow on CPUs: what a method costs without them is another question than what the paper ran.
                competing.append({**entry, "config": {**config, "dropout": 0.0}, "variant": "no dropout"})
        return {"methods": competing, **self.settings_of_steps(planner)}

    def settings_of_steps(self, planner: Planner) -> dict[str, Any]:
        """How large they are."""
        r, recipe = planner.request, planner.recipe
        asked: dict[str, Any] = {
            "batch_size": r.batch_size or (2 if r.smoke else recipe.micro_batch_size),
            "length": r.length or recipe.cutoff,
            "precision": planner.precision,
            "checkpointing": recipe.gradient_checkpointing if r.checkpointing is None else r.checkpointing,
        }
        if r.layers is not None and r.layers != config(r.model).get_text_config().num_hidden_layers:
            asked["layers"] = r.layers
        if r.optimizer_dtype not in (None, "fp32"):
            asked["optimizer_dtype"] = r.optimizer_dtype
        if recipe.base:
            asked["base"] = recipe.base
        return asked


def lacking(demand: Demand, here: fits.Machine, settings: dict[str, Any]) -> str | None:
    """Why a method cannot take a step here, as `fits.lacking`, under a measurement's settings."""
    return fits.lacking(demand, here, settings["precision"], settings.get("optimizer_dtype", "fp32"))


def startable(
    entry: dict[str, Any],
    total: int,
    trainable: int,
    here: fits.Machine,
    settings: dict[str, Any],
    steps: int,
    weights: int | None = None,
) -> tuple[dict[str, Any], str | None, str | None]:
    """The config under which a method can be brought to its tuning steps here.

    A warm-up that trains everything may not fit where what follows it does; the choice is then made by one that only looks.

    Args:
        entry: of the settings' methods.
        total: numbers in the model.
        trainable: that the method trains in the end.
        here: this machine.
        settings: of the measurement.
        steps: of a run.
        weights: bytes of the model's weights where not all are in the measurement's precision.

    Returns:
        (config, why the warm-up only looks, why the method cannot start at all); None where there is nothing to say.
    """
    config: dict[str, Any] = entry["config"]
    found = {}
    for trains in (True, False):
        tried = config if trains else {**config, "warmup_trains": False}
        method = methods.build(entry["name"], tried, entry["fraction"], 0, steps)
        found[trains] = lacking(demand_of(method, total, trainable, weights=weights), here, settings)
        if found[trains] is None or not config.get("warmup_trains"):
            why = None if trains else f"its blocks are chosen by a frozen warm-up: the one that trains {found[True]}"
            return tried, why, found[trains]
    return config, None, found[False]


def whole(model: str, settings: dict[str, Any]) -> dict[str, Any] | None:
    """Of a measurement of fewer layers: what all are to them (`models.build.Whole`); None where all were measured."""
    if "layers" not in settings:
        return None
    found = asdict(whole_model(model, settings["layers"]))
    if settings.get(
        "base"
    ):  # what is added has fewer bits than embeddings: bytes of all weights, and of those measured
        every = {name: value for name, value in settings.items() if name != "layers"}
        found["weights"] = [weight_bytes(model, every), weight_bytes(model, settings)]
    return found


def layers_note(record: Record, how: str) -> list[str]:
    """What a table says where not all layers were measured; `how` it goes on from there."""
    found = record["result"].get("whole")
    if not found:
        return []
    return [
        f"{record['run']['settings']['layers']} of {found['layers']} layers, and fractions of these; extrapolated to "
        f"{found['layers']}: {how}"
    ]


def setting_words(settings: dict[str, Any]) -> str:
    """Options beside the recipe's sizes, for a table's notes."""
    words = f", optimizer in {settings['optimizer_dtype']}" if "optimizer_dtype" in settings else ""
    return f"{words}, {WORDS}" if settings.get("base") else words


def weight_bytes(model: str, settings: dict[str, Any]) -> int | None:
    """Bytes of the model's weights where not all are in the measurement's precision."""
    base = settings.get("base")
    return listed(model, settings.get("layers")).weight_bytes(WEIGHT[settings["precision"]], base) if base else None
