"""Which runs of a folder may be seen yet, and how often claims about them were looked at.

`analysis.json` names runs in batches: those of the first declaration, and whatever was asked for later. A look is at all runs
of a batch at once; a batch that was declared while runs of the one before were missing belongs to that one's look, since nobody
can have looked. Until it is whole the first look decides no claim, and the runs of a later one are not shown. Imports nothing
heavy.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from smt_bench.records.declared import SCHEMA, read
from smt_bench.records.runs import digest, nameless, seedless
from smt_bench.records.store import Record

FILE = "analysis.json"


@dataclass(frozen=True)
class Look:
    """Runs that are seen for the first time together.

    Attributes:
        batches: as `analysis.json` names them; the first one of all has "declared", others "seeds".
        keys: of their runs.
        missing: how many of these have no record.
    """

    batches: tuple[Mapping[str, Any], ...]
    keys: tuple[str, ...]
    missing: int

    def __str__(self) -> str:
        """E.g. "26 runs (seeds 3, 4)", of what was not declared first."""
        later = [batch for batch in self.batches if "declared" not in batch]
        count, seeds = sum(len(b["keys"]) for b in later), sorted({seed for b in later for seed in b["seeds"]})
        told = f"{count} run{'s' if count != 1 else ''}"
        return f"{told} (seed{'s' if len(seeds) != 1 else ''} {', '.join(map(str, seeds))})" if seeds else told


def analyses(folder: Path) -> dict[str, Any]:
    """What was declared in a folder, by setting, with the file's schema.

    Raises:
        ValueError: the file is damaged, or a newer version wrote it.
    """
    there = read(folder / FILE, "analyses", "move it away, `run` writes another", _check)
    return {"schema": SCHEMA, "analyses": {}} if there is None else there


def _check(found: Mapping[str, Any]) -> None:
    for kept in found.values():
        assert isinstance(kept["sha256"], str) and isinstance(kept["runs"], int) and kept["finished_before"] >= 0
        assert isinstance(kept["declared"]["seeds"], list) and isinstance(kept.get("keys", []), list)
        for batch in kept.get("later", []):
            assert (
                isinstance(batch["sha256"], str) and isinstance(batch["joins"], bool) and batch["finished_before"] >= 0
            )
            assert isinstance(batch["seeds"], list) and isinstance(batch["keys"], list)


def looks(kept: Mapping[str, Any], listed: Sequence[str], there: Callable[[str], bool]) -> list[Look]:
    """The looks at one setting's runs, in order.

    Args:
        kept: its entry of `analysis.json`.
        listed: keys that the folder's index lists.
        there: whether a key has a record.
    """
    # Older files do not name the runs: they were the first that the index lists.
    first = {**kept, "keys": kept.get("keys", list(listed[: kept["runs"]]))}
    batches = [first, *kept.get("later", [])]
    named = {key for batch in batches for key in batch["keys"]}
    groups: list[list[Mapping[str, Any]]] = []
    for batch in batches:
        if batch.get("joins"):
            groups[-1].append(batch)
        else:
            groups.append([batch])
    # Older versions declared nothing that came later; what nobody made is not waited for.
    if rest := [key for key in listed if key not in named and there(key)]:
        groups.insert(1, [{"seeds": [], "keys": rest}])
    made = []
    for group in groups:
        keys = tuple(dict.fromkeys(key for batch in group for key in batch["keys"]))
        made.append(Look(tuple(group), keys, sum(not there(key) for key in keys)))
    return made


def hidden(found: Iterable[Look]) -> set[str]:
    """Keys of runs that are not shown yet."""
    later = list(found)[1:]
    return {key for look in later if look.missing for key in look.keys}


def times(found: Sequence[Look], records: Mapping[str, Record]) -> int:
    """How often claims on these runs may have been decided: once, and again whenever seeds were added to a cell that had two.

    One seed never decides, and a new cell is nobody's second look. A cell that is done again at another rate, or by a newer
    version of its method, is the old one: tables show the newest.

    Args:
        found: the looks; those that are not whole do not count.
        records: by key.
    """
    whole = [look for look in found if not look.missing]
    if len(whole) < 2:
        return 1
    count, cells = 1, dict[str, set[int]]()
    for look in whole:
        new: dict[str, set[int]] = {}
        for key in look.keys:
            asked = records[key]["run"]
            new.setdefault(_cell(asked), set()).add(asked["seed"])
        count += any(len(cells.get(cell, ())) > 1 for cell in new)
        for cell, seeds in new.items():
            cells.setdefault(cell, set()).update(seeds)
    return count


def _cell(asked: Mapping[str, Any]) -> str:
    values = seedless(nameless(dict(asked)))
    train = {name: value for name, value in values["train"].items() if name not in ("lr", "weight_decay", "version")}
    method = {name: value for name, value in values["method"].items() if name != "version"}
    return digest({**values, "train": train, "method": method})


def may_be_seen(
    folder: Path, setting: str | None, listed: Sequence[str], there: Callable[[str], bool]
) -> tuple[list[str], int]:
    """The listed keys without those that wait for others, and how many runs of the first look are missing.

    Raises:
        ValueError: the file is damaged, or a newer version wrote it.
    """
    kept = analyses(folder)["analyses"].get(setting or "")
    if not kept:
        return list(listed), 0
    found = looks(kept, listed, there)
    waits = hidden(found)
    return [key for key in listed if key not in waits], found[0].missing
