"""`plan claims`: the papers' statements on memory and time, recomputed, with the assumptions under which they hold.

Every value comes from dry runs (`dry`), sharding rules and the roofline; printed values from the papers. Where a paper
leaves an assumption open (batch, length, checkpointing, dtype of Adam's states), those are searched that come nearest, and
printed. Activations, logits and temporaries of forward and backward follow the number of tokens (flash attention keeps
nothing of size tokens squared), so that one dry run serves every batch.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Sequence
from concurrent.futures.process import BrokenProcessPool
from contextlib import suppress
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

from rich.console import Console

from smt_bench.machine.remembered import remembered
from smt_bench.measuring.account import Account
from smt_bench.plan.claims.lab import Lab, Statement
from smt_bench.plan.side_by_side import cores, pool
from smt_bench.report.table import Table


def collect(lab: Lab) -> list[Statement]:
    """All claims, in the papers' order."""
    from smt_bench.plan.claims import smt, spiel

    return [*smt.claims(lab), *spiel.claims(partial(spiel.variant, lab))]


def side_by_side(processes: int) -> list[Statement]:
    """The same by several processes: one does SMT's claims, the others the cells of SpIEL's table."""
    from smt_bench.plan.claims import spiel

    with pool(processes, _begin, time.time()) as workers:
        of_smt = workers.submit(_of_smt)
        accounts = {cell: workers.submit(_of_cell, cell) for cell in spiel.cells()}
        return [*of_smt.result(), *spiel.claims(lambda *cell: accounts[cell].result())]


_lab: Lab | None = None  # of a process of the pool


def _begin(started: float) -> None:
    global _lab
    _lab = _talking(started)


def _talking(started: float) -> Lab:
    """One that says on standard error which run comes next."""
    return Lab(lambda text: print(f"dry run after {time.time() - started:.0f} s: {text}", file=sys.stderr, flush=True))


def _of_smt() -> list[Statement]:
    from smt_bench.plan.claims import smt

    assert _lab is not None
    return smt.claims(_lab)


def _of_cell(cell: tuple[str, str, bool]) -> Account:
    from smt_bench.plan.claims import spiel

    assert _lab is not None
    return spiel.variant(_lab, *cell)


def table(claims: Sequence[Statement]) -> Table:
    """To read and to compute with."""
    header = ["claim", "source", "assumptions", "paper", "computed", "verdict"]
    rows = [
        [
            c.statement,
            c.source,
            c.assumptions,
            _shown(c.printed, "g", c.unit),
            _shown(c.computed, ".3g", c.unit),
            c.verdict,
        ]
        for c in claims
    ]
    notes = [
        "GB are 10^9 bytes (SpIEL's table: GiB); peaks of one training step of the real model and method on fake tensors, bf16 "
        "weights; without the CUDA context",
        "over 4 bits the real method runs too, on a base in NF4; of SpIEL what trains is in bf16 by rule "
        "(`smt_bench/plan/claims/spiel.py`)",
        "a time is a roofline at half of the GPU's peaks; a ratio of times depends little on that half",
    ]
    data = [asdict(c) for c in claims]
    return Table("The papers' efficiency claims, recomputed", header, rows, notes, data)


def _shown(value: float | None, digits: str, unit: str) -> str:
    return "" if value is None else f"{value:{digits}} {unit}"


def main(folder: Path, as_json: bool) -> None:
    """Computes, prints, writes `claims.md` and `.csv`; with `as_json` prints JSON and writes nothing.

    Computed once for this code and these packages, and kept in the cache folder: nothing else decides it.
    """
    from rich.table import Table as Rich

    def made_now() -> list[dict[str, Any]]:
        with suppress(BrokenProcessPool):  # the kernel's answer to too little memory: one at a time may do
            if cores() > 1:
                return [asdict(claim) for claim in side_by_side(cores())]
        return [asdict(claim) for claim in collect(_talking(time.time()))]

    claims = [Statement(**values) for values in remembered("plan claims", made_now)]
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
    Console(stderr=True).print("wrote " + ", ".join(str(f) for f in files), highlight=False)
