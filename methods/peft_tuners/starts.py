"""Where LoRA may start: from what its layers see (EVA), or from what quantizing their weights loses (LoftQ).

    EVA (Paischer et al., 2024)   A = the r leading right singular vectors of the layer's inputs, B = 0
    LoftQ (Li et al., 2023)       Q = nf4(W), W - Q = U S V^T:  A = sqrt(S) V^T, B = U sqrt(S) / s, and the base becomes Q

Shapes: T tokens, I inputs and O outputs of a layer, r rank; s is LoRA's scale (alpha / r).

Deviations / decisions:
    - EVA looks at the inputs during the first steps of the run, which train nothing; these are training's own batches, padding
      included, as in `peft`. `peft` updates a truncated decomposition batch by batch; here X^T X is summed, which is exact, also
      over several processes, and costs I x I numbers per distinct input of a block. Signs: the largest entry of a vector is
      positive.
    - Every matrix keeps its rank (EVA's rho = 1): another share of the ranks would train another number of parameters.
    - LoftQ: one step, blocks of 64 weights, by bitsandbytes. The base holds the dequantized numbers in its own type: what
      quantizing costs in accuracy is there, what it saves in memory is not. B is divided by s: W = Q + s B A up to rank r.
      That of `peft` needs a GPU.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import nn

from smt_bench.methods.base import Average
from smt_bench.methods.modules import has_values
from smt_bench.methods.nf4 import check_installed
from smt_bench.methods.roles import role

NF4_BLOCK = 64


class Inputs:
    """Sums X^T X of what layers see, from now until `close`; layers that are given one and the same tensor share a sum.

    Args:
        layers: by name.
        state: of `state_dict`, to go on from.
    """

    def __init__(self, layers: Mapping[str, nn.Module], state: Mapping[str, Any] | None = None) -> None:
        self.sums: dict[str, torch.Tensor] = dict(state["sums"]) if state else {}
        self.owner: dict[str, str] = dict(state["owner"]) if state else {}
        self._last: tuple[torch.Tensor, str] | None = None
        self._hooks = [
            layer.register_forward_pre_hook(lambda _, args, name=name: self._see(name, args[0]))
            for name, layer in layers.items()
        ]

    @torch.no_grad()
    def _see(self, name: str, x: torch.Tensor) -> None:
        if self._last is not None and x is self._last[0]:
            self.owner[name] = self._last[1]
            return
        self._last, self.owner[name] = (x, name), name
        x_TI = x.detach().reshape(-1, x.shape[-1]).to(torch.promote_types(x.dtype, torch.float32))
        sum_II = x_TI.T @ x_TI
        if name in self.sums:
            self.sums[name] = self.sums[name].to(sum_II.device)
            self.sums[name] += sum_II
        else:
            self.sums[name] = sum_II

    def state_dict(self) -> dict[str, Any]:
        """The sums (references), and whose a layer uses."""
        return {"sums": dict(self.sums), "owner": dict(self.owner)}

    def close(self, rank: int, average: Average) -> dict[str, torch.Tensor]:
        """Looks no more; gives the leading right singular vectors of each layer's inputs, (r, I).

        Raises:
            ValueError: a layer that no token has gone through.
        """
        for hook in self._hooks:
            hook.remove()
        self._last = None
        vectors = {name: _leading(average(sum_II), rank) for name, sum_II in self.sums.items()}
        return {name: vectors[owner] for name, owner in self.owner.items()}


def numbers(layers: Mapping[str, tuple[int, ...]]) -> int:
    """How many numbers the sums hold: I x I per distinct input, which Q, K and V share, and gate and up.

    Args:
        layers: name -> shape of the weight, (O, I).
    """
    shared = {"q_proj": "qkv", "k_proj": "qkv", "v_proj": "qkv", "gate_proj": "mlp", "up_proj": "mlp"}
    sides = {(path.rpartition(".")[0], shared.get(role(path), path)): shape[1] for path, shape in layers.items()}
    return sum(side**2 for side in sides.values())


def _leading(sum_II: torch.Tensor, rank: int) -> torch.Tensor:
    """Eigenvectors (r, I) of the largest eigenvalues, the largest first."""
    vectors_rI = torch.linalg.eigh(sum_II).eigenvectors[:, -rank:].flip(1).T
    largest_r1 = vectors_rI.gather(1, vectors_rI.abs().argmax(1, keepdim=True))
    found: torch.Tensor = vectors_rI * largest_r1.sign()
    return found


def _lora_layers(model: nn.Module) -> Iterable[tuple[str, Any]]:
    from peft.tuners.lora import LoraLayer

    return ((name, module) for name, module in model.named_modules() if isinstance(module, LoraLayer))


@torch.no_grad()
def eva(model: nn.Module, vectors: Mapping[str, torch.Tensor]) -> None:
    """Gives every A its start.

    Args:
        model: with the adapters in it.
        vectors: (r, I) by layer.

    Raises:
        ValueError: a layer that saw nothing.
    """
    for name, layer in _lora_layers(model):
        if name not in vectors:
            raise ValueError(f"init_lora_weights='eva': no token reached {name}: choose other targets")
        layer.lora_A["default"].weight.copy_(vectors[name])
        layer.lora_B["default"].weight.zero_()


@torch.no_grad()
def loftq(model: nn.Module) -> None:
    """Puts the dequantized NF4 weights into the base, and what that loses, up to rank r, into the adapters."""
    for _, layer in _lora_layers(model):
        weight, scale = layer.get_base_layer().weight, layer.scaling["default"]
        a, b = layer.lora_A["default"].weight, layer.lora_B["default"].weight
        if not has_values(weight):
            continue
        quantized_OI = nf4(weight)
        u, s, v = torch.linalg.svd(weight.float() - quantized_OI, full_matrices=False)
        root_r = s[: len(a)].sqrt()
        a.copy_(root_r[:, None] * v[: len(a)])
        b.copy_(u[:, : len(a)] * root_r / scale)
        weight.copy_(quantized_OI)


def nf4(weight_OI: torch.Tensor) -> torch.Tensor:
    """What is left of a weight after 4-bit NormalFloat quantization, float32."""
    from bitsandbytes import functional

    packed, state = functional.quantize_4bit(
        weight_OI.detach().float().contiguous(), blocksize=NF4_BLOCK, quant_type="nf4"
    )
    whole: torch.Tensor = functional.dequantize_4bit(packed, state)
    return whole.float()


def check_loftq() -> None:
    """LoftQ quantizes by bitsandbytes.

    Raises:
        ValueError: it is not installed.
    """
    check_installed("init_lora_weights='loftq'")
