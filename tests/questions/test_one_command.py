"""What one command does: under a reference's design its sweep, no more and no less."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from smt_bench import experiments
from smt_bench.data import families
from smt_bench.experiments import find
from smt_bench.machine.fits import Machine
from smt_bench.questions import parts
from smt_bench.questions.parts import Leg, asked_of, families_of, plan_parts
from smt_bench.questions.presets import REFERENCE, REFERENCES
from smt_bench.questions.request import Request
from smt_bench.records.store import Store

SWEEP = [(name, family, pcts) for name, on in REFERENCES["smollm2"].parts.items() for family, pcts in on.items()]


def asked(experiment: str = "selection", **values: Any) -> Request:
    return Request(experiment, "smollm2-135m", preset=REFERENCE, **values)


def test_tasks_and_fractions_that_nobody_names_are_the_designs() -> None:
    found = asked_of(asked(), find("selection"), "math")
    assert (found.tasks, found.fractions_pct, found.family) == (("gsm8k",), (1.0,), "math")
    assert asked_of(asked("plateau"), find("plateau"), "math").fractions_pct == ()  # those of the recipe
    named = asked_of(asked(tasks=("AddSub",), fractions_pct=(5.0,)), find("selection"), "math")
    assert (named.tasks, named.fractions_pct) == (("AddSub",), (5.0,))
    speed = asked("speed")
    assert asked_of(speed, find("speed"), "commonsense") == speed  # which looks at no data
    embedded = Request("plateau", "tiny", preset=REFERENCE, recipe="smollm2")
    assert asked_of(embedded, find("plateau"), "commonsense") == embedded
    plain = Request("selection", "smollm2-135m")
    assert asked_of(plain, find("selection"), "commonsense") == plain


def test_data_that_nobody_names_are_the_sweeps() -> None:
    assert families_of(find("selection"), asked()) == ("math",)
    assert families_of(find("plateau"), asked("plateau")) == ("commonsense", "math")
    assert families_of(find("selection"), asked(tasks=("boolq",))) == ("commonsense",)
    assert families_of(find("warmup"), asked("warmup")) == find("warmup").families
    assert families_of(find("selection"), Request("selection", "smollm2-135m")) == find("selection").families


@pytest.mark.parametrize(
    ("tasks", "expected"),
    [((), set(SWEEP)), (("gsm8k",), {part for part in SWEEP if part[1] == "math"})],
)
def test_the_paper_is_the_sweep_and_what_it_leaves_out_is_named(
    tasks: tuple[str, ...], expected: set[Any], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(parts, "_plan", lambda experiment, planner, *_: Leg(experiment, planner, [], tmp_path))
    members, said = experiments.members("paper"), list[str]()
    made = plan_parts(members, asked("paper", tasks=tasks), Machine((), 1), Store(tmp_path), False, said.append)
    found = [(leg.experiment.name, leg.planner.family.name, leg.planner.request.fractions_pct) for leg in made]
    assert set(found) == expected and len(found) == len(expected)
    assert all(leg.planner.request.tasks for leg in made)
    (note,) = [line for line in said if "not in the reference sweep" in line]
    assert "warmup" in note and "plateau" not in note


def test_a_sweep_names_what_there_is() -> None:
    for reference in REFERENCES.values():
        assert set(reference.parts) <= {member.name for member in experiments.members("paper")}
        for family, tasks in reference.tasks.items():
            assert set(tasks) <= {task.name for task in families.find(family).tasks}
        assert {family for on in reference.parts.values() for family in on} <= set(reference.tasks)
