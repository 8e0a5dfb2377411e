"""What is remembered is what would be found again, and nothing else."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from folders import model_folder

from smt_bench.machine import remembered as module
from smt_bench.machine.remembered import remembered
from smt_bench.models import build
from smt_bench.models.inventory import Inventory, inventory


@pytest.fixture(autouse=True)
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("SMT_BENCH_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "remembered"


def test_an_answer_is_made_once_per_question_code_and_packages(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[int] = []

    def answer() -> int:
        calls.append(1)
        return len(calls)

    assert [remembered(["a"], answer), remembered(["a"], answer), remembered(["b"], answer)] == [1, 1, 2]
    monkeypatch.setattr(module, "version", lambda name: "another")
    assert remembered(["a"], answer) == 3
    monkeypatch.setattr(module, "code", lambda: "another")
    assert remembered(["a"], answer) == 4


def test_refusals_and_damaged_files_are_not_answers(place: Path) -> None:
    def refuse() -> int:
        raise ValueError("no")

    for _ in range(2):
        with pytest.raises(ValueError, match="no"):
            remembered(["a"], refuse)
    assert remembered(["a"], lambda: 1) == 1
    (file,) = place.iterdir()
    file.write_text(json.dumps({"asked": "something else", "answer": 5}))
    assert remembered(["a"], lambda: 2) == 2
    file.write_text("{")
    assert remembered(["a"], lambda: 3) == 3


def test_an_inventory_follows_its_configuration(tmp_path: Path) -> None:
    folder = str(model_folder(tmp_path / "model"))
    first = build.listed(folder)
    assert build.listed(folder) == first == inventory(build.build(folder)) == Inventory.from_dict(first.to_dict())
    config = Path(folder) / "config.json"
    config.write_text(json.dumps({**json.loads(config.read_text()), "tie_word_embeddings": True}))
    assert build.listed(folder).total < first.total
