"""Figures 4 and 5: in which Q, K and V matrices SMT's blocks lie, and how its budget falls on the three.

Claims (SMT, section 5.2): at 0.86 % on LLaMA-7B, V gets 95.17 % of the blocks and every V matrix has some, while 22 of 32 Q and
21 of 32 K matrices have none.

The runs are the plateau's. Where the paper is ambiguous: it does not say whether the picture is of one run. Here shares are means
over seeds; a matrix counts as having blocks where any seed put one there. With grouped-query attention K and V hold fewer blocks
than Q, so the share that a random choice would give stands beside.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from smt_bench.evidence.cells import Group, groups
from smt_bench.evidence.interval import mean_of
from smt_bench.evidence.published import published
from smt_bench.evidence.stats import mean_ci
from smt_bench.evidence.verdicts import judge, tally, unanimous
from smt_bench.evidence.words import percent
from smt_bench.experiments.why.anatomy_figures import NAMES, counts, draw_map, draw_shares, shares_of
from smt_bench.experiments.why.projections import place
from smt_bench.questions.experiment import OneMethodExperiment
from smt_bench.questions.grid import Cell, grid
from smt_bench.questions.planner import Planner
from smt_bench.records.store import Record
from smt_bench.report import notes, trained
from smt_bench.report.numbers import written
from smt_bench.report.table import Table


def _sizes(model: str) -> tuple[int, dict[str, int]] | None:
    """Layers, and the numbers in the Q, K and V matrices of one layer; None for a model that only the records know."""
    from smt_bench.models import build

    try:
        shapes = build.shapes(model)
    except ValueError:
        return None
    found: Counter[tuple[int, str]] = Counter()
    for name, shape in shapes.items():
        if name.endswith(".weight") and len(shape) == 2 and (spot := place(name)) is not None:
            found[spot] += shape[0] * shape[1]
    first = min(layer for layer, _ in found)  # not every layer of a hybrid has attention
    return len({layer for layer, _ in found}), {name: found[first, name] for name in NAMES}


def _claims(group: Group, layers: int) -> list[tuple[str, str, str]]:
    """Statement, verdict and evidence, at one fraction."""
    shares = [shares_of(r)["V"] for r in group.done]
    mean, half = mean_ci(shares)
    text = f"{written(mean, 1)} %" + ("" if half is None else f" ± {written(half, 1)}")
    made = [
        (
            "V gets more than half of the budget",
            judge([mean_of([s - 50 for s in shares])], 1.0, "{:.1f} points".format)[0],
            text,
        )
    ]
    rules: tuple[tuple[str, str, Callable[[int], bool]], ...] = (
        ("every V matrix holds blocks", "V", lambda empty: empty == 0),
        ("most Q matrices hold none", "Q", lambda empty: 2 * empty > layers),
        ("most K matrices hold none", "K", lambda empty: 2 * empty > layers),
    )
    for statement, name, right in rules:
        empty = [layers - sum(p == name for _, p in counts(r)) for r in group.done]
        votes = [right(e) for e in empty]
        verdict = unanimous(votes)
        made.append((statement, verdict, f"{', '.join(map(str, empty))} of {layers} without"))
    return made


class Anatomy(OneMethodExperiment):
    """The plateau's SMT runs, seen block by block."""

    name = "anatomy"
    reproduces = "SMT figures 4 and 5: which Q, K, V matrices hold blocks, and the share of the budget per projection"
    method = "smt"
    needs = "any model; commonsense (default) or math tasks"

    def cells(self, planner: Planner) -> list[Cell]:
        """One per fraction."""
        return grid(planner, ["smt"])

    def render(self, records: Sequence[Record], folder: Path, model: str) -> list[Path]:
        """The shares (figure 5), the map of blocks (figure 4), and both as pictures."""
        found = [g for g in groups(records) if g.method == "smt"]
        cells = [g for g in found if g.done]
        sizes = _sizes(model)
        seen = [spot[0] for g in cells for r in g.done for spot in counts(r)]
        layers = sizes[0] if sizes else max(seen, default=-1) + 1
        rows: list[list[Any]] = []
        data: list[dict[str, Any]] = []
        runs: list[list[dict[str, float]]] = []
        for g in cells:
            shares = [shares_of(r) for r in g.done]
            runs.append(shares)
            line: dict[str, Any] = {"fraction_pct": g.fraction_pct, "n_seeds": len(g.done)}
            for name in NAMES:
                line[f"share_{name.lower()}"], line[f"share_{name.lower()}_ci95"] = mean_ci([s[name] for s in shares])
                line[f"random_{name.lower()}"] = 100 * sizes[1][name] / sum(sizes[1].values()) if sizes else None
                with_blocks = {layer for r in g.done for layer, p in counts(r) if p == name}
                line[f"empty_{name.lower()}"] = layers - len(with_blocks)
            data.append(line | {"layers": layers, "keys": " ".join(r["key"] for r in g.done)})
            rows.append(
                [percent(g.fraction_pct or 0), len(g.done)]
                + [written(line[f"share_{n}"], 1, line[f"share_{n}_ci95"]) for n in "qkv"]
                + [None if line["random_v"] is None else f"{line['random_v']:.1f}"]
                + [f"{line[f'empty_{n}']} of {layers}" for n in "qkv"]
            )
        printed = published("smt_section5_anatomy").set_index("projection")
        near = min(cells, key=lambda g: abs((g.fraction_pct or 0) - float(printed["params_pct"].iloc[0])), default=None)
        claims = _claims(near, layers) if near else []
        theirs = (
            f"Printed (LLaMA-7B, {printed['params_pct'].iloc[0]:g} %): V {printed['share_pct']['v']:g} % of the blocks; without "
            f"blocks {printed['layers_without_blocks']['q']} Q, {printed['layers_without_blocks']['k']} K and "
            f"{printed['layers_without_blocks']['v']} V of {printed['layers']['v']}."
        )
        lines = [
            f"Verdict: {tally([verdict for _, verdict, _ in claims])}." if claims else "No finished run.",
            *(
                f"{statement}, at {near.label if near else ''}: {verdict} ({evidence})."
                for statement, verdict, evidence in claims
            ),
            "Rule: the share by its t-intervals over seeds (holds where the 95 % one lies above 50, does not where it "
            "lies below or the 90 % one within ± 1 of it); counts hold (or do not) where all seeds agree; one seed "
            "decides nothing.",
            theirs,
            "Share: % of the chosen blocks, ± 95 % over seeds (Student t: wider than 0 to 100 where few seeds lie apart). "
            "Random: V's share of all blocks. Never: matrices where no seed put a block; a verdict counts those of each seed.",
            *trained.setting(found),
            *notes.losses(found),
            notes.provenance(found),
        ]
        header = ["trainable", "seeds", "Q, %", "K, %", "V, %", "random V, %", "Q never", "K never", "V never"]
        columns = list(data[0]) if data else ["fraction_pct"]
        heading = f"Figures 4 and 5: where SMT's blocks lie, {model}"
        files = Table(heading, header, rows, lines, data, columns).write(folder, "figure5")
        if not cells:
            return files
        return files + draw_shares(data, runs, folder) + draw_map(cells, layers, sizes, folder)
