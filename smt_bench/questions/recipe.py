"""What a recipe is: all choices of a run that are not the method's."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

from smt_bench import methods


@dataclass(frozen=True)
class Recipe:
    """All choices of a run that are not the method's.

    Attributes:
        fractions_pct: the grid of trainable fractions, in % of all parameters.
        lrs: peak learning rate per method; "*" for methods that neither this names nor have a rate of their own.
        given: what a method is given to make its settings of, by method.
        batch_size: examples per optimizer step.
        micro_batch_size: examples per forward pass.
        lr_warmup_steps: of the learning-rate schedule.
        lr_warmup_share: the same as a share of all steps, rounded down; None: so many steps as that says.
        mixture: training set of a family with several; None: the first that is here.
        cutoff: tokens per example.
        train_on_inputs: loss on the prompt as well.
        heldout: training examples set aside, or below 1 a share of them.
        protocol: "likelihood" or "llm-adapters".
        steps: optimizer steps; None: `epochs` over the training set.
        epochs: see `steps`.
        limit: test examples per task; None for all.
        beams: for generated answers.
        max_new_tokens: for generated option answers.
        max_new_tokens_math: for generated answers with a rationale.
        repetition_penalty: for generated answers; 1: none.
        schedule: of the learning rate, see `training.optimizer`.
        template: of the prompts; None: the data family's.
        gradient_checkpointing: recompute activations.
        base: "nf4": of the frozen weights 4 bits; "": they are whole.
        with_base: also judge the untouched model.
        max_grad_norm: gradient clipping.
        weight_decay: of AdamW, for methods without their own.
        betas: of AdamW.
        seeds: seeds run by default.
        select_every: steps between two looks at the held-out loss, where the best weights are kept; None: a tenth of the run.
        by_family: other choices for a data family, by its name.
        source: where the numbers come from.
        lr_of_all: peak learning rate of every method that `lrs` does not name, with a rate of its own or not; None: as above.
        decays: weight decay by method, where it is not `weight_decay`.
        lr_warmup: as `lr_warmup_steps`, or below 1 a share of all steps; taken as it is, however short a run is. None: those.
    """

    fractions_pct: tuple[float, ...]
    lrs: dict[str, float]
    given: dict[str, dict[str, Any]]
    batch_size: int
    micro_batch_size: int
    lr_warmup_steps: int
    cutoff: int
    train_on_inputs: bool
    heldout: float
    protocol: str
    steps: int | None = None
    epochs: float = 0
    limit: int | None = None
    beams: int = 1
    max_new_tokens: int = 32
    max_new_tokens_math: int = 256
    repetition_penalty: float = 1.0
    schedule: str = "linear"
    template: str | None = None
    gradient_checkpointing: bool = False
    base: str = ""
    with_base: bool = True
    max_grad_norm: float = 1.0
    weight_decay: float = 0.0
    betas: tuple[float, float] = (0.9, 0.999)
    seeds: tuple[int, ...] = (0,)
    select_every: int | None = None
    lr_warmup_share: float | None = None
    mixture: str | None = None
    by_family: dict[str, dict[str, Any]] = field(default_factory=dict)
    source: str = ""
    lr_of_all: float | None = None
    decays: dict[str, float] = field(default_factory=dict)
    lr_warmup: float | None = None

    def lr(self, method: str) -> float:
        """Peak learning rate of a method: this recipe's, else the method's own, else the one for all others."""
        if method in self.lrs:
            return self.lrs[method]
        own = methods.find(method).default_lr if self.lr_of_all is None else self.lr_of_all
        return self.lrs["*"] if own is None else own

    def decay(self, method: str) -> float:
        """Weight decay of AdamW for a method without its own."""
        return self.decays.get(method, self.weight_decay)

    def warmup(self, steps: int) -> int:
        """Warm-up steps of the rate in a run of so many steps: at most a quarter of it, unless they were asked for.

        Raises:
            ValueError: more were asked for than there are, or no whole number.
        """
        if self.lr_warmup is None and self.lr_warmup_share is not None:
            return max(1, int(self.lr_warmup_share * steps))
        if self.lr_warmup is None:
            return min(self.lr_warmup_steps, max(1, steps // 4))
        if self.lr_warmup > 1 and self.lr_warmup % 1:
            raise ValueError(f"--lr-warmup {self.lr_warmup:g}: choose whole steps, or a share below 1")
        asked = math.ceil(self.lr_warmup * steps) if self.lr_warmup < 1 else int(self.lr_warmup)
        if asked > steps:
            raise ValueError(f"--lr-warmup {self.lr_warmup:g}: a run has {steps} steps: choose at most so many")
        return asked

    def config(self, method: str, steps: int) -> dict[str, Any]:
        """A method's settings for a run of so many steps, as far as they are not the method's defaults."""
        return methods.find(method).recipe(steps, self.given.get(method, {}))
