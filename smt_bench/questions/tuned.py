"""What tunings found, in a file beside their tables: declared before the first trial, taken by `run --tuned`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from smt_bench import methods
from smt_bench.questions.planner import Planner
from smt_bench.records.declared import SCHEMA, read, write
from smt_bench.records.runs import Run, digest

if TYPE_CHECKING:
    from smt_bench.questions.trials import Search, Trial

FILE = "tuning.json"
UNSAID = {"select": "last"}  # what a question does not say where it is as it always was


@dataclass(frozen=True)
class Winner:
    """What a tuning found for one method.

    Attributes:
        lr: peak learning rate.
        settings: of the method.
        tuning: hash of the tuning.
    """

    lr: float
    settings: dict[str, Any]
    tuning: str


def under(run: Run) -> dict[str, Any]:
    """What a tuning holds fixed: model, data and training but for what it searches."""
    asked = run.to_dict()
    data = {k: v for k, v in asked["data"].items() if k not in ("varies", "split_seed", "heldout_seed")}
    train = {k: v for k, v in asked["train"].items() if k not in ("lr", "weight_decay")}
    return {"model": asked["model"], "data": data, "train": train}


def asked_for(planner: Planner, names: Sequence[str]) -> dict[str, dict[str, Any]]:
    """By method its settings that are not those of the model's recipe, because of `--set`, `--targets` or `--recipe`."""
    steps, plain = planner.steps, planner.as_usual()
    found: dict[str, dict[str, Any]] = {}
    for name in names:
        usual = plain.config(name, steps)
        own = {k: v for k, v in planner.config(name, steps).items() if v != usual.get(k)}
        found |= {name: own} if own else {}
    return found


def declare(folder: Path, search: Search) -> bool:
    """Writes a tuning down before its first trial; whether it was new."""
    there = _read(folder)
    new = search.hash not in there["tunings"]
    kept = there["tunings"].get(search.hash, {"declared": search.declared})
    write(folder / FILE, {**there, "latest": search.hash, "tunings": {**there["tunings"], search.hash: kept}})
    return new


def conclude(folder: Path, search: Search, winners: Mapping[str, Trial | None]) -> None:
    """Adds what a finished tuning found."""
    there = _read(folder)
    found = {
        name: {
            "lr": trial.cell.lr,
            "settings": dict(trial.cell.changes),
            "version": trial.runs[0].method.version,
            "keys": [run.key for run in trial.runs],
        }
        for name, trial in winners.items()
        if trial is not None
    }
    ends = {"low": search.low, "high": search.high, "wider": search.wider}
    kept = {"declared": search.declared, "searched": ends, "winners": found}
    write(folder / FILE, {**there, "tunings": {**there["tunings"], search.hash: kept}})


def winners(folder: Path, planned: Run, planner: Planner, names: Sequence[str], what: str) -> dict[str, Winner]:
    """What the latest tuning in `folder` found.

    Args:
        folder: of the tuning.
        planned: one of the runs that are to use it.
        planner: of these runs.
        names: methods that need it.
        what: the command that makes one.

    Raises:
        ValueError: there is none, it is not finished, was made under other conditions, or found nothing for a method.
    """
    there = _read(folder)
    latest = there["latest"]
    if latest is None:
        raise ValueError(f"--tuned: nothing was tuned yet: `{what}` does it")
    found = there["tunings"][latest]
    if "winners" not in found:
        raise ValueError(f"--tuned: tuning {latest} is not finished: `{what}` goes on with it")
    again = f"tune anew with `{what}` and the same options"
    data = found["declared"]["under"]["data"]
    if data.get("aside") and not data.get("divided"):
        raise ValueError(f"--tuned: tuning {latest}, of an older version, chose by some of what runs report: {again}")
    here, then = ({**each, "data": _whole(each["data"])} for each in (under(planned), found["declared"]["under"]))
    # Where data vary with the seed, those of the tuning are one draw of many; how often one looks for the best is no condition.
    free = {"select_every", *(("train_sha256", "tune", "heldout") if planned.data.varies else ())}
    for part in here:
        for name in sorted((here[part].keys() | then[part].keys()) - free):
            was, now = (values[part].get(name, UNSAID.get(name)) for values in (then, here))
            if was != now:
                raise ValueError(
                    f"--tuned: tuning {latest} was made with {part} {name}={was}, here it is {now}: {again}"
                )
    lacking = [name for name in names if name not in found["winners"]]
    if lacking:
        raise ValueError(
            f"--tuned: tuning {latest} found nothing for {', '.join(lacking)}: `{what}` with these methods"
        )
    for name, setting, _ in planner.request.settings:
        if setting in found["declared"]["spaces"].get(name, {"spans": {}})["spans"]:
            raise ValueError(
                f"--set {name}.{setting}: tuning {latest} searched it: leave it out, or {again}, --set among them"
            )
    asked, fixed = asked_for(planner, names), found["declared"].get("asked", {})
    for name in names:
        was, now = (values.get(name, {}) for values in (fixed, asked))
        if was != now:
            raise ValueError(
                f"--tuned: tuning {latest} was made with {_told(name, was)}, here {_told(name, now)}: {again}"
            )
        version = methods.find(name).version
        if found["winners"][name].get("version", version) != version:
            raise ValueError(f"--tuned: tuning {latest} is of another version of {name}: {again}")
    return {name: Winner(values["lr"], dict(values["settings"]), latest) for name, values in found["winners"].items()}


def _whole(data: Mapping[str, Any]) -> dict[str, Any]:
    """What was held out, however many of it are looked at: no condition, since an example is in the same part all the same."""
    found = {name: value for name, value in data.items() if name not in ("aside", "divided")}
    return found | {"heldout": data.get("aside") or data["heldout"], "tune": bool(data.get("tune"))}


def _told(name: str, settings: Mapping[str, Any]) -> str:
    return ", ".join(f"{name}.{k}={v}" for k, v in settings.items()) or f"{name} as its recipe has it"


def _read(folder: Path) -> dict[str, Any]:
    path = folder / FILE

    def unchanged(tunings: dict[str, Any]) -> None:
        for name, kept in tunings.items():
            if digest(kept["declared"]) != name:
                raise ValueError(
                    f"{path}: tuning {name} was changed after it was declared: move the file away and tune anew"
                )

    there = read(path, "tunings", "move it away and tune anew", unchanged)
    return {"schema": SCHEMA, "latest": None, "tunings": {}} if there is None else there
