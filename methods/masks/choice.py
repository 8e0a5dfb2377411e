"""The largest magnitudes in many matrices together, exactly, without sorting them or laying them side by side.

Floats of one sign stand in the order of their bits. So the count-th largest is found digit by digit, 16 bits at a time, by
counting how many scores have which digit: two passes over float32, four over float64. The result is the same on every device,
and among equal scores the earlier wins.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping

import torch
from torch._subclasses.fake_tensor import FakeTensor

from smt_bench.methods.modules import apportion

DIGIT = 16
_BITS = {torch.float32: (torch.int32, 32), torch.float64: (torch.int64, 64)}


class Made(Mapping[str, torch.Tensor]):
    """Scores that are made when they are asked for, since those of all matrices together would fill the memory.

    Args:
        names: of the matrices, in model order.
        make: a matrix's scores by its name.
    """

    def __init__(self, names: Iterable[str], make: Callable[[str], torch.Tensor]) -> None:
        self._names, self._make = tuple(names), make

    def __getitem__(self, name: str) -> torch.Tensor:
        return self._make(name)

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)


def largest(scores: Mapping[str, torch.Tensor], count: int) -> dict[str, torch.Tensor]:
    """Where the `count` scores of the largest magnitude are.

    Args:
        scores: matrix name -> its scores, float32 or float64, all alike; one is asked for at a time, and several times, so that a
            mapping may make them when they are.
        count: from 1 to as many as there are.

    Returns:
        Matrix name -> (D,) ascending positions in the flattened matrix, D summing up to `count`; without matrices that got none.

    Raises:
        ValueError: a score is not finite.
    """
    names = list(scores)
    first = scores[names[0]]
    if any(_without_values(scores[name]) for name in names):
        return _spread(scores, count)
    _check(scores)
    kind, bits = _BITS[first.dtype]
    threshold, equal = _count_th_largest(lambda: (_keys(scores[name], kind) for name in names), count, bits)
    found = {}
    for name in names:
        keys_n = _keys(scores[name], kind)
        ties = (keys_n == threshold).nonzero().squeeze(1)[:equal]
        equal -= len(ties)
        positions = torch.cat([(keys_n > threshold).nonzero().squeeze(1), ties]).sort().values
        if len(positions):
            found[name] = positions
    return found


def _keys(scores: torch.Tensor, kind: torch.dtype) -> torch.Tensor:
    # -0.0 has the sign's bit.
    return scores.detach().reshape(-1).abs().view(kind)


def _count_th_largest(all_keys: Callable[[], Iterator[torch.Tensor]], count: int, bits: int) -> tuple[int, int]:
    """The count-th largest key, and how many that equal it belong to the largest `count`."""
    prefix = 0
    for shift in range(bits - DIGIT, -1, -DIGIT):
        seen = torch.zeros(1 << DIGIT, dtype=torch.int64)
        for keys_n in all_keys():
            if shift < bits - DIGIT:
                keys_n = keys_n[keys_n >> (shift + DIGIT) == prefix]
            digits_n = (keys_n >> shift) & ((1 << DIGIT) - 1)
            seen += torch.bincount(digits_n, minlength=1 << DIGIT).cpu()
        above = seen.flip(0).cumsum(0)  # keys with this digit or a larger one
        place = int(torch.searchsorted(above, count))
        count -= int(above[place - 1]) if place else 0
        prefix = prefix << DIGIT | ((1 << DIGIT) - 1 - place)
    return prefix, count


def _check(scores: Mapping[str, torch.Tensor]) -> None:
    for name in scores:
        if not torch.isfinite(scores[name]).all():
            raise ValueError(f"scores of {name} are not finite: the warm-up diverged, lower the learning rate")


def _without_values(scores: torch.Tensor) -> bool:
    """Whether a plan is made: on tensors that have shapes and no numbers, or one number for a whole row."""
    return scores.is_meta or isinstance(scores, FakeTensor) or 0 in scores.stride()


def _spread(scores: Mapping[str, torch.Tensor], count: int) -> dict[str, torch.Tensor]:
    """Of every matrix its share, at even distances."""
    sizes = {name: scores[name].numel() for name in scores}
    shares = apportion(count, sizes)
    return {name: torch.arange(share) * (sizes[name] // share) for name, share in shares.items() if share}
