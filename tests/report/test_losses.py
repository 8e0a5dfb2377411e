"""Losses on other text (`--forgetting`): a table beside whatever an experiment makes, whatever it varies."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from made_up import record
from papers import read

from smt_bench.cli import draw
from smt_bench.records.runs import Run
from smt_bench.records.store import Record
from smt_bench.report.accuracy.losses import losses_table

TOKENS = [2, 3, 4, 5]


def one(name: str, seed: int, nll: float, lr: float = 1e-3, **changes: Any) -> Record:
    """A record with a loss on general text; `data`, `train`: fields of the question, `parts` those of a sum."""
    made = record(name, None if name in ("base", "full") else 1.0, seed, {"boolq": [1, 0]}, nll=1.0, lr=lr)
    for part in ("data", "train", "method"):
        made["run"][part] |= changes.get(part, {})
    if "parts" in changes:
        made["run"]["parts"] = changes["parts"]
    made["key"] = Run.from_dict(made["run"]).key
    made["losses"] = {"general": {"nll": nll, "examples": {"tokens": TOKENS, "loglik": [-nll * n for n in TOKENS]}}}
    return made


class Experiment:
    """Writes one file."""

    def render(self, records: list[Record], folder: Path, model: str) -> list[Path]:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "own.md").write_text(f"{len(records)} records\n")
        return [folder / "own.md"]


def rendered(records: list[Record], folder: Path) -> list[str]:
    experiment: Any = Experiment()
    return [str(path.relative_to(folder)) for path in draw._render_all(experiment, records, folder, "tiny")]


def test_every_experiment_has_the_table_where_its_records_have_losses(tmp_path: Path) -> None:
    records = [one("base", 0, 0.5), *(one("lora", seed, 0.7) for seed in range(2))]
    tuned = [one("lora", seed, 0.6, lr=2e-3) for seed in range(2)]
    for made in tuned:
        made["run"]["tuning"] = "0" * 16
        made["key"] = Run.from_dict(made["run"]).key
    assert rendered(records, tmp_path / "a") == ["own.md", "losses.md", "losses.csv"]
    found = rendered([*records, *tuned], tmp_path / "b")
    assert {"losses.csv", "tuned/losses.csv"} <= set(found)
    changes = {f: float(read(tmp_path / "b" / f)[1]["general_change"]) for f in ("losses.csv", "tuned/losses.csv")}
    assert changes == {"losses.csv": pytest.approx(0.2), "tuned/losses.csv": pytest.approx(0.1)}
    plain = [{k: v for k, v in r.items() if k != "losses"} for r in records]
    assert rendered(plain, tmp_path / "c") == ["own.md"]


def test_rows_say_what_sets_runs_of_one_method_apart_and_no_row_mixes_them() -> None:
    records = [
        *(one("lora", seed, 0.7, method={"config": {"rank": 4}}) for seed in range(2)),
        *(one("lora", seed, 0.9, method={"config": {"rank": 8}}) for seed in range(2)),
        *(one("lora", seed, 1.1, method={"config": {"rank": 8}}, data={"train_on_inputs": True}) for seed in range(2)),
        *(one("lora", seed, 1.3, lr=2e-3, method={"config": {"rank": 8}}) for seed in range(2)),
        *(one("full", seed, 2.0, data={"only": "boolq"}) for seed in range(2)),
        *(one("full", seed, 3.0, parts=[f"{seed}" * 16, "b" * 16]) for seed in range(2)),
        *(one("smt", seed, 0.8, train={"base": "nf4"}) for seed in range(2)),
        one("base", 0, 0.5),
        one("base", 0, 0.6, train={"base": "nf4"}),
    ]
    table = losses_table(records, "tiny")
    assert table is not None and table.data is not None
    rows = {row["method"]: row for row in table.data}
    assert len(rows) == len(table.data) == 9
    assert sorted(round(float(row["general_nll"]), 6) for row in rows.values()) == [
        0.5,
        0.6,
        0.7,
        0.8,
        0.9,
        1.1,
        1.3,
        2.0,
        3.0,
    ]
    summed, halved = (
        rows["full, two runs added"],
        next(r for n, r in rows.items() if "trained_on boolq" in n),
    )
    assert summed["n_seeds"] == 2 and summed["general_change"] == pytest.approx(2.5) and halved["general_nll"] == 2.0
    over = next(row for name, row in rows.items() if name.startswith("SMT"))
    assert over["general_change"] == pytest.approx(0.2)  # of the base that it stands on
    assert rows["base"]["general_change"] is None
    assert all(row["n_seeds"] == 2 for name, row in rows.items() if "base" not in name)


def test_without_an_untouched_model_there_is_no_change() -> None:
    table = losses_table([one("lora", 0, 0.7)], "tiny")
    assert table is not None and table.data is not None and table.data[0]["general_change"] is None
    assert any("no untouched model is among these runs" in note for note in table.notes)
