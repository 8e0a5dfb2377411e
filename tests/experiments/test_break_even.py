"""When SMT's warm-up has paid for itself, from timed steps."""

from __future__ import annotations

from pathlib import Path

import pytest
from papers import measured, read

from smt_bench.evidence.verdicts import HOLDS, REFUTED
from smt_bench.experiments.cost import break_even
from smt_bench.records.store import Record


def timed(seed: int, full: float, model: str = "bench-60m") -> Record:
    def steps(ms: float) -> list[dict[str, float]]:
        return [{"forward": 0.25 * ms, "backward": 0.5 * ms, "hooks": 0.0, "optimizer": 0.25 * ms + 0.01 * seed}] * 3

    config = {"warmup_trains": True, "warmup_steps": 100}
    entry = {"variant": "", "version": 1, "trainable": 10, "total": 1000}
    entries = [
        {**entry, "name": "full", "label": "full", "fraction": None, "config": {}},
        {**entry, "name": "smt", "label": "smt 1 %", "fraction": 0.01, "config": config},
        {**entry, "name": "lora", "label": "lora 1 %", "fraction": 0.01, "config": {}},
    ]
    times = {"full": full, "smt 1 %": 10.0, "lora 1 %": 10.0, "smt warm-up": 30.0, "smt frozen warm-up": 15.0}
    flops = {name: {"forward": 1, "backward": 2} for name in times}
    result = {
        "entries": entries,
        "milliseconds": {n: steps(ms) for n, ms in times.items()},
        "flops": flops,
        "tokens": 100,
    }
    made = measured("speed", {"run_steps": 31954}, result | {"estimating": {}, "selection_ms": {"smt 1 %": 50.0}}, seed)
    made["run"] |= {"model": {"name": model}, "machine": "here"}
    return made


@pytest.mark.parametrize(("full", "verdict"), [(20.0, HOLDS), (9.0, REFUTED)])
def test_break_even(full: float, verdict: str, tmp_path: Path) -> None:
    assert break_even.steps_to_catch_up(100, 30, 50, 10, 20) == pytest.approx((100 * 20 + 50) / 10)
    assert break_even.steps_to_catch_up(100, 12, 0, 10, 50) == 100  # never before the warm-up is over
    files = break_even.BreakEven().render([timed(s, full) for s in range(3)], tmp_path, "bench-60m")
    rows = {(r["warmup"], r["against"]): r for r in read(files[1])}
    assert rows["frozen", "LoRA"]["steps"] == ""  # equally fast: never
    steps = rows["trains", "full"]["steps"]
    assert float(steps) == pytest.approx(205) if full > 10 else steps == ""
    line = next(line for line in files[0].read_text().splitlines() if "100, trains | full" in " ".join(line.split()))
    assert line.rstrip("| ").endswith(verdict)
