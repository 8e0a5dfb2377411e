"""What is to be compared, written down before the first run: `analysis.json` beside a table, and what deviates from it later.

Claims, margins, the rule that judges them, methods, fractions, seeds, the parts of the held-out examples, which weights are
judged and which tuning they follow; under the hash of all that. One analysis for each setting of the table's folder. Nothing
rewrites it. Until the last run that was declared is there, no claim is decided.

Seeds that are asked for later are another look at the same claims (`later`): written down before their first run too, shown
once all of them are there, and paid for by every claim's p value (`evidence.decisions.looking`).
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from smt_bench.evidence import verdicts
from smt_bench.evidence.decisions import margins
from smt_bench.questions.declared import SCHEMA, read, write
from smt_bench.questions.experiment import Experiment, TrainingExperiment
from smt_bench.records.index import Index
from smt_bench.records.runs import Run, digest
from smt_bench.records.store import Record, Store

FILE = "analysis.json"
Asked = Sequence[Mapping[str, Any]]  # questions as plain JSON values


def contents(experiment: TrainingExperiment, asked: Asked) -> dict[str, Any]:
    """What some runs are to show, from the questions alone."""
    planned: list[Record] = [{"key": str(i), "run": run, "status": "planned"} for i, run in enumerate(asked)]
    first = next((run for run in asked if run["train"]["lr"]), asked[0])
    data, train = first["data"], first["train"]
    claims = {json.dumps(asdict(claim), sort_keys=True): asdict(claim) for claim in experiment.declares(planned)}
    return {
        "experiment": experiment.name,
        "model": first["model"],
        "claims": list(claims.values()),
        "comparisons": experiment.comparisons(planned),
        **judging(),
        "methods": sorted({run["method"]["name"] for run in asked}),
        "fractions": sorted({run["method"]["fraction"] for run in asked} - {None}),
        "seeds": sorted({run["seed"] for run in asked if run["train"]["lr"]}),
        "heldout": {
            "choices": data.get("tune", 0),
            "reported": data["heldout"] - data.get("tune", 0),
            "seed": data.get("split_seed"),
            "varies": data.get("varies", ""),
        },
        "weights": {"select": train.get("select", "last"), "every": train.get("select_every", 0)},
        "tuning": sorted({run.get("tuning", "") for run in asked} - {""}),
    }


def judging() -> dict[str, Any]:
    """How the claims are judged: margins, and the rule, which also says how it is corrected for their number."""
    return {"margins": asdict(margins()), "rule": verdicts.rule()}


def declare(experiment: Experiment, runs: Sequence[Any], folder: Path, store: Store) -> None:
    """Writes the analysis of planned runs, unless there is one of their setting."""
    if not isinstance(experiment, TrainingExperiment) or experiment.tunes:
        return
    there = _read(folder)
    setting = runs[0].setting
    assert all(isinstance(run, Run) for run in runs)
    if setting in there["analyses"]:
        if later := _later(there["analyses"][setting], runs, store):
            there["analyses"][setting].setdefault("later", []).append(later)
            write(folder / FILE, there)
        return
    declared = contents(experiment, [run.to_dict() for run in runs])
    done = sum(store.path(run.key).exists() for run in runs)
    there["analyses"][setting] = {
        "sha256": digest(declared),
        "finished_before": done,
        "runs": len(runs),
        "keys": [run.key for run in runs],
        "declared": declared,
    }
    write(folder / FILE, there)


def _later(kept: Mapping[str, Any], runs: Sequence[Run], store: Store) -> dict[str, Any] | None:
    """A look at runs of other seeds than the first look's that nobody declared so far; None: there are none."""
    known = {key for look in kept.get("later", []) for key in look["keys"]}
    trained = [run for run in runs if run.train.lr]  # the untouched model has one answer
    new = [run for run in trained if run.seed not in kept["declared"]["seeds"] and run.key not in known]
    if not new:
        return None
    asked = {"seeds": sorted({run.seed for run in new}), "keys": [run.key for run in new]}
    return {"sha256": digest(asked), "finished_before": sum(store.path(run.key).exists() for run in new), **asked}


@dataclass(frozen=True)
class Seen:
    """What a table may show of a folder's runs, and as the how-manieth look at its claims.

    Attributes:
        records: without those of a later look that is not whole.
        looks: that could decide something: of two seeds or more; 0 while a run of the first is missing.
        missing: declared runs of the first look without a record.
        waiting: later looks of which runs are missing, each with their number.
        whole: the other later looks.
    """

    records: list[Record]
    looks: int = 1
    missing: int = 0
    waiting: tuple[tuple[Mapping[str, Any], int], ...] = ()
    whole: tuple[Mapping[str, Any], ...] = ()


def seen(index: Index, records: Sequence[Record]) -> Seen:
    """What of some records is shown.

    Args:
        index: of the table's folder, on its setting.
        records: behind the table; those without numbers (diverged, out of memory) are there.
    """
    kept = _read(index.path)["analyses"].get(index.latest or "")
    if kept is None:
        return Seen(list(records))
    there = {r["key"] for r in records}
    # Older files do not name the runs: they were the first that the index lists.
    missing = len(set(kept.get("keys", index.keys[: kept["runs"]])) - there)
    lacks = [(look, len(set(look["keys"]) - there)) for look in kept.get("later", [])]
    waiting = tuple((look, count) for look, count in lacks if count)
    whole = tuple(look for look, count in lacks if not count)
    hidden = {key for look, _ in waiting for key in look["keys"]}
    looks, seeds = 0, set[int]()
    for look in ({"seeds": kept["declared"]["seeds"]}, *whole):
        seeds |= set(look["seeds"])
        looks += len(seeds) > 1  # one seed never decides
    return Seen(
        [r for r in records if r["key"] not in hidden], 0 if missing else max(1, looks), missing, waiting, whole
    )


def lines(experiment: Experiment, index: Index, found: Seen) -> list[str]:
    """What stands below a table about its analysis; nothing where none was written.

    Args:
        experiment: of the table.
        index: of its folder, on its setting.
        found: what the table is made of.
    """
    kept = _read(index.path)["analyses"].get(index.latest or "")
    if kept is None or not isinstance(experiment, TrainingExperiment):
        return []
    declared = kept["declared"]
    if digest(declared) != kept["sha256"]:
        return [
            f"{FILE} was changed after it was written: its hash is not {kept['sha256']}. No claim here was declared before."
        ]
    when = (
        "before the first run"
        if not kept["finished_before"]
        else (f"when {kept['finished_before']} of its {kept['runs']} runs were finished already")
    )
    margins = declared["margins"]
    actual = contents(experiment, [r["run"] for r in found.records])
    count, cells = len(declared["claims"]), actual["comparisons"]
    claims = f"{count} claim{'s' if count != 1 else ''}" + (f" in {cells} comparisons" if cells != count else "")
    told = (
        f"Analysis written down {when}: {FILE}, hash {kept['sha256']}; {claims}, margins "
        f"{margins['points']:g} point and {margins['nats']:g} nats, seeds {', '.join(map(str, declared['seeds'])) or 'none'}."
    )
    seeds = {*declared["seeds"], *(seed for look in found.whole for seed in look["seeds"])}
    apart = deviations({**declared, "seeds": sorted(seeds)}, actual)
    lost = sum(r["status"] != "done" for r in found.records)
    apart += [f"{lost} runs without numbers"] if lost else []
    said = [told, f"Deviates from it: {'; '.join(apart)}." if apart else "Nothing deviates from it."]
    if found.missing:
        said.append(
            f"No claim is decided before the last of {kept['runs']} declared runs: {found.missing} missing. Where they can no "
            f"longer be made, move {FILE} away: `run` declares anew."
        )
    said += [_looked(look) for look in found.whole]
    if found.looks > 1:
        said.append(f"The claims were looked at {found.looks} times: their p values count {found.looks} times.")
    said += [
        f"Seeds {_listed(look)} are not shown before the last of their {len(look['keys'])} runs: {count} missing."
        for look, count in found.waiting
    ]
    return said


def _looked(look: Mapping[str, Any]) -> str:
    before = look["finished_before"]
    when = "before their first run" if not before else f"when {before} of their {len(look['keys'])} runs were finished"
    changed = digest({"seeds": look["seeds"], "keys": look["keys"]}) != look["sha256"]
    return (
        f"Seeds {_listed(look)} were added after a look at the others, written down {when}: hash {look['sha256']}"
        f"{', which is no longer theirs' if changed else ''}."
    )


def _listed(look: Mapping[str, Any]) -> str:
    return ", ".join(map(str, look["seeds"]))


def deviations(declared: Mapping[str, Any], actual: Mapping[str, Any]) -> list[str]:
    """In words, what is otherwise than it was declared."""
    found = []
    for name in ("claims", "methods", "fractions", "seeds", "tuning"):
        before, now = (_named(name, values[name]) for values in (declared, actual))
        added, left = [v for v in now if v not in before], [v for v in before if v not in now]
        found += [f"{name} added: {', '.join(added)}"] if added else []
        found += [f"{name} declared but not here: {', '.join(left)}"] if left else []
    for name in ("margins", "rule", "heldout", "weights", "model"):
        if declared[name] != actual[name]:
            changed = "" if name in ("rule", "model") else f" ({_plain(declared[name])}, now {_plain(actual[name])})"
            found.append(f"another {name}{changed}")
    return found


def _named(name: str, values: Sequence[Any]) -> list[str]:
    if name == "claims":
        return [f"{claim['text']!r} ({claim['ahead']}, {claim['behind']})" for claim in values]
    return [f"{100 * value:g} %" if name == "fractions" else str(value) for value in values]


def _plain(values: Mapping[str, Any]) -> str:
    return ", ".join(f"{name} {value}" for name, value in values.items())


def _read(folder: Path) -> dict[str, Any]:
    there = read(folder / FILE, "analyses", "move it away, `run` writes another")
    return {"schema": SCHEMA, "analyses": {}} if there is None else there
