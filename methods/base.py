"""The Method contract: a method decides which numbers may move.

The engine calls the hooks in this order and knows no method by name:

    capacity(shapes)                  before any weight is loaded; refuses impossible requests
    set_average(average)              once, before the hooks below
    warmup(model)                     once, where `warmup_steps` > 0; says what trains during the warm-up
    observe(model, step)              per warm-up step, after backward, before the optimizer step
    attach(model)                     once: freeze the base, install the trainables in place
    optimizer(groups, settings)       AdamW unless the method needs another
    before_step(model, step)          per tuning step, before the forward pass
    after_backward(model, step)       per tuning step, gradients final, before the optimizer step
    after_step(model, optimizer, step)
    merge(model)                      original module types back, update folded in; not called unless `merges`

The order within a step is written down in `training.step`. A method never sees data, files, processes or the learning-rate
schedule; it says beforehand which gradients it looks at (`watches`). Shape legend used below and in the methods: O outputs and
I inputs of a linear layer, T tokens, L side of a block, N number of blocks, D number of deltas of one matrix.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar, Generic

import torch
from torch import nn
from typing_extensions import TypeVar  # typing's own has defaults from Python 3.13

from smt_bench.methods.search import Span
from smt_bench.methods.values import (
    MASTERS,
    Average,
    Capacity,
    MethodConfig,
    OptimizerSettings,
    ParamGroup,
    Shapes,
    alone,
)

# With the contract's plain values: whoever writes or drives a method imports all of it from here.
__all__ = [
    "MASTERS", "Average", "Capacity", "Method", "MethodConfig", "OptimizerSettings", "ParamGroup", "Shapes", "alone",
]  # fmt: skip

ConfigT_co = TypeVar("ConfigT_co", bound=MethodConfig, default=MethodConfig, covariant=True)


class Method(ABC, Generic[ConfigT_co]):
    """One fine-tuning method for one run; generic in its config, as in `class Smt(Method[SmtConfig])`.

    Args:
        config: the method's own frozen config.
        fraction: requested trainable numbers / all base parameters; None where the method has no such choice.
        seed: seeds every random choice the method makes.
        steps: optimizer steps of the whole run, warm-up included.

    Attributes:
        name: in keys, records and on the command line.
        version: bumped when the same config can give other numbers.
        summary: what trains, in a few words.
        title: in tables and figures; by default the name. A subclass does not inherit it.
        look: colour and marker in figures, e.g. ("#D55E00", "o"); None: those that are left. A subclass does not inherit it.
        order: place in tables, the smallest first; methods of one place stand by name.
        takes_fraction: whether it can be given a budget of trainable numbers.
        default_lr: peak learning rate where the recipe has none for this method; None: the recipe's for all others.
        bytes_per_number: alive for each number that `attach` installs: value, gradient, optimizer, indices (`machine.states`).
        library: package that its hooks import, if it is one that tables and plans do not need; imported before anything is
            counted, since a package may make tensors of its own.
        over_nf4: the settings it has over a base of 4 bits where others were not asked for (`whole_base`).
    """

    name: ClassVar[str]
    version: ClassVar[int]
    summary: ClassVar[str]
    title: ClassVar[str]
    look: ClassVar[tuple[str, str] | None] = None
    order: ClassVar[int] = 50
    Config: ClassVar[type[MethodConfig]] = MethodConfig
    takes_fraction: ClassVar[bool] = True
    default_lr: ClassVar[float | None] = None
    bytes_per_number: ClassVar[int] = 16
    library: ClassVar[str | None] = None
    over_nf4: ClassVar[Mapping[str, Any]] = {}

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        own = vars(cls)
        if "name" in own:  # a method of its own, not to be taken for the one it is made from
            cls.title = own.get("title", cls.name)
            cls.look = own.get("look")

    @classmethod
    def recipe(cls, steps: int, given: Mapping[str, Any]) -> dict[str, Any]:
        """The settings that the method wants for a run of so many steps; what is not named keeps the config's default.

        Args:
            steps: optimizer steps of the whole run, warm-up included.
            given: what the model's recipe states for this method, e.g. measured values; empty for methods it does not name.
        """
        return dict(given)

    @classmethod
    def search(cls, steps: int) -> dict[str, Span]:
        """The settings besides the learning rate that `tune` looks for, one or two, and where; every method gets as many trials.

        Args:
            steps: optimizer steps of the whole run, warm-up included.
        """
        return {}

    def __init__(self, config: ConfigT_co, fraction: float | None, seed: int, steps: int) -> None:
        self.config = config
        self.fraction = fraction
        self.seed = seed
        self.steps = steps
        self._average: Average = alone
        self.check()

    @property
    def average(self) -> Average:
        """Mean of a tensor over the run's processes, each of which sees its share of every micro-batch only.

        Gradients that a hook is shown are averaged already; this is for all else that a method sums up. Every process has to
        ask, in the same order.
        """
        return self._average

    def set_average(self, average: Average) -> None:
        """Called once by an engine that may spread the run over processes, before `warmup` and `attach`."""
        self._average = average

    def check(self) -> None:
        """Refuses settings that are wrong for every model.

        Raises:
            ValueError: what, the value, the remedy.
        """

    @abstractmethod
    def capacity(self, shapes: Shapes) -> Capacity:
        """Turns the requested fraction into capacity, from parameter shapes alone.

        Args:
            shapes: every parameter name of the base model and its shape (tied parameters once).

        Raises:
            ValueError: the allowed matrices cannot hold the fraction, or a setting does not fit the shapes.
        """

    @property
    def trains_dense(self) -> bool:
        """Whether some phase trains all parameters (decides the memory a run needs)."""
        return False

    @property
    def half(self) -> str:
        """What trains where the model is in bf16, in words for keys and tables; every forward pass is under bf16 autocast.

        What `attach` gives in float32 is updated as it is, what it gives in bf16 the engine updates through float32 masters.
        Other words are other keys.
        """
        return "what is installed in float32, else float32 masters"

    @property
    def merges(self) -> bool:
        """Whether `merge` is called; otherwise the model is judged as it was trained, and the record says so."""
        return True

    @property
    def whole_base(self) -> str | None:
        """Why the model's own weights have to be whole, and what to do about it; None: they may have 4 bits (`methods.nf4`).

        Such weights are read and never written: what trains is beside them, or goes into each whole matrix that is made of them.
        """
        if self.trains_dense:
            return "it trains the model's own weights, which have to stay as they are: leave it out"
        return "it is not known to leave the model's own weights as they are: leave it out"

    @property
    def warmup_steps(self) -> int:
        """Steps before `attach`; they count towards the run's steps."""
        return 0

    @property
    def restarts_schedule(self) -> bool:
        """Whether tuning has a learning-rate schedule of its own, from its first step and without a warm-up of the rate.

        Otherwise the run's goes on, wherever the method's warm-up has left it.
        """
        return False

    @property
    def watches(self) -> tuple[str, ...]:
        """Layers whose whole weight gradients `observe` and `after_backward` look at, see `methods.roles`.

        Gradients of what `attach` installed are always there; those of the model's own weights only where declared, since
        every process may hold a part of them (ZeRO).
        """
        return ()

    def warmup(self, model: nn.Module) -> list[ParamGroup]:
        """Prepares the warm-up and returns what trains in it (nothing: gradients are only watched)."""
        return []

    def observe(self, model: nn.Module, step: int) -> None:  # noqa: B027 - optional hook
        """Sees the gradients of one warm-up step (1-based), accumulated over micro-batches, before clipping."""

    @abstractmethod
    def attach(self, model: nn.Module) -> list[ParamGroup]:
        """Freezes the base, installs the trainables in place and returns them."""

    def optimizer(self, groups: list[dict[str, Any]], settings: OptimizerSettings) -> torch.optim.Optimizer:
        """Builds the optimizer over torch parameter groups (each with `params`, `lr`, `weight_decay`)."""
        # Fused on GPUs: the default there makes a temporary as large as all that trains.
        fused = settings.fused or all(p.is_cuda for group in groups for p in group["params"])
        return torch.optim.AdamW(groups, lr=settings.lr, betas=settings.betas, eps=settings.eps, fused=fused or None)

    def before_step(self, model: nn.Module, step: int) -> None:  # noqa: B027 - optional hook
        """Called before the forward passes of step `step` (1-based, warm-up steps counted)."""

    def after_backward(self, model: nn.Module, step: int) -> None:  # noqa: B027 - optional hook
        """Called with final gradients (accumulated, not yet clipped)."""

    def after_step(  # noqa: B027 - optional hook
        self, model: nn.Module, optimizer: torch.optim.Optimizer, step: int
    ) -> None:
        """Called after the optimizer step, e.g. to write blocks back or to drop and regrow."""

    @abstractmethod
    def merge(self, model: nn.Module) -> None:
        """Restores the original module types with the update folded in."""

    def save(self, model: nn.Module, folder: Path) -> int | None:
        """Writes what was trained into a folder, in a format of the method's own that other programs read, before it is merged.

        Returns:
            How many numbers; None: the method has no such format, and the difference from the base is kept instead.
        """
        return None

    def describe(self) -> dict[str, Any]:
        """What was decided during the run (e.g. blocks per layer); small JSON for the record."""
        return {}

    def ran(self) -> dict[str, Any]:
        """How this machine carried it out, where that is no part of the question: which kernels, say; small JSON."""
        return {}

    def state_dict(self) -> dict[str, Any]:
        """Selection and counters: all that resume needs besides parameters and optimizer."""
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:  # noqa: B027 - optional hook
        """Restores `state_dict`; called before `warmup` or, where tuning had begun, before `attach`.

        Also once after training, where the weights of an earlier step are put back and are in the model already.
        """
