"""What README shows and no hand has typed: two pictures, the papers' claims with today's verdicts, what methods reach and take.

    python docs/front_page.py            writes docs/methods.svg, docs/paper_and_ours.svg and tables in README, docs/claims.md
    python docs/front_page.py --check    exit code 1 where these tables are not what the committed results say

Reads `results/paper/` and `results/reference/` only.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import matplotlib
import pandas as pd
from pictures import METHODS, MODEL, OURS, ROOT, methods_picture, paper_and_ours

from smt_bench import experiments
from smt_bench.evidence.words import percent
from smt_bench.evidence.words import title as titled
from smt_bench.report.canvas import STYLE
from smt_bench.report.notes import seeds as seeds_of

README, CLAIMS = ROOT / "README.md", ROOT / "docs" / "claims.md"
REAL, FAMILY = "smollm2-135m", "math"  # the pretrained model, and what it learns
FIRST = "commonsense"  # the data family whose tables lie in a model's folder itself
OFF = 0.05  # from which on a share is named
SEEDS = 3  # of its sweep, which no verdict is taken from before
COST = "bench-60m"  # whose steps were measured
OF = "; data: "
WORDS = ("holds", "does not hold", "cannot be told")


def claims() -> str:
    """By table of the papers, how many of its claims hold of those that were tried with several seeds."""
    rows = [(about, _cell(paths), _cell(map(_tuned, paths)), _cell(filter(_finished, map(_real, paths)), "nll_verdict"))
            for about, paths in _by_experiment().items()]  # fmt: skip
    header = [
        "what the papers claim about",
        "`tiny`, the recipe's rates",
        "`tiny`, tuned",
        f"`{REAL}`, tuned, held-out loss",
    ]
    width = len(header) if any(row[-1] for row in rows) else len(header) - 1
    lines = [f"| {' | '.join(header[:width])} |", "|---" * width + "|"]
    return "\n".join([*lines, *(f"| {' | '.join(row[:width])} |" for row in rows)]) + "\n"


def _cell(paths: Iterable[Path], verdict: str = "verdict") -> str:
    """How many claims of these tables hold, linked; nothing where none has several seeds."""
    found = [path for path in paths if path.exists() and not _of_paper(path).empty]
    if not found:
        return ""
    place = found[0].parent if len(found) > 1 else found[0].with_suffix(".md")
    verdicts = [str(v) for path in found for v in _of_paper(path)[verdict]]
    counts = [int(count) for path in found for count in _of_paper(path)["n_seeds"]]
    return f"[{_tally(verdicts)}]({place.relative_to(ROOT).as_posix()}) ({seeds_of(counts)})"


def _real(path: Path) -> Path:
    """The same table of the pretrained model: of the same data, or where the testbed has none of GSM8K's kind, of GSM8K."""
    experiment = path.relative_to(OURS).parts[0]
    place = OURS / experiment / REAL
    own, other = (place / (f if f != FIRST else "") / path.name for f in (_family(path), FAMILY))
    tried = {_family(sheet) for sheet in _sheets() if sheet.relative_to(OURS).parts[0] == experiment}
    return own if FAMILY in tried or _finished(own) else other


def _family(path: Path) -> str:
    """Of the data behind a table."""
    folders = path.relative_to(OURS).parts[2:-1]
    return folders[0] if folders else FIRST


def _finished(path: Path) -> bool:
    return path.exists() and int(pd.read_csv(path)["n_seeds"].min()) >= SEEDS


def real() -> str:
    """What each method's held-out loss is on the pretrained model."""
    place = OURS / "plateau" / REAL / FAMILY
    found = pd.read_csv(place / "table3_heldout.csv")
    found["column"] = found["fraction_pct"].mask(found["method"] == "base", 0).fillna(100)
    columns = sorted(found["column"].unique())
    cells = {(row["method"], row["column"]): _loss(row) for _, row in found.iterrows() if row["n_seeds"]}
    lines = [f"| method | {' | '.join(percent(c) for c in columns)} |", f"|---|{'---:|' * len(columns)}"]
    for method in ("base", *METHODS, "full"):
        lines.append(f"| {titled(method)} | {' | '.join(cells.get((method, c), '') for c in columns)} |")
    trained = found[(found["method"] != "base") & (found["n_seeds"] > 0)]["n_seeds"]
    least, most = int(trained.min()), int(trained.max())
    spread = f"{seeds_of([least, most])}, ± 95 % over seeds" if most > 1 else "one seed, which decides nothing"
    spread += "" if least >= SEEDS else f"; the sweep goes on to {SEEDS}, and no verdict is taken before"
    lines += [
        "",
        f"Held-out loss of `{REAL}` after training on GSM8K, by trainable share: nats per response token, lower is better; "
        f"{int(found['n_heldout'].max())} examples, {spread}; {_trained(place, found['keys'].iloc[-1].split()[0])}{_off(found)}. "
        f"{_layers(found)}"
        f"([table]({(place / 'table3_heldout.md').relative_to(ROOT).as_posix()}), "
        f"[claims]({(place / 'table3_claims.md').relative_to(ROOT).as_posix()})).",
    ]
    return "\n".join(lines) + "\n"


def _asked(key: str) -> dict[str, Any]:
    """The question of a record."""
    found: dict[str, Any] = json.loads((OURS / "runs" / f"{key}.json").read_text(encoding="utf-8"))["run"]
    return found


def _layers(found: pd.DataFrame) -> str:
    """Which layers each method trains, and what the weights are."""
    trained = found[found["n_seeds"] > 0].drop_duplicates("method").set_index("method")["keys"]
    asked = {method: _asked(keys.split()[0]) for method, keys in trained.items()}
    layers: dict[str, list[str]] = {}
    for method in METHODS:
        names = asked[method]["method"]["config"]["targets"]
        layers.setdefault(", ".join(name.removesuffix("_proj") for name in names), []).append(titled(method))
    parts = "; ".join(f"{' and '.join(methods)} {names}" for names, methods in layers.items())
    return f"Layers: {parts}. Weights: {asked['full']['model']['weights']} "


def _trained(place: Path, key: str) -> str:
    """How long, and from where the rates are."""
    train = _asked(key)["train"]
    tunings = json.loads((place / "tuning" / "tuning.json").read_text(encoding="utf-8"))["tunings"]
    declared = list(tunings.values())[-1]["declared"]
    searched, share = declared["under"]["train"], percent(100 * declared["spaces"]["lora"]["fraction"])
    table = (place / "tuning" / "tuning.md").relative_to(ROOT).as_posix()
    trials = pd.read_csv(place / "tuning" / "tuning_trials.csv").groupby("method").size()
    assert trials.min() == trials.max()  # the same search for every method
    return (
        f"{train['steps']} steps of {train['batch_size']} examples in {train['precision']}, rates [found]({table}) by "
        f"{trials.min()} trials of each method at {share}, in {searched['steps']} steps in {searched['precision']}"
    )


def _off(found: pd.DataFrame) -> str:
    """What became another share than its column says, one unit of the method being larger than that."""
    trained = found.dropna(subset=["fraction_pct"]).query("trainable_pct > 0")
    off = trained[(trained["trainable_pct"] / trained["fraction_pct"] - 1).abs() > OFF]
    named = [f"{titled(m)} {percent(asked)} is {percent(round(got, 2))}" for m, asked, got in
             zip(off["method"], off["fraction_pct"], off["trainable_pct"])]  # fmt: skip
    return f"; {', '.join(named)}" if named else ""


def _loss(row: pd.Series) -> str:
    return f"{row['heldout_nll']:.3f}" + (
        "" if pd.isna(row["heldout_nll_ci95"]) else f" ± {row['heldout_nll_ci95']:.3f}"
    )


def every_claim() -> str:
    """One row per claim: what was found, by accuracy on the testbed and by held-out loss on the pretrained model, and where."""
    lines = [
        f"| the paper says | `{MODEL}`, the recipe's rates | `{MODEL}`, tuned | `{REAL}`, tuned, held-out loss |",
        "|---|---|---|---|",
    ]
    for about, paths in _by_experiment().items():
        table, apart = about.split(" ")[0], about.partition(OF)[2]
        for path in paths:
            real = _real(path) if _finished(_real(path)) else None
            tuned = _tuned(path) if _tuned(path).exists() else None
            for claim in _of_paper(path)["claim"].unique():
                cells = [_one(path, claim), _one(tuned, claim), _one(real, claim, "nll_verdict")]
                lines.append(f"| {table}: {claim}{OF + apart if apart else ''} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def _one(path: Path | None, claim: str, verdict: str = "verdict") -> str:
    """A claim's verdict, linked; nothing where the table is not there or has no such claim."""
    found = None if path is None else _of_paper(path).query("claim == @claim")
    return "" if path is None or found is None or found.empty else _linked(_said(found, verdict), path)


def _by_experiment() -> dict[str, list[Path]]:
    """What an experiment reproduces, and on which data if on several -> its tables of claims; SMT's first, in their order."""
    found: dict[str, dict[str, list[Path]]] = {}
    for path in _sheets():
        if not _of_paper(path).empty:
            about = experiments.find(path.relative_to(OURS).parts[0]).reproduces
            found.setdefault(about[0].upper() + about[1:], {}).setdefault(_family(path), []).append(path)
    rows = {
        about + (OF + family if len(families) > 1 else ""): paths
        for about, families in found.items()
        for family, paths in families.items()
    }
    return dict(sorted(rows.items(), key=lambda item: item[0].split(" ")[0]))


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
    """The paper's claims that were tried with several seeds, once their declared runs are there."""
    found = pd.read_csv(path)
    waits = found["verdict"].astype(str).str.endswith("(interim)")
    return found[(found["control"] == 0) & (found["n_seeds"] > 1) & ~waits]


def _linked(text: str, path: Path) -> str:
    return f"[{text}](../{path.with_suffix('.md').relative_to(ROOT).as_posix()})"


def _sheets() -> Iterator[Path]:
    def number(path: Path) -> tuple[int, bool, str]:
        table = re.search(r"table(\d+)", path.name)
        return (int(table[1]) if table else 99, _family(path) != FIRST, path.as_posix())

    every = [
        path for path in OURS.glob(f"*/{MODEL}/**/*_claims.csv") if "tuned" not in path.relative_to(OURS).as_posix()
    ]
    yield from sorted(every, key=number)


def _said(rows: pd.DataFrame, verdict: str) -> str:
    verdicts = rows[verdict].map(lambda v: next((w for w in WORDS if str(v).startswith(w)), str(v)))
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
    every = pd.read_csv(OURS / "memory" / COST / "memory.csv").query("checkpointing == 1")
    memory = every.query("stage == 'tuning'")
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
        f"Accuracy in % on `{MODEL}`, commonsense, by trainable share, tuned, {seeds} seeds, ± 95 % over seeds. Time and memory "
        f"are shares of full fine-tuning's, measured on `{COST}` at about {least:.1f} % trainable (two CPU threads; memory: "
        "checkpointing). "
        f"SMT's are those after its warm-up, which takes {_warmup(every):.2f} of the memory, or {_warmup(every, 'frozen'):.2f} "
        f"frozen{_off(reached)}.",
    ]
    return "\n".join(lines) + "\n"


def _warmup(memory: pd.DataFrame, variant: str = "") -> float:
    """The peak of SMT's warm-up against full fine-tuning's."""
    named = memory.assign(variant=memory["variant"].fillna(""))
    smt = named.query("method == 'smt' and stage == 'warmup'").set_index("variant")["peak"]
    return float(smt[variant] / named.query("method == 'full'")["peak"].iloc[0])


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
    new = text
    for name, made in (("claims", claims()), ("real", real()), ("methods", costs())):
        new = _filled(new, name, made)
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
