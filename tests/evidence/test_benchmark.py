"""The benchmark of the statistics, small: its corners, and that it fails where the statistics are wrong."""

from __future__ import annotations

import numpy as np
import pytest

from smt_bench.evidence import benchmark, interval, sides
from smt_bench.evidence.benchmark import EFFECT, Case, draw, families, kept, measured
from smt_bench.evidence.decisions import margins
from smt_bench.report.statistics import statistics_tables

DRAWS = 300


@pytest.mark.parametrize("case", benchmark.cases(quick=True), ids=str)
def test_intervals_cover_and_verdicts_are_right(case: Case) -> None:
    row = measured(case, DRAWS)
    assert kept(row, DRAWS), row
    assert row["power"] > 0.15 and 0 < row["half_width"] < 15


@pytest.mark.slow
def test_whole_tables_slopes_and_printed_runs() -> None:
    rows = families(100)
    assert all(row["ok"] for row in rows), rows
    assert {row["bound"] for row in rows} == {"at most 5 %", "93 to 97 %", "power"}
    (first, second) = statistics_tables([measured(Case("NLL", True, 3, 1.0), 50) | {"ok": True}], rows, 100)
    assert len(first.rows) == 1 and len(second.rows) == len(rows)


@pytest.mark.parametrize("case", [Case("accuracy", True, 10, 0.5), Case("NLL", True, 10, 0.5)], ids=str)
def test_it_tells_where_items_of_one_source_are_taken_for_independent(
    case: Case, monkeypatch: pytest.MonkeyPatch
) -> None:
    def alone(case: Case) -> sides.Items:
        sizes = [case.per_task] * benchmark.TASKS if case.quantity == "accuracy" else [benchmark.HELDOUT]
        return sides.Items.of([list(range(n)) for n in sizes])

    right = [benchmark._difference(draw(np.random.default_rng(i), case, (0.0, 0.0))) for i in range(100)]
    real, shared = benchmark._effects, benchmark._items(case)
    monkeypatch.setattr(benchmark, "_items", alone)
    monkeypatch.setattr(benchmark, "_effects", lambda rng, items, *rest: real(rng, shared, *rest))
    wrong = [benchmark._difference(draw(np.random.default_rng(i), case, (0.0, 0.0))) for i in range(100)]
    assert [e.value for e in wrong] == pytest.approx([e.value for e in right])  # the same draws, wrongly weighed
    assert np.mean([e.se for e in wrong]) < 0.93 * np.mean([e.se for e in right])


def test_it_tells_where_a_variance_is_left_out() -> None:
    """Intervals over items alone, as of one seed: the benchmark's bounds must refuse them."""
    case, inside = Case("accuracy", False, 3, 3.0), 0
    rng = np.random.default_rng(0)
    for _ in range(DRAWS):
        cells = draw(rng, case, (0.0, 0.0))
        half = 1.96 * interval.over_items([(1.0, cells[0]), (-1.0, cells[1])])
        inside += abs(benchmark._difference(cells).value) <= half
    assert not benchmark._within(inside / DRAWS, DRAWS)


def test_draws_have_the_truth_that_they_are_said_to_have() -> None:
    rng = np.random.default_rng(5)
    for quantity in ("accuracy", "NLL"):
        case = Case(quantity, True, 10, 1.0)
        found = [benchmark._difference(draw(rng, case, (EFFECT / 2, -EFFECT / 2))).value for _ in range(300)]
        assert np.mean(found) == pytest.approx(EFFECT, abs=4 * np.std(found) / np.sqrt(300))
        runs = np.array(
            [
                draw(rng, Case(quantity, False, 3, 30.0 if quantity == "NLL" else 10.0), (0.0,))[0].value_S
                for _ in range(300)
            ]
        )
        asked = 30.0 if quantity == "NLL" else 10.0
        assert np.sqrt(runs.var(axis=1, ddof=1).mean()) == pytest.approx(asked, rel=0.1)  # of seeds, items add little
    assert margins() == benchmark.MARGINS
