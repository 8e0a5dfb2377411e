"""Experiment `spiel-search`: the paper's grid under its recipe, ours elsewhere; what is best, and how it is shown."""

from __future__ import annotations

import csv
import math
from pathlib import Path
from typing import Any

import matplotlib.image
import pytest
from made_up import record

from smt_bench import experiments
from smt_bench.experiments.choices.spiel_search import experiment, output
from smt_bench.machine import fits
from smt_bench.questions.planner import Planner
from smt_bench.questions.request import Request
from smt_bench.records.runs import Run
from smt_bench.records.store import Record

GPU = fits.Machine((80 * 10**9,) * 4, 10**12)


def planner(model: str, **more: Any) -> Planner:
    return Planner(Request("spiel-search", model, tunes=True, **more), GPU)


def test_llama_has_the_printed_grid() -> None:
    made = experiments.find("spiel-search").cells(planner("llama-7b"))  # type: ignore[union-attr]
    by_method = {name: [c for c in made if c.method == name] for name in experiment.METHODS}
    # Four rates x four ranks; decay at four more strengths and every rate; (IA)^3 has no size.
    assert {name: len(cells) for name, cells in by_method.items()} == {
        "lora": 16, "spiel": 32, "spiel-ma": 32, "peft:ia3": 4,
    }  # fmt: skip
    assert {c.lr for c in by_method["spiel"]} == {3e-6, 1e-5, 3e-5, 1e-4}
    assert {c.lr for c in by_method["spiel-ma"]} == {4e-4, 7e-4, 1e-3, 2e-3}
    sizes = sorted({c.fraction for c in by_method["lora"]})
    printed = (0.30, 0.59, 1.2, 2.3)  # % of LLaMA2-7B at ranks 8 to 64 (appendix D)
    assert [100 * size for size in sizes] == pytest.approx(printed, rel=0.035)
    decays = sorted({c.changes["weight_decay"] for c in by_method["spiel"]})
    assert decays == [0.0, 0.125, 0.375, 1.25, 3.75]  # 0 to 30 of batches of 128, in batches of 16
    assert {c.fraction for c in by_method["spiel"] if c.changes["weight_decay"]} == {sizes[-1]}


def test_elsewhere_the_recipes_rate_is_the_third_and_decay_pulls_as_much_over_the_run() -> None:
    tiny = planner("tiny")
    assert [rate / tiny.recipe.lr("lora") for rate in experiment.rates(tiny, "lora")] == pytest.approx([0.1, 0.3, 1, 3])
    assert [r / tiny.recipe.lr("spiel-ma") for r in experiment.rates(tiny, "spiel-ma")] == pytest.approx(
        [0.4, 0.7, 1, 2]
    )
    ours = experiment.decays(tiny, "spiel")[-1] * tiny.recipe.lr("spiel") * 220
    assert ours == pytest.approx(30 * 1e-4 * 782, rel=0.01)
    cells = experiments.find("spiel-search").cells(tiny)  # type: ignore[union-attr]
    assert len(cells) == 84 and sorted({c.fraction for c in cells if c.fraction}) == [0.01, 0.02, 0.04, 0.08]


def test_other_methods_are_refused() -> None:
    with pytest.raises(ValueError, match="SpIEL's search is over lora, spiel, spiel-ma, peft:ia3"):
        experiment.SpielSearch().method_names(planner("tiny", methods=("smt",)))


def searched(method: str, pct: float | None, lr: float, decay: float | None, nll: float | None) -> Record:
    made = record(method, pct, 100, nll=nll, lr=lr, status="done" if nll is not None else "diverged")
    made["run"]["method"]["config"] = {} if decay is None else {"weight_decay": decay}
    made["key"] = Run.from_dict(made["run"]).key
    return made


def grid() -> list[Record]:
    """Losses that are least at the second rate; at the largest size under its decay of 3, least at the third rate elsewhere."""
    rates, sizes = (1e-3, 3e-3, 1e-2, 3e-2), (1.0, 2.0, 4.0, 8.0)
    made = []
    for i, lr in enumerate(rates):
        made.append(searched("peft:ia3", None, lr, None, 1.5 - 0.1 * i))
        for size in sizes:
            loss = 1.0 + 0.1 * abs(i - 1) - 0.02 * math.log2(size)
            for name in ("spiel", "lora"):
                made.append(searched(name, size, lr, 0.0 if name == "spiel" else None, None if i == 3 else loss))
        for decay in (0.3, 1.0, 3.0, 10.0):
            # Under the third rate decay would help more: the best without decay is asked for.
            pulled = 0.9 - 0.05 * (decay == 3.0) if i == 1 else 0.6
            made.append(searched("spiel", 8.0, lr, decay, pulled))
    return made


def read(path: Path) -> list[dict[str, str]]:
    return list(csv.DictReader(path.open()))


def test_the_best_settings_are_found_as_the_paper_finds_them(tmp_path: Path) -> None:
    files = {f.name: f for f in output.write_search(grid(), tmp_path, "tiny")}
    assert set(files) == {"table4.md", "table4.csv", "search.md", "search.csv", "figure4.png", "figure4.svg"}
    best = {row["method"]: row for row in read(files["table4.csv"])}
    assert (best["spiel"]["lr"], best["spiel"]["fraction_pct"], best["spiel"]["weight_decay"]) == (
        "0.003",
        "8",
        "3",
    )
    assert float(best["spiel"]["heldout_nll"]) == pytest.approx(0.94) and best["spiel"]["edge"] == "size"
    assert (best["lora"]["lr"], best["lora"]["weight_decay"]) == ("0.003", "")
    assert best["peft:ia3"]["edge"] == "rate" and best["peft:ia3"]["fraction_pct"] == ""
    assert "0.0001, 64, 30" in files["table4.md"].read_text() and "1e-05, 64, 30" in files["table4.md"].read_text()
    rows = read(files["search.csv"])
    assert sum(int(row["best"]) for row in rows) == 4  # a grid's best for each method, and SpIEL's decay
    lost = [row for row in rows if row["lost"]]
    assert len(lost) == 8 and all(row["heldout_nll"] == "" and row["lost"] == "1 diverged" for row in lost)
    assert matplotlib.image.imread(files["figure4.png"]).shape[1] == 680


def test_a_search_without_results_has_blanks_and_no_figure(tmp_path: Path) -> None:
    files = output.write_search([searched("lora", 1.0, 1e-3, None, None)], tmp_path, "tiny")
    assert {f.name for f in files} == {"table4.md", "table4.csv", "search.md", "search.csv"}
    assert read(tmp_path / "table4.csv")[0]["lr"] == ""
