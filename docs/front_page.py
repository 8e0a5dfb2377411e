"""What README shows and no hand has typed: two pictures, the papers' claims with today's verdicts, what methods reach and take.

    python docs/front_page.py            writes docs/methods.svg, docs/paper_and_ours.svg and tables in README, docs/claims.md
    python docs/front_page.py --check    exit code 1 where these tables are not what the committed results say

Reads `results/paper/` and `results/reference/` only.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import matplotlib
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from smt_bench import experiments
from smt_bench.evidence.words import percent
from smt_bench.evidence.words import title as titled
from smt_bench.report.canvas import STYLE, fraction_axis, look

ROOT = Path(__file__).resolve().parents[1]
README, CLAIMS = ROOT / "README.md", ROOT / "docs" / "claims.md"
PAPER, OURS = ROOT / "results" / "paper", ROOT / "results" / "reference"
MODEL, PRINTED = "tiny", "llama-7b"  # ours, and the paper's, in the picture
COST = "bench-60m"  # whose steps were measured
METHODS = ("lora", "dora", "spiel", "smt")
GREY = "#E6E6E6"
WORDS = ("holds", "does not hold", "cannot be told")


def methods_picture() -> Figure:
    """One weight matrix under LoRA, SMT and SpIEL; what trains is coloured."""
    side, chance = 24, np.random.default_rng(1)
    figure = Figure((6.0, 1.9))
    widths = [2 * side + 8, side + 14, side + 14]
    panels = figure.subplots(1, 3, width_ratios=widths)
    for axes, width, name, title, says in zip(
        panels,
        widths,
        ("lora", "smt", "spiel"),
        ("LoRA", "SMT", "SpIEL"),
        (
            "two thin matrices beside W",
            "square blocks of W,\nchosen by their gradients",
            "single weights of W,\ndropped and grown",
        ),
    ):
        colour = look(name, METHODS)[0]
        axes.add_patch(Rectangle((0, 0), side, side, facecolor=GREY, edgecolor="#888888", linewidth=0.6))
        if name == "lora":
            axes.add_patch(Rectangle((side + 3, 0), 2, side, facecolor=colour))
            axes.add_patch(Rectangle((side + 6, side - 2), side, 2, facecolor=colour))
            axes.text(side + 4, -1.5, "B", ha="center", va="top")
            axes.text(side * 1.5 + 6, side - 3, "A", ha="center", va="top")
        else:
            size = 4 if name == "smt" else 1
            cells = (side // size) ** 2
            for cell in chance.choice(cells, 5 if name == "smt" else 48, replace=False):
                row, column = divmod(int(cell), side // size)
                axes.add_patch(
                    Rectangle(
                        (column * size, row * size), size, size, facecolor=colour, edgecolor="white", linewidth=0.5
                    )
                )
        axes.text(side / 2, -1.5, "W", ha="center", va="top")
        axes.set_title(title, fontsize=9, color="black", loc="left")
        axes.text(0, -6, says, ha="left", va="top")
        axes.set(xlim=(-1, width - 1), ylim=(-12, side + 1), aspect="equal")
        axes.axis("off")
    figure.subplots_adjust(0.01, 0.0, 0.99, 0.88, 0.02)
    return figure


def paper_and_ours() -> Figure:
    """Accuracy against trainable fraction: as printed, and as measured here with intervals."""
    figure = Figure((7.2, 2.7))
    left, middle, right = figure.subplots(1, 3)
    printed = pd.read_csv(PAPER / "smt_table3_plateau.csv").query("model == @PRINTED")
    full = pd.read_csv(PAPER / "smt_table2_commonsense.csv").query("model == @PRINTED and method == 'full'")
    printed = printed.rename(columns={"params_pct": "fraction_pct", "avg": "accuracy"}).assign(ci95=np.nan)
    _panel(left, printed, float(full["avg"].iloc[0]), f"Printed: {PRINTED}, table 3")
    for axes, folder, words in ((middle, "", "recipe's rates"), (right, "tuned", "tuned")):
        ours = pd.read_csv(OURS / "plateau" / MODEL / folder / "table3.csv")
        whole = float(ours.query("method == 'full'")["accuracy"].iloc[0])
        _panel(axes, ours[ours["fraction_pct"].notna()], whole, f"Ours: {MODEL}, {words}")
    middle.sharey(right)
    left.set_ylabel("accuracy (%)")
    seeds, items = int(ours["n_seeds"].max()), int(ours["n_examples"].max())
    note = f"Printed: single runs. Ours: {seeds} seeds, {items} test items, bars: 95 % over seeds."
    figure.text(0.01, 0.01, note, fontsize=6, color="#555555")
    figure.legend(
        *left.get_legend_handles_labels(),
        loc="lower center",
        bbox_to_anchor=(0.5, 0.04),
        ncols=len(METHODS) + 1,
        frameon=False,
    )
    figure.subplots_adjust(0.06, 0.3, 0.99, 0.92, 0.25)
    return figure


def _panel(axes: Axes, rows: pd.DataFrame, full: float, title: str) -> None:
    spots = fraction_axis(axes, sorted(rows["fraction_pct"].unique()))
    for place, method in enumerate(METHODS):
        of = rows[rows["method"] == method].sort_values("fraction_pct")
        colour, marker = look(method, METHODS)
        x = [spots[f] + 0.012 * (place - 1.5) for f in of["fraction_pct"]]
        bars = of["ci95"] if of["ci95"].notna().any() else None
        axes.errorbar(
            x,
            of["accuracy"],
            bars,
            color=colour,
            marker=marker,
            markersize=4,
            linewidth=1,
            capsize=1.5,
            label=titled(method),
        )
    axes.axhline(full, color="black", linewidth=1, label="full fine-tuning")
    axes.set_xlabel("trainable (% of the model), log scale")
    axes.tick_params(axis="x", labelsize=5.5)
    axes.set_title(title, fontsize=8, loc="left")
    axes.grid(axis="y", color=GREY, linewidth=0.5)
    axes.set_axisbelow(True)


def claims() -> str:
    """By table of the papers, how many of its claims hold of those that were tried with several seeds."""
    lines = ["| what the papers claim about | with the recipe's rates | tuned |", "|---|---|---|"]
    for about, paths in _by_experiment().items():
        cells = []
        for found in (paths, [again for path in paths if (again := _tuned(path)).exists()]):
            verdicts = [str(v) for path in found for v in _of_paper(path)["verdict"]]
            place = found[0].parent if len(found) > 1 else found[0].with_suffix(".md") if found else None
            cells.append("" if place is None else f"[{_tally(verdicts)}]({place.relative_to(ROOT).as_posix()})")
        lines.append(f"| {about} | {cells[0]} | {cells[1]} |")
    return "\n".join(lines) + "\n"


def every_claim() -> str:
    """One row per claim: what was found by accuracy, and where it stands."""
    lines = ["| the paper says | with the recipe's rates | tuned |", "|---|---|---|"]
    for about, paths in _by_experiment().items():
        for path in paths:
            found, tuned = _of_paper(path), _tuned(path)
            again = _of_paper(tuned) if tuned.exists() else None
            for claim, rows in found.groupby("claim", sort=False):
                second = "" if again is None else _linked(_said(again[again["claim"] == claim]), tuned)
                lines.append(f"| {about.split(' ')[0]}: {claim} | {_linked(_said(rows), path)} | {second} |")
    return "\n".join(lines) + "\n"


def _by_experiment() -> dict[str, list[Path]]:
    """What an experiment reproduces -> its tables of claims; SMT's first, in the order of its tables."""
    found: dict[str, list[Path]] = {}
    for path in _sheets():
        if not _of_paper(path).empty:
            about = experiments.find(path.relative_to(OURS).parts[0]).reproduces
            found.setdefault(about[0].upper() + about[1:], []).append(path)
    return dict(sorted(found.items(), key=lambda item: item[0].split(" ")[0]))


def _tuned(path: Path) -> Path:
    return path.parent / "tuned" / path.name


def _tally(verdicts: Sequence[str]) -> str:
    counts = [sum(v.startswith(word) for v in verdicts) for word in WORDS]
    held, failed, rest = counts
    if len(verdicts) == 1:
        return verdicts[0]
    parts = [f"{held or 'none'} of {len(verdicts)} hold{'s' if held == 1 else ''}"]
    parts += [f"{failed} do{'es' if failed == 1 else ''} not"] if failed else []
    return ", ".join([*parts, *([f"{rest} cannot be told"] if rest else [])])


def _of_paper(path: Path) -> pd.DataFrame:
    found = pd.read_csv(path)
    return found[(found["control"] == 0) & (found["n_seeds"] > 1)]


def _linked(text: str, path: Path) -> str:
    return f"[{text}](../{path.with_suffix('.md').relative_to(ROOT).as_posix()})"


def _sheets() -> Iterator[Path]:
    def number(path: Path) -> tuple[int, str]:
        table = re.search(r"table(\d+)", path.name)
        return (int(table[1]) if table else 99, path.as_posix())

    every = [
        path for path in OURS.glob(f"*/{MODEL}/**/*_claims.csv") if "tuned" not in path.relative_to(OURS).as_posix()
    ]
    yield from sorted(every, key=number)


def _said(rows: pd.DataFrame) -> str:
    verdicts = rows["verdict"].map(lambda v: next((w for w in WORDS if str(v).startswith(w)), str(v)))
    if len(set(verdicts)) == 1:
        return str(verdicts.iloc[0])
    parts = []
    for word in dict.fromkeys(verdicts):
        at = [percent(f) for f in rows.loc[verdicts == word, "ahead_pct"]]
        parts.append(f"{word} at {_listed(at)}")
    return "; ".join(parts)


def _listed(fractions: Sequence[str]) -> str:
    bare = [f.removesuffix(" %") for f in fractions]
    return f"{', '.join(bare[:-1])} and {bare[-1]} %" if len(bare) > 1 else f"{bare[0]} %"


def costs() -> str:
    """What each method reaches, and what a step of it takes, in figures of the committed tables."""
    reached = pd.read_csv(OURS / "plateau" / MODEL / "tuned" / "table3.csv")
    reached["fraction_pct"] = reached["fraction_pct"].fillna(100)
    shown = sorted(reached.loc[reached["n_seeds"] > 1, "fraction_pct"].unique())
    speed = pd.read_csv(OURS / "speed" / COST / "table1.csv")
    memory = pd.read_csv(OURS / "memory" / COST / "memory.csv").query("stage == 'tuning' and checkpointing == 1")
    lines = [
        f"| method | {' | '.join(percent(f) for f in shown)} | time of a step | memory of a step |",
        f"|---|{'---:|' * (len(shown) + 2)}",
    ]
    for method in (*METHODS, "full"):
        cells = []
        for fraction in shown:
            of = reached[(reached["method"] == method) & (reached["fraction_pct"] == fraction)]
            cells.append("" if of.empty else f"{of['accuracy'].iloc[0]:.1f} ± {of['ci95'].iloc[0]:.1f}")
        step, peak = (_against_full(frame, method, column) for frame, column in ((speed, "step_ms"), (memory, "peak")))
        lines.append(f"| {titled(method)} | {' | '.join(cells)} | {step} | {peak} |")
    seeds, least = int(reached["n_seeds"].max()), speed["trainable_pct"].min()
    lines += [
        "",
        f"Accuracy in % on `{MODEL}` by trainable share, tuned, {seeds} seeds, ± 95 % over seeds. Time and memory are shares of "
        f"full fine-tuning's, measured on `{COST}` at about {least:.1f} % trainable (two CPU threads; memory: checkpointing).",
    ]
    return "\n".join(lines) + "\n"


def _against_full(frame: pd.DataFrame, method: str, column: str) -> str:
    plain = frame[frame["variant"].isna()].set_index("method")[column]
    return f"{plain[method] / plain['full']:.2f}"


def _filled(text: str, name: str, made: str) -> str:
    begin, end = f"<!-- {name}: python docs/front_page.py -->\n", f"<!-- end of {name} -->\n"
    before, rest = text.split(begin)
    return f"{before}{begin}\n{made}\n{end}{rest.split(end)[1]}"


def main() -> int:
    """Writes or checks."""
    text = README.read_text(encoding="utf-8")
    new = _filled(_filled(text, "claims", claims()), "methods", costs())
    listed = CLAIMS.read_text(encoding="utf-8")
    pages = {README: (text, new), CLAIMS: (listed, _filled(listed, "claims", every_claim()))}
    if "--check" in sys.argv[1:]:
        stale = [path.name for path, (was, now) in pages.items() if was != now]
        if stale:
            say = f"{', '.join(stale)}: tables are not what results/reference says: python docs/front_page.py"
            print(say, file=sys.stderr)
        return int(bool(stale))
    for path, (_, now) in pages.items():
        path.write_text(now, encoding="utf-8")
    with matplotlib.rc_context(STYLE):
        for draw, name in ((methods_picture, "methods"), (paper_and_ours, "paper_and_ours")):
            draw().savefig(ROOT / "docs" / f"{name}.svg", metadata={"Date": None})
    return 0


if __name__ == "__main__":
    sys.exit(main())
