"""Tensors without contents: a model of any size is built, attached to and trained for a step in no memory.

Parameters are fake tensors (`torch._subclasses.fake_tensor`): they have shape, dtype and storage size, no values. Integers and
scalars that come from no parameter (positions, random draws, counters) stay real while small, so that code which looks at
values (a choice of blocks, a mask, Adam's step) runs as in training. What cannot be known without values is fixed so:

    - random draws too large to be made are taken to be distinct (`unique` drops nothing);
    - a float in place of a real tensor's value changes nothing (in-place operations of fake on real tensors).
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator
from typing import Any

import torch
from torch import nn
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode

from smt_bench.measuring.live_tensors import DEVICE
from smt_bench.methods import products
from smt_bench.methods.nf4 import Nf4
from smt_bench.plan.shapes import Shapes

aten = torch.ops.aten
LIMIT = 1 << 20  # numbers; larger tensors have no values
DRAWN = 1 << 16  # the same of numbers drawn: values that only `unique` looks at, or an order


def _tensors(values: Iterable[Any]) -> Iterator[torch.Tensor]:
    for value in values:
        if isinstance(value, torch.Tensor):
            yield value
        elif isinstance(value, (list, tuple)):
            yield from _tensors(value)


def _is_fake(tensor: torch.Tensor) -> bool:
    return isinstance(tensor, FakeTensor)


class Fakes(TorchDispatchMode):
    """Lets fake and real tensors work together, and decides which new ones are fake."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.mode = FakeTensorMode(allow_non_fake_inputs=True)
        self._shapes = Shapes(self.mode)

    def empty(self, shape: Iterable[int], dtype: torch.dtype) -> torch.Tensor:
        """A fake CPU tensor."""
        with self.mode:
            return torch.empty(tuple(shape), dtype=dtype, device="cpu")

    def fill(self, model: nn.Module, dtype: torch.dtype) -> None:
        """Gives a model built on "meta" fake parameters of `dtype`, and fake buffers of their own; ties stay ties."""
        made: dict[int, nn.Parameter] = {}
        for module in model.modules():
            for name, parameter in module._parameters.items():
                if parameter is not None:
                    if id(parameter) not in made:
                        made[id(parameter)] = nn.Parameter(self.empty(parameter.shape, dtype))
                    module._parameters[name] = made[id(parameter)]
            for name, buffer in module._buffers.items():
                if buffer is not None:
                    module._buffers[name] = self.empty(buffer.shape, buffer.dtype)

    def __enter__(self) -> Fakes:
        """Also lets `Module.to` work: torch refuses to swap fake parameters."""
        self._apply, nn.Module._apply = nn.Module._apply, _apply  # type: ignore[method-assign]
        super().__enter__()  # type: ignore[no-untyped-call]
        return self

    def __exit__(self, *failure: Any) -> None:
        """Puts `Module.to` back."""
        super().__exit__(*failure)  # type: ignore[no-untyped-call]
        nn.Module._apply = self._apply  # type: ignore[method-assign]

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        """As in `measuring.live_tensors`."""
        return False

    def __torch_dispatch__(self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None) -> Any:
        """Runs the operation with or without values."""
        if func is DEVICE and _is_fake(args[0]):
            return args[0].fake_device
        kwargs = kwargs or {}
        inputs = [*_tensors(args), *_tensors(kwargs.values())]
        if any(isinstance(tensor, Nf4) for tensor in inputs):
            return NotImplemented  # it makes the matrix whole and comes again, with that
        if not inputs:
            with self.mode:
                shaped = func(*args, **kwargs)
            number = isinstance(shaped, torch.Tensor) and (shaped.ndim == 0 or not shaped.is_floating_point())
            most = DRAWN if func._overloadpacket in (aten.randint, aten.randperm) else LIMIT
            return func(*args, **kwargs) if number and shaped.numel() <= most else shaped
        if not any(map(_is_fake, inputs)):
            return func(*args, **kwargs)
        packet = func._overloadpacket
        if packet is aten._unique2:
            return _distinct(*args, **kwargs)
        if packet in (aten.index, aten.index_put, aten.index_put_, aten._unsafe_index_put, aten._index_put_impl_):
            args = (args[0], [part for index in args[1] for part in _positions(index)], *args[2:])
        changed = _changed(func, args, kwargs)
        if changed and not any(map(_is_fake, changed)):
            return changed[0] if len(func._schema.returns) == 1 else tuple(changed)
        return self._shapes.run(func, args, kwargs, lambda: func(*args, **kwargs))


def _apply(module: nn.Module, convert: Any, recurse: bool = True) -> nn.Module:
    """`Module._apply` by replacement: a converted parameter is a new one."""
    if recurse:
        for child in module.children():
            _apply(child, convert)
    with torch.no_grad():
        for name, parameter in module._parameters.items():
            if parameter is not None and (new := convert(parameter)) is not parameter:
                module._parameters[name] = nn.Parameter(new, parameter.requires_grad)
        for name, buffer in module._buffers.items():
            module._buffers[name] = None if buffer is None else convert(buffer)
    return module


def _changed(func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> list[torch.Tensor]:
    """The tensors that an in-place operation writes to."""
    found: list[torch.Tensor] = []
    if func._schema.is_mutable:
        for position, argument in enumerate(func._schema.arguments):
            if argument.alias_info is not None and argument.alias_info.is_write:
                value = args[position] if position < len(args) else kwargs.get(argument.name)
                found += _tensors([value])
    return found


def _positions(index: torch.Tensor | None) -> list[torch.Tensor | None]:
    """A mask as numbers, one tensor per dimension: how many positions it has can be known of a real one only."""
    if index is None or index.dtype != torch.bool or _is_fake(index):
        return [index]
    return list(index.nonzero().unbind(1))


def _distinct(tensor: torch.Tensor, _sorted: bool = True, inverse: bool = False, counts: bool = False) -> Any:
    """`unique` of values that were never drawn: all of them."""
    flat = tensor.reshape(-1).clone()
    return flat, torch.empty_like(tensor if inverse else flat[:0]), torch.empty_like(flat if counts else flat[:0])


@contextlib.contextmanager
def gpu_kernels() -> Iterator[None]:
    """What CUDA does differently from the CPU where it matters for memory: attention in one kernel, masks of one byte.

    `F.scaled_dot_product_attention` becomes the flash kernel (nothing of size positions x positions is saved), `F.dropout`
    the fused one (its mask is boolean; the CPU keeps one in the input's dtype). Products of bf16 come out in float32 where a
    method wants them so. By replacement: a mode would be off in the backward pass, where checkpointing computes again.
    """
    names = {"scaled_dot_product_attention": _flash, "dropout": _dropout}
    before = {name: getattr(nn.functional, name) for name in names}
    for name, function in names.items():
        setattr(nn.functional, name, function)
    rounding = set(products.ROUNDING)
    products.ROUNDING.clear()
    try:
        yield
    finally:
        products.ROUNDING.update(rounding)
        for name, function in before.items():
            setattr(nn.functional, name, function)


def _flash(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, attn_mask: Any = None, dropout_p: float = 0.0,
    is_causal: bool = False, scale: float | None = None, enable_gqa: bool = False,
) -> torch.Tensor:  # fmt: skip
    # Without padding the only mask is the causal one, which the kernel applies by itself.
    if enable_gqa:
        key, value = (t.repeat_interleave(query.shape[1] // t.shape[1], dim=1) for t in (key, value))
    causal = is_causal or attn_mask is not None
    output: torch.Tensor = aten._scaled_dot_product_flash_attention(query, key, value, dropout_p, causal, scale=scale)[
        0
    ]
    return output


def _dropout(tensor: torch.Tensor, p: float = 0.5, training: bool = True, inplace: bool = False) -> torch.Tensor:
    return torch.native_dropout(tensor, p, True)[0] if training and p > 0 else tensor
