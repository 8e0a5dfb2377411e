"""Presets: a model's recipe made for a purpose.

    smoke      one fraction and a few steps: shows that everything works, measures nothing
    reference  the design behind `results/reference`: all that is decided before the first run, and the rates and settings that a
               tuning under it found

A tuning takes of `reference` the design alone: it starts from the recipe's rates, never from what it once found.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from smt_bench.questions.own_recipe import Own, applied
from smt_bench.questions.recipe import Recipe
from smt_bench.questions.recipes import find

SMOKE, REFERENCE = "smoke", "reference"
PRESETS = (SMOKE, REFERENCE)


@dataclass(frozen=True)
class Reference:
    """A design, in the values of a recipe file (`own_recipe`).

    Attributes:
        design: what is fixed before the first run.
        found: rates and settings of a tuning.
        tuning: its hash; "": not tuned yet.
        by_family: other values of both for a data family.
        tasks: of a data family those that are asked, where none is named.
        outcome: what its claims are judged by first, "accuracy" or "held-out loss"; "": it does not say.
        parts: the experiments of the sweep, on which data families, at which fractions (%); (): at the design's.
    """

    design: Mapping[str, Any]
    found: Mapping[str, Any] = field(default_factory=dict)
    tuning: str = ""
    by_family: Mapping[str, Reference] = field(default_factory=dict)
    tasks: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    parts: Mapping[str, Mapping[str, tuple[float, ...]]] = field(default_factory=dict)
    outcome: str = ""

    def of(self, family: str) -> Reference:
        """Of a data family: its own values in place of those for all."""
        own = self.by_family.get(family)
        if own is None:
            return self
        return Reference({**self.design, **own.design}, own.found, own.tuning, outcome=own.outcome or self.outcome)


# By recipe. Steps and examples are what two CPU cores do in some hours; LOG.md has what each choice saves. Not bf16: its weights
# round away most of what full fine-tuning changes in so few steps, whatever the masters hold.
REFERENCES = {
    "smollm2": Reference(
        {
            "fractions": (0.16, 1.0, 5.0), "seeds": (0, 1, 2), "steps": 60, "heldout": 120, "limit": 40, "lr_warmup": 0.1,
            "precision": "fp32",
        },
        by_family={
            "commonsense": Reference(
                {"fractions": (0.16, 5.0)},  # the least that LoRA can have, and what is usual
                {
                    "lr": {"full": 7.5e-5, "smt": 3.29e-3, "spiel": 1.42e-3, "lora": 2.44e-3, "dora": 1.28e-2},
                    "settings": {  # those in steps as shares of the run: 12 steps were searched
                        "smt": {"warmup_lr_scale": 0.0311, "warmup_share": 0.0833},
                        "spiel": {"update_every": 15, "weight_decay": 11.9},
                        "lora": {"alpha_per_rank": 0.65, "dropout": 0.0984},
                        "dora": {"alpha_per_rank": 1.27, "dropout": 0.0294},
                    },
                },
                "124d7f7be8a0d2d4",
            ),
            "math": Reference(
                {},
                {
                    "lr": {"full": 7.5e-5, "smt": 2.13e-3, "spiel": 7.9e-4, "lora": 2.44e-3, "dora": 6.78e-3},
                    "settings": {  # those in steps as shares of the run: 12 steps were searched
                        "smt": {"warmup_lr_scale": 0.248, "warmup_share": 0.0833},
                        "spiel": {"update_every": 5, "weight_decay": 3.24},
                        "lora": {"alpha_per_rank": 0.65, "dropout": 0.0984},
                        "dora": {"alpha_per_rank": 0.36, "dropout": 0.146},
                    },
                },
                "ff5b52c9cbb929b5",
            )
        },
        tasks={
            "commonsense": ("boolq", "piqa", "social_i_qa", "ARC-Easy", "ARC-Challenge", "openbookqa"),
            "math": ("gsm8k",),
        },
        # The choices that SMT makes are tried where 60 steps teach something, at one fraction.
        parts={
            "plateau": {"commonsense": (), "math": ()},
            "commonsense": {"commonsense": ()},
            "qkv": {"math": (1.0,)},
            "selection": {"math": (1.0,)},
            "gradients": {"math": ()},
            "anatomy": {"math": ()},
        },
        outcome="held-out loss",  # of so few test items, and so few steps, accuracy can tell nothing
    ),
}  # fmt: skip


def values(name: str, family: str, preset: str | None, tunes: bool = False) -> dict[str, Any]:
    """What a preset has in place of a recipe's values, as a recipe file has them; nothing where there is none.

    Args:
        name: of the recipe.
        family: of the data.
        preset: one of `PRESETS`, or None.
        tunes: whether rates and settings are searched.

    Raises:
        ValueError: unknown preset, or a recipe without a reference.
    """
    if preset is not None and preset not in PRESETS:
        raise ValueError(f"unknown preset {preset!r}: choose from {', '.join(PRESETS)}")
    if preset != REFERENCE:
        return {}
    found = reference(name).of(family)
    return {**found.design, **({} if tunes else found.found)}


def reference(name: str) -> Reference:
    """That of a recipe.

    Raises:
        ValueError: it has none.
    """
    if name not in REFERENCES:
        raise ValueError(f"--preset {REFERENCE}: there is none for recipe {name}, only for {', '.join(REFERENCES)}")
    return REFERENCES[name]


def origin(name: str, family: str, preset: str | None, method: str) -> dict[str, str]:
    """What a method's record says of its preset: that it is `reference`, and the tuning that found its rate ("": none did)."""
    if preset != REFERENCE:
        return {}
    found = REFERENCES[name].of(family)
    return {"preset": REFERENCE, "tuning": found.tuning if method in found.found.get("lr", {}) else ""}


def outcome(name: str, family: str, preset: str | None) -> dict[str, str]:
    """What a preset's claims are judged by first, as `analysis.json` says it; nothing where the preset does not."""
    found = REFERENCES[name].of(family).outcome if preset == REFERENCE else ""
    return {"outcome": found} if found else {}


def recipe(
    name: str, family: str, preset: str | None = None, own: Mapping[str, Any] | None = None, tunes: bool = False
) -> Recipe:
    """The recipe called `name` for a data family.

    Args:
        name: key of `recipes.RECIPES`.
        family: name of the data family.
        preset: one of `PRESETS`, or None.
        own: values of a recipe file; they take the place of the recipe's and of the reference's.
        tunes: as for `values`.

    Raises:
        ValueError: unknown recipe or preset, or values that do not go together.
    """
    found = find(name)
    found = replace(found, **found.by_family.get(family, {}))
    found = applied(found, Own.of(values(name, family, preset, tunes)))
    found = applied(found, Own.of(own or {}, "--recipe"))
    if preset != SMOKE:
        return found
    middle = found.fractions_pct[len(found.fractions_pct) // 2]
    return replace(
        found, fractions_pct=(middle,), steps=8, limit=10, heldout=16, with_base=False, lr_warmup_steps=2, seeds=(0,),
        max_new_tokens_math=min(found.max_new_tokens_math, 24),
    )  # fmt: skip
