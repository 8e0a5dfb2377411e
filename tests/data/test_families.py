"""Data families: what the built-in ones hold, what their tasks take from them, and what is refused of others'."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import Any

import pytest
from helpers import ROOT

from smt_bench.data import families, loading
from smt_bench.data.families import COMMONSENSE, MATH
from smt_bench.data.family import Embedded, Family, Task
from smt_bench.data.fetch import fetch_data
from smt_bench.data.prompts import Example
from smt_bench.data.tasks import TASKS, find_task
from smt_bench.evaluation.protocols import EvalSettings
from smt_bench.evidence.words import family_title, task_title
from smt_bench.machine import fits
from smt_bench.questions.planner import Planner
from smt_bench.questions.presets import recipe
from smt_bench.questions.recipes import RECIPES
from smt_bench.questions.request import Request

RAIN = Task("rain", ("wet", "dry"), "Rain?")
DRAWN = [Example(f"day {i}?", "", "the correct answer is wet", "wet") for i in range(30)]
HERE = Embedded((), "weather-3", lambda: (DRAWN, {"rain": DRAWN[:4]}))


def weather() -> Family:
    return Family("weather", "Weather", (RAIN,), embedded=HERE)


def clashing() -> Family:
    return Family("clouds", "Clouds", (Task("boolq", ("a", "b"), "Boo"),))


def again() -> Family:
    return Family("math", "Math again", (Task("sums", None, "Sums"),))


def above() -> Family:
    return Family("clouds", "Clouds", (Task("cloud", ("a", "b"), "Cloud"),), folder="")


def nonsense() -> str:
    return "weather"


@pytest.fixture
def install(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """Registers functions of this module as if a package had."""

    def forget() -> None:
        families.all_families.cache_clear()
        families.all_tasks.cache_clear()

    def register(*names: str) -> None:
        points = [EntryPoint(name, f"{__name__}:{name}", "smt_bench.families") for name in names]
        monkeypatch.setattr(families, "entry_points", lambda group: points if group == "smt_bench.families" else [])
        forget()

    yield register
    monkeypatch.undo()
    forget()


def test_the_built_in_families_hold_the_papers_tasks_and_the_testbeds() -> None:
    assert [len(f.tasks) for f in (COMMONSENSE, MATH)] == [8, 6]
    assert [len(f.all_tasks) - len(f.tasks) for f in (COMMONSENSE, MATH)] == [5, 2]
    assert [t.name for t in MATH.extras] == ["mawps"]
    for family in (COMMONSENSE, MATH):
        assert {(t.family, t.rationale, t.generated) for t in family.all_tasks} == {
            (family.name,) + (family is MATH,) * 2
        }
        assert family.embedded is not None
        train, tests = family.embedded.load()
        assert [t.name for t in family.embedded.tasks] == list(tests) and train
        assert all(t.published_column is None for t in family.embedded.tasks)


@pytest.mark.parametrize(("table", "family"), [("smt_table2_commonsense", COMMONSENSE), ("smt_table5_math10k", MATH)])
def test_published_columns_are_the_tables(table: str, family: Family) -> None:
    with (ROOT / f"results/paper/{table}.csv").open() as file:
        columns = next(csv.reader(file))
    assert {t.published_column for t in family.tasks} == set(columns) - {"model", "method", "params_pct", "avg"}


def test_a_registered_family_is_found_with_its_tasks_and_its_embedded_data(install: Any) -> None:
    install("weather")
    assert families.find("weather").title == family_title("weather") == "Weather"
    assert find_task("rain").family == "weather" and task_title("rain") == "Rain?" and list(TASKS)[-1] == "rain"
    found = loading.load(None, "weather", (), heldout=5, limit=2)
    assert (found.train_source, len(found.train), len(found.tests["rain"])) == ("weather-3", 25, 2)
    install()
    assert "rain" not in TASKS and family_title("weather") == "weather"  # a record may outlive a package


def test_a_folder_without_a_mixture_is_read_from_the_tasks(tmp_path: Path, install: Any) -> None:
    install("weather")
    place = tmp_path / "dataset" / "rain"
    place.mkdir(parents=True)
    record = {"instruction": "day?", "input": "", "output": "the correct answer is wet", "answer": "wet"}
    (place / "test.json").write_text(json.dumps([record] * 3))
    untrained = loading.load(str(tmp_path), "weather", (), 1, None)
    assert (untrained.train_source, untrained.train, untrained.heldout) == (
        "none",
        [],
        [],
    )  # the untouched model can be judged
    planner = Planner(Request("plateau", "tiny", str(tmp_path), tasks=("rain",)), fits.here())
    planner.open()
    planner.run("base", None, 0)
    with pytest.raises(
        ValueError, match=r"no training set for weather here \(dataset/<task>/train\.json\): .*--methods base$"
    ):
        planner.run("full", None, 0)
    (place / "train.json").write_text(json.dumps([record | {"instruction": f"day {i}?"} for i in range(9)]))
    assert loading.load(str(tmp_path), "weather", (), 1, None).train_source == "rain"


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("clashing", "there is a task boolq of commonsense already"),
        ("again", "there is a family math already"),
        ("above", "there is a folder '' of commonsense already"),
        ("nonsense", "gives str: name a Family, or a function that gives one"),
    ],
)
def test_an_entry_point_that_cannot_be_used_is_named(name: str, message: str, install: Any) -> None:
    install("weather", name)
    with pytest.raises(ValueError, match=f"{name} = .*{message}") as error:
        families.all_families()
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"name": "a/b"}, "choose a name of letters"),
        ({"template": "alpaca"}, "template 'alpaca': choose from llm-adapters"),
        ({"tasks": ()}, "has no task"),
    ],
)
def test_a_family_that_cannot_work_is_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Family(**{"name": "weather", "title": "Weather", "tasks": (RAIN,), **changes})


def test_unknown_families_name_the_nearest_and_nothing_is_downloaded_from_nowhere() -> None:
    with pytest.raises(ValueError, match="unknown data family 'maths': did you mean math"):
        families.find("maths")
    with pytest.raises(ValueError, match="data family weather cannot be downloaded: pass its folder"):
        fetch_data(weather(), print)


@pytest.mark.parametrize(
    ("options", "rationale", "protocol", "tokens"),
    [
        (("wet", "dry"), False, "likelihood", 32),
        (None, False, "llm-adapters", 32),  # a number cannot be chosen, but is short
        (("wet", "dry"), True, "llm-adapters", 256),
        (None, True, "llm-adapters", 256),
    ],
)
def test_how_a_family_is_judged(options: tuple[str, ...] | None, rationale: bool, protocol: str, tokens: int) -> None:
    task = Family("weather", "Weather", (Task("rain", options, "Rain"),), rationale=rationale).tasks[0]
    settings = EvalSettings("likelihood", 1, 32, 256, 8, "llm-adapters")
    assert (settings.protocol_of(task), settings.new_tokens(task)) == (protocol, tokens)


def test_recipes_change_by_family_only_where_they_say_so() -> None:
    for name, plain in RECIPES.items():
        assert recipe(name, "commonsense", None) == recipe(name, "weather", None) == plain
        changed = recipe(name, "math", None)
        assert (changed != plain) == (name != "bench")
    assert recipe("paper", "math", None).config("smt", 5000)["warmup_steps"] == 25
    assert recipe("tiny", "math", None).lr("smt") == 3e-3 and recipe("tiny", "math", None).lr("lora") == 2e-3
