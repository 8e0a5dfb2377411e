"""What is only measured by its loss: test sets of that kind, and general text, whose loss shows what a model has forgotten."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from smt_bench.evidence.cells import Cells, groups, in_order, trained_on
from smt_bench.evidence.group import Group
from smt_bench.evidence.interval import contrast
from smt_bench.evidence.sides import Items, Side, ratios
from smt_bench.evidence.words import percent, title
from smt_bench.records.index import varied
from smt_bench.records.runs import Run
from smt_bench.records.store import Record
from smt_bench.report import notes
from smt_bench.report.accuracy.variants import relabelled
from smt_bench.report.numbers import written
from smt_bench.report.table import Cell, Table


def losses_table(records: Sequence[Record], model: str) -> Table | None:
    """One row per cell and two columns per set: its loss, and the difference from the untouched model's; None without sets.

    Args:
        records: of one experiment on one model, whatever it varies: the names of rows say it.
        model: name for the title.
    """
    if not any(r.get("losses") for r in records):
        return None
    found = cells_of(records)
    names = sorted({name for g in found for r in g.done for name in r.get("losses", {})})
    if not names:
        return None
    sides = {name: {id(g): _side(g, name) for g in found} for name in names}
    bases = {g.run["train"].get("base", ""): g for g in found if g.done and not g.trains}
    rows: list[list[Cell]] = []
    data: list[dict[str, Cell]] = []
    for group in found:
        base = bases.get(group.run["train"].get("base", ""))
        share = None if group.fraction_pct is None else percent(group.fraction_pct)
        row: list[Cell] = [title(group.method), share, str(len(group.done))]
        line: dict[str, Cell] = {
            "method": group.method,
            "fraction_pct": group.fraction_pct,
            "n_seeds": len(group.done),
        }
        for name in names:
            side, before = sides[name][id(group)], None if base is None else sides[name][id(base)]
            value = None if side is None else float(side.value_S.mean())
            apart = None if side is None or before is None or group is base else contrast([(1.0, side), (-1.0, before)])
            between = None if apart is None else apart.interval()
            row += [
                written(value, 4),
                None if apart is None else written(apart.value, 4, between=between, signed=True),
            ]
            line |= {
                f"{name}_nll": value,
                f"{name}_change": None if apart is None else apart.value,
                f"{name}_low": None if between is None else between[0],
                f"{name}_high": None if between is None else between[1],
            }
        rows.append(row)
        data.append({**line, "keys": " ".join(r["key"] for r in (*group.done, *group.lost))})
    lines = [
        "Negative log-likelihood (nats per token; lower is better): of the responses, or of all of a general text. Change: from "
        "the untouched model (base); above 0 on general text means forgetting. [low, high]: 95 % over new seeds and new examples "
        "at once; none with one seed.",
        *(
            []
            if bases
            else ["No change: no untouched model is among these runs (--methods base,..., where it can be)."]
        ),
        *_unlike(found, names),
        *notes.losses(found),
        notes.provenance(found),
    ]
    header = ["method", "parameters", "seeds", *(text for name in names for text in (name, "change"))]
    return Table(f"Loss on other text, {model}", header, rows, lines, data)


def _unlike(found: Sequence[Group], names: Sequence[str]) -> list[str]:
    """What of the sets was cut off, and what of them stands in the training set; nothing where none, or no record says."""
    records = [r for g in found for r in g.done if r.get("losses")]
    counts = {name: n for r in records for name, n in (r.get("cut") or {}).get("losses", {}).items()}
    cut = [f"{name} {n['empty'] + n['shortened']:,} of {n['examples']:,}" for name, n in counts.items() if _met(n)]
    lines = []
    if cut:
        cutoff = records[0]["run"]["data"]["cutoff"]
        lines.append(
            f"Cut off at the {cutoff} tokens of a training example, and measured up to there: {', '.join(cut)}."
        )
    shared = trained_on(found) or {}
    if twice := [f"{n} {shared[n]:,} of {_examples(records, n):,}" for n in names if shared.get(n)]:
        lines.append(f"Asked in the training set too: {', '.join(twice)}.")
    return lines


def _met(count: Mapping[str, int]) -> bool:
    return bool(count["empty"] or count["shortened"])


def _examples(records: Sequence[Record], name: str) -> int:
    return next(len(r["losses"][name]["examples"]["tokens"]) for r in records if name in r["losses"])


def cells_of(records: Sequence[Record]) -> Cells:
    """Records as cells, each called by what sets it apart from others of its method: settings, data, rate, steps, base."""
    settings = varied([Run.from_dict(r["run"]) for r in records], training=True)
    parts: dict[str, list[Record]] = {}
    for record in records:
        run = record["run"]
        hidden = {"parts", "trained_on"} if run.get("parts") else set[str]()
        told = [f"{name} {_plain(value)}" for name, value in settings[record["key"]].items() if name not in hidden]
        told += [f"over {run['train']['base']}"] if run["train"].get("base") else []
        told += ["two runs added"] if run.get("parts") else []
        name = run["method"]["name"]
        called = relabelled(record, ", ".join([title(name), *told])) if told else record
        if run.get("parts"):  # of every seed its own
            del called["run"]["parts"]
        d = run["data"]
        asked = d["train"], d["train_on_inputs"], d.get("only", ""), run["train"].get("base", "")
        parts.setdefault(repr(asked), []).append(called)
    return in_order(group for part in parts.values() for group in groups(part))


def _plain(value: Any) -> str:
    return (
        f"{value:g}"
        if isinstance(value, float)
        else "+".join(map(str, value))
        if isinstance(value, list)
        else str(value)
    )


def _side(group: Group, name: str) -> Side | None:
    """The set's loss in every run of a cell; None where one has no number."""
    sets = [r["losses"].get(name) if r.get("losses") else None for r in group.done]
    if not sets or any(one is None or one["nll"] is None for one in sets):
        return None
    columns = [one["examples"] for one in sets if one is not None]
    tokens_SN = np.asarray([c["tokens"] for c in columns], dtype=float)
    kept_N = tokens_SN.min(axis=0) > 0
    parts_SN = -np.asarray([[0.0 if v is None else v for v in c["loglik"]] for c in columns])
    cluster = np.asarray(columns[0].get("cluster", range(len(kept_N))))[kept_N]
    return ratios(parts_SN[:, kept_N], tokens_SN[:, kept_N], Items.of([cluster.tolist()]), fixed=not group.trains)
