"""Recipes: hyper-parameters per model and data family, the same for all methods unless stated, each with its source.

Learning rates are per method, since one rate for all is unfair to most. What a recipe gives to a method the method fits to the
length of a run (`Method.recipe`); the run's config and so its record hold what was used.
"""

from __future__ import annotations

import difflib
from dataclasses import replace
from typing import Any

from smt_bench.data.prompts import SMT_CODE
from smt_bench.questions.recipe import Recipe

_PAPER_LRS = {"full": 2e-5, "smt": 2e-4, "lora": 3e-4, "dora": 2e-4, "spiel": 1e-4, "spiel-ma": 1e-3, "*": 2e-4}
_PAPER_SMT = {"warmup_steps": 100, "warmup_lr_scale": 0.1}
_CODE_SMT = {"warmup_steps": 100, "warmup_lr_scale": 1.0, "schedule": "fresh"}
_TINY_LRS = {
    "full": 1e-3, "smt": 1e-3, "lora": 2e-3, "dora": 2e-3, "spiel": 6e-3, "spiel-ma": 6e-2,
    "random-mask": 6e-3, "sift": 6e-3, "fish": 7e-4, "lt-sft": 6e-3, "diff-pruning": 6e-3, "*": 2e-3,
}  # fmt: skip
# Those of the commonsense tasks, not searched anew; (IA)3's by its likeness to them: one factor per channel takes a larger rate.
_TINY_CHAT_LRS = {**_TINY_LRS, "peft:ia3": 2e-2}
SPIEL_BATCH = 128  # of the SpIEL paper: 782 steps over its 100,000 examples


def _spiel(batch_size: int, ag_decay: float = 30.0, ma_decay: float = 0.3) -> dict[str, dict[str, Any]]:
    """SpIEL's intervals and decay (its table 4), which are of batches of 128, for as many examples in batches of another size.

    As they stand, 32,000 steps of 16 would forget every delta after 333 steps and move 160 times as many deltas as there are.
    """
    times = SPIEL_BATCH / batch_size
    schedule = {"update_every": round(20 * times), "estimate_steps": round(5 * times)}
    return {
        "spiel": {**schedule, "weight_decay": ag_decay / times},
        "spiel-ma": {**schedule, "weight_decay": ma_decay / times},
    }


_PAPER_GIVEN: dict[str, dict[str, Any]] = {"smt": _PAPER_SMT, **_spiel(16)}


def _instructions(rank64: float, lrs: dict[str, float], ma_decay: float) -> dict[str, Any]:
    """The SpIEL paper's choices for instructions (its appendix C and table 4).

    Its batches of 128 are made of single examples there (finetune_peft_with_accelerate.sh), of two here. New tokens are as in
    its evaluation scripts: 512 where a rationale stands before the answer, else 50. Ours: answers are generated greedily, also
    programs (the paper: temperature 0.1); the held-out examples; clipping; SMT's and other methods' rates, of which it has none.

    Args:
        rank64: trainable fraction of LoRA of rank 64 on all linear layers, in %.
        lrs: of table 4.
        ma_decay: of SpIEL-MA there.
    """
    return {
        "fractions_pct": (rank64,),
        "lrs": {"full": 2e-5, **lrs, "dora": lrs["lora"], "*": lrs["lora"]},
        "given": {"smt": _PAPER_SMT, "lora": {"alpha_per_rank": 16 / 64, "dropout": 0.1, "targets": ALL_LINEAR},
                  **_spiel(SPIEL_BATCH, ma_decay=ma_decay)},
        "batch_size": SPIEL_BATCH, "micro_batch_size": 2, "lr_warmup_share": 0.03, "cutoff": 2048, "train_on_inputs": False,
        "heldout": 200, "protocol": "likelihood", "epochs": 2, "beams": 1, "max_new_tokens": 50, "max_new_tokens_math": 512,
    }  # fmt: skip


ALL_LINEAR = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")
# Numbers of LoRA of rank 64 and of the model: 64 x 2,498,560 of 6,738,415,616, and 64 x 3,911,680 of 13,015,864,320.
_INSTRUCTIONS_7B = _instructions(
    2.3731, {"peft:ia3": 3e-4, "lora": 1e-4, "spiel": 1e-4, "spiel-ma": 1e-3}, ma_decay=0.3
)
_INSTRUCTIONS_13B = _instructions(
    1.9234, {"peft:ia3": 1e-4, "lora": 3e-5, "spiel": 1e-5, "spiel-ma": 4e-4}, ma_decay=0.0
)

PAPER = Recipe(
    fractions_pct=(0.43, 0.84, 1.26, 2.50, 3.73, 4.91),
    lrs=_PAPER_LRS,
    given=_PAPER_GIVEN,
    batch_size=16,
    micro_batch_size=16,
    lr_warmup_steps=100,
    cutoff=256,
    train_on_inputs=True,
    heldout=120,
    protocol="llm-adapters",
    epochs=3,
    beams=4,
    gradient_checkpointing=True,
    select_every=80,
    by_family={
        "math": {"given": {**_PAPER_GIVEN, "smt": {**_PAPER_SMT, "warmup_steps": 25}}},
        "instructions": _INSTRUCTIONS_7B,
    },
    source="SMT section 4 (3 epochs, warm-up 100 on commonsense, 25 on math), which refers to DoRA for the rest; DoRA's script "
    "for LLaMA2-7B (batch 16, cut-off 256, 120 held out, rate 2e-4); LLM-Adapters' script (LoRA 3e-4, 100 warm-up steps of the "
    "rate, loss on the prompt too); DoRA's scripts (eval_step 80, of the best weights); SpIEL table 4 (its rates, and its decay "
    "and intervals as many examples apart; full 2e-5). Ours: a tenth of SMT's rate while its warm-up trains all parameters",
)

# SpIEL table 4 has rates of their own for LLaMA2-13B, and no decay for SpIEL-MA.
_GIVEN_13B: dict[str, dict[str, Any]] = {"smt": _PAPER_SMT, **_spiel(16, ma_decay=0.0)}
PAPER_13B = replace(
    PAPER,
    lrs={**_PAPER_LRS, "spiel": 1e-5, "spiel-ma": 4e-4},
    given=_GIVEN_13B,
    by_family={
        "math": {"given": {**_GIVEN_13B, "smt": {**_PAPER_SMT, "warmup_steps": 25}}},
        "instructions": _INSTRUCTIONS_13B,
    },
)

# DoRA's script for LLaMA3-8B halves the rate.
PAPER_LLAMA3 = replace(PAPER, lrs={**PAPER.lrs, "dora": 1e-4, "smt": 1e-4})

# SMT's released scripts (github.com/HectorHHZ/Sparse_Matrix_Tuning, folder deepspeed), where the text says "identical to what was
# reported in LoRA and DoRA": `audit paper` lists where the two differ.
PAPER_CODE = replace(
    PAPER,
    lrs={**_PAPER_LRS, "smt": 9.65e-6, "full": 9.65e-6},
    given={"smt": _CODE_SMT, **_spiel(64)},
    batch_size=64,
    cutoff=2048,
    train_on_inputs=False,
    heldout=0.2,
    max_new_tokens=256,
    repetition_penalty=1.1,
    betas=(0.9, 0.95),
    schedule="linear-hf",
    template=SMT_CODE,
    select_every=30,
    by_family={"math": {"given": {**_spiel(64), "smt": {**_CODE_SMT, "warmup_steps": 25}}}},
    source="fine_tune.py: both rates 9.65e-6 (its default, and its comment: 'all results', 1e-4 'can further improve'), betas "
    "(0.9, 0.95), weight decay 0, 3 epochs, linear rate, a second schedule for tuning without a warm-up, length 2,048, 20 % of "
    "the data for validation; its README's command: 16 examples on each of 4 GPUs, 100 warm-up steps of the rate, 100 before "
    "selection; helper.py: prompt without indents, loss on the response; deepspeed_helpers.py: clipping at 1; "
    "run_commonsense_parallel.py: 4 beams, repetition penalty 1.1, 256 new tokens. There is no script for math: 25 steps before "
    "selection are the text's; other methods' rates are those of recipe paper. Ours: the last weights, not those with the least "
    "validation loss of every 30 steps (which `--select best` keeps); the literal <s> of its prompts is left to the tokenizer; a "
    "mean over the tokens of 64 examples, not over four means of 16",
)

SMOLLM2 = Recipe(
    fractions_pct=(0.5, 1.5, 5.0),
    lrs={"full": 5e-5, "smt": 1e-3, "lora": 1e-3, "dora": 1e-3, "spiel": 1e-3, "spiel-ma": 1e-2, "*": 1e-3},
    given={"smt": {"block_size": "auto", "warmup_share": 1 / 6, "warmup_lr_scale": 0.05}},
    batch_size=8,
    micro_batch_size=8,
    lr_warmup_steps=2,
    cutoff=256,
    train_on_inputs=False,
    heldout=80,
    protocol="likelihood",
    steps=24,
    limit=60,
    max_new_tokens_math=160,
    by_family={"math": {"cutoff": 384}, "instructions": {"cutoff": 512, "limit": 20, "max_new_tokens": 32}},
    source="sized for two CPU cores; full, LoRA and SMT rates from a 20-step GSM8K trial, the others by likeness: LOG.md",
)

TINY = Recipe(
    fractions_pct=(1.0, 2.0, 4.0, 8.0),
    lrs=_TINY_LRS,
    given={"smt": {"block_size": 32, "warmup_share": 1 / 44, "warmup_lr_scale": 0.3}},
    batch_size=32,
    micro_batch_size=32,
    lr_warmup_steps=5,
    cutoff=128,
    train_on_inputs=False,
    heldout=100,
    protocol="likelihood",
    steps=220,
    max_new_tokens_math=24,
    by_family={
        "math": {"lrs": {**_TINY_LRS, "smt": 3e-3}},  # by held-out loss, as all of its rates
        "instructions": {"lrs": _TINY_CHAT_LRS, "heldout": 80, "max_new_tokens": 24, "lr_warmup_share": 0.03},
    },
    source="rates by held-out loss at the largest fraction, where a rate that is too high does harm first "
    "(experiment learning-rate; LOG.md)",
)

BENCH = replace(
    SMOLLM2,
    fractions_pct=(0.84,),
    given={"smt": _PAPER_SMT, "spiel": {"weight_decay": 30.0}, "spiel-ma": {"weight_decay": 0.3}},
    cutoff=128,
    train_on_inputs=True,
    by_family={},
    source="ours: LLaMA-7B's block size, at the fraction of the paper's tables",
)

# Any other model: the CPU-sized recipe with blocks as large as its matrices share.
RECIPES = {
    "paper": PAPER,
    "paper-13b": PAPER_13B,
    "paper-llama3": PAPER_LLAMA3,
    "paper-code": PAPER_CODE,
    "smollm2": SMOLLM2,
    "small": SMOLLM2,
    "tiny": TINY,
    "bench": BENCH,
}


def find(name: str) -> Recipe:
    """The recipe called `name`.

    Raises:
        ValueError: no such recipe; the message names the nearest.
    """
    if name not in RECIPES:
        near = difflib.get_close_matches(name, RECIPES, n=1, cutoff=0.4)
        hint = f"did you mean {near[0]}?" if near else f"choose from {', '.join(RECIPES)}"
        raise ValueError(f"--recipe {name}: {hint}")
    return RECIPES[name]
