"""What a layer does in its block, read off its path: the names by which methods and people choose layers.

LLaMA's names stand for the roles, whatever the architecture calls its layers, so that one setting means the same matrices in
all of them:

    q_proj, k_proj, v_proj, o_proj     attention: queries, keys, values, output
    gate_proj, up_proj, down_proj      MLP; where it has no gate, up and down are its first and second matrix

A layer that does none of this (in_proj and x_proj of a state-space model, say) is chosen by the last part of its own path.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from fnmatch import fnmatchcase

ATTENTION = ("q_proj", "k_proj", "v_proj", "o_proj")
MLP = ("gate_proj", "up_proj", "down_proj")
QKV = ATTENTION[:3]
ALL = "all-linear"
# Words of the command line for several roles, and for one.
GROUPS: Mapping[str, tuple[str, ...]] = {
    "attention": ATTENTION, "mlp": MLP, "qkv": QKV,
    **{name.removesuffix("_proj"): (name,) for name in (*ATTENTION, *MLP)},
}  # fmt: skip
# Own name -> role, anywhere; in attention only; elsewhere only.
_ANYWHERE = {
    **{name: name for name in (*ATTENTION, *MLP) if name != "gate_proj"},
    "q_a_proj": "q_proj", "q_b_proj": "q_proj",
    "fc1": "up_proj", "fc_in": "up_proj", "c_fc": "up_proj", "dense_h_to_4h": "up_proj",
    "fc2": "down_proj", "fc_out": "down_proj", "dense_4h_to_h": "down_proj",
}  # fmt: skip
_IN_ATTENTION = {
    "out_proj": "o_proj", "dense": "o_proj", "c_proj": "o_proj", "output": "o_proj", "query": "q_proj", "key": "k_proj",
    "value": "v_proj",
}  # fmt: skip
_ELSEWHERE = {"c_proj": "down_proj", "key": "up_proj", "value": "down_proj", "gate_proj": "gate_proj"}
# Parts of a model that looks at or listens to something beside the text.
_OTHER_SENSES = re.compile(
    r"(^|\.)(vision|visual|image|audio|speech|embed_vision|embed_audio|mm_|multi_modal|multimodal)"
)
_INSIDE = re.compile(r"\.\d+\.")


def reads_text(path: str) -> bool:
    """Whether a layer belongs to the text decoder and not to a vision tower or the like."""
    return _OTHER_SENSES.search(path) is None


def inside(path: str) -> bool:
    """Whether a layer is one of the repeated blocks': neither an embedding nor the output layer."""
    return _INSIDE.search(path) is not None


def routes(path: str) -> bool:
    """Whether a layer chooses experts: a handful of rows that no method is after."""
    return any("router" in part or part in ("gate", "shared_expert_gate") for part in path.split("."))


def role(path: str) -> str:
    """The role of a layer ("router" where it chooses experts), or the last part of its path where it has none of those above.

    Args:
        path: of the module, e.g. "transformer.h.0.attn.c_proj".
    """
    above, _, own = path.rpartition(".")
    if routes(path):
        return "router"
    if own in _ANYWHERE:
        return _ANYWHERE[own]
    attends = any("attn" in part or "attention" in part for part in above.split("."))
    return (_IN_ATTENTION if attends else _ELSEWHERE).get(own, own) if inside(path) else own


def is_glob(target: str) -> bool:
    """Whether a target is a pattern on paths, e.g. "model.layers.0.*"."""
    return any(sign in target for sign in "*?[.")


def matches(path: str, targets: Iterable[str]) -> bool:
    """Whether a layer is meant by one of the targets: by its role, its own name, or a pattern that its path fits.

    A tower for images is never meant by a role or a name, only by a pattern.
    """
    own, what = path.rpartition(".")[2], role(path)
    names = (what,) if own in (*ATTENTION, *MLP) else (what, own)  # down_proj of a router is no MLP's
    return any(
        fnmatchcase(path, target) if is_glob(target) else target in names and reads_text(path) for target in targets
    )


def expanded(targets: Sequence[str]) -> tuple[str, ...]:
    """Groups as their roles, in order, each once; everything else as it is."""
    return tuple(dict.fromkeys(name for target in targets for name in GROUPS.get(target, (target,))))
