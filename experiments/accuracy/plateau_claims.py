"""What the SMT paper says of its table 3, as claims about the cells of the plateau's grid.

The papers' fractions are seldom ours: on other models its smallest and largest fraction stand beside our smallest and largest.
A baseline's best smaller fraction is chosen by held-out loss, never by a test set, and by other examples than those whose NLL is
reported; of records from before there were two parts it is a little too good on held-out NLL itself.
"""

from __future__ import annotations

from collections.abc import Sequence

from smt_bench.evidence import published
from smt_bench.evidence.cells import Cells, Group, groups
from smt_bench.evidence.claims import Sheet, meetings
from smt_bench.evidence.verdicts import Claim
from smt_bench.evidence.words import family_title, title
from smt_bench.experiments.accuracy.best_of import best
from smt_bench.records.store import Record

BASELINES = ("lora", "spiel", "dora")


def cells(records: Sequence[Record] | Cells) -> list[Group]:
    """The rows that claims are about: every cell under its method's title, and its method's ends under their own names."""
    found = groups(records)
    made: list[Group] = []
    for method in dict.fromkeys(g.method for g in found):
        own = sorted((g for g in found if g.method == method and g.fraction is not None), key=lambda g: g.fraction or 0)
        if not own:
            made += [g for g in found if g.method == method]
            continue
        made += [g.called(title(method)) for g in own]
        made.append(own[-1].called(f"{title(method)} (largest)"))
        if len(own) > 1:
            made.append(own[0].called(f"{title(method)} (smallest)"))
            smaller = best(own[:-1])
            made += [] if smaller is None else [smaller.called(f"{title(method)} (best smaller)")]
    return made


def declared(planned: Sequence[Record]) -> Sequence[Claim]:
    """The claims before there is any number."""
    return sheet(_planned(planned), planned[0]["run"]["model"]["name"]).claims


def comparisons(planned: Sequence[Record]) -> int:
    """How many cells of the table they are about."""
    made = _planned(planned)
    return len(meetings(made, sheet(made, planned[0]["run"]["model"]["name"]).claims))


def _planned(planned: Sequence[Record]) -> list[Group]:
    """The rows before there is any number: a baseline's best smaller fraction is then one of its smaller ones."""
    made = cells(planned)
    names = {g.method for g in made}
    made += [
        g.called(g.method.replace("(smallest)", "(best smaller)"))
        for g in made
        if g.method.endswith("(smallest)") and g.method.replace("(smallest)", "(best smaller)") not in names
    ]
    return made


def sheet(found: Sequence[Group], model: str) -> Sheet:
    """The claims that `cells` can speak to, with the printed differences where there are any."""
    family = found[0].run["data"]["family"]
    printed_on = model if not published.plateau(model).empty else "llama-7b"
    fractions = {name: {g.fraction for g in found if g.method == name} for name in {g.method for g in found}}
    claims = [
        Claim(f"SMT beats {title(name)} at the same fraction (section 1, table 3)", "SMT", title(name))
        for name in BASELINES
        if fractions.get("SMT", set()) & fractions.get(title(name), set())
    ]
    if "SMT (smallest)" in fractions:
        text = "SMT goes on gaining, from its smallest fraction to its largest (section 4.2)"
        claims.append(Claim(text, "SMT (largest)", "SMT (smallest)"))
    for name in map(title, BASELINES):
        if f"{name} (best smaller)" in fractions:
            text = f"{name} gains nothing at its largest fraction over its best smaller one (section 4.2)"
            claims.append(Claim(text, f"{name} (largest)", f"{name} (best smaller)", denied=True))
    known = family in published.PLATEAU
    if "full" in fractions and known:
        text = "SMT at its largest fraction is as good as full fine-tuning (section 4.1)"
        claims.append(Claim(text, "SMT (largest)", "full", equal=True))

    def printed(label: str, pct: float | None) -> float | None:
        method, _, place = label.removesuffix(")").partition(" (")
        ends = sorted(100 * f for f in fractions.get(method, set()) if f is not None)
        return _printed(printed_on, method.lower(), place, pct, [] if model == printed_on else ends)

    source = f"SMT table 3 (full: table 2), {printed_on}"
    if model != printed_on:
        source += ", whose smallest and largest fraction and own best smaller one stand beside ours"
    return Sheet(
        "table3", f"Table 3, {family_title(family)}", lambda record: None, (), "SMT", tuple(claims),
        printed if known else lambda label, pct: None, source if known else "", printed_on=printed_on, printed_pct=None,
    )  # fmt: skip


def _printed(model: str, method: str, place: str, pct: float | None, ends: Sequence[float]) -> float | None:
    """The printed average of a row; `ends` are our fractions where the printed ends stand beside them, else empty."""
    if pct is None:
        return published.plateau_average(model, method, None)
    rows = published.plateau(model)
    values = {p: v for m, p, v in rows.itertuples(index=False) if m == method and p < 100}
    near = [v for p, v in values.items() if abs(p - pct) <= published.NEAR * p]
    if not ends or not values:
        return near[0] if near else None
    if place == "best smaller":
        return float(max(v for p, v in values.items() if p < max(values)))
    if len(ends) > 1 and abs(pct - ends[-1]) < 1e-9:
        return float(values[max(values)])
    return values[min(values)] if len(ends) > 1 and abs(pct - ends[0]) < 1e-9 else (near[0] if near else None)
