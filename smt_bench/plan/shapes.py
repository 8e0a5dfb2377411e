"""Operations on fake tensors, each worked out once: afterwards its result is known from the shapes that go in.

torch works out what an operation gives for every call again (or finds it in a cache whose keys cost as much); a step of a large
model has tens of thousands of calls and some hundreds of different ones.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode

_UNKNOWN = {torch.Tag.data_dependent_output, torch.Tag.dynamic_output_shape, torch.Tag.inplace_view}
_known: dict[tuple[Any, ...], Any] = {}
Recipe = tuple[int | None, torch.dtype | None, tuple[int, ...], tuple[int, ...], int]


class Shapes:
    """Results of operations whose tensors are all fake ones of one mode, on the CPU.

    Args:
        mode: that of the tensors.
    """

    def __init__(self, mode: FakeTensorMode) -> None:
        self._cpu = torch.device("cpu")
        # What torch's own constructor writes into each: it takes longer than the rest together.
        self._fields = dict(vars(FakeTensor(mode, torch.empty(0, device="meta"), self._cpu)))

    def run(self, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any], slow: Callable[[], Any]) -> Any:
        """The operation's result.

        Args:
            func: the operation.
            args: its arguments.
            kwargs: likewise.
            slow: gives the result in torch's own way.
        """
        key: list[Any] = [func, torch.get_default_dtype()]
        given: list[FakeTensor] = []
        if not (_signed(args, key, given) and (not kwargs or _signed(_flat(kwargs), key, given))):
            return slow()
        asked = tuple(key)
        known = _known.get(asked)
        if known is None:
            out = slow()
            _known[asked] = _recipe(func, out, given)
            return out
        if known is False:
            return slow()
        kind, recipes = known
        if kind is None:
            return self._made(recipes[0], given)
        return kind(self._made(recipe, given) for recipe in recipes)

    def _made(self, recipe: Recipe, given: list[FakeTensor]) -> Any:
        which, dtype, size, stride, offset = recipe
        if dtype is None:
            return None if which is None else given[which]
        made = torch.empty_strided(size, stride, dtype=dtype, device="meta")
        if which is not None:
            made.set_(given[which].untyped_storage(), offset, size, stride)
        fake = torch.Tensor._make_subclass(
            FakeTensor, made, False, dispatch_device=True, device_for_backend_keys=self._cpu
        )
        torch._C._set_throw_on_mutable_data_ptr(fake)
        fake.__dict__.update(self._fields)
        return fake


def _flat(kwargs: dict[str, Any]) -> Iterable[Any]:
    for name, value in kwargs.items():
        yield name
        yield value


def _signed(values: Iterable[Any], key: list[Any], given: list[FakeTensor]) -> bool:
    """Adds to a key what a result can depend on; whether that is all of it."""
    for value in values:
        if isinstance(value, FakeTensor):
            key.append((value.dtype, value.shape, value.stride(), value.storage_offset()))
            given.append(value)
        elif isinstance(value, (list, tuple)):
            key.append(len(value))
            if not _signed(value, key, given):
                return False
        elif isinstance(value, torch.Tensor):
            return False
        else:
            key.append((type(value), value))
    return bool(given)


def _recipe(func: Any, out: Any, given: list[FakeTensor]) -> Any:
    """How to make such a result again; False: it cannot be."""
    if _UNKNOWN & set(func.tags) or func.namespace != "aten":
        return False
    several = isinstance(out, (list, tuple))
    if several and type(out) not in (list, tuple):
        return False
    recipes = [_of(one, given) for one in (out if several else [out])]
    return False if None in recipes else (type(out) if several else None, recipes)


def _of(out: Any, given: list[FakeTensor]) -> Recipe | None:
    if out is None:
        return None, None, (), (), 0
    if type(out) is not FakeTensor or out.layout != torch.strided or out.is_conj() or out.is_neg():
        return None
    same = [number for number, tensor in enumerate(given) if tensor is out]
    if same:
        return same[0], None, (), (), 0
    storage = out.untyped_storage()._cdata
    of = next((number for number, tensor in enumerate(given) if tensor.untyped_storage()._cdata == storage), None)
    shape = tuple(out.shape), out.stride(), out.storage_offset()
    if of is None:
        alone = torch.empty_strided(shape[0], shape[1], dtype=out.dtype, device="meta")
        if shape[2] or alone.untyped_storage().nbytes() != out.untyped_storage().nbytes():
            return None
    return of, out.dtype, shape[0], shape[1], int(shape[2])
