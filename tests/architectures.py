"""Tiny random models of every architecture that must work: two layers, a vocabulary of their caller's, no download."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import pytest

HIDDEN, MLP, LAYERS, HEADS, KV = 64, 128, 2, 4, 2
COMMON = {
    "hidden_size": HIDDEN, "intermediate_size": MLP, "num_hidden_layers": LAYERS, "num_attention_heads": HEADS,
    "num_key_value_heads": KV, "head_dim": HIDDEN // HEADS, "max_position_embeddings": 256,
}  # fmt: skip
EQUAL = {**COMMON, "num_key_value_heads": HEADS}
MOE = {"num_experts": 4, "num_local_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 32}
FALCON = {**{name: value for name, value in EQUAL.items() if name != "head_dim"}, "ffn_hidden_size": MLP}
GPT = {"n_embd": HIDDEN, "n_layer": LAYERS, "n_head": HEADS, "n_positions": 256, "n_inner": MLP}
DEEPSEEK = {
    **EQUAL, **MOE, "n_routed_experts": 4, "n_shared_experts": 1, "n_group": 1, "topk_group": 1, "first_k_dense_replace": 1,
    "q_lora_rank": 32, "kv_lora_rank": 16, "qk_nope_head_dim": 16, "qk_rope_head_dim": 8, "v_head_dim": 16, "head_dim": 8,
}  # fmt: skip
HYBRID = {
    **COMMON, **MOE, "shared_expert_intermediate_size": 32, "linear_num_key_heads": 2, "linear_num_value_heads": 4,
    "linear_key_head_dim": 16, "linear_value_head_dim": 16, "layer_types": ["linear_attention", "full_attention"],
}  # fmt: skip
ALTERNATING = {"sliding_window": 64, "layer_types": ["sliding_attention", "full_attention"]}
GEMMA3 = {**COMMON, **ALTERNATING, "query_pre_attn_scalar": 16}
SIGLIP = {
    "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2, "image_size": 28,
    "patch_size": 14,
}  # fmt: skip
# Name of the architecture in transformers -> what its configuration is given. Names with a "+" are variants.
ARCHITECTURES: dict[str, dict[str, Any]] = {
    "llama": COMMON,
    "mistral": {**COMMON, "sliding_window": None},
    "qwen2": COMMON,
    "qwen3": COMMON,
    "qwen3_moe": {**COMMON, **MOE},
    "gemma": COMMON,
    "gemma2": {**COMMON, "query_pre_attn_scalar": 16, "sliding_window": 64},
    "gemma3_text": GEMMA3,
    "gemma3": {"text_config": GEMMA3, "vision_config": SIGLIP, "mm_tokens_per_image": 4},
    "phi": COMMON,
    "phi3": {**COMMON, "original_max_position_embeddings": 256},
    "gpt2": GPT,
    "gpt_neox": EQUAL,
    "gptj": {**GPT, "rotary_dim": 8},
    "falcon": {**FALCON, "multi_query": True, "new_decoder_architecture": False, "alibi": False},
    "falcon+40b": {**FALCON, "num_kv_heads": KV, "new_decoder_architecture": True, "alibi": False},
    "falcon+rw": {**FALCON, "multi_query": False, "new_decoder_architecture": False, "alibi": True, "parallel_attn": False},
    "opt": {**EQUAL, "ffn_dim": MLP, "word_embed_proj_dim": HIDDEN},
    "bloom": {"hidden_size": HIDDEN, "n_layer": LAYERS, "n_head": HEADS},
    "starcoder2": {**COMMON, "sliding_window": None},
    "olmo2": COMMON,
    "olmoe": {**COMMON, **MOE},
    "stablelm": COMMON,
    "granite": COMMON,
    "smollm3": COMMON,
    "cohere": {**COMMON, "use_qk_norm": False},
    "cohere2": {**COMMON, **ALTERNATING},
    "glm4": COMMON,
    "nemotron": COMMON,
    "deepseek_v3": DEEPSEEK,
    "mixtral": {**COMMON, **MOE, "sliding_window": None},
    "gpt_oss": {**COMMON, **MOE, **ALTERNATING},
    "qwen3_next": HYBRID,
    "gpt_bigcode": {**GPT, "multi_query": True},
    "gpt_neo": {
        "hidden_size": HIDDEN, "num_layers": LAYERS, "num_heads": HEADS, "intermediate_size": MLP, "max_position_embeddings": 256,
        "attention_types": [[["global", "local"], 1]], "window_size": 64,
    },
    "mpt": {"d_model": HIDDEN, "n_heads": HEADS, "n_layers": LAYERS, "expansion_ratio": 2, "max_seq_len": 256},
    "mamba": {"hidden_size": HIDDEN, "num_hidden_layers": LAYERS, "state_size": 8},
    "rwkv": {"hidden_size": HIDDEN, "attention_hidden_size": HIDDEN, "num_hidden_layers": LAYERS, "context_length": 256},
}  # fmt: skip


# Builds that differ most from each other; long tests try the others.
BUILDS = (
    "llama", "gemma3", "phi3", "gpt2", "gpt_neox", "falcon", "bloom", "mixtral", "gpt_oss", "qwen3_next", "mamba", "rwkv",
)  # fmt: skip


def builds(names: Iterable[str]) -> list[Any]:
    """Those of BUILDS in .ci/run, the rest in long tests."""
    return [pytest.param(name, marks=pytest.mark.slow if name in BUILDS else pytest.mark.long) for name in names]


def configuration(name: str, vocabulary: int, **special: int) -> Any:
    """The tiny configuration of an architecture.

    Args:
        name: of ARCHITECTURES.
        vocabulary: its size.
        **special: token ids, e.g. `eos_token_id`.
    """
    from transformers import AutoConfig

    kind, values = name.partition("+")[0], dict(ARCHITECTURES[name])
    if "text_config" in values:
        values["text_config"] = {**values["text_config"], "vocab_size": vocabulary, **special}
    return AutoConfig.for_model(kind, **values, vocab_size=vocabulary, **special)
