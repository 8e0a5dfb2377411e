"""Which method works on which architecture: tried on tiny random models, written to docs/architectures.md and .csv.

    python tests/matrix.py [NAME ...]     all architectures take some minutes; names: only these, printed and not written

A method works where it can be planned (with the first of FRACTIONS that it can give), attaches, lowers the loss in a few of
training's own steps, leaves the frozen numbers alone, and merges into a model that says the same, or is judged unmerged.
"""

from __future__ import annotations

import logging
import math
import re
import sys
import warnings
from pathlib import Path
from typing import Any

import torch
from architectures import ARCHITECTURES, configuration
from labelled import labelled

from smt_bench import methods
from smt_bench.methods.base import OptimizerSettings
from smt_bench.methods.roles import ALL
from smt_bench.models.inventory import Inventory, inventory
from smt_bench.models.merging import merge
from smt_bench.models.unpack import unpack
from smt_bench.report.table import Table
from smt_bench.training.loss import response_loss
from smt_bench.training.optimizer import FrozenUpdater, TorchUpdater
from smt_bench.training.step import Step

DOCS = Path(__file__).resolve().parents[1] / "docs"
FRACTIONS = (0.02, 0.05, 0.1, 0.01, 0.005, 0.2, 0.002, 0.0005, 0.0003, 0.00005)
SETTINGS: dict[str, dict[str, Any]] = {
    "smt": {"block_size": "auto", "warmup_steps": 2},
    "fish": {"warmup_steps": 2},
    "lt-sft": {"warmup_share": 0.25},
    "diff-pruning": {"warmup_share": 0.25},
    "peft:trainable_tokens": {"token_indices": [3, 5, 7]},
}
# They write what trains into the frozen matrices, and nothing else.
IN_PLACE = ("smt", "spiel", "spiel-ma", "random-mask", "sift", "fish", "lt-sft", "diff-pruning", "s2ft")
STEPS, RATE = 12, 1e-2
WORKS = "works"


def model_of(name: str) -> Any:
    """A tiny random model of an architecture, as `models.build` gives it."""
    from transformers import AutoModelForCausalLM

    with torch.random.fork_rng():
        torch.manual_seed(0)
        made = AutoModelForCausalLM.from_config(
            configuration(name, 320, bos_token_id=1, eos_token_id=2, pad_token_id=0)
        )
    made.config.use_cache = False
    return unpack(made.train())


def planned(name: str, found: Inventory) -> methods.Method:
    """The method with the layers that the model has, at the first fraction that it can give.

    Raises:
        ValueError: none.
    """
    cls = methods.find(name)
    config = cls.Config.from_dict(SETTINGS.get(name, {}))
    if config.layers:
        config = config.with_layers(found.resolve(config.layers, lenient=True))
    refusal = None
    for fraction in FRACTIONS if cls.takes_fraction else (None,):
        method = cls(config, fraction, 0, STEPS)
        try:
            method.capacity(found.shapes)
        except ValueError as error:
            refusal = refusal or error
            continue
        return method
    assert refusal is not None
    raise refusal


def outcome(name: str, architecture: str) -> str:
    """ "works", or in a line why not."""
    model = model_of(architecture)
    found = inventory(model)
    try:
        method = planned(name, found)
        with torch.random.fork_rng():  # what came before must not decide
            torch.manual_seed(0)
            losses = _trained(method, model, method.capacity(found.shapes).trainable)
            merged = merge(method, model)
    except (ValueError, RuntimeError, NotImplementedError, TypeError, AttributeError, LookupError) as error:
        return " ".join(str(error).split())[:200] or type(error).__name__
    if not all(math.isfinite(x) for x in losses) or not losses[-1] < losses[0]:
        return f"loss {losses[0]:.3f} becomes {losses[-1]:.3f}"
    return WORKS if method.merges == (merged["difference"] is not None) else f"merged: {merged}"


def _trained(method: methods.Method, model: Any, trainable: int) -> list[float]:
    batch = labelled(torch.randint(3, 300, (4, 16), generator=torch.Generator().manual_seed(1)))
    losses = [_loss(model, batch)]  # without dropout and the like

    def go(stage: str, groups: Any, numbers: range) -> None:
        settings = OptimizerSettings(RATE)
        updater = TorchUpdater(model, method, groups, settings, 1.0) if groups else FrozenUpdater(model)
        step = Step(stage, model, method, updater)
        for number in numbers:
            step.take(number, [batch], 1.0)

    warmup = method.warmup_steps
    if warmup:
        go("warmup", method.warmup(model), range(1, warmup + 1))
    groups = method.attach(model)
    if not warmup:  # some tuners change the model by being there
        losses = [_loss(model, batch)]
    there = sum(p.numel() for p in model.parameters() if p.requires_grad)
    if there != trainable:
        raise ValueError(f"{there:,} numbers train, {trainable:,} were planned")
    frozen = {n: p.detach().clone() for n, p in model.named_parameters() if not p.requires_grad}
    go("tuning", groups, range(warmup + 1, STEPS + 1))
    now = dict(model.named_parameters())
    moved = {n: int((now[n] != before).sum()) for n, before in frozen.items() if not torch.equal(now[n], before)}
    if moved and (method.name not in IN_PLACE or sum(moved.values()) > trainable):
        raise ValueError(f"{next(iter(moved))} is frozen and moved")
    return [*losses, _loss(model, batch)]


@torch.no_grad()
def _loss(model: Any, batch: Any) -> float:
    model.eval()
    try:
        return float(response_loss(model, batch) / batch.targets)
    finally:
        model.train()


def names() -> list[str]:
    """All methods that train."""
    return [name for name in methods.REGISTRY.names() if name != "base"]


def row(architecture: str) -> dict[str, str]:
    """By method, the outcome on one architecture."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return {name: outcome(name, architecture) for name in names()}


def pages(rows: dict[str, dict[str, str]]) -> tuple[Table, Table]:
    """The page to read, and the whole matrix."""
    shown: list[tuple[Any, ...]] = []
    reasons: dict[tuple[str, str], list[str]] = {}
    for architecture, cells in rows.items():
        with torch.device("meta"):
            found = inventory(model_of(architecture))
        lacking = [name for name, what in cells.items() if what != WORKS]
        share = f"{100 * found.experts / found.total:.0f} %" if found.experts else ""
        layers = " ".join(name.removesuffix("_proj") for name in found.resolve([ALL]))
        shown.append((architecture, layers, share, len(cells) - len(lacking),
                      ", ".join(lacking)))  # fmt: skip
        for name in lacking:
            reasons.setdefault((name, re.sub(r" *'[^']*'", "", cells[name])), []).append(architecture)
    first = next(iter(rows.values()))
    page = Table(
        f"Architectures and methods: what works of {len(first)} methods",
        ("architecture", "layers to choose from", "experts", "methods that work", "that do not"),
        shown,
        [
            "Tiny random models, two layers; `python tests/matrix.py` tries each pair and writes this page. Works: planned, "
            "attached, trained some steps, frozen numbers untouched, merged into a model that says the same (or judged "
            "unmerged).",
            "Layers by role: q, k, v, o of attention, gate, up, down of the MLP; others by their own names. Matrices that an "
            "architecture fuses or transposes are trained as single ones.",
            "Experts: share of the tiny model's parameters in matrices of experts, which only full fine-tuning trains.",
            *(f"{name} ({', '.join(where)}): {why}" for (name, why), where in sorted(reasons.items())),
        ],
    )
    columns = ("architecture", *first)
    return page, Table(page.title, columns, [(name, *cells.values()) for name, cells in rows.items()])


def main() -> None:
    """Writes the pages, or prints the rows asked for."""
    logging.disable(logging.WARNING)
    asked = sys.argv[1:]
    rows = {}
    for architecture in asked or ARCHITECTURES:
        rows[architecture] = row(architecture)
        bad = {name: what for name, what in rows[architecture].items() if what != WORKS}
        print(architecture, len(rows[architecture]) - len(bad), "work;", bad, flush=True)
    if not asked:
        DOCS.mkdir(exist_ok=True)
        page, whole = pages(rows)
        (DOCS / "architectures.md").write_text(page.to_markdown(), encoding="utf-8")
        (DOCS / "architectures.csv").write_text(whole.to_csv(), encoding="utf-8")


if __name__ == "__main__":
    main()
