"""Records by the thousand: what tables read is kept, as small as it gets; the rest is read again when it is asked for.

A record of real size takes 200 kB of memory as JSON gives it, most of it in columns of a value per example or step.
"""

from __future__ import annotations

import marshal
from array import array
from collections.abc import Callable, ItemsView, Iterator, KeysView, ValuesView
from sys import intern
from typing import Any

from smt_bench.records.trust import Record

PARTS = ("training", "method", "probes", "memory_bytes", "seconds")  # of a record, left in its file
COLUMNS = ("gold", "prediction", "parsed", "loglik")  # of a task's examples, likewise
SHARED = ("environment", "capacity", "overlap")  # alike in many records
Pool = dict[bytes, Any]


class Partial(dict[str, Any]):
    """A dict some of whose entries are still in a file; to whoever reads it, it is the whole.

    Args:
        here: the entries that are here.
        left: names of the others.
        source: a function that reads a record, its key, and the way down from there.
    """

    __slots__ = ("_left", "_source")

    def __init__(self, here: dict[str, Any], left: tuple[str, ...], source: tuple[Any, ...]) -> None:
        super().__init__(here)
        self._left, self._source = left, source

    def __missing__(self, name: str) -> Any:
        if name not in self._left:
            raise KeyError(name)
        read, key, *way = self._source
        whole = read(key)
        for part in way:
            whole = whole[part]
        self[name] = whole[name]
        return self[name]

    def __iter__(self) -> Iterator[str]:
        return iter([*super().keys(), *(name for name in self._left if not super(Partial, self).__contains__(name))])

    def __contains__(self, name: object) -> bool:
        return super().__contains__(name) or name in self._left

    def __len__(self) -> int:
        return len(list(iter(self)))

    def __eq__(self, other: object) -> bool:
        return dict(self) == other

    def __or__(self, other: Any) -> Any:
        """A copy with other entries; what is in the file stays there, where `{**record, ...}` would read it."""
        return Partial({**dict(super().items()), **other}, self._left, self._source)

    def get(self, name: str, default: Any = None) -> Any:
        """As of any dict; so are the following."""
        return self[name] if name in self else default  # noqa: SIM401

    def keys(self) -> Any:  # noqa: D102
        return KeysView(self)

    def values(self) -> Any:  # noqa: D102
        return ValuesView(self)

    def items(self) -> Any:  # noqa: D102
        return ItemsView(self)


def shrunk(record: Record, pool: Pool) -> Record:
    """A record's parts that tables read, for `whole`.

    Args:
        record: as read.
        pool: what this record may share with others that were given the same pool.
    """

    def shared(value: Any) -> Any:
        return pool.setdefault(marshal.dumps(value, 2), value)

    def named(values: dict[str, Any]) -> dict[str, Any]:  # JSON gives every record words of its own
        return {intern(name): value for name, value in values.items()}

    small = named({name: value for name, value in record.items() if name not in PARTS})
    small["left"] = tuple(name for name in PARTS if name in record)
    small["status"] = intern(record["status"])
    small["run"] = named({name: shared(value) for name, value in record["run"].items()})
    small |= {name: shared(record[name]) for name in SHARED if name in record}
    if "heldout" in record:
        logliks, tokens = record["heldout"]["examples"]["loglik"], record["heldout"]["examples"]["tokens"]
        examples = {"loglik": logliks if None in logliks else array("d", logliks), "tokens": shared(tokens)}
        for name in ("cluster", "tune"):
            if name in record["heldout"]["examples"]:
                examples[name] = shared(record["heldout"]["examples"][name])
        small["heldout"] = {"nll": record["heldout"]["nll"], "examples": examples}
    if "evaluation" in record:
        small["evaluation"] = named({task: named(result) for task, result in record["evaluation"].items()})
        for result in small["evaluation"].values():
            result["protocol"] = intern(result["protocol"])
            columns = result["examples"]
            result["examples"] = {"correct": array("b", columns["correct"])}
            for name in ("confidence", "brier", "score"):
                if name in columns:
                    result["examples"][name] = columns[name] if None in columns[name] else array("d", columns[name])
            if "cluster" in columns:
                result["examples"]["cluster"] = shared(columns["cluster"])
    return small


def whole(small: Record, read: Callable[[str], Record]) -> Record:
    """A record that reads like any other, from its small parts; `read` gives all of it by key."""
    key = small["key"]
    for task, result in small.get("evaluation", {}).items():
        result["examples"] = Partial(result["examples"], COLUMNS, (read, key, "evaluation", task, "examples"))
    left = small.pop("left")
    return Partial(small, left, (read, key))
