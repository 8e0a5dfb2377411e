"""Weights of four bits: NF4 with double quantization (QLoRA, Dettmers et al., 2023, section 3), by bitsandbytes.

    W = absmax[block] * CODE[c],   c: 4 bits per number, blocks of 64 numbers
    absmax = m + scale[group] * TABLE[a],   a: 8 bits per block, groups of 256 blocks, m: their mean

`Nf4` is a tensor that is (O, I) in the model's type to whoever reads it and holds the codes alone. Every product, forward or
backward, makes the whole matrix, uses it and drops it; autograd keeps the codes. It cannot be written to: a layer whose numbers
lie inside the matrix (SMT's blocks, SpIEL's deltas) says by `written_by` what it writes into each whole matrix that is made.

Bytes of a matrix of n numbers: n / 2 codes, n / 64 for `absmax`, n / 4096 for `scale`, 4 for `m`; TABLE is one for all of a
device. A dry run (fake tensors) makes the same tensors without values and needs no bitsandbytes.

Shapes: O outputs and I inputs of the matrix, B blocks, G groups.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any
from weakref import WeakMethod

import torch
from torch import nn
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

from smt_bench.methods.modules import has_values, numel
from smt_bench.methods.products import as_autocast

# When it is loaded, by us or by peft, it advises another package; in processes of a measurement `__main__` has not been.
logging.getLogger("bitsandbytes").setLevel(logging.ERROR)
NAME = "nf4"
BLOCK, GROUP, LEVELS = 64, 256, 256
aten = torch.ops.aten


@dataclass
class Held:
    """What there is of a matrix.

    Attributes:
        codes: two to a byte, (ceil(O I / 2), 1) uint8.
        absmax: (B,) uint8, places in `table`.
        scale: (G,) float32.
        mean: of the blocks' largest magnitudes, () float32.
        table: (256,) float32, shared.
        shape: (O, I).
        dtype: of the whole matrix.
        write: puts a layer's own numbers into a whole matrix; None: it is what was quantized.
    """

    codes: torch.Tensor
    absmax: torch.Tensor
    scale: torch.Tensor
    mean: torch.Tensor
    table: torch.Tensor
    shape: tuple[int, ...]
    dtype: torch.dtype
    write: Callable[[], Callable[[torch.Tensor], None] | None] | None = None

    @property
    def tensors(self) -> list[torch.Tensor]:
        """All that has bytes."""
        return [self.codes, self.absmax, self.scale, self.mean, self.table]


class Nf4(torch.Tensor):
    """A matrix in NF4; frozen.

    Args:
        held: what there is of it; shared by all tensors that stand for it.
    """

    held: Held

    @staticmethod
    def __new__(cls, held: Held) -> Nf4:
        """A tensor without storage of its own."""
        made = torch.Tensor._make_wrapper_subclass(cls, held.shape, dtype=held.dtype, device=held.codes.device)
        made.held = held
        return made

    def __init__(self, held: Held) -> None:
        """All is done by `__new__`."""

    def __repr__(self, **_given: Any) -> str:  # type: ignore[override]  # torch's is not typed
        """Without values, which would have to be made."""
        return f"Nf4(shape={tuple(self.shape)}, dtype={self.dtype}, device={self.device})"

    @property
    def data(self) -> torch.Tensor:
        """Itself, outside autograd."""
        return self.detach()

    @data.setter
    def data(self, value: torch.Tensor) -> None:
        """Refused, unless it changes nothing."""
        if not (isinstance(value, Nf4) and value.held is self.held):  # torch would take it, and nobody would read it
            raise RuntimeError("a weight of 4 bits is frozen and cannot be replaced: train on a whole base")

    @torch.no_grad()
    def whole(self, written: bool = True) -> torch.Tensor:
        """The matrix, (O, I), made anew.

        Args:
            written: with what a layer writes into it; without: as it was quantized, never changed.
        """
        made = _dequantized(self.held)
        if written and self.held.write is not None:
            write = self.held.write()
            assert write is not None, "the layer that writes into this matrix is gone: make the base whole before"
            write(made)
        made.of_base = True  # type: ignore[attr-defined]  # for accounts: a product with it is one with a weight
        return made

    @classmethod
    def __torch_function__(cls, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None) -> Any:
        """`F.linear` keeps the codes alone for the backward pass; what it is made of would keep the whole matrix."""
        if func is F.linear:
            return _linear(*args, **(kwargs or {}))
        with torch._C.DisableTorchFunctionSubclass():
            return func(*args, **(kwargs or {}))

    @classmethod
    def __torch_dispatch__(  # type: ignore[override]  # torch's is a function
        cls, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        """Every operation gets the whole matrix.

        Raises:
            RuntimeError: it would write to it.
        """
        kwargs = kwargs or {}
        if func in (aten.detach.default, aten.alias.default):
            return cls(args[0].held)
        if func._schema.is_mutable:
            given = dict(zip((a.name for a in func._schema.arguments), args)) | kwargs
            for argument in func._schema.arguments:
                if argument.alias_info and argument.alias_info.is_write and isinstance(given.get(argument.name), Nf4):
                    raise RuntimeError(f"{func} writes to a weight of 4 bits, which is frozen: train on a whole base")
        return func(*_whole(args), **{name: _whole(value) for name, value in kwargs.items()})


def _whole(value: Any) -> Any:
    if isinstance(value, Nf4):
        return value.whole()
    if isinstance(value, (list, tuple)):
        return type(value)(_whole(part) for part in value)
    return value


class _Linear(torch.autograd.Function):
    """`F.linear` with a matrix in NF4, which is made once forward and once backward."""

    @staticmethod
    def forward(ctx: Any, x: torch.Tensor, weight_OI: Nf4, bias_O: torch.Tensor | None) -> torch.Tensor:
        """(..., I) -> (..., O)."""
        ctx.x_dtype = x.dtype
        ctx.save_for_backward(weight_OI)
        return F.linear(as_autocast(x), weight_OI.whole(), bias_O)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        """Gradients of x and bias."""
        (weight_OI,) = ctx.saved_tensors
        need_x, _, need_bias = ctx.needs_input_grad
        grad_x = (grad @ weight_OI.whole().to(grad.dtype)).to(ctx.x_dtype) if need_x else None
        return grad_x, None, grad.reshape(-1, grad.shape[-1]).sum(0) if need_bias else None


def _linear(input: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None = None) -> torch.Tensor:
    if not isinstance(weight, Nf4):  # another argument is one
        return F.linear(_whole(input), weight, _whole(bias))
    trains = input.requires_grad or (bias is not None and bias.requires_grad)
    if torch.is_grad_enabled() and trains:
        out: torch.Tensor = _Linear.apply(input, weight, bias)  # type: ignore[no-untyped-call]
        return out
    return F.linear(as_autocast(input), weight.whole(), bias)


def whole(weight_OI: torch.Tensor) -> torch.Tensor:
    """A weight as it is read, outside autograd: itself, or made anew from its codes, without what a layer writes into it."""
    return weight_OI.whole(written=False) if isinstance(weight_OI, Nf4) else weight_OI.detach()


def written_by(weight_OI: torch.Tensor, write: Callable[[torch.Tensor], None]) -> bool:
    """Has a layer's method put its numbers into every whole matrix that is made of a weight in NF4.

    Args:
        weight_OI: the layer's weight.
        write: called with a whole matrix, (O, I); the layer is not kept alive by it.

    Returns:
        False, and nothing is done, where the weight is not in NF4: its owner writes into it.
    """
    if not isinstance(weight_OI, Nf4):
        return False
    weight_OI.held.write = WeakMethod(write)
    return True


def stored(tensors: Iterable[torch.Tensor]) -> list[torch.Tensor]:
    """What has the bytes of some tensors: themselves, or what there is of those in NF4."""
    return [part for tensor in tensors for part in (tensor.held.tensors if isinstance(tensor, Nf4) else [tensor])]


def quantized(weight_OI: torch.Tensor, like: Any = None) -> nn.Parameter:
    """A matrix in NF4, on its device, to be read in its type; frozen.

    Args:
        weight_OI: float32 or bfloat16; one without values gives one without.
        like: another matrix in NF4; on the same device they share a table.

    Raises:
        ValueError: bitsandbytes is not installed.
    """
    source, n = weight_OI.detach(), weight_OI.numel()
    table = like.held.table if isinstance(like, Nf4) and like.held.table.device == source.device else None
    if has_values(source):
        check_installed("--base nf4")
        from bitsandbytes import functional

        codes, state = functional.quantize_4bit(
            source.contiguous(), blocksize=BLOCK, compress_statistics=True, quant_type="nf4"
        )
        parts = codes, state.absmax, state.state2.absmax, state.offset
        table = state.state2.code.clone() if table is None else table
    else:
        blocks, single = math.ceil(n / BLOCK), torch.float32
        codes = source.new_empty((math.ceil(n / 2), 1), dtype=torch.uint8)
        absmax = source.new_empty(blocks, dtype=torch.uint8)
        scale = source.new_empty(math.ceil(blocks / GROUP), dtype=single)
        parts = codes, absmax, scale, source.new_empty((), dtype=single)
        table = source.new_empty(LEVELS, dtype=single) if table is None else table
    held = Held(*parts, table, tuple(weight_OI.shape), weight_OI.dtype)
    return nn.Parameter(Nf4(held), requires_grad=False)


def _dequantized(held: Held) -> torch.Tensor:
    if not has_values(held.codes):
        absmax_B = held.absmax.to(torch.float32)  # alive, as there, while the matrix is made
        made = held.codes.new_empty(held.shape, dtype=held.dtype)
        del absmax_B
        return made
    from bitsandbytes.functional import QuantState, dequantize_4bit

    groups = QuantState(absmax=held.scale, code=held.table, blocksize=GROUP, dtype=torch.float32)
    state = QuantState(
        absmax=held.absmax, shape=torch.Size(held.shape), dtype=held.dtype, blocksize=BLOCK, quant_type="nf4",
        offset=held.mean, state2=groups,
    )  # fmt: skip
    made = dequantize_4bit(held.codes, state, quant_type="nf4")
    return made


def bytes_of(shape: tuple[int, ...]) -> int:
    """Bytes of one matrix in NF4, without the table that all share."""
    blocks = math.ceil(numel(shape) / BLOCK)
    return math.ceil(numel(shape) / 2) + blocks + 4 * math.ceil(blocks / GROUP) + 4


TABLE_BYTES = 4 * LEVELS


def check_installed(what: str) -> None:
    """Refuses what bitsandbytes has to do, where it is not there.

    Args:
        what: was asked for, as on the command line.

    Raises:
        ValueError: it is not installed.
    """
    if find_spec("bitsandbytes") is None:
        raise ValueError(f"{what}: needs bitsandbytes: pip install 'smt-bench[nf4]'")
