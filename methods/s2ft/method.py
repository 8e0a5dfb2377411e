"""S2FT, structured sparse fine-tuning: whole channels and heads train, drawn at random (Yang et al., 2024, "S2FT: Efficient,
Scalable and Generalizable LLM Fine-tuning by Structured Sparsity").

    dW[rows S]    = dY[:, S]ᵀ X          of V, up and gate: the channels S that the block computes
    dW[columns S] = dYᵀ X[:, S]          of O and down: the same channels, where they are read

Rows and columns that meet in a channel are coupled (section 3; `structures.py`), and are chosen together. The backward pass
computes the gradients of the chosen ones alone, and of what O and down read the forward pass keeps the chosen columns alone.
Layers, write-back and the one tensor of all that trains are SMT's: rows are blocks 1 x I, columns are blocks O x 1.

Shapes: T tokens, O outputs, I inputs, S chosen channels of one block, h numbers of a head.

Deviations / decisions:
    - The paper permutes chosen channels to the front, to slice where this gathers; numbers are the same up to the order of sums.
    - It draws at random by default (S2FT-R), over all blocks together; so does this. Its other criteria are not here.
    - Which matrices: all five of the coupled structures by default, at the same share of channels. The authors' scripts train
      down alone on LLaMA 3 (`targets=down_proj`), and up, gate and down on LLaMA; they draw rows and columns apart, where the
      text couples them.
    - Heads of an attention train whole, but for one that the budget may cut. With grouped queries a head of V goes with the
      columns of O of all query heads that read it.
    - What trains is float32, also beside bf16 weights.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, replace
from typing import Any, Self

import torch
from torch import nn

from smt_bench.methods.base import Capacity, Method, MethodConfig, ParamGroup, Shapes
from smt_bench.methods.flat import Flat, Place, place_of
from smt_bench.methods.modules import freeze, replace_module, total_parameters
from smt_bench.methods.s2ft.structures import Structure, budgets, draw, structures
from smt_bench.methods.smt.install import same_input
from smt_bench.methods.smt.layer import Shared, SparseLinear, columns_of
from smt_bench.methods.sparse import linear_layers


@dataclass(frozen=True)
class S2ftConfig(MethodConfig):
    """S2FT's settings.

    Attributes:
        targets: layers whose channels may train, of v_proj, o_proj, up_proj, gate_proj and down_proj.
    """

    targets: tuple[str, ...] = ("v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")

    @property
    def layers(self) -> tuple[str, ...]:
        """The targets."""
        return self.targets

    def with_layers(self, layers: tuple[str, ...]) -> Self:
        """With other targets."""
        return replace(self, targets=layers)


class S2ft(Method[S2ftConfig]):
    """Trains channels of MLPs and heads of attentions."""

    name = "s2ft"
    version = 1
    summary = "S2FT: whole channels and heads, drawn at random, with all rows and columns that meet in them"
    title = "S2FT"
    look = ("#DDCC77", "h")
    order = 42
    Config = S2ftConfig

    def __init__(self, config: S2ftConfig, fraction: float | None, seed: int, steps: int) -> None:
        super().__init__(config, fraction, seed, steps)
        self._layers: dict[str, SparseLinear] = {}
        self._flat: Flat | None = None
        self._chosen: list[tuple[Structure, list[int]]] = []
        self._head = 1

    def check(self) -> None:
        """Refuses what is no fraction."""
        if self.fraction is None or not 0 < self.fraction <= 1:
            raise ValueError(f"fraction={self.fraction}: choose trainable numbers / all parameters, e.g. 0.01")

    def _budget(self, shapes: Shapes) -> tuple[list[Structure], dict[tuple[str, int], int]]:
        assert self.fraction is not None
        found, total = structures(shapes, self.config.targets), total_parameters(shapes)
        held, wanted = sum(one.channels * one.cost for one in found), max(1, round(self.fraction * total))
        if wanted > held:
            raise ValueError(
                f"fraction {self.fraction:.4%} needs {wanted} numbers, but {', '.join(self.config.targets)} hold {held} "
                f"({held / total:.2%}): choose a smaller fraction or more targets"
            )
        return found, budgets(found, wanted)

    def capacity(self, shapes: Shapes) -> Capacity:
        """The fraction as a number of channels."""
        _, counts = self._budget(shapes)
        trainable = sum(cost * count for (_, cost), count in counts.items())
        unit = max(cost for _, cost in counts)
        return Capacity("channels", sum(counts.values()), trainable, unit, total_parameters(shapes))

    def attach(self, model: nn.Module) -> list[ParamGroup]:
        """Draws the channels and puts sparse layers where there are any."""
        found, counts = self._budget({name: tuple(p.shape) for name, p in model.named_parameters()})
        self._head = head_size(model, found)
        drawn = draw(found, counts, self._head, self.seed)
        self._chosen = [(one, channels) for one, channels in zip(found, drawn) if channels]
        rows: dict[str, list[int]] = {}
        columns: dict[str, list[int]] = {}
        for one, channels in self._chosen:
            rows |= {name: sorted(channels) for name in one.rows}
            if one.columns is not None:
                columns[one.columns] = one.columns_of(channels, self._head)
        linears = linear_layers(model, [*rows, *columns])
        freeze(model)
        shapes = {name: (1, linears[name].in_features) for name in rows}
        shapes |= {name: (linears[name].out_features, 1) for name in columns}
        index = {name: [(row, 0) for row in own] for name, own in rows.items()}
        index |= {name: [(0, column) for column in own] for name, own in columns.items()}
        sizes: dict[Place, int] = {}
        for name, linear in linears.items():
            place = place_of(linear.weight)
            sizes[place] = sizes.get(place, 0) + len(index[name]) * shapes[name][0] * shapes[name][1]
        self._flat = Flat(sizes)
        for group in same_input(list(linears)):
            kept = sorted({column for name in group for _, column in index[name]})
            picked = torch.tensor(kept, device=linears[group[0]].weight.device)
            width = shapes[group[0]][1]
            shared = Shared(lambda x, picked=picked, width=width: columns_of(x, picked, width), len(group))  # type: ignore[misc]
            for name in group:
                view = (len(index[name]), *shapes[name])
                blocks = self._flat.hand_out(place_of(linears[name].weight), view[0] * view[1] * view[2], view)
                self._layers[name] = SparseLinear(linears[name], index[name], blocks, kept, shared)
                replace_module(model, name, self._layers[name])
        return [ParamGroup(self._flat.parameters, pieces=self._flat.slices)]

    def before_step(self, model: nn.Module, step: int) -> None:
        """Gradients start from zero."""
        assert self._flat is not None
        self._flat.clear_gradients()

    def after_backward(self, model: nn.Module, step: int) -> None:
        """Gradients go to the optimizer."""
        assert self._flat is not None
        self._flat.publish_gradients()

    def after_step(self, model: nn.Module, optimizer: torch.optim.Optimizer, step: int) -> None:
        """Writes rows and columns back into the dense weights."""
        for layer in self._layers.values():
            layer.write_back()

    def merge(self, model: nn.Module) -> None:
        """Plain linear layers again."""
        for name, layer in self._layers.items():
            replace_module(model, name, layer.dense())
        self._layers, self._flat = {}, None

    @property
    def whole_base(self) -> None:
        """Rows and columns are copies of what is read of the base."""

    @property
    def half(self) -> str:
        """Rows, columns and their gradients are float32."""
        return "float32 channels and channel gradients"

    def describe(self) -> dict[str, Any]:
        """The channels of every structure, by its first layer, and the numbers of a head."""
        per_kind: Counter[str] = Counter()
        for one, channels in self._chosen:
            per_kind[one.kind] += len(channels)
        return {
            "head": self._head,
            "channels_per_kind": dict(per_kind),
            "channels": {(*one.rows, one.columns)[0] or "": sorted(channels) for one, channels in self._chosen},
        }


def head_size(model: Any, found: list[Structure]) -> int:
    """h, as the model's configuration has it; 1 where there are no heads, as in a model without attention.

    Raises:
        ValueError: grouped queries whose heads cannot be told.
    """
    attentions = [one for one in found if one.kind == "attention"]
    if not attentions:
        return 1
    config: Any = model.config.get_text_config()
    heads = getattr(config, "num_attention_heads", None)
    head = getattr(config, "v_head_dim", None) or getattr(config, "head_dim", None)
    head = head or (config.hidden_size // heads if heads else None)
    if head and all(one.channels % head == 0 for one in attentions):
        return int(head)
    if any(one.repeats > 1 for one in attentions):
        raise ValueError(
            f"targets: {attentions[0].rows[0]}: its heads cannot be told, and O reads them in groups: leave it out"
        )
    return 1
