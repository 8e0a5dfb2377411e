"""Prompt tuning (Lester et al., 2021), P-tuning (Liu et al., 2021), prefix tuning (Li and Liang, 2021): tokens that nobody wrote.

    prompt, P-tuning    embeddings of V virtual tokens before those of the T real ones
    prefix              keys and values of V virtual tokens before those of every layer

Peft does this in a wrapper around the model, which it cannot put in place; here hooks on the decoder (the model without its
output layer) add the tokens on the way in and take them away on the way out, so that the engine, lm-eval and `generate` see a
model that takes T tokens and gives T. Peft's modules make the numbers. Nothing can be merged. Legend: B sequences, H hidden, K
numbers of a layer's keys. Deviation from peft: positions of real tokens follow the virtual ones also where the caller gives
positions, as `generate` does.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn
from transformers import DynamicCache

from smt_bench.methods.base import ParamGroup, Shapes
from smt_bench.methods.modules import freeze, targeted
from smt_bench.methods.peft_tuners import options, saving
from smt_bench.methods.peft_tuners.method import PeftTuner, embeddings

MOST = 512  # virtual tokens; the longest that papers try are 200, and each costs as much as a real one


class VirtualTokens(PeftTuner):
    """Virtual tokens before the real ones."""

    def layers(self, shapes: Shapes) -> dict[str, tuple[int, ...]]:
        """What they stand beside: the input embeddings, or the layers that make keys."""
        if self.tuner == "prefix_tuning":
            keys, values = dict(targeted(shapes, ["k_proj"])), dict(targeted(shapes, ["v_proj"]))
            if len(set(keys.values()) | set(values.values())) > 1:
                raise ValueError(f"{self.name}: keys and values differ in size between layers: choose another method")
            return dict(keys)
        return dict([embeddings(shapes)])

    def fields(self, units: int, layers: Mapping[str, tuple[int, ...]]) -> dict[str, Any]:
        """Sizes of the model, which peft's wrapper reads from its config."""
        rows, columns = next(iter(layers.values()))
        prefix = self.tuner == "prefix_tuning"
        width = rows if prefix else columns
        sizes = {
            "token_dim": width,
            "num_layers": len(layers) if prefix else 1,
            "num_attention_heads": 1,
            "num_transformer_submodules": 1,
        }
        hidden = {} if self.tuner == "prompt_tuning" else {"encoder_hidden_size": width}
        return hidden | super().fields(units, layers) | sizes

    def peft_config(self, units: int, layers: Mapping[str, tuple[int, ...]]) -> Any:
        """Without target layers."""
        return options.made(self.tuner, self.fields(units, layers))

    def values(self, layers: Mapping[str, tuple[int, ...]]) -> range:
        """1 to `MOST` tokens."""
        return range(1, MOST + 1)

    def _counted(self, units: int, layers: Mapping[str, tuple[int, ...]], shapes: Shapes) -> int:
        rows, columns = next(iter(layers.values()))
        with torch.device("meta"):
            encoder = self._encoder(units, layers, nn.Embedding(rows, columns))
        return sum(p.numel() for p in encoder.parameters())

    def _encoder(self, units: int, layers: Mapping[str, tuple[int, ...]], words: nn.Module) -> nn.Module:
        from peft import PeftType
        from peft.mapping import PEFT_TYPE_TO_TUNER_MAPPING

        made: Any = PEFT_TYPE_TO_TUNER_MAPPING[PeftType(self.tuner.upper())]
        config = self.peft_config(units, layers)
        encoder: nn.Module = made(config, words) if self.tuner == "prompt_tuning" else made(config)
        return encoder

    def attach(self, model: nn.Module) -> list[ParamGroup]:
        """Adds peft's module of virtual tokens, in float32, and the hooks."""
        shapes = {name: tuple(p.shape) for name, p in model.named_parameters()}
        layers, units = self.layers(shapes), self.capacity(shapes).units
        freeze(model)
        whole: Any = model
        words = whole.get_input_embeddings()
        with torch.random.fork_rng():
            torch.manual_seed(self.seed)
            encoder = self._encoder(units, layers, words)
        encoder.to(words.weight.device, torch.promote_types(words.weight.dtype, torch.float32))
        model.add_module("virtual_tokens", encoder)
        self._fields = self.fields(units, layers)
        decoder = whole.get_decoder()
        if self.tuner == "prefix_tuning":
            Prefix(encoder, units, len(layers), decoder)
        else:
            Prompt(encoder, units, words, decoder)
        return [ParamGroup(list(encoder.parameters()))]

    def save(self, model: nn.Module, folder: Path) -> int | None:
        """In peft's own format: the embeddings, or keys and values, that the encoder makes, as (V, numbers of a token)."""
        whole: Any = model
        shapes = {
            name: tuple(p.shape) for name, p in model.named_parameters() if not name.startswith("virtual_tokens.")
        }
        units = self.capacity(shapes).units
        encoder = model.get_submodule("virtual_tokens")
        with torch.no_grad():
            made = encoder(torch.arange(units, device=next(encoder.parameters()).device)[None])[0]
        config = self.peft_config(units, self.layers(shapes))
        config.num_attention_heads = key_heads(whole.config.get_text_config(), config.token_dim)
        config.task_type = "CAUSAL_LM"
        config.save_pretrained(str(folder))
        return saving.write({"prompt_embeddings": made.flatten(1)}, folder)


def key_heads(config: Any, width: int) -> int:
    """Heads of a layer's keys, which are so many numbers wide."""
    heads = getattr(config, "num_attention_heads", None)
    if heads is None:
        raise ValueError("prefix tuning needs attention with heads, which this model does not have")
    return width // int(getattr(config, "head_dim", None) or config.hidden_size // heads)


class Hooks:
    """What a decoder is told of virtual tokens.

    Args:
        encoder: peft's; gives (1, V, ...) for token numbers (1, V).
        count: V.
        decoder: of the model.
    """

    def __init__(self, encoder: nn.Module, count: int, decoder: nn.Module) -> None:
        self.encoder, self.count = encoder, count
        decoder.register_forward_pre_hook(self.before, with_kwargs=True)

    def before(self, decoder: nn.Module, args: tuple[Any, ...], given: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
        """The arguments of the decoder with the virtual tokens in them."""
        if args:  # transformers passes names; whoever does not passes the ids
            given = {**given, "input_ids": args[0]}
        ids, embeds = given.get("input_ids"), given.get("inputs_embeds")
        real = ids if embeds is None else embeds
        assert real is not None
        cache, mask = given.get("past_key_values"), given.get("attention_mask")
        changed = dict(given)
        if mask is not None:
            if not isinstance(mask, torch.Tensor) or mask.ndim != 2:
                raise ValueError(
                    "virtual tokens need an attention mask of (B, T), and this model makes others before its decoder"
                )
            changed["attention_mask"] = torch.cat([mask.new_ones(len(mask), self.count), mask], dim=1)
        if given.get("position_ids") is not None:
            changed["position_ids"] = given["position_ids"] + self.count
        if cache is None or cache.get_seq_length() == 0:
            self.begin(real, changed)
        return (), changed

    def begin(self, real: torch.Tensor, changed: dict[str, Any]) -> None:
        """Puts the tokens before a sequence's first ones."""
        raise NotImplementedError

    def numbers(self, device: torch.device) -> torch.Tensor:
        """What the encoder makes of its tokens: (1, V, ...)."""
        made: torch.Tensor = self.encoder(torch.arange(self.count, device=device)[None])
        return made


class Prompt(Hooks):
    """Virtual tokens as embeddings; `words` embeds the real ones."""

    def __init__(self, encoder: nn.Module, count: int, words: nn.Module, decoder: nn.Module) -> None:
        super().__init__(encoder, count, decoder)
        self.words, self.cut = words, False
        decoder.register_forward_pre_hook(self._reset, prepend=True)
        decoder.register_forward_hook(self.after)

    def _reset(self, _decoder: nn.Module, _args: Any) -> None:
        self.cut = False

    def begin(self, real: torch.Tensor, changed: dict[str, Any]) -> None:
        """Embeddings (B, V + T, H) in place of ids."""
        embeds = real if real.is_floating_point() else self.words(real)
        virtual = self.numbers(embeds.device).to(embeds.dtype).expand(len(embeds), -1, -1)
        changed.pop("input_ids", None)
        changed["inputs_embeds"] = torch.cat([virtual, embeds], dim=1)
        if changed.get("position_ids") is not None:
            before = torch.arange(self.count, device=embeds.device).expand(len(changed["position_ids"]), -1)
            changed["position_ids"] = torch.cat([before, changed["position_ids"]], dim=1)
        self.cut = True

    def after(self, _decoder: nn.Module, _args: Any, output: Any) -> Any:
        """The hidden states of the real tokens only."""
        if self.cut:
            output.last_hidden_state = output.last_hidden_state[:, self.count :]
        return output


class Lent(DynamicCache):
    """A cache that puts virtual keys and values before each layer's own and keeps nothing, so that layers can be recomputed.

    Args:
        pairs: keys and values of every layer, each (1, heads, V, K / heads).
    """

    def __init__(self, pairs: list[tuple[torch.Tensor, torch.Tensor]]) -> None:
        super().__init__()
        self.pairs = pairs

    def update(self, key_states: Any, value_states: Any, layer_idx: int, *_args: Any, **_more: Any) -> Any:
        """The virtual tokens' and then the real ones'."""
        keys, values = (x.expand(len(key_states), -1, -1, -1).to(key_states.dtype) for x in self.pairs[layer_idx])
        return torch.cat([keys, key_states], dim=2), torch.cat([values, value_states], dim=2)

    def get_seq_length(self, layer_idx: int = 0) -> int:
        """V."""
        return int(self.pairs[layer_idx][0].shape[2])

    def get_mask_sizes(self, query_length: int, layer_idx: int) -> tuple[int, int]:
        """V + T keys, none of them left out."""
        return self.get_seq_length(layer_idx) + query_length, 0


class Prefix(Hooks):
    """Virtual tokens as keys and values of every layer."""

    def __init__(self, encoder: nn.Module, count: int, depth: int, decoder: Any) -> None:
        super().__init__(encoder, count, decoder)
        self.depth, self.config, self.dtype = depth, decoder.config, decoder.dtype
        self.lent: Lent | None = None
        for module in decoder.modules():
            if hasattr(module, "layer_idx"):
                module.register_forward_pre_hook(self.lend, with_kwargs=True)

    def before(self, decoder: nn.Module, args: tuple[Any, ...], given: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
        """As every one's; a cache is lent for one pass."""
        self.lent = None
        return super().before(decoder, args, given)

    def begin(self, real: torch.Tensor, changed: dict[str, Any]) -> None:
        """A cache that holds the tokens: the caller's, a new one, or while training one that only lends them."""
        made = self.numbers(real.device)  # (1, V, 2 L K)
        heads = key_heads(self.config, made.shape[-1] // (2 * self.depth))
        per_layer = made.view(1, self.count, 2 * self.depth, heads, -1).permute(2, 0, 3, 1, 4)
        pairs = [(per_layer[2 * n], per_layer[2 * n + 1]) for n in range(self.depth)]
        if torch.is_grad_enabled() or changed.get("use_cache") is False:
            self.lent = changed["past_key_values"] = Lent(pairs)
            changed["use_cache"] = False
            return
        cache = changed.get("past_key_values")
        if cache is None:
            cache = changed["past_key_values"] = DynamicCache(config=self.config)
        for number, (keys, values) in enumerate(pairs):
            expanded = [x.expand(len(real), -1, -1, -1).to(self.dtype) for x in (keys, values)]
            cache.update(expanded[0], expanded[1], number)

    def lend(self, _layer: nn.Module, args: tuple[Any, ...], given: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
        """Gives a layer the cache that recomputing activations takes away, since others would grow twice."""
        if self.lent is not None and given.get("past_key_values") is None:
            given = {**given, "past_key_values": self.lent}
        return args, given
