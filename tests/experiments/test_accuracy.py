"""The accuracy tables of the SMT paper: which run is best, and which printed number stands beside it."""

from __future__ import annotations

from pathlib import Path

import pytest
from made_up import EIGHT, record
from papers import read

from smt_bench import experiments
from smt_bench.evidence.cells import groups
from smt_bench.experiments.accuracy import best_of, commonsense


def test_printed_rows_of_tables_2_and_5_say_at_which_fraction(tmp_path: Path) -> None:
    assert best_of.printed_row("LoRA (best)", "llama-7b", "commonsense") == (76.3, 0.83)
    assert best_of.printed_row("SpIEL (equal)", "llama-7b", "commonsense") == (77.4, 0.84)  # table 3; table 2: 76.5
    assert best_of.printed_row("SMT (equal)", "llama-13b", "commonsense") == (82.4, 0.68)
    assert best_of.printed_row("SMT (equal)", "llama-7b", "commonsense") == (78.7, 0.84)
    assert best_of.printed_row("SMT (best)", "llama-7b", "commonsense") == (81.4, 4.91)
    assert best_of.printed_row("DoRA (equal)", "llama-13b", "commonsense") is None  # no table 3
    assert best_of.printed_row("LoRA (equal)", "llama-7b", "math") == (60.9, 0.86)
    assert best_of.printed_row("full", "llama-7b", "math") is None
    right = {task: [1, 0] for task in EIGHT}
    made = [
        record(m, pct, 0, right, nll=2 - pct / 10, model="llama-7b", protocol="llm-adapters")
        for m in ("lora", "smt") for pct in (0.84, 4.91)
    ]  # fmt: skip
    files = commonsense.Commonsense().render(made, tmp_path, "llama-7b")
    rows = {r["row"]: r for r in read(files[1])}
    shown = {name: (r["fraction_pct"], r["published"], r["published_pct"]) for name, r in rows.items()}
    assert shown["LoRA (best)"] == ("4.91", "76.3", "0.83") and shown["LoRA (equal)"] == ("0.84", "76.3", "0.84")
    assert "76.3 (0.83 %)" in files[0].read_text() and "81.4 (4.91 %)" in files[0].read_text()


def test_best_is_chosen_by_heldout_loss_and_never_by_the_test_set() -> None:
    made = [record("lora", 1.0, s, {"boolq": [1, 1, 1, 1]}, nll=1.2) for s in range(2)]
    made += [record("lora", 2.0, s, {"boolq": [0, 1, 0, 0]}, nll=1.1) for s in range(2)]
    picked = best_of.best(groups(made))
    assert picked is not None and picked.fraction_pct == 2.0
    assert best_of.best(groups(record("lora", 1.0, 0, {"boolq": [1]}) for _ in range(1))) is None
    assert (
        best_of.equal_budget([0.0043, 0.0084, 0.05]) == 0.0084
        and best_of.equal_budget([0.01, 0.02, 0.04, 0.08]) == 0.04
    )


def test_table2_has_best_and_equal_rows(tmp_path: Path) -> None:
    from made_up import sweep

    files = experiments.find("commonsense").render(
        sweep("llama2-7b", (0.43, 0.84, 4.91), 2, n=60), tmp_path, "llama2-7b"
    )  # type: ignore[arg-type]
    rows = read(files[1])
    assert {"base", "full", "LoRA (best)", "SMT (best)", "SMT (equal)"} <= {r["row"] for r in rows}
    claims = {c["claim"]: c for c in read(files[3])}
    assert float(claims["SMT at its best beats LoRA at its best (table 2)"]["printed_difference"]) == pytest.approx(
        83.4 - 77.6
    )
    assert float(
        claims["SMT at the equal budget beats DoRA at its best (table 2)"]["printed_difference"]
    ) == pytest.approx(81.8 - 80.5)
