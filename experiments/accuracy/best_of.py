"""What tables 2 and 5 share: every method at its best fraction, and all of them at an equal budget.

The best fraction is chosen by held-out loss (mean over seeds), never by a test set; the paper does not say how it chose, and
where "best" is best on the test set its rows are too high by the luck of the best of six.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

from smt_bench.evidence import published
from smt_bench.evidence.cells import Group, groups, heldout_nlls
from smt_bench.evidence.claims import Sheet
from smt_bench.evidence.stats import mean_ci
from smt_bench.evidence.verdicts import Claim
from smt_bench.evidence.words import percent, rank, title
from smt_bench.records.store import Record
from smt_bench.report.accuracy.variants import write_groups


def best(cells: Sequence[Group]) -> Group | None:
    """The cell of one method with the lowest held-out loss; None where no run has one."""
    losses = {}
    for i, cell in enumerate(cells):
        values = heldout_nlls(cell.done, "tune")
        if values:
            losses[i] = mean_ci(values)[0]
    return cells[min(losses, key=lambda i: losses[i])] if losses else None


def equal_budget(fractions: Sequence[float]) -> float | None:
    """The fraction nearest to the paper's 0.84 % where one is near, else the middle one."""
    if not fractions:
        return None
    near = min(fractions, key=lambda f: abs(100 * f - published.PAPER_PCT))
    return (
        near
        if abs(100 * near - published.PAPER_PCT) <= published.NEAR * published.PAPER_PCT
        else sorted(fractions)[len(fractions) // 2]
    )


def cells(records: Sequence[Record]) -> list[Group]:
    """Rows: base and full as they are, then every method's best, then all methods at the equal budget."""
    found = groups(records)
    budget = equal_budget(sorted({g.fraction for g in found if g.fraction is not None}))
    made = [g for g in found if g.fraction is None]
    for suffix in ("best", "equal"):
        for method in sorted({g.method for g in found if g.fraction is not None}, key=rank):
            own = [g for g in found if g.method == method]
            at_budget = next((g for g in own if g.fraction == budget), None)
            picked = best(own) if suffix == "best" else at_budget
            if picked is not None:
                made.append(picked.called(f"{title(method)} ({suffix})"))
    return made


def printed_row(label: str, model: str, about: str) -> tuple[float, float] | None:
    """The printed average (%) of a row of `cells`, and the trainable percentage at which it was printed.

    Tables 2 and 5 print a baseline's best row only; what the baselines reach at the equal budget stands in table 3.
    """
    method, _, kind = label.removesuffix(")").lower().partition(" (")
    rows = published.by_task(model, about)
    rows = rows[rows["method"] == method].sort_values("params_pct")
    if kind == "equal" and method == "smt":
        rows = rows.iloc[:1]  # of its two rows the one at the others' budget
    elif kind == "equal" and about in published.PLATEAU:
        average = published.plateau_average(model, method, published.PAPER_PCT)
        return None if average is None else (average, published.PAPER_PCT)
    elif kind == "equal":
        rows = rows[(rows["params_pct"] - published.PAPER_PCT).abs() <= published.NEAR * published.PAPER_PCT]
    if rows.empty:
        return None
    row = rows.iloc[-1]
    return float(row["avg"]), float(row["params_pct"])


def write(
    records: Sequence[Record], folder: Path, model: str, name: str, heading: str, theirs: str, about: str
) -> list[Path]:
    """Writes the table.

    Args:
        records: of the plateau's grid.
        folder: where the files go.
        model: name of the model.
        name: file name.
        heading: title.
        theirs: how the paper calls it, e.g. "table 2".
        about: family of the printed numbers.
    """
    found = cells(records)
    printed_on = model if published.BY_TASK.get(about) and not published.by_task(model, about).empty else "llama-7b"

    def printed(label: str, pct: float | None) -> float | None:
        found = printed_row(label, printed_on, about)
        return None if found is None else found[0]

    def printed_at(label: str, pct: float | None) -> float | None:
        found = printed_row(label, printed_on, about)
        return None if found is None or found[1] == 100 else found[1]

    claims = claims_about({g.method for g in found}, theirs, about)
    budget = equal_budget(sorted({r["run"]["method"]["fraction"] for r in records} - {None}))
    remark = "Best: the fraction with the lowest held-out loss, mean over seeds; no test set decides. "
    remark += "Equal: all methods at " + (percent(100 * budget) if budget is not None else "no fraction") + "."
    source = f"SMT {theirs}" + (" (equal: table 3)" if about in published.PLATEAU else "") + f", {printed_on}"
    sheet = Sheet(
        name, heading, lambda record: None, tuple(g.method for g in found), "SMT (best)", tuple(claims), printed,
        source, (remark,), "method", printed_on, None, printed_at,
    )  # fmt: skip
    return write_groups(found, folder, model, sheet)


def declared(planned: Sequence[Record], theirs: str, about: str) -> list[Claim]:
    """The claims before there is any number: every method with a fraction will have a best one."""
    found = groups(planned)
    names = {g.method for g in cells(planned)} | {f"{title(g.method)} (best)" for g in found if g.fraction is not None}
    return claims_about(names, theirs, about)


def claims_about(names: Iterable[str], theirs: str, about: str) -> list[Claim]:
    """The claims that rows of these names can speak to."""
    rivals = sorted(name for name in names if name.endswith("(best)") and name != "SMT (best)")
    claims = [Claim(f"SMT at its best beats {r.split()[0]} at its best ({theirs})", "SMT (best)", r) for r in rivals]
    claims += [
        Claim(f"SMT at the equal budget beats {r.split()[0]} at its best ({theirs})", "SMT (equal)", r) for r in rivals
    ]
    claims += [
        Claim(f"SMT beats {r.split()[0]} at the equal budget", "SMT (equal)", r.replace("best", "equal"), control=True)
        for r in rivals
    ]
    if about in published.PLATEAU:
        claims.append(
            Claim("SMT at its best is as good as full fine-tuning (section 4.1)", "SMT (best)", "full", equal=True)
        )
    return claims
