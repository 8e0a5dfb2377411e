"""Dry runs of the papers' models, each made once, and what is read off them."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from smt_bench import methods
from smt_bench.measuring.account import Account
from smt_bench.methods.base import Method, ParamGroup
from smt_bench.plan.dry import DryRun, Warmup, Workload
from smt_bench.plan.dry_runs import dry_run_of
from smt_bench.plan.row import Anatomy
from smt_bench.plan.rows import split

GB = 1e9


BATCH, LENGTH = 16, 256  # of the dry runs: the recipe's batch and cut-off


STEPS = 1000  # of a run; decides nothing here but that a warm-up of 100 steps fits in


_OF_TOKENS = ("saved_activations", "logits_loss", "temporaries")


@dataclass(frozen=True)
class Statement:
    """One statement of a paper.

    Attributes:
        name: short key.
        source: paper and place.
        statement: what it says.
        assumptions: under which the computed value stands; ours where the paper states none.
        printed: the paper's value; None: it has none.
        computed: ours.
        unit: of both.
        verdict: "holds", "holds if ..." or "does not hold"; what would have to be so.
    """

    name: str
    source: str
    statement: str
    assumptions: str
    printed: float | None
    computed: float
    unit: str
    verdict: str


class Lab:
    """Dry runs of the papers' models, each made once.

    Args:
        say: told which run comes next.
    """

    def __init__(self, say: Callable[[str], None] = lambda text: None) -> None:
        self._say = say
        self._done: dict[tuple[Any, ...], DryRun] = {}
        self._warmups: dict[str, Warmup] = {}
        self._anatomies: dict[str, Anatomy] = {}

    def run(
        self, method: str, pct: float | None, model: str = "llama-7b", checkpointing: bool = True, optimizer_dtype: str = "fp32",
        batch: int = BATCH, adapt: Callable[[Method], None] | None = None, base: str = "", **config: Any,
    ) -> DryRun:  # fmt: skip
        """One method at `pct` % on `batch` x 256 tokens per GPU.

        Args:
            method: name.
            pct: trainable fraction in %; None for all.
            model: registered name.
            checkpointing: recompute activations.
            optimizer_dtype: see `Workload`; weights are bf16.
            batch: examples.
            adapt: changes the fresh method, e.g. the dtype of what it trains.
            base: "nf4": over a base of 4 bits.
            **config: settings that differ from the method's defaults.
        """
        key = (method, model, checkpointing, optimizer_dtype, batch, adapt, base, *sorted(config.items()), pct)
        if key not in self._done:
            self._say(f"{method} on {model}{f' over {base}' if base else ''}")

            def make(fraction: float | None) -> Method:
                made = methods.build(method, config, fraction, 0, STEPS)
                if adapt is not None:
                    adapt(made)
                return made

            workload = Workload(model, batch, LENGTH, "bf16", checkpointing, optimizer_dtype=optimizer_dtype, base=base)
            fraction = None if pct is None else pct / 100
            self._done[key] = dry_run_of(workload, make, fraction, self._warmups, str(key[:-1]))
        return self._done[key]

    def anatomy(self, model: str) -> Anatomy:
        """What the model's parameters are."""
        if model not in self._anatomies:
            self._anatomies[model] = Anatomy.of(model)
        return self._anatomies[model]


def bf16_adapters(method: Method) -> None:
    """Makes a fresh method train in bf16 what it would train in float32."""
    attach = method.attach

    def lower(model: object) -> list[ParamGroup]:
        groups = attach(model)  # type: ignore[arg-type]
        for group in groups:
            for parameter in group.params:
                parameter.data = parameter.data.bfloat16()
        return groups

    method.attach = lower  # type: ignore[method-assign]


def tuning(run: DryRun) -> Account:
    """The part after the warm-up."""
    return split(run.account)["tuning"]


def at_tokens(account: Account, share: float) -> Account:
    """The account with `share` times as many tokens."""
    made = copy.deepcopy(account)
    for phase in made.phases:
        if phase.phase in ("forward", "backward"):
            for found in (phase.peak, phase.end):
                found.update({c: round(found[c] * share) for c in _OF_TOKENS})
    return made


def peak_gb(account: Account, tokens: int = BATCH * LENGTH) -> float:
    """Peak in GB at a number of tokens on the GPU."""
    return at_tokens(account, tokens / (BATCH * LENGTH)).peak().peak_bytes / GB


def near(computed: float, printed: float, tolerance: float) -> bool:
    """Whether they agree within a relative tolerance."""
    return abs(computed - printed) <= tolerance * abs(printed)


def most_tokens(account: Account, limit_gb: float) -> int:
    """The largest number of tokens per GPU whose peak stays within the limit; 0 if none does."""
    low, high = 0, 1
    while peak_gb(account, high) <= limit_gb and high < 1 << 22:
        low, high = high, 2 * high
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if peak_gb(account, middle) <= limit_gb else (low, middle)
    return low
