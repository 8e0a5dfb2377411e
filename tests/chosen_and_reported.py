"""`python tests/chosen_and_reported.py`: what it changes that a tuning chose by examples which the sweep reports.

Until 2026-12 `--limit-heldout 60` divided the 60 of 120 held-out examples that it looked at, and the sweep all 120: an example
could be on both sides. From the committed records it says how many were, whether the same settings win by those that the sweep
chooses by, and what the sweep's differences are on the examples that chose nothing.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Sequence
from functools import cache
from itertools import combinations
from pathlib import Path
from statistics import mean
from typing import Any

from smt_bench.evidence.words import title

REFERENCE = Path(__file__).resolve().parents[1] / "results" / "reference"
SWEEP = REFERENCE / "plateau" / "smollm2-135m" / "math"
TABLES = {
    "table 3": "table3_heldout.csv",
    "table 6": "../../../qkv/smollm2-135m/math/table6.csv",
    "table 8": "../../../selection/smollm2-135m/math/table8.csv",
    "table 9": "../../../selection/smollm2-135m/math/table9.csv",
}


@cache
def columns(key: str) -> dict[str, list[Any]]:
    """Per held-out example: log-likelihood (nats), tokens, and whether choices are made by it."""
    found: dict[str, list[Any]] = json.loads((REFERENCE / "runs" / f"{key}.json").read_text())["heldout"]["examples"]
    return found


def loss(key: str, which: Sequence[int]) -> float:
    """Nats per response token over some examples."""
    own = columns(key)
    return -sum(own["loglik"][i] for i in which) / sum(own["tokens"][i] for i in which)


def rows(path: Path) -> list[dict[str, str]]:
    """Of a table."""
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def main() -> None:
    """Prints it."""
    trials, table = rows(SWEEP / "tuning" / "tuning_trials.csv"), rows(SWEEP / "table3_heldout.csv")
    tuning, sweep = columns(trials[0]["keys"].split()[0]), columns(table[-1]["keys"].split()[0])
    some = range(len(tuning["tokens"]))
    assert [sweep["tokens"][i] for i in some] == tuning["tokens"]  # the first of the same examples
    chose, chooses = [[i for i in some if part["tune"][i]] for part in (tuning, sweep)]
    reported = [i for i, chosen in enumerate(sweep["tune"]) if not chosen]
    both, clean = set(chose) & set(reported), [i for i in reported if i not in chose]
    said = f"{len(set(chose) & set(chooses))} among the {len(chooses)} that the sweep chooses by"
    print(f"{len(both)} of the {len(chose)} examples that chose are among the {len(reported)} reported, {said}")

    for method in dict.fromkeys(row["method"] for row in trials):
        own = [row for row in trials if row["method"] == method and row["later"]]
        keys = [row["keys"].split() for row in own]
        means = [mean(loss(key, chooses) for key in later) for _, *later in keys]
        won = next(i for i, row in enumerate(own) if row["winner"] == "1")
        best = min(range(len(own)), key=means.__getitem__)
        firsts = {row["keys"].split()[0]: loss(row["keys"].split()[0], chooses) for row in trials if row["method"] == method
                  and row["status"] == "done"}  # fmt: skip
        again = set(sorted(firsts, key=firsts.__getitem__)[: len(own)]) == {first for first, *_ in keys}
        said = "as it did" if best == won else f"not {own[won]['knobs']}"
        few = f"the best {len(own)} of the first seed are {'the same' if again else 'others'}"
        print(
            f"{title(method)}: by the {len(chooses)} that the sweep chooses by {own[best]['knobs']} wins, {said}; {few}"
        )

    print(
        f"differences of held-out loss (nats), all {len(reported)} reported examples and the {len(clean)} that chose nothing:"
    )
    for name, file in TABLES.items():
        found = rows(SWEEP / file)
        cells = {" ".join(filter(None, (row.get("method") or row["row"], row["fraction_pct"]))): row["keys"].split()
                 for row in found}  # fmt: skip
        apart = {
            (one, other): [
                mean(loss(k, w) for k in cells[one]) - mean(loss(k, w) for k in cells[other]) for w in (reported, clean)
            ]
            for one, other in combinations(cells, 2)
        }
        for what, untouched in (("two trained rows", False), ("a row and the untouched model", True)):
            moved = {pair: abs(b - a) for pair, (a, b) in apart.items() if ("base" in pair) == untouched}
            if moved:
                pair = max(moved, key=moved.__getitem__)
                before, after = apart[pair]
                print(
                    f"{name}, {what}: moves by {moved[pair]:.4f} at most ({' - '.join(pair)} {before:+.4f}, {after:+.4f})"
                )
        turned = [f"{' - '.join(pair)} {a:+.4f}, {b:+.4f}" for pair, (a, b) in apart.items() if a * b < 0]
        print(f"{name}: {len(turned)} of {len(apart)} change their sign {'; '.join(turned)}".rstrip())


if __name__ == "__main__":
    main()
