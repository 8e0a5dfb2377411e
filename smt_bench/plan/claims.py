"""`plan claims`: the papers' statements on memory and time, recomputed, with the assumptions under which they hold.

Every value comes from dry runs (`dry`), sharding rules and the roofline; printed values from the papers. Where a paper
leaves an assumption open (batch, length, checkpointing, dtype of Adam's states), those are searched that come nearest, and
printed. Activations, logits and temporaries of forward and backward follow the number of tokens (flash attention keeps
nothing of size tokens squared), so that one dry run serves every batch.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import methods
from methods.base import Method, ParamGroup
from smt_bench.ledger import Account
from smt_bench.plan.dry import DryRun, Warmup, Workload, execute
from smt_bench.plan.row import Anatomy
from smt_bench.plan.rows import split
from smt_bench.tables import Table

GB = 1e9
BATCH, LENGTH = 16, 256  # of the dry runs: the recipe's batch and cut-off
STEPS = 1000  # of a run; decides nothing here but that a warm-up of 100 steps fits in
_OF_TOKENS = ("saved_activations", "logits_loss", "temporaries")


@dataclass(frozen=True)
class Claim:
    """One statement of a paper.

    Attributes:
        name: short key.
        source: paper and place.
        statement: what it says.
        assumptions: under which the computed value stands; ours where the paper states none.
        printed: the paper's value.
        computed: ours.
        unit: of both.
        verdict: "holds", "holds if ..." or "does not hold"; what would have to be so.
    """

    name: str
    source: str
    statement: str
    assumptions: str
    printed: float
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
        self, method: str, pct: float | None, model: str = "llama-7b", checkpointing: bool = True, precision: str = "bf16",
        batch: int = BATCH, adapt: Callable[[Method], None] | None = None, **config: Any,
    ) -> DryRun:  # fmt: skip
        """One method at `pct` % on `batch` x 256 tokens per GPU.

        Args:
            method: name.
            pct: trainable fraction in %; None for all.
            model: registered name.
            checkpointing: recompute activations.
            precision: see `Workload`.
            batch: examples.
            adapt: changes the fresh method, e.g. the dtype of what it trains.
            **config: settings that differ from the method's defaults.
        """
        key = (method, model, checkpointing, precision, batch, adapt, *sorted(config.items()), pct)
        if key not in self._done:
            self._say(f"{method} on {model}")
            made = methods.build(method, config, None if pct is None else pct / 100, 0, STEPS)
            if adapt is not None:
                adapt(made)
            workload = Workload(model, batch, LENGTH, precision, checkpointing)
            self._done[key] = execute(workload, made, self._warmups, str(key[:-1]))
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


def collect(lab: Lab) -> list[Claim]:
    """All claims, in the papers' order."""
    from smt_bench.plan import claims_smt, claims_spiel

    return [*claims_smt.claims(lab), *claims_spiel.claims(lab)]


def table(claims: Sequence[Claim]) -> Table:
    """To read and to compute with."""
    header = ["claim", "source", "assumptions", "paper", "computed", "verdict"]
    rows = [
        [c.statement, c.source, c.assumptions, f"{c.printed:g} {c.unit}", f"{c.computed:.3g} {c.unit}", c.verdict]
        for c in claims
    ]
    notes = [
        "GB are 10^9 bytes (SpIEL's table: GiB); peaks of one training step of the real model and method on fake tensors, bf16 "
        "weights; without the CUDA context",
        "SpIEL-MA and 4-bit bases are not run: they follow from SpIEL-AG and LoRA by rule (`smt_bench/plan/claims_spiel.py`, "
        "`sharding.py`)",
        "a time is a roofline at half of the GPU's peaks; a ratio of times depends little on that half",
    ]
    data = [asdict(c) for c in claims]
    return Table("The papers' efficiency claims, recomputed", header, rows, notes, data)


def main(folder: Path, as_json: bool) -> None:
    """Computes, prints, writes `claims.md` and `.csv`; with `as_json` prints JSON and writes nothing."""
    from rich.console import Console
    from rich.table import Table as Rich

    progress = Console(stderr=True)
    with progress.status("planning") as status:
        say = (lambda text: status.update(f"dry run: {text}")) if progress.is_terminal else (lambda text: None)
        claims = collect(Lab(say))
    if as_json:
        print(json.dumps([asdict(c) for c in claims], indent=1))
        return
    console = Console()
    if not console.is_terminal:
        console = Console(width=160)
    made = table(claims)
    shown = Rich(title=made.title, title_justify="left", show_lines=True)
    for name in made.header:
        shown.add_column(name, justify="right" if name in ("paper", "computed") else "left", overflow="fold")
    for row in made.rows:
        shown.add_row(*map(str, row))
    console.print(shown, markup=False)
    for note in made.notes:
        console.print(f"- {note}", style="dim", highlight=False, markup=False)
    files = made.write(folder, "claims")
    progress.print("wrote " + ", ".join(str(f) for f in files), highlight=False)
