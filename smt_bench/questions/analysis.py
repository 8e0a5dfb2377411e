"""What is to be compared, written down before the first run: `analysis.json` beside a table, and what deviates from it later.

Claims, margins, the rule that judges them, methods, fractions, seeds, the parts of the held-out examples, which weights are
judged and which tuning they follow; under the hash of all that. One analysis for each setting of the table's folder. Nothing
rewrites it. Until the last run that was declared is there, no claim is decided (`unfinished`).
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
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
    if setting in there["analyses"]:
        return
    assert all(isinstance(run, Run) for run in runs)
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


def lines(experiment: Experiment, index: Index, records: Sequence[Record]) -> list[str]:
    """What stands below a table about its analysis; nothing where none was written.

    Args:
        experiment: of the table.
        index: of its folder, on its setting.
        records: behind the table.
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
    actual = contents(experiment, [r["run"] for r in records])
    count, cells = len(declared["claims"]), actual["comparisons"]
    claims = f"{count} claim{'s' if count != 1 else ''}" + (f" in {cells} comparisons" if cells != count else "")
    told = (
        f"Analysis written down {when}: {FILE}, hash {kept['sha256']}; {claims}, margins "
        f"{margins['points']:g} point and {margins['nats']:g} nats, seeds {', '.join(map(str, declared['seeds'])) or 'none'}."
    )
    apart = deviations(declared, actual)
    lost = sum(r["status"] != "done" for r in records)
    apart += [f"{lost} runs without numbers"] if lost else []
    apart_told = f"Deviates from it: {'; '.join(apart)}." if apart else "Nothing deviates from it."
    if missing := unfinished(index, records):
        waits = (
            f"No claim is decided before the last of {kept['runs']} declared runs: {missing} missing. Where they can no longer "
            f"be made, move {FILE} away: `run` declares anew."
        )
        return [told, apart_told, waits]
    return [told, apart_told]


def unfinished(index: Index, records: Sequence[Record]) -> int:
    """How many of the runs that were declared have no record yet.

    Args:
        index: of the table's folder, on its setting.
        records: behind the table; those without numbers (diverged, out of memory) are there.
    """
    kept = _read(index.path)["analyses"].get(index.latest or "")
    if kept is None:
        return 0
    # Older files do not name the runs: they were the first that the index lists.
    return len(set(kept.get("keys", index.keys[: kept["runs"]])) - {r["key"] for r in records})


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
