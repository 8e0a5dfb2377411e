"""The installed tuners by name, what they are called in tables, and why some do not work. Imports neither torch nor peft.

Which tuners there are is read from the source of the installed `peft`; which of them work was found by trying. The tests try
all of them, so that a new release of `peft` shows there.
"""

from __future__ import annotations

import ast
import importlib.util
from functools import cache
from pathlib import Path

PREFIX = "peft:"
# Title in tables, and what trains.
WORKING = {
    "lora": ("LoRA (peft)", "low-rank adapters with all of peft's options: rsLoRA, PiSSA, OLoRA, ..."),
    "adalora": ("AdaLoRA", "low-rank adapters in SVD form whose ranks are shared out by importance"),
    "adamss": ("AdaMSS", "low-rank updates of clusters of rows in the matrix's singular basis"),
    "adaption_prompt": ("LLaMA-Adapter", "prompts that the attention of each layer sees through a gate"),
    "beft": ("BEFT", "biases, added where the layers have none"),
    "boft": ("BOFT", "butterfly-factorised orthogonal rotations of the weights"),
    "c3a": ("C3A", "block-circular convolutions beside frozen matrices"),
    "deft": ("DEFT", "removes a low-rank subspace of the weight and puts another in its place"),
    "delora": ("DeLoRA", "normalised low-rank adapters with a trained strength"),
    "fourierft": ("FourierFT", "sparse spectral coefficients of the weight update"),
    "frod": ("FRoD", "rotations shared by layers of a kind, with sparse trained coefficients"),
    "glora": ("GLoRA", "generalised low-rank scaling and shifting of weights"),
    "gralora": ("GraLoRA", "low-rank adapters on sub-blocks of the matrix"),
    "hira": ("HiRA", "a low-rank matrix that multiplies the weight entry by entry"),
    "hra": ("HRA", "products of Householder reflections of the weights"),
    "ia3": ("IA³", "rescaled activations, one factor per channel"),
    "lily": ("Lily", "low-rank adapters whose up-projections are shared through a router"),
    "ln_tuning": ("LN tuning", "the normalisation layers"),
    "loha": ("LoHa", "Hadamard products of two low-rank matrices"),
    "lokr": ("LoKr", "Kronecker products of small and low-rank matrices"),
    "miss": ("MiSS", "one shard shared along the inputs of each matrix"),
    "oft": ("OFT", "block-diagonal orthogonal rotations of the weights"),
    "osf": ("OSF", "the smallest singular directions, kept orthogonal to the others"),
    "peanut": ("PEANuT", "weight-aware neural tweakers"),
    "p_tuning": ("P-tuning", "virtual tokens before the real ones, made by a small network"),
    "prefix_tuning": ("Prefix tuning", "virtual keys and values before those of every layer"),
    "prompt_tuning": ("Prompt tuning", "embeddings of virtual tokens before the real ones"),
    "psoft": ("PSOFT", "orthogonal rotations within the principal subspace"),
    "pvera": ("PVeRA", "VeRA with sampled latent vectors"),
    "randlora": ("RandLoRA", "trained combinations of frozen random low-rank matrices, full rank"),
    "road": ("RoAd", "2-d rotations of the outputs"),
    "shira": ("SHiRA", "a random sparse set of entries"),
    "supertuning": ("Super tuning", "the entries of the largest weights"),
    "tinylora": ("TinyLoRA", "a few numbers behind frozen random projections of singular directions"),
    "trainable_tokens": ("Trainable tokens", "the embeddings of the tokens named in token_indices"),
    "unilora": ("Uni-LoRA", "one vector that is projected onto all low-rank adapters"),
    "vblora": ("VB-LoRA", "a bank of vectors that low-rank adapters are mixed from"),
    "vera": ("VeRA", "scaling vectors around frozen random low-rank matrices"),
    "waveft": ("WaveFT", "sparse wavelet coefficients of the weight update"),
}  # fmt: skip
NOT_WORKING = {
    "cartridge": "starts from the key-value cache of a document that it is to hold: data of its own",
    "cpt": "needs labelled in-context examples as token ids: data of its own",
    "multitask_prompt_tuning": "needs a task id with every example, and prompts trained on other tasks to start from",
    "poly": "needs a task id with every example: its router refuses a forward pass without task_ids",
    "shadow": "trains a second, smaller model beside this one, and runs only inside peft's wrapper",
    "xlora": "mixes LoRA adapters trained before, which it has to be given as files",
}  # fmt: skip


@cache
def installed() -> tuple[str, ...]:
    """The tuners of the installed `peft`, lower case, in its own order; empty where it is not installed.

    Read from the source of its enumeration: importing `peft` takes seconds.
    """
    spec = importlib.util.find_spec("peft")
    if spec is None or not spec.submodule_search_locations:
        return ()
    source = Path(spec.submodule_search_locations[0]) / "utils" / "peft_types.py"
    if not source.is_file():
        return ()
    for node in ast.parse(source.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.ClassDef) and node.name == "PeftType":
            values = [part.value for part in node.body if isinstance(part, ast.Assign)]
            return tuple(v.value.lower() for v in values if isinstance(v, ast.Constant) and isinstance(v.value, str))
    return ()


def working() -> dict[str, tuple[str, str]]:
    """By tuner, its title and what trains, of those that are installed and work."""
    return {name: WORKING[name] for name in sorted(installed()) if name in WORKING}


def reasons() -> dict[str, str]:
    """By tuner, why it does not work here, of those that are installed and do not."""
    new = "newer than this version of smt-bench, which does not know what sets its size"
    return {name: NOT_WORKING.get(name, new) for name in sorted(installed()) if name not in WORKING}
