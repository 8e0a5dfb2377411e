"""What sets the size of each tuner: the field that the budget turns, the values it can have, and what goes with them. Data.

Fields that are named nowhere here keep peft's own defaults. `scaled` fields keep peft's own ratio to the knob, so that the
strength of an update does not depend on its size (lora_alpha 8 at r 8 is lora_alpha 32 at r 32).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any, Literal

# Values are 1, 2, ... (times `step`) up to a limit, or the common divisors of some sides of the target matrices.
Values = Literal[
    "narrowest",
    "widest",
    "longest",
    "entries",
    "sparse",
    "rest",
    "bases",
    "share",
    "core",
    "adapters",
    "inputs",
    "sides",
]


@dataclasses.dataclass(frozen=True)
class Knob:
    """How one tuner is sized.

    Attributes:
        field: of its peft config; None: the size is fixed.
        unit: what one value counts, in tables and messages.
        values: which values there are. "narrowest": up to the smallest side of all target matrices; "widest": up to the largest
            of their smaller sides (as LoRA: more is full rank in every matrix); "longest": up to the largest side; "entries": up
            to the numbers in the smallest matrix; "sparse": up to I O / (I + O) in every matrix; "rest": one less than the
            smallest side; "bases": one for each number of bases that a matrix is made of; "share": millionths of all entries;
            "core": up to the numbers in a core of r x r, which more could not change; "adapters": up to the numbers of low-rank
            adapters of rank r on all of them; "inputs", "sides": common divisors of all inputs, or of all sides.
        least: the smallest value.
        step: between two values.
        step_from: a field that is the step where it is set.
        per: the field's value for one unit; -1: what is left of 1.
        scaled: fields that grow with the knob.
        seeded: fields that take the run's seed, so that seeds differ in all that is drawn.
        fixed: fields with a value of ours, which `--set` may change.
        stand_in: fields without which peft makes no config, while nothing is known of model and run.
        refused: fields that cannot be set, and why.
        refused_values: values of fields that cannot be set, and why.
        count: name of a formula in `sizes`, where counting on a model without storage is impossible or slow.
        plain: fields that leave the formula true.
        layers: "linear": the setting `targets`; "norms": every normalisation layer; "embedding": the input embeddings;
            "tokens": virtual ones, see `virtual`.
        merges: whether the tuner can be folded into the weights.
    """

    field: str | None = None
    unit: str = "parameters"
    values: Values = "widest"
    least: int = 1
    step: int = 1
    step_from: str | None = None
    per: float = 1
    scaled: tuple[str, ...] = ()
    seeded: tuple[str, ...] = ()
    fixed: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    stand_in: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    refused: Mapping[str, str] = dataclasses.field(default_factory=dict)
    refused_values: Mapping[tuple[str, Any], str] = dataclasses.field(default_factory=dict)
    count: str | None = None
    plain: tuple[str, ...] = ()
    layers: Literal["linear", "norms", "embedding", "tokens"] = "linear"
    merges: bool = True


_DATA = "looks at training data before training, which no method sees here"
_TOKENIZER = "needs a tokenizer, which no method sees"
_TRAINER = "needs calls from peft's own trainer while it trains"
_PART_OF_SIZE = "is part of the size, which the trainable fraction decides"
_LORA_REFUSED_VALUES = {
    ("init_lora_weights", "corda"): _DATA,
    ("init_lora_weights", "lora_ga"): _DATA,
}
_LORA_REFUSED = {
    "alora_invocation_tokens": "needs the place of these tokens in every batch",
    "layer_replication": "makes another model",
    "arrow_config": "routes between LoRA adapters trained before",
    **dict.fromkeys(("corda_config", "lora_ga_config"), _DATA),
    **dict.fromkeys(("eva_config", "loftq_config"), "is decided here, see methods/peft_tuners/starts.py"),
}

_MODEL = "follows from the model"


def _virtual(*more: str, values: Mapping[tuple[str, Any], str] | None = None) -> Knob:
    """Of tuners with virtual tokens."""
    of_model = ("token_dim", "num_transformer_submodules", "num_attention_heads", "num_layers")
    refused = dict.fromkeys(of_model, _MODEL) | dict.fromkeys(more, _TOKENIZER)
    return Knob(
        "num_virtual_tokens",
        "virtual tokens",
        layers="tokens",
        merges=False,
        refused=refused,
        refused_values=values or {},
    )


KNOBS: dict[str, Knob] = {
    "lora": Knob(
        "r", "rank", scaled=("lora_alpha",), refused=_LORA_REFUSED, refused_values=_LORA_REFUSED_VALUES, count="lora",
        plain=("lora_alpha", "lora_dropout", "use_rslora", "use_dora", "init_lora_weights"),
    ),
    "adalora": Knob(
        "init_r", "initial rank", least=2, scaled=("lora_alpha", "target_r"), fixed={"lora_alpha": 12, "target_r": 8},
        stand_in={"total_step": 10**9},
        refused={**_LORA_REFUSED, "r": "is not read by AdaLoRA, which has init_r and target_r", "total_step": "is the run's"},
        refused_values=_LORA_REFUSED_VALUES,
    ),
    "adamss": Knob(
        "r", "rank", "narrowest", seeded=("random_seed",), count="adamss", plain=("num_subspaces", "random_seed"),
        refused={"use_asa": _TRAINER, "use_dynamic_rank": "makes the size depend on the weights",
                 "subspace_rank": "makes the size depend on the weights, above 1"},
    ),
    "adaption_prompt": Knob("adapter_len", "prompt tokens", layers="tokens", merges=False),
    "beft": Knob(merges=False),  # peft adds to the layer's own bias, and the layers of LLaMA have none
    "boft": Knob(
        "boft_block_size", "block size", "inputs", count="boft", plain=("boft_dropout",),
        refused={"boft_block_num": _PART_OF_SIZE,
                 "boft_n_butterfly_factor": "needs a CUDA extension that peft compiles, and is silently 1 without it"},
    ),
    "c3a": Knob("block_size", "block size", "sides"),
    "deft": Knob("r", "rank"),
    "delora": Knob("r", "rank"),
    "fourierft": Knob(
        "n_frequency", "frequencies per layer", "entries", seeded=("random_loc_seed",), count="each",
        plain=("scaling", "random_loc_seed"), refused={"n_frequency_pattern": _PART_OF_SIZE},
    ),
    "frod": Knob(
        "sparse_rate", "millionths of sparse entries", "share", per=1e-6, seeded=("projection_prng_key",),
        fixed={"progressbar": False}, count="frod", plain=("frod_dropout", "regularization_alpha", "projection_prng_key"),
        refused={"runtime_offload_base_weight": "moves weights of the model"},
    ),
    "glora": Knob("r", "rank"),
    "gralora": Knob("r", "rank", step=2, step_from="gralora_k", scaled=("alpha",)),
    "hira": Knob("r", "rank"),
    "hra": Knob("r", "reflections", "narrowest", step=2),  # an odd number is not the identity at the start
    "ia3": Knob(),
    "lily": Knob("r", "rank", merges=False),
    "ln_tuning": Knob(layers="norms"),
    "loha": Knob("r", "rank", scaled=("alpha",)),
    "lokr": Knob("r", "rank", scaled=("alpha",)),
    "miss": Knob("r", "rank", "narrowest"),
    "oft": Knob("oft_block_size", "block size", "inputs", refused={"r": _PART_OF_SIZE}),
    "osf": Knob("effective_rank", "directions per matrix", "rest", refused={"rank_pattern": _PART_OF_SIZE}),
    "peanut": Knob("r", "rank"),
    "p_tuning": _virtual(),
    "prefix_tuning": _virtual(),
    "prompt_tuning": _virtual(
        "prompt_tuning_init_text", "tokenizer_name_or_path", "tokenizer_kwargs",
        values={("prompt_tuning_init", "TEXT"): _TOKENIZER},
    ),
    "psoft": Knob(
        "r", "rank", "narrowest", scaled=("psoft_alpha",), seeded=("random_seed",), count="psoft",
        plain=("psoft_alpha", "psoft_dropout", "ab_svd_init", "psoft_svd", "random_seed", "use_cayley_neumann"),
    ),
    "pvera": Knob("r", "rank", "longest", seeded=("projection_prng_key",)),
    "randlora": Knob(
        "r", "rank", "bases", scaled=("randlora_alpha",), seeded=("projection_prng_key",), count="randlora",
        plain=("randlora_alpha", "randlora_dropout", "sparse", "very_sparse", "projection_prng_key"),
    ),
    "road": Knob(),
    "shira": Knob(
        "r", "rank of a LoRA of that size", "sparse", seeded=("random_seed",), count="lora", plain=("random_seed",),
    ),
    "supertuning": Knob(
        "sparsity", "millionths of entries", "share", per=-1e-6, refused={"r": _PART_OF_SIZE},
    ),
    "tinylora": Knob("u", "numbers per layer", "core", seeded=("projection_seed",)),
    "trainable_tokens": Knob(layers="embedding"),
    "unilora": Knob(
        "theta_d_length", "numbers in the vector", "adapters", seeded=("proj_seed",), count="vector",
        plain=("r", "proj_seed", "unilora_dropout", "init_theta_d_bound", "init_weights", "save_indices", "layers_pattern",
               "layers_to_transform"),
    ),
    "vblora": Knob("num_vectors", "vectors", "entries"),
    "vera": Knob("r", "rank", "longest", seeded=("projection_prng_key",)),
    "waveft": Knob(
        "n_frequency", "coefficients per layer", "entries", seeded=("random_loc_seed",), count="each",
        plain=("scaling", "wavelet_family", "use_idwt", "random_loc_seed"),
        refused={"n_frequency_pattern": _PART_OF_SIZE, "proportional_parameters": _PART_OF_SIZE},
    ),
}  # fmt: skip

OWN_STARTS = ("eva", "loftq")  # of LoRA, which peft prepares with data, or on a GPU
SAID_AS = {"target_modules": "targets"}
# Of every tuner: the first are decided here, the others would change the model itself or are for peft's files.
OURS = {
    **dict.fromkeys(("task_type", "inference_mode"), "is decided here"),
    **dict.fromkeys(
        ("peft_type", "peft_version", "auto_mapping", "base_model_name_or_path", "revision"), "is for peft's files"
    ),
    "modules_to_save": "would train whole layers beside the tuner",
    "bias": "would train the model's own biases beside the tuner",
    "trainable_token_indices": "would train embeddings beside the tuner, as peft:trainable_tokens does alone",
    "target_parameters": "whole tensors are trained by full fine-tuning only",
    **dict.fromkeys(("megatron_config", "megatron_core", "runtime_config"), "is for other machinery"),
    "fan_in_fan_out": "follows from the layer",
}
