"""The papers' claims with today's verdicts, from the tables of claims that lie in the results folder."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from smt_bench.evidence.decisions import OPEN
from smt_bench.evidence.verdicts import HOLDS, REFUTED
from smt_bench.evidence.words import percent, title
from smt_bench.report.accuracy.claims import missed, p_value, versus
from smt_bench.report.page.folder import Study


@dataclass(frozen=True)
class Row:
    """One claim.

    Attributes:
        statement: what is said.
        source: the paper's place; empty for our controls.
        about: experiment and model.
        printed: the paper's number.
        ours: ours, with its interval.
        how: seeds, p, or assumptions.
        verdict: on it.
        second: verdict on held-out loss; empty where there is none.
        control: not the paper's statement.
        single: of one seed, which decides nothing.
        study: where its table, figures and runs are.
        table: id of its table.
        keys: of the runs it is about.
    """

    statement: str
    source: str
    about: str
    printed: str
    ours: tuple[str, ...]
    how: str
    verdict: str
    second: str
    control: bool
    single: bool
    study: Study
    table: str
    keys: tuple[str, ...] = ()

    @property
    def tone(self) -> str:
        """A word for its colour."""
        return tone(self.verdict)

    @property
    def second_tone(self) -> str:
        """Likewise."""
        return tone(self.second)


def tone(verdict: str) -> str:
    """E.g. "holds" of "holds if checkpointing is on"."""
    if verdict.startswith(HOLDS):
        return "holds" if verdict == HOLDS else "partly"
    return "fails" if verdict.startswith(REFUTED) else "open" if verdict else ""


def judged(studies: Sequence[Study], runs: Mapping[str, Mapping[str, Any]]) -> list[Row]:
    """Claims on accuracy, with evidence from runs."""
    return [
        _row(study, name, row, runs)
        for study in studies
        for name, found in study.claims.items()
        for row in found
        if "claim" in row and "verdict" in row
    ]


def computed(studies: Sequence[Study]) -> list[Row]:
    """Claims on memory and time, recomputed (`plan claims`)."""
    return [
        Row(
            row["statement"], row["source"], study.place, f"{float(row['printed']):g} {row['unit']}",
            (f"{float(row['computed']):.3g} {row['unit']}",), row["assumptions"], row["verdict"], "", False, False,
            study, f"table-{study.id}-{name}",
        )
        for study in studies
        for name, found in study.claims.items()
        for row in found
        if "statement" in row and row["verdict"]  # of what no paper states there is a number and no verdict
    ]  # fmt: skip


def _row(study: Study, name: str, row: Mapping[str, str], runs: Mapping[str, Mapping[str, Any]]) -> Row:
    statement, source = _placed(row["claim"])
    told = (_against(row, "", 1), "points"), (_against(row, "nll_", 4), "nats")
    ours = tuple(f"{text} {unit}" for text, unit in told if text)
    p, smallest = (float(row[k]) if row.get(k) else None for k in ("p", "smallest"))
    seeds = row.get("n_seeds")
    how = [f"{seeds} seed{'' if seeds == '1' else 's'}"] if seeds else []
    how += [f"p {p_value(p)}"] if p is not None else []
    how += [missed(smallest, 1)] if smallest is not None and row["verdict"].startswith(OPEN) else []
    theirs = row.get("printed_difference") or row.get("printed")
    printed = f"{float(theirs):+.1f} points" if theirs else ""
    return Row(
        statement + _at(row), source, study.place, printed, ours, ", ".join(how), row["verdict"], row.get("nll_verdict", ""),
        row.get("control") == "1", seeds == "1", study, f"table-{study.id}-{name}", _keys(study, row, runs),
    )  # fmt: skip


def _against(row: Mapping[str, str], prefix: str, digits: int) -> str | None:
    """Our difference with its interval; None where the table has none. Tables about one number call it `ours`."""
    names = {"difference": "ours", "low": "ours_low", "high": "ours_high"} if not prefix else {}
    said = {
        f"{prefix}{name}": row.get(f"{prefix}{name}") or row.get(names.get(name, ""))
        for name in ("difference", "low", "high")
    }
    return versus({name: float(value) if value else None for name, value in said.items()}, prefix, digits)


def _placed(text: str) -> tuple[str, str]:
    """A claim's statement, and the place in the paper that stands in brackets behind it."""
    statement, bracket, rest = text.rpartition(" (")
    return (statement, rest.removesuffix(")")) if bracket and rest.endswith(")") else (text, "")


def _at(row: Mapping[str, str]) -> str:
    shares = [row.get("ahead_pct"), row.get("behind_pct"), row.get("fraction_pct")]
    told = list(dict.fromkeys(percent(float(share)) for share in shares if share))
    return f", at {' and '.join(told)}" if told else ""


def _keys(study: Study, row: Mapping[str, str], runs: Mapping[str, Mapping[str, Any]]) -> tuple[str, ...]:
    """Runs that the table names; of older tables those of the two rows where these are methods at fractions, else all."""
    if row.get("keys"):
        return tuple(row["keys"].split())
    if not all(row.get(side) for side in ("ahead", "behind")):
        return study.keys
    wanted = set()
    for side in ("ahead", "behind"):
        share = row.get(f"{side}_pct")
        share_pct = None if not share else round(float(share), 6)
        wanted.add((row[side].partition(" (")[0], share_pct, "(tuned" in row[side]))
    found = []
    for key in study.keys:
        method = runs.get(key, {}).get("run", {}).get("method")
        if method is not None:
            fraction = None if method["fraction"] is None else round(100 * method["fraction"], 6)
            if (title(method["name"]), fraction, bool(runs[key]["run"].get("tuning"))) in wanted:
                found.append(key)
    both = {title(runs[key]["run"]["method"]["name"]) for key in found}
    return tuple(found) if both >= {name for name, *_ in wanted} else study.keys


def tally(rows: Sequence[Row], second: bool = False) -> str:
    """For a newcomer: "5 of 17 claims hold, 3 do not, 9 cannot be told"."""
    tones = [row.second_tone if second else row.tone for row in rows]
    counts = {word: tones.count(word) for word in ("holds", "partly", "fails", "open")}
    text = f"{counts['holds']} of {len(rows)} claim{'' if len(rows) == 1 else 's'} hold{'s' if counts['holds'] == 1 else ''}"
    parts = [f"{counts['partly']} under conditions", f"{counts['fails']} do{'es' if counts['fails'] == 1 else ''} not"]
    parts += [f"{counts['open']} cannot be told"]
    return ", ".join([text, *(part for part in parts if not part.startswith("0 "))])
