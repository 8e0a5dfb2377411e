"""Dry runs of a model of equal layers, from those of 2, 3 and 4 of its layers: exactly what all layers would show, or nothing.

A history (`measuring.live_tensors`) of 3 layers is that of 2 with pieces put in, one for each loop that goes over the layers:
forward, backward, clipping, the optimizer. That of 4 has the same pieces twice. Where this is so, and where every number that
is not the same in all three grows by the same amount each time (a list of all norms, say), the history of any number of layers
follows, and with it each peak, wherever it lies. Where it is not, there is no answer, and the whole model has to run.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

import torch

from smt_bench.measuring.account import Account
from smt_bench.measuring.accountant import phases
from smt_bench.measuring.live_tensors import MARK, History
from smt_bench.methods.base import Method
from smt_bench.methods.modules import total_parameters
from smt_bench.models import build
from smt_bench.models.repeats import equal_layers
from smt_bench.plan.dry import DryRun, Workload, dry_run
from smt_bench.plan.gpu.roofline import Operations

SIZES = (2, 3, 4)  # layers: a first, a last, and none to two between them
WORTH = 16  # layers that a model must have: below, running it takes no longer
Tide = tuple[tuple[str, int], ...]
Make = Callable[[float | None], Method]


class Unlike(Exception):
    """The three runs do not differ by whole layers."""


def from_shorter(workload: Workload, make: Make, fraction: float | None) -> DryRun | None:
    """The dry run of a model, from those of shorter ones; None where it has to run itself.

    That is so for methods with a warm-up, for those whose capacity is not the same in every layer (blocks and deltas are spread
    over all of them), and for models whose layers are not alike.

    Args:
        workload: of the whole model.
        make: a fresh method at a fraction.
        fraction: of the whole model.
    """
    if make(fraction).warmup_steps or (layers := equal_layers(workload.build())) is None or layers < WORTH:
        return None
    try:
        shares = [_share(workload, make, fraction, layers, size) for size in SIZES]
        runs = [dry_run(replace(workload, layers=size), make(share), {}, "") for size, share in zip(SIZES, shares)]
        return _whole(runs, layers - SIZES[-1])
    except Unlike:
        return None


def _share(workload: Workload, make: Make, fraction: float | None, layers: int, size: int) -> float | None:
    """What a method has to be asked for in the shorter model, so that each layer has what it has in the whole one."""
    if fraction is None:
        return None
    whole = make(fraction).capacity(build.shapes(workload.model, workload.layers))
    shapes = build.shapes(workload.model, size)
    share = whole.trainable * size / layers / total_parameters(shapes)
    try:
        found = make(share).capacity(shapes)
    except ValueError:
        raise Unlike from None
    if found.units != whole.units or found.trainable * layers != whole.trainable * size:
        raise Unlike
    return share


def _whole(runs: Sequence[DryRun], more: int) -> DryRun:
    """Of three runs, each with one layer more than the one before, that with `more` layers more than the last."""
    made = Account(
        [
            phase
            for stage in runs[-1].histories
            for phase in phases(stage, longer([run.histories[stage] for run in runs], more))
        ],
        {stage: _numbers([run.account.flops[stage] for run in runs], more) for stage in runs[-1].account.flops},
        _numbers([run.account.trained for run in runs], more),
    )
    operations = {stage: counted([run.operations[stage] for run in runs], more) for stage in runs[-1].operations}
    return DryRun(made, operations, runs[-1].warmup_steps, _numbers([run.saved for run in runs], more))


def _grown(three: Sequence[int], more: int) -> int:
    first, second, third = three
    if third - second != second - first:
        raise Unlike
    return third + more * (third - second)


def _numbers(three: Sequence[Mapping[str, int]], more: int) -> dict[str, int]:
    return {name: _grown([numbers[name] for numbers in three], more) for name in three[-1]}


def longer(three: Sequence[History], more: int) -> History:
    """The history that follows from three.

    Args:
        three: each with one layer more than the one before.
        more: layers more than the last one has.

    Raises:
        Unlike: no pieces were put in, or not the same ones.
    """
    a, b, c = map(_tides, three)
    found: list[Tide] = []
    i = j = k = 0
    while i < len(a) or j < len(b) or k < len(c):
        if _alike(a, b, c, i, j, k):
            sizes = zip(a[i], b[j], c[k])
            found.append(tuple((category, _grown([x, y, z], more)) for (category, x), (_, y), (_, z) in sizes))
            i, j, k = i + 1, j + 1, k + 1
            continue
        length = _put_in(a, b, c, i, j, k)
        found += b[j : j + length] * (2 + more)
        j, k = j + length, k + 2 * length
    return [event for tide in found for event in tide]


def _tides(history: History) -> list[Tide]:
    """The events between two turns from coming to going together, by category.

    Within them order changes no peak; and it is not always the same, where much goes at once.
    """
    found: list[Tide] = []
    of: tuple[bool, str] | None = None
    now: dict[str, int] = {}
    for category, size in [*history, (MARK, 0)]:
        kind = (size > 0, category if category.startswith(MARK) else "")
        if kind != of or kind[1]:
            if of is not None:
                found.append(tuple(sorted(now.items())))
            of, now = kind, {}
        now[category] = now.get(category, 0) + size
    return found


def _alike(a: list[Tide], b: list[Tide], c: list[Tide], i: int, j: int, k: int) -> bool:
    """Whether three tides are the same one: of the same categories, with sizes that grow evenly."""
    if i >= len(a) or j >= len(b) or k >= len(c):
        return False
    same = [name for name, _ in a[i]] == [name for name, _ in b[j]] == [name for name, _ in c[k]]
    return same and all(z - y == y - x and (x < 0) == (z < 0) for (_, x), (_, y), (_, z) in zip(a[i], b[j], c[k]))


def _put_in(a: list[Tide], b: list[Tide], c: list[Tide], i: int, j: int, k: int) -> int:
    """The length of the piece that stands once at `j`, twice at `k`, and after which all three go on alike."""
    end = i == len(a)
    for length in range(1, min(len(b) - j, (len(c) - k) // 2) + 1):
        after = j + length, k + 2 * length
        goes_on = after == (len(b), len(c)) if end else _alike(a, b, c, i, *after)
        if goes_on and b[j : after[0]] == c[k : k + length] == c[k + length : after[1]]:
            return length
    raise Unlike


def counted(three: Sequence[Operations], more: int) -> Operations:
    """The operations that follow from three: how often each occurs grows evenly, or, of one over all layers, how large it is."""
    smaller = [_odd(three, 0), _odd(three, 1), _odd(three, 2)]
    if len({len(odd) for odd in smaller}) > 1:
        raise Unlike
    sizes = {}
    for a, b, c in zip(*smaller):
        if not (a[:2] == b[:2] == c[:2] and three[0][a] == three[1][b] == three[2][c]):
            raise Unlike
        sizes[c] = (*c[:2], _grown([a[2], b[2], c[2]], more), _grown([a[3], b[3], c[3]], more))
    found: Operations = Counter()
    for kind in three[-1]:  # in their order: sums of seconds are rounded
        if kind in sizes:
            found[sizes[kind]] += three[-1][kind]
        else:
            found[kind] += _grown([numbers[kind] for numbers in three], more)
    return found


def _odd(three: Sequence[Operations], which: int) -> list[tuple[bool, torch.dtype, int, int]]:
    """The kinds of one run whose number does not grow evenly, in an order that sizes keep."""
    first, second, third = three
    odd = [k for k in three[which] if third[k] - second[k] != second[k] - first[k]]
    return sorted(odd, key=lambda kind: (kind[0], str(kind[1]), kind[2], kind[3]))
