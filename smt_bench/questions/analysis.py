"""What is to be compared, written down before the first run: `analysis.json` beside a table, and what deviates from it later.

Claims, margins, the rule that judges them, methods, fractions, seeds, the parts of the held-out examples, which weights are
judged and which tuning they follow; under the hash of all that. One analysis for each setting of the table's folder. Nothing
rewrites it. Until the last run that was declared is there, no claim is decided. Runs that are asked for later are written down
before the first of them too, and are another look at the same claims (`records.looks`), which their p values pay for.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from smt_bench.evidence import verdicts
from smt_bench.evidence.decisions import margins
from smt_bench.questions.experiment import Experiment, TrainingExperiment
from smt_bench.records import looks as looking
from smt_bench.records.declared import write
from smt_bench.records.exclusive import alone
from smt_bench.records.index import Index
from smt_bench.records.looks import FILE, Look
from smt_bench.records.runs import Run, digest
from smt_bench.records.store import Record, Store

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


def found_by(tunings: Iterable[str]) -> dict[str, list[str]]:
    """Of rates that a preset has: the tunings that found them."""
    return {"rates": sorted({*tunings} - {""})}


def judging() -> dict[str, Any]:
    """How the claims are judged: margins, and the rule, which also says how it is corrected for their number."""
    return {"margins": asdict(margins()), "rule": verdicts.rule()}


def declare(
    experiment: Experiment,
    runs: Sequence[Any],
    folder: Path,
    store: Store,
    listed: Sequence[str] = (),
    writes: bool = True,
    more: Callable[[], Mapping[str, Any]] = dict,
) -> str:
    """Writes down what is to be compared, unless it is written; what to say of it, often nothing.

    Runs that were finished where nothing was declared are the first look of their own: their tables have been seen.

    Args:
        experiment: of the runs.
        runs: planned, of one setting.
        folder: of its tables.
        store: with the records of some.
        listed: keys that the folder's index listed before.
        writes: False: only says it.
        more: what else is written down before the first run, e.g. what the design can tell; only asked there.

    Raises:
        ValueError: the file is damaged, a newer version wrote it, or another process keeps it.
    """
    if not isinstance(experiment, TrainingExperiment) or experiment.tunes:
        return ""
    assert all(isinstance(run, Run) for run in runs)
    setting = runs[0].setting
    undeclared = setting not in looking.analyses(folder)["analyses"]
    seen = [{"key": r["key"], "run": r["run"]} for r in store.for_tables(listed)] if undeclared else []
    told = more() if writes and undeclared and not seen else {}  # of another design than what was seen
    with alone(folder / f".{FILE}.lock", f"the analysis {folder / FILE}") if writes else nullcontext():
        there = looking.analyses(folder)
        before = json.dumps(there)
        if setting not in there["analyses"]:
            asked = seen or [{"key": r.key, "run": r.to_dict()} for r in runs]
            there["analyses"][setting] = _first(experiment, asked, store, told)
        kept = there["analyses"][setting]
        later = _later(kept, listed, runs, store)
        if later:
            kept.setdefault("later", []).append(later)
        if writes and json.dumps(there) != before:
            write(folder / FILE, there)
    if not later:
        return ""
    what, alone_first = str(Look((later,), tuple(later["keys"]), 0)), all(b["joins"] for b in kept["later"])
    if later["joins"]:
        waits = "claims wait for them too" if alone_first else "tables show them with the others that are missing"
        return f"note: {folder}: {what} more are declared; {waits}"
    return (
        f"note: {folder}: {what} are a further look; tables show them when the last is there, and where they add seeds to what "
        "has been looked at, p values of claims count once more"
    )


def _first(
    experiment: TrainingExperiment, asked: Sequence[Mapping[str, Any]], store: Store, more: Mapping[str, Any]
) -> dict[str, Any]:
    declared = {**contents(experiment, [one["run"] for one in asked]), **more}
    keys = [one["key"] for one in asked]
    return {
        "sha256": digest(declared),
        "finished_before": sum(store.path(key).exists() for key in keys),
        "runs": len(keys),
        "keys": keys,
        "declared": declared,
    }


def _later(kept: Mapping[str, Any], listed: Sequence[str], runs: Sequence[Run], store: Store) -> dict[str, Any] | None:
    """A batch of the runs that nobody declared so far; None: there are none."""

    def there(key: str) -> bool:
        return store.path(key).exists()

    found = looking.looks(kept, listed, there)
    known = {key for look in found for key in look.keys}
    new = [run for run in runs if run.key not in known]
    if not new:
        return None
    last = [look for look in found if "sha256" in look.batches[0]][
        -1
    ]  # what older versions did not declare is no look to join
    seeds = sorted({run.seed for run in new if run.train.lr})
    asked = {"seeds": seeds, "keys": [run.key for run in new], "joins": last.missing > 0}
    return {"sha256": digest(asked), "finished_before": sum(there(run.key) for run in new), **asked}


@dataclass(frozen=True)
class Seen:
    """What a table may show of a folder's runs, and as the how-manieth look at its claims.

    Attributes:
        records: without those of a later look that is not whole.
        times: that claims may have been decided, this one counted; 0: runs of the first look are missing.
        looks: all of them; none where nothing was declared.
    """

    records: list[Record]
    times: int = 1
    looks: tuple[Look, ...] = ()


def seen(index: Index, records: Sequence[Record]) -> Seen:
    """What of some records is shown.

    Args:
        index: of the table's folder, on its setting.
        records: behind the table; those without numbers (diverged, out of memory) are there.
    """
    kept = looking.analyses(index.path)["analyses"].get(index.latest or "")
    if kept is None:
        return Seen(list(records))
    by_key = {r["key"]: r for r in records}
    found = looking.looks(kept, index.keys, by_key.__contains__)
    hidden = looking.hidden(found)
    shown = [r for r in records if r["key"] not in hidden]
    return Seen(shown, 0 if found[0].missing else looking.times(found, by_key), tuple(found))
