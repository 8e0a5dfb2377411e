"""Which of transformers' model types look at later tokens: by numbers, against what their configurations are refused for."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch

from smt_bench.models.preflight import ENCODERS, PERMUTED, check_causal, check_config

VOCABULARY, NUMBERS = 1024, 300_000_000


def small(config: Any) -> Any:
    """A configuration with its first layers, one of each kind, and few words."""
    found = copy.deepcopy(config)
    text, kinds = found.get_text_config(), getattr(found.get_text_config(), "layer_types", None) or ()
    whole, layers = text.num_hidden_layers, max([2, *(1 + kinds.index(kind) for kind in set(kinds))])
    if whole > layers:
        for name, value in list(vars(text).items()):
            if isinstance(value, list) and len(value) == whole:
                setattr(text, name, value[:layers])
        text.num_hidden_layers = layers
    for name in ("vocab_size", "vocab_size_per_layer_input"):
        if hasattr(text, name):
            setattr(text, name, VOCABULARY)
    for part in (found, text):
        for number, name in enumerate(("pad_token_id", "bos_token_id", "eos_token_id")):
            if hasattr(part, name):
                setattr(part, name, number)
    return found


def usual(kind: str) -> tuple[Any, Any] | None:
    """The configuration that transformers gives a type, and a small model of it; None where its defaults make none here."""
    from transformers import AutoConfig, AutoModelForCausalLM

    try:
        config = AutoConfig.for_model(kind)
        with torch.device("meta"):
            outline = AutoModelForCausalLM.from_config(small(config))
        if sum(p.numel() for p in outline.parameters()) > NUMBERS:
            return None
        return config, AutoModelForCausalLM.from_config(outline.config)
    except Exception:  # whatever an architecture's own code raises
        return None


@pytest.mark.long
def test_what_is_refused_is_what_looks_ahead() -> None:
    from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES as TYPES

    tried, refused, wrong = set(), set(), {}
    for kind in sorted(TYPES):
        if (made := usual(kind)) is None or getattr(made[0], "is_encoder_decoder", False):
            continue
        config, model = made
        model.config.use_cache = False
        tried.add(kind)
        try:
            check_config(kind, config)
        except ValueError:
            refused.add(kind)
        try:
            check_causal(kind, model)
            ahead = False
        except Exception as error:
            if "depend on later tokens" not in str(error):  # it cannot be asked: nothing that trains
                continue
            ahead = True
        if ahead != (kind in refused):
            wrong[kind] = ahead
    assert len(tried) > 50  # of 189 types in transformers 5.23; others are too large or have no usable defaults
    assert refused >= (ENCODERS | PERMUTED) & tried
    assert not wrong
