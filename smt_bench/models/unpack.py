"""One plain linear layer per role: fused matrices taken apart, transposed ones turned round, and back again.

Phi-3 keeps queries, keys and values in the rows of one matrix, GPT-NeoX head by head, GPT-2 transposed (`Conv1D`). Methods,
measurements and `peft` would each have to know. Instead the loaded model is rewritten once: what computes y = W x + b in another
form becomes `nn.Linear` layers called after their roles, with the same numbers; `pack` restores the published form.

A fused matrix with rows (G, s, I): G groups (1, or one per head), in each s = s1 + s2 + ... rows for the parts in turn.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from smt_bench.methods.modules import replace_module

Layout = tuple[int, dict[str, int]]  # groups, and the rows of each part in a group


class Parts(nn.Module):
    """The parts of a fused layer, side by side; their outputs stand where the fused matrix had them.

    Args:
        fused: the layer; its numbers are copied, part by part.
        layout: groups, and rows of each part in a group.
    """

    def __init__(self, fused: nn.Linear, layout: Layout) -> None:
        super().__init__()
        self.groups, self.sizes = layout
        weight_GsI = fused.weight.unflatten(0, (self.groups, -1))
        bias_Gs = None if fused.bias is None else fused.bias.unflatten(0, (self.groups, -1))
        start = 0
        for name, size in self.sizes.items():
            rows = slice(start, start + size)
            bias = None if bias_Gs is None else bias_Gs[:, rows].flatten()
            self.add_module(name, _linear(weight_GsI[:, rows].flatten(0, 1), bias, fused.weight.requires_grad))
            start += size
        assert start == weight_GsI.shape[1], f"{start} rows in a group of {weight_GsI.shape[1]}"

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(..., I) -> (..., G s)."""
        return torch.cat([part(x).unflatten(-1, (self.groups, -1)) for part in self.children()], -1).flatten(-2)

    def fused(self) -> nn.Linear:
        """The layer that it was made of, with the numbers of now."""
        parts = [part for part in self.children() if isinstance(part, nn.Linear)]
        weights = [part.weight.unflatten(0, (self.groups, -1)) for part in parts]
        biases = [part.bias.unflatten(0, (self.groups, -1)) for part in parts if part.bias is not None]
        bias = torch.cat(biases, 1).flatten() if biases else None
        return _linear(torch.cat(weights, 1).flatten(0, 1), bias, parts[0].weight.requires_grad)


@dataclass(frozen=True)
class Unpacked:
    """What `unpack` changed, for `pack`: paths of layers that were transposed, and of those that were taken apart."""

    transposed: tuple[str, ...]
    apart: tuple[str, ...]


def unpack(model: Any) -> Any:
    """Rewrites a model in place, with or without storage; returns it."""
    from transformers.pytorch_utils import Conv1D

    transposed, apart = [], []
    for path, module in list(model.named_modules()):
        if isinstance(module, Conv1D):
            linear = _linear(module.weight.T, module.bias, module.weight.requires_grad)
            replace_module(model, path, linear)
            transposed.append(path)
            module = linear
        layout = _layout(model.config, path, module)
        if layout is not None:
            replace_module(model, path, Parts(module, layout))
            apart.append(path)
    model.smt_bench_unpacked = Unpacked(tuple(transposed), tuple(apart))
    return model


def pack(model: Any) -> Any:
    """Undoes `unpack`, in place: the modules and parameter names that the model's own class has; returns it."""
    from transformers.pytorch_utils import Conv1D

    found: Unpacked = model.smt_bench_unpacked
    for path in found.apart:
        replace_module(model, path, model.get_submodule(path).fused())
    for path in found.transposed:
        linear = model.get_submodule(path)
        with torch.device("meta"):
            conv = Conv1D(*linear.weight.shape)
        conv.weight = nn.Parameter(linear.weight.detach().T.contiguous(), linear.weight.requires_grad)
        conv.bias = linear.bias
        replace_module(model, path, conv)
    del model.smt_bench_unpacked
    return model


def _linear(weight_OI: torch.Tensor, bias_O: torch.Tensor | None, trains: bool) -> nn.Linear:
    """An ordinary layer with copies of these numbers, in the memory's usual order."""
    o, i = weight_OI.shape
    linear = nn.Linear(i, o, bias=bias_O is not None, device="meta")
    copy = weight_OI.detach().clone(memory_format=torch.contiguous_format)
    linear.weight = nn.Parameter(copy, requires_grad=trains)
    if bias_O is not None:
        linear.bias = nn.Parameter(bias_O.detach().clone(), requires_grad=trains)
    return linear


def _layout(config: Any, path: str, module: nn.Module) -> Layout | None:
    """How a fused layer's rows are divided; None where it is none, or of an architecture whose order is not known here."""
    if not isinstance(module, nn.Linear):
        return None
    text = config.get_text_config()
    found = LAYOUTS.get((text.model_type, path.rpartition(".")[2]))
    return None if found is None else found(text)


def _head(c: Any) -> int:
    return int(getattr(c, "head_dim", None) or c.hidden_size // c.num_attention_heads)


def _in_turn(c: Any) -> Layout:
    """All queries, then all keys, then all values."""
    kv = getattr(c, "num_key_value_heads", None) or c.num_attention_heads
    return 1, {"q_proj": c.num_attention_heads * _head(c), "k_proj": kv * _head(c), "v_proj": kv * _head(c)}


def _by_head(c: Any) -> Layout:
    """Query, key and value of one head after the other."""
    return c.num_attention_heads, dict.fromkeys(("q_proj", "k_proj", "v_proj"), _head(c))


def _falcon(c: Any) -> Layout:
    if c.new_decoder_architecture:
        queries = c.num_attention_heads // c.num_kv_heads
        return c.num_kv_heads, {"q_proj": queries * _head(c), "k_proj": _head(c), "v_proj": _head(c)}
    if c.multi_query:
        return 1, {"q_proj": c.num_attention_heads * _head(c), "k_proj": _head(c), "v_proj": _head(c)}
    return _by_head(c)


def _bigcode(c: Any) -> Layout:
    if not c.multi_query:
        return _by_head(c)
    return 1, {"q_proj": c.num_attention_heads * _head(c), "k_proj": _head(c), "v_proj": _head(c)}


def _gate_up(c: Any) -> Layout:
    return 1, {"gate_proj": c.intermediate_size, "up_proj": c.intermediate_size}


def _latent(c: Any) -> Layout:
    """Keys (the part without positions) and values, made of one latent vector, head by head."""
    return c.num_attention_heads, {"k_proj": c.qk_nope_head_dim, "v_proj": c.v_head_dim}


LAYOUTS: dict[tuple[str, str], Callable[[Any], Layout]] = {
    ("phi3", "qkv_proj"): _in_turn,
    ("phi3", "gate_up_proj"): _gate_up,
    ("glm", "gate_up_proj"): _gate_up,
    ("glm4", "gate_up_proj"): _gate_up,
    ("gpt2", "c_attn"): _in_turn,
    ("mpt", "Wqkv"): _in_turn,
    ("gpt_neox", "query_key_value"): _by_head,
    ("bloom", "query_key_value"): _by_head,
    ("falcon", "query_key_value"): _falcon,
    ("gpt_bigcode", "c_attn"): _bigcode,
    ("deepseek_v2", "kv_b_proj"): _latent,
    ("deepseek_v3", "kv_b_proj"): _latent,
}
