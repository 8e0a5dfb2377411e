"""Which rows and columns of a block's matrices belong to one channel, and which channels train.

    MLP         channel c is row c of up and gate, and column c of down
    attention   channel c is row c of V, and the columns of O that its values arrive at: one for each query head that reads its
    head

With grouped queries head j of V is read by g query heads, which follow each other: channel d of it arrives at columns (j g + m)
h + d of O, m from 0 to g - 1, h numbers to a head. Only the targeted matrices count; one without its partner has channels of its
own.

Shapes: C channels of a structure, h numbers of a head.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import torch

from smt_bench.methods.base import Shapes
from smt_bench.methods.modules import targeted
from smt_bench.methods.roles import role
from smt_bench.methods.spiel.selection import random_indices

ROWS = {"v_proj": "attention", "up_proj": "mlp", "gate_proj": "mlp"}
COLUMNS = {"o_proj": "attention", "down_proj": "mlp"}
_BLOCK = re.compile(r".*\.\d+(?=\.)")  # path of the innermost numbered module


@dataclass(frozen=True)
class Structure:
    """Matrices of one block that share their channels.

    Attributes:
        kind: "attention" or "mlp".
        channels: C.
        rows: layers of which a channel is a row.
        columns: the layer of which it is a column, or `repeats` columns; None where that is no target.
        repeats: g.
        cost: numbers of one channel.
    """

    kind: str
    channels: int
    rows: tuple[str, ...]
    columns: str | None
    repeats: int
    cost: int

    def columns_of(self, channels: Iterable[int], head: int) -> list[int]:
        """The columns that channels arrive at, ascending; `head` is h."""
        g = self.repeats
        return sorted((c // head * g + m) * head + c % head for c in channels for m in range(g))


def structures(shapes: Shapes, targets: Iterable[str]) -> list[Structure]:
    """The structures of all targets, in model order.

    Raises:
        ValueError: a target that is in none, or whose sizes do not go together.
    """
    matrices = targeted(shapes, targets)
    odd = sorted({role(name) for name in matrices} - {*ROWS, *COLUMNS})
    if odd:
        raise ValueError(f"targets: {', '.join(odd)} has no coupled rows or columns: choose from {_known()}")
    readers = [name for name in matrices if role(name) in COLUMNS]
    partners: dict[str, list[str]] = {}  # by the layer that reads the channels, or by kind and block where none does
    for name in matrices:
        kind = ROWS.get(role(name))
        if kind is not None:
            same = [r for r in readers if COLUMNS[role(r)] == kind and _block(r) == _block(name)]
            near = max(same, key=lambda r, n=name: len(_common(r, n)), default=f"{kind} of {_block(name)}")  # type: ignore[misc]
            partners.setdefault(near, []).append(name)
        else:
            partners.setdefault(name, [])
    return [_structure(near, rows, matrices) for near, rows in partners.items()]


def _structure(near: str, rows: Sequence[str], matrices: Mapping[str, tuple[int, int]]) -> Structure:
    reads = near in matrices
    heights = {matrices[name][0] for name in rows} or {matrices[near][1]}
    channels = min(heights)
    kind = COLUMNS[role(near)] if reads else ROWS[role(rows[0])]
    repeats, left = divmod(matrices[near][1], channels) if reads else (1, 0)
    if len(heights) > 1 or left or (kind == "mlp" and repeats > 1):
        sizes = ", ".join(f"{name} {matrices[name]}" for name in (*rows, *([near] if reads else [])))
        raise ValueError(f"targets: rows and columns do not go together in {sizes}: name one of them only")
    cost = sum(matrices[name][1] for name in rows) + (repeats * matrices[near][0] if reads else 0)
    return Structure(kind, channels, tuple(rows), near if reads else None, repeats, cost)


def budgets(found: Sequence[Structure], numbers: int) -> dict[tuple[str, int], int]:
    """How many channels of each kind and cost train: the same share of all, as near to so many numbers as whole channels allow.

    Raises:
        ValueError: there are fewer numbers.
    """
    held: dict[tuple[str, int], int] = {}
    for one in found:
        held[one.kind, one.cost] = held.get((one.kind, one.cost), 0) + one.channels
    total = sum(count * cost for (_, cost), count in held.items())
    assert 0 < numbers <= total
    counts, left, rest = {}, numbers, total
    for kind, count in sorted(held.items(), key=lambda item: -item[0][1]):  # the cheapest evens out
        cost = kind[1]
        counts[kind] = min(count, round(left * count / rest))
        left, rest = max(0, left - counts[kind] * cost), rest - count * cost
    if not any(counts.values()):
        counts[min(held, key=lambda kind: kind[1])] = 1
    return counts


def draw(found: Sequence[Structure], counts: Mapping[tuple[str, int], int], head: int, seed: int) -> list[list[int]]:
    """The channels of each structure, at random: single ones of an MLP, heads of an attention, of which the last may be cut.

    Args:
        found: all structures.
        counts: channels per kind and cost.
        head: h.
        seed: of the draw.
    """
    chosen: list[list[int]] = [[] for _ in found]
    for number, (kind, count) in enumerate(counts.items()):
        own = [place for place, one in enumerate(found) if (one.kind, one.cost) == kind]
        size = head if kind[0] == "attention" else 1
        units = [found[place].channels // size for place in own]
        generator = torch.Generator().manual_seed(seed * 1_000_003 + number)
        drawn = random_indices(sum(units), -(-count // size), generator)
        cut = int(torch.randint(len(drawn), (1,), generator=generator)) if count % size else -1
        for n, unit in enumerate(drawn.tolist()):
            place = 0
            while unit >= units[place]:
                unit, place = unit - units[place], place + 1
            width = count % size if n == cut else size
            chosen[own[place]] += range(unit * size, unit * size + width)
    return chosen


def _known() -> str:
    return ", ".join((*ROWS, *COLUMNS))


def _block(path: str) -> str:
    found = _BLOCK.match(path)
    return found[0] if found else ""


def _common(first: str, second: str) -> str:
    return os.path.commonprefix([first, second])
