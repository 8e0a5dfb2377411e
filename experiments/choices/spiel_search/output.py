"""From the records of `spiel-search` to the best settings (SpIEL's table 4), all of the search, and figure 4."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from smt_bench.evidence.cells import heldout_nlls
from smt_bench.evidence.published import published
from smt_bench.evidence.stats import mean_ci
from smt_bench.evidence.words import family_title, percent, rank, title
from smt_bench.records.store import Record
from smt_bench.report.canvas import STYLE, WIDTH, save
from smt_bench.report.conditions import divided
from smt_bench.report.notes import made_with
from smt_bench.report.numbers import written
from smt_bench.report.table import Cell, Table, filled

PRINTED = {"lora": "lora", "spiel": "spiel-ag", "spiel-ma": "spiel-ma", "peft:ia3": "ia3"}
MODELS = {"llama2-7b": "7B", "llama2-13b": "13B"}
RATE_COLOURS = ("#56B4E9", "#0072B2", "#D55E00", "#000000")  # told apart with any colour vision; the larger the darker
MARKERS = ("v", "s", "o", "^")


@dataclass(frozen=True)
class Point:
    """One setting of the search over its seeds; `nll` None where no run gave one."""

    method: str
    fraction: float | None
    lr: float
    decay: float | None
    nll: float | None
    half: float | None
    seeds: int
    lost: str
    keys: str


def points(records: Sequence[Record]) -> list[Point]:
    """The settings, by method, size, decay and rate."""
    found: dict[tuple[Any, ...], list[Record]] = {}
    for record in records:
        method, train = record["run"]["method"], record["run"]["train"]
        place = (method["name"], method["fraction"], train["lr"], method["config"].get("weight_decay"))
        found.setdefault(place, []).append(record)
    made = []
    for (name, fraction, lr, decay), group in found.items():
        values = heldout_nlls(group, "tune")
        mean, half = mean_ci(values) if values else (None, None)
        lost = [r["status"] for r in group if r["status"] != "done"]
        words = ", ".join(f"{lost.count(s)} {s.replace('_', ' ')}" for s in dict.fromkeys(lost))
        keys = " ".join(r["key"] for r in group)
        made.append(Point(name, fraction, lr, decay, mean, half, len(values), words, keys))
    return sorted(made, key=lambda p: (rank(p.method), p.fraction or 0, p.decay or 0, p.lr))


def best(found: Sequence[Point]) -> Point | None:
    """The lowest loss."""
    known = [p for p in found if p.nll is not None]
    return min(known, key=lambda p: p.nll or 0.0) if known else None


def chosen(found: Sequence[Point]) -> tuple[Point | None, Point | None]:
    """One method's best of the grid without decay, and of decay at the largest size under that size's best rate."""
    plain = [p for p in found if not p.decay]
    largest = max((p.fraction or 0 for p in found), default=0)
    there = best([p for p in plain if (p.fraction or 0) == largest])
    pulled = [p for p in found if there and (p.fraction or 0) == largest and p.lr == there.lr and p.decay is not None]
    return best(plain), best(pulled) if any(p.decay for p in pulled) else None


def write_search(records: Sequence[Record], folder: Path, model: str) -> list[Path]:
    """Writes both tables and the figure; returns the files."""
    found = points(records)
    sample = records[0]["run"]
    setting = [
        f"{sample['train']['steps']} steps of {sample['train']['batch_size']} examples; settings are chosen by the loss on "
        "held-out training examples, nats per response token; no test set is looked at",
        *divided(sample),
    ]
    what = f"{model}, {family_title(sample['data']['family'])}"
    files = _table4(found, what, [*setting, made_with(records)]).write(folder, "table4")
    files += _search(found, what, [*setting, made_with(records)]).write(folder, "search")
    return files + (_draw(found, folder, what) if any(p.nll is not None for p in found) else [])


def _table4(found: Sequence[Point], what: str, notes: list[str]) -> Table:
    printed = {(r["model"], r["method"]): r for r in published("spiel_table4_hyperparameters").to_dict("records")}
    rows: list[list[Cell]] = []
    data = []
    for name in sorted({p.method for p in found}, key=rank):
        own = [p for p in found if p.method == name]
        first, pulled = chosen(own)
        rates = sorted({p.lr for p in own})
        sizes = sorted({p.fraction for p in own if p.fraction is not None})
        edges = [] if first is None else ["rate"] * (first.lr in (rates[0], rates[-1]))
        edges += ["size"] * (first is not None and len(sizes) > 1 and first.fraction in (sizes[0], sizes[-1]))
        theirs = {size: printed.get((m, PRINTED[name]), {}) for m, size in MODELS.items()}
        row = {
            "method": name,
            "lr": first and first.lr,
            "fraction_pct": first and first.fraction and 100 * first.fraction,
            "weight_decay": pulled and pulled.decay,
            "decay_lr": pulled and pulled.lr,
            "decay_fraction_pct": pulled and pulled.fraction and 100 * pulled.fraction,
            "heldout_nll": first and first.nll,
            "heldout_nll_with_decay": pulled and pulled.nll,
            "edge": " ".join(edges),
        }
        row |= {f"paper_{size}_{k}": theirs[size].get(k) for size in MODELS.values() for k in ("learning_rate", "rank")}
        row |= {f"paper_{size}_weight_decay": theirs[size].get("weight_decay") for size in MODELS.values()}
        row["keys"] = " ".join(p.keys for p in own)  # the choice is made from all of them
        data.append(row)
        rows.append(
            [
                title(name),
                None if first is None else f"{first.lr:g}",
                None if first is None or first.fraction is None else percent(100 * first.fraction),
                None if first is None else written(first.nll, 3, first.half),
                ", ".join(edges),
                None if pulled is None else f"{pulled.decay:g}",
                None if pulled is None else f"{pulled.lr:g}, {percent(100 * (pulled.fraction or 0))}",
                None if pulled is None else written(pulled.nll, 3, pulled.half),
                *(_theirs(theirs[size]) for size in MODELS.values()),
            ]
        )
    header = [
        "method", "learning rate", "trainable", "held-out NLL, nats/token", "at an edge of the grid", "decay",
        "at rate, trainable", "held-out NLL with it, nats/token",
        *(f"paper {size}: rate, rank, decay" for size in MODELS.values()),
    ]  # fmt: skip
    lines = [
        "learning rate, trainable: the best of rates x sizes without decay. Decay: the best at the largest size under its best "
        "rate, as in the paper, whose rates, ranks and strengths are of batches of 128 and other models",
        "at an edge: the best may lie beyond what was searched. A best setting is a choice, not a verdict",
        *notes,
    ]
    return Table(f"SpIEL table 4: settings that the search yields, {what}", header, rows, lines, filled(data))


def _theirs(row: Mapping[Any, Any]) -> str | None:
    values = [row.get(k) for k in ("learning_rate", "rank", "weight_decay")]
    shown = ["-" if v is None or (isinstance(v, float) and math.isnan(v)) else f"{float(v):g}" for v in values]
    return ", ".join(shown) if row else None


def _search(found: Sequence[Point], what: str, notes: list[str]) -> Table:
    marks = {id(p) for name in {p.method for p in found} for p in chosen([q for q in found if q.method == name]) if p}
    header = ["method", "trainable", "learning rate", "decay", "held-out NLL, nats/token", "seeds", "lost runs"]
    rows = [
        [
            title(p.method),
            None if p.fraction is None else percent(100 * p.fraction),
            f"{p.lr:g}",
            None if p.decay is None else f"{p.decay:g}",
            None if p.nll is None else (written(p.nll, 3, p.half) or "") + (" *" if id(p) in marks else ""),
            p.seeds,
            p.lost,
        ]
        for p in found
    ]
    data = [
        {
            "method": p.method, "fraction_pct": p.fraction and 100 * p.fraction, "lr": p.lr, "weight_decay": p.decay,
            "heldout_nll": p.nll, "ci95": p.half, "n_seeds": p.seeds, "lost": p.lost, "best": int(id(p) in marks), "keys": p.keys,
        }
        for p in found
    ]  # fmt: skip
    lines = ["*: the best of a method's grid, and of its decays; ±: 95 % over seeds where there are several", *notes]
    return Table(f"SpIEL appendix D: the whole search, {what}", header, rows, lines, data)


def _draw(found: Sequence[Point], folder: Path, what: str) -> list[Path]:
    """Figure 4: loss over size, a line per rate; (IA)^3 over its rates; below, loss over decay at the largest size."""
    names = sorted({p.method for p in found}, key=rank)
    panels = [(name, False) for name in names] + [
        (n, True) for n in names if any(p.decay for p in found if p.method == n)
    ]
    rows = math.ceil(len(panels) / 2)
    caption = textwrap.wrap(
        f"{what}; held-out NLL in nats per token. Lines are learning rates, in one colour each from the lowest to the highest; "
        "decay at the largest size, to two digits. Ring: what is chosen, first rate and size without decay, then the decay "
        "under the best rate at the largest size.",
        84,
    )
    with matplotlib.rc_context({**STYLE, "xtick.labelsize": 5.5, "ytick.labelsize": 5.5, "axes.labelsize": 6}):
        height = 1.35 * rows + 0.11 * len(caption) + 0.1
        figure = Figure(figsize=(WIDTH, height))
        for at, (name, pulled) in enumerate(panels):
            row, column = divmod(at, 2)
            left, width = 0.13 + 0.5 * column, 0.36
            bottom = height - 1.35 * (row + 1) + 0.34
            axes = figure.add_axes((left, bottom / height, width, 0.83 / height))
            _panel(axes, [p for p in found if p.method == name], name, pulled, column == 0)
        figure.text(0.02, 0.03 / height, "\n".join(caption), fontsize=5.3, color="#444444", va="bottom")
        return [save(figure, folder, f"figure4.{kind}", kind) for kind in ("png", "svg")]


def _panel(axes: Axes, own: Sequence[Point], name: str, pulled: bool, labelled: bool) -> None:
    first, decayed = chosen(own)
    ring = decayed if pulled else first
    largest = max((p.fraction or 0 for p in own), default=0)
    sized = any(p.fraction is not None for p in own)
    if pulled:
        shown = [p for p in own if (p.fraction or 0) == largest]
        ticks: list[float] = sorted({p.decay or 0.0 for p in shown})
    elif sized:
        shown = [p for p in own if not p.decay]
        ticks = sorted({p.fraction or 0.0 for p in shown})
    else:
        shown, ticks = list(own), sorted({p.lr for p in own})

    def across(p: Point) -> float:
        return (p.decay or 0.0) if pulled else (p.fraction or 0.0) if sized else p.lr

    rates = sorted({p.lr for p in own})
    lines = [[p for p in shown if p.lr == rate] for rate in rates] if sized else [shown]
    for number, line in enumerate(lines):
        line = sorted((p for p in line if p.nll is not None), key=across)
        colour, marker = RATE_COLOURS[number % 4], MARKERS[number % 4]
        place = [ticks.index(across(p)) for p in line]
        axes.plot(place, [p.nll or 0.0 for p in line], color=colour, marker=marker, markersize=2.6, linewidth=0.9,
                  label=f"{rates[number]:g}" if sized else None)  # fmt: skip
    if ring is not None and ring.nll is not None:
        axes.plot([ticks.index(across(ring))], [ring.nll], "o", markersize=6.5, markerfacecolor="none", color="#444444")
    labels = [percent(100 * t).removesuffix(" %") if sized and not pulled else f"{t:.2g}" for t in ticks]
    axes.set_xticks(range(len(ticks)), labels)
    axes.set_xlim(-0.4, len(ticks) - 0.6)
    axes.set_xlabel("weight decay" if pulled else "trainable (%)" if sized else "learning rate", labelpad=1)
    axes.set_ylabel("held-out NLL (nats/token)" if labelled else "", labelpad=2, fontsize=5.3)
    axes.set_title(title(name) + (", decay" if pulled else ""), fontsize=6.5, pad=3)
    axes.tick_params(width=0.5, length=2, pad=1.5)
    if pulled:
        axes.tick_params(axis="x", labelsize=4.8)
    if sized and not pulled:
        axes.legend(
            frameon=False,
            fontsize=4.6,
            handlelength=1.2,
            labelspacing=0.15,
            borderaxespad=0.1,
            loc="best",
            title="rate",
            title_fontsize=4.6,
        )
