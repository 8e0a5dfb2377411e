"""Which tensor storages are alive, and what is multiplied: a dispatch mode that sees every operation.

Storages, not tensors, are counted: views share one, and a storage lives as long as anything (autograd's graph included)
holds it. Weak references tell when it goes. Real and fake tensors are counted by the same code. What one operation
allocates and frees inside is invisible, as it is to any observer above the allocator.
"""

from __future__ import annotations

import contextlib
import weakref
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from functools import cache
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode

from smt_bench.measuring.flops import UNKNOWN
from smt_bench.methods.nf4 import Nf4, stored

aten = torch.ops.aten
DEVICE = torch.ops.prim.device.default  # a question that fake tensors are asked in every operation
MARK = "> "  # begins the name of a phase in a history; no category does
History = list[tuple[str, int]]
_PRODUCTS = (aten.mm, aten.addmm, aten.bmm, aten.baddbmm, torch.ops.smt_bench.sampled_product)


@cache
def _flops() -> dict[Any, Any]:
    from torch.utils.flop_counter import flop_registry, shape_wrapper  # see `measuring.flops`

    return {**flop_registry, **{packet: shape_wrapper(formula) for packet, formula in UNKNOWN.items()}}


def _tensors(values: Any) -> Iterator[torch.Tensor]:
    if isinstance(values, torch.Tensor):
        yield values
    elif isinstance(values, (list, tuple)):
        for value in values:
            yield from _tensors(value)


def replay(history: Iterable[tuple[str, int]]) -> dict[str, tuple[dict[str, int], dict[str, int]]]:
    """A history by phases.

    Returns:
        Name of the phase -> bytes by category at its peak, and at its end.
    """
    phases: dict[str, tuple[dict[str, int], dict[str, int]]] = {}
    now: defaultdict[str, int] = defaultdict(int)
    name, total, most, peak = None, 0, 0, dict[str, int]()
    for category, size in history:
        if category.startswith(MARK):
            if name is not None:
                phases[name] = peak, dict(now)
            name, most, peak = category.removeprefix(MARK), total, dict(now)
            continue
        now[category] += size
        total += size
        if total > most:
            most, peak = total, dict(now)
    if name is not None:
        phases[name] = peak, dict(now)
    return phases


class LiveStorages(TorchDispatchMode):
    """Follows storages from their first appearance until they are freed.

    Every storage gets a number. `events` is the history: (number, bytes) when it appears, (number, -bytes) when it goes;
    `mark` puts a name between events. Categories are given to numbers, also after the fact; `history` is all of it, and
    `replay` of that tells what was alive when.

    Attributes:
        category: storage number -> name of what it holds.
        flops: kind of work -> floating-point operations of matrix products and attention.
        operations: how often (in the optimizer, dtype, FLOPs, bytes read and written) occurred, for a roofline.
        work: the kind that is counted now; in "backward", products with one of `weights` are input gradients.
        born_as: category of storages that appear now; None: decided later.
        weights: numbers of the storages that hold parameters.
        recomputing: whether checkpointing is computing something again.
        written: numbers of the storages that an operation changed in place.
    """

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.events: list[tuple[int, int]] = []
        self.marks: list[tuple[int, str]] = []
        self.category: dict[int, str] = {}
        self.flops: defaultdict[str, int] = defaultdict(int)
        self.operations: Counter[tuple[bool, torch.dtype, int, int]] = Counter()
        self.work = "forward"
        self.born_as: str | None = None
        self.weights: set[int] = set()
        self.recomputing = False
        self.written: set[int] = set()
        self._alive: dict[int, tuple[int, Any]] = {}  # address -> number, weak reference

    @property
    def alive(self) -> set[int]:
        """Numbers of the storages alive now."""
        return {number for number, _ in self._alive.values()}

    def number(self, tensor: torch.Tensor) -> int:
        """The tensor's storage's number; a new one joins the living."""
        storage = (tensor.held.codes if isinstance(tensor, Nf4) else tensor).untyped_storage()
        address = storage._cdata
        known = self._alive.get(address)
        if known is not None:
            return known[0]
        number, size = len(self.events), storage.nbytes()  # the event's position: unique

        def gone(_: Any) -> None:
            self._alive.pop(address, None)
            self.events.append((number, -size))

        self.events.append((number, size))
        self._alive[address] = (number, weakref.ref(storage, gone))
        if self.born_as is not None:
            self.category[number] = self.born_as
        return number

    def tag(self, tensors: Iterable[torch.Tensor | None], category: str, keep: tuple[str, ...] = ()) -> None:
        """Gives the storages of `tensors` a category, unless they have one of those in `keep`."""
        for tensor in stored(t for t in tensors if t is not None):
            number = self.number(tensor)
            if self.category.get(number) not in keep:
                self.category[number] = category

    def mark(self, name: str) -> None:
        """Starts a phase."""
        self.marks.append((len(self.events), name))

    @contextlib.contextmanager
    def recomputation(self) -> Iterator[None]:
        """Around what checkpointing computes again: its products count apart, and what survives it is saved activations."""
        before, start = self.recomputing, len(self.events)
        self.recomputing = True
        try:
            yield
        finally:
            self.recomputing = before
            self.tag_born(start, "saved_activations")

    def tag_born(self, start: int, category: str) -> None:
        """Gives a category to what appeared since event `start`, is alive, and has none."""
        for number in self.alive:
            if number >= start:
                self.category.setdefault(number, category)

    def tag_kept(self, category: str, known: tuple[str, ...], *others: torch.Tensor) -> list[int]:
        """Gives a category to all that is alive and not one of the categories `known` or of the tensors `others`.

        Returns:
            Their numbers.
        """
        apart = {self.number(tensor) for tensor in others}
        kept = [n for n in self.alive if n not in apart and self.category.get(n) not in known]
        self.category.update(dict.fromkeys(kept, category))
        return kept

    def history(self) -> History:
        """What happened so far, in order: (category, bytes) where a storage came, (category, -bytes) where it went, and
        (`MARK` + name, 0) where a phase began; what has no category is "temporaries".
        """
        starts: dict[int, list[str]] = defaultdict(list)
        for position, name in self.marks:
            starts[position].append(name)
        found: History = []
        for position, (number, size) in enumerate(self.events):
            found += [(MARK + name, 0) for name in starts.get(position, ())]
            found.append((self.category.get(number, "temporaries"), size))
        return found + [(MARK + name, 0) for name in starts.get(len(self.events), ())]

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        """Not to be kept apart from torch's compiler, which takes as long as the rest: nothing is compiled here."""
        return False

    def __torch_dispatch__(self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None) -> Any:
        """Runs the operation, then counts its products and its new storages."""
        if func is DEVICE:
            fake = getattr(args[0], "fake_device", None)
            return func(*args) if fake is None else fake
        kwargs = kwargs or {}
        given_to = [*_tensors(args), *_tensors(tuple(kwargs.values()))]
        if any(isinstance(tensor, Nf4) for tensor in given_to):
            return NotImplemented  # it makes the matrix whole and comes again, with that
        for tensor in given_to:
            if getattr(tensor, "of_base", False):
                self.weights.add(self.number(tensor))
        out = func(*args, **kwargs)
        if func._schema.is_mutable:
            given = zip(func._schema.arguments, args)
            changed = [value for argument, value in given if argument.alias_info and argument.alias_info.is_write]
            self.written.update(self.number(tensor) for tensor in _tensors(changed))
        packet = func._overloadpacket
        formula = _flops().get(packet)
        flops = 0
        if formula is not None:
            flops = formula(*args, **kwargs, out_val=out)
            self.flops[self._kind(packet, args)] += flops
        made = list(_tensors(out))
        for tensor in made:
            number = self.number(tensor)
            # A weight in another dtype is still the weight.
            if packet is aten._to_copy and self.number(args[0]) in self.weights:
                self.weights.add(number)
        if made and not func.is_view:
            moved = sum(tensor.numel() * tensor.element_size() for tensor in (*given_to, *made) if given_to)
            # What is multiplied sets the rate, not what the sum comes out in.
            rate = next(_tensors(args)).dtype if flops else made[0].dtype
            self.operations[self.work == "optimizer", rate, flops, moved] += 1
        return out

    def _kind(self, packet: Any, args: tuple[Any, ...]) -> str:
        if self.work != "backward":
            return self.work
        if self.recomputing:
            return "recomputation"
        # An input gradient is a product with a weight; a weight gradient has two activations. Attention written as batched
        # products has two activations as well, and is known by the node that computes it.
        node = torch._C._current_autograd_node()
        attention = packet not in _PRODUCTS or (node is not None and node.name().startswith("BmmBackward"))
        with_weight = any(self.number(tensor) in self.weights for tensor in _tensors(args[-2:]))
        return "input_gradient" if attention or with_weight else "weight_gradient"
