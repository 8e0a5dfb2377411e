"""Does a tuned rate hold elsewhere: what is declared before there is a number is judged, and the verdict follows the truth."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from made_up import record
from papers import read

from smt_bench.evidence.decisions import looking
from smt_bench.evidence.verdicts import HOLDS, OPEN, REFUTED
from smt_bench.experiments.choices import rate_transfer
from smt_bench.experiments.choices.rate_transfer import RateTransfer
from smt_bench.records.store import Record

RATES = (1e-4, 1e-3, 1e-2)


def made(best_at_half: float, seeds: int) -> list[Record]:
    """The usual condition (1e-3 is best) and half of its steps; neighbouring rates are 0.2 nats apart, more by the seed."""
    records = []
    for steps, best in ((120, 1e-3), (60, best_at_half)):
        for lr in RATES:
            for seed in range(seeds):
                away = abs(RATES.index(lr) - RATES.index(best))
                nll = 1.0 + away * (0.2 + 0.01 * seed)
                records.append(record("lora", 1.0, seed, {"boolq": [1, 0]}, nll=nll, lr=lr, steps=steps))
    return records


@pytest.mark.parametrize(
    ("best", "seeds", "verdict"), [(1e-3, 3, HOLDS), (1e-2, 3, REFUTED), (1e-2, 1, f"{OPEN} (one seed)")]
)
def test_the_usual_rate_holds_where_it_costs_nothing(best: float, seeds: int, verdict: str, tmp_path: Path) -> None:
    records = made(best, seeds)
    files = RateTransfer().render(records, tmp_path, "tiny")
    usual, half = read(files[1])
    assert (usual["verdict"], half["verdict"]) == ("", verdict)
    assert float(half["cost"]) == pytest.approx(0.0 if best == 1e-3 else 0.2 + 0.01 * (seeds - 1) / 2)
    assert len(half["keys"].split()) == 6 * seeds and len(usual["keys"].split()) == 3 * seeds
    (claim,) = RateTransfer().declares([{**r, "status": "planned"} for r in records])
    assert claim.equal and claim.text == "LoRA: the rate of 1 %, 120 steps holds at 1 %, 60 steps"
    assert RateTransfer().comparisons(records) == 1


@pytest.mark.parametrize(("looks", "said"), [(0, "cannot be told"), (1, "holds")])
def test_a_rate_that_is_the_same_for_every_seed_waits_too(looks: int, said: str) -> None:
    line: dict[str, Any] = {"same": True, "n_seeds": 3, "costs": [0.0, 0.0, 0.0]}
    with looking(looks):
        rate_transfer._judge([line])
    assert line["verdict"].startswith(said)
