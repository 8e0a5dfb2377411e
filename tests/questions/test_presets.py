"""Presets: what `reference` fixes, what it takes from a tuning and when not, and what stands above it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from helpers import Cli

from smt_bench.evidence.cells import Group
from smt_bench.machine.fits import Machine
from smt_bench.plan.rows import DryPlanner
from smt_bench.questions import presets
from smt_bench.questions.presets import REFERENCE, REFERENCES, SMOKE, Reference, recipe, values
from smt_bench.questions.recipes import RECIPES
from smt_bench.questions.request import Request
from smt_bench.records.runs import Run
from smt_bench.report.trained import own_recipe

COMMITTED = Path(__file__).resolve().parents[2] / "results" / "reference"
FOUND = {"lr": {"smt": 2e-3}, "settings": {"smt": {"warmup_share": 0.5}}}


def planner(**asked: Any) -> DryPlanner:
    request = Request("plateau", "smollm2-135m", **({"preset": REFERENCE} | asked))
    made = DryPlanner(request, Machine((), 24_000_000_000))
    made.open_without_data()
    return made


def planned(**asked: Any) -> Run:
    made = planner(**asked)
    return made.run("smt", made.fractions()[-1], made.seeds()[0])[0]


def test_the_design_reaches_the_run() -> None:
    made, design = planner(), REFERENCES["smollm2"].of("commonsense").design
    run = planned()
    assert made.fractions() == [p / 100 for p in design["fractions"]] and made.seeds() == list(design["seeds"])
    assert (run.train.steps, run.train.precision, run.data.heldout) == (60, "fp32", design["heldout"])
    assert run.train.lr_warmup_steps == 6 and not run.method.half  # a tenth of the steps
    tuned = planned(default_family="math").method.config
    assert tuned["block_size"] == "auto"  # of the recipe's settings those stay that the tuning did not search
    assert (tuned["warmup_lr_scale"], tuned["warmup_steps"]) == (0.248, 5)
    assert planner(default_family="math").fractions() == [0.0016, 0.01, 0.05]
    assert made.recipe.limit == planner(default_family="math").recipe.limit == design["limit"] == 40
    assert planned(precision="bf16").method.half


def test_a_tuning_starts_from_the_recipe_and_what_it_found_is_used_from_then_on(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    own = Reference(REFERENCES["smollm2"].design, FOUND, "abc")
    monkeypatch.setattr(presets, "REFERENCES", {"smollm2": own})
    used, searched = planned(), planned(tunes=True, seeds=(100,))
    assert (used.train.lr, used.method.config["warmup_steps"]) == (2e-3, 30)
    usual = RECIPES["smollm2"].lr("smt")
    assert (searched.train.lr, searched.method.config["warmup_steps"]) == (usual, 10) and usual != 2e-3
    assert searched.train.steps == used.train.steps == 60


def test_of_a_family_its_own_rates_stand_in_place_of_all(monkeypatch: pytest.MonkeyPatch) -> None:
    math = Reference({"limit": 7}, {"lr": {"smt": 3e-3}}, "def")
    own = Reference({"steps": 60, "limit": 9}, FOUND, "abc", {"math": math})
    monkeypatch.setattr(presets, "REFERENCES", {"smollm2": own})
    assert values("smollm2", "math", REFERENCE) == {"steps": 60, "limit": 7, "lr": {"smt": 3e-3}}
    assert values("smollm2", "commonsense", REFERENCE) == {"steps": 60, "limit": 9, **FOUND}
    assert values("smollm2", "math", REFERENCE, tunes=True) == {"steps": 60, "limit": 7}


def test_a_file_stands_above_the_reference_and_an_option_above_both() -> None:
    file = {"steps": 70, "heldout": 30, "precision": "bf16"}
    both = planned(recipe_file=file, changes={"heldout": 40})
    assert (both.train.steps, both.data.heldout, both.train.precision) == (70, 40, "bf16")
    assert planned(steps=5, precision="bf16").train.steps == 5
    assert recipe("smollm2", "commonsense", SMOKE, file).steps == 8  # smoke cuts down what a file has


@pytest.mark.parametrize(
    ("tuning", "said"), [("abc", "found by tuning abc"), ("", "the recipe's, not searched on these data")]
)
def test_tables_say_where_the_rates_of_a_reference_are_from(
    monkeypatch: pytest.MonkeyPatch, tuning: str, said: str
) -> None:
    own = Reference({"steps": 60}, FOUND if tuning else {}, tuning)
    monkeypatch.setattr(presets, "REFERENCES", {"smollm2": own})
    recorded = planner(changes={"heldout": 40})._own("smt")
    assert recorded.pop("changed") == {"heldout": [RECIPES["smollm2"].heldout, 40]}
    assert recorded == {"name": "smollm2", "preset": REFERENCE, "tuning": tuning}
    assert planner(preset=None)._own("smt") == planner(tunes=True, seeds=(100,))._own("smt") == {}
    group = Group("smt", 0.01, ({"recipe": {**recorded, "changed": {}}},), (), ())
    assert own_recipe([group, group]) == [f"Preset reference of recipe smollm2: rates and settings of SMT {said}."]
    assert planner(methods=("lora",))._own("lora")["tuning"] == ""  # the tuning found nothing for it
    assert planner(methods=("base",))._own("base") == {}  # which trains nothing


def _lengthened(settings: dict[str, Any], short: int, long: int) -> dict[str, Any]:
    """Settings in steps keep their share of the run."""
    found = dict(settings)
    if "warmup_steps" in found:
        found["warmup_share"] = round(found.pop("warmup_steps") / short, 4)
    if "update_every" in found:
        found["update_every"] = round(found["update_every"] * long / short)
    return found


@pytest.mark.parametrize(
    ("name", "family"), [(n, f) for n, r in REFERENCES.items() for f in ("", *r.by_family) if r.of(f).tuning]
)
def test_what_a_reference_found_is_what_the_committed_tuning_says(name: str, family: str) -> None:
    reference = REFERENCES[name].of(family)
    files = [json.loads(path.read_text()) for path in COMMITTED.rglob("tuning.json")]
    (tuning,) = [file["tunings"][reference.tuning] for file in files if reference.tuning in file["tunings"]]
    short, won = tuning["declared"]["under"]["train"]["steps"], tuning["winners"]
    assert reference.found["lr"] == {method: values["lr"] for method, values in won.items()}
    settings = {m: _lengthened(values["settings"], short, reference.design["steps"]) for m, values in won.items()}
    assert reference.found["settings"] == {method: values for method, values in settings.items() if values}


def test_smoke_alone_makes_measurements_short() -> None:
    assert Request("speed", "tiny", preset=SMOKE).smoke
    assert not Request("speed", "tiny").smoke and not Request("speed", "smollm2-135m", preset=REFERENCE).smoke


def test_a_recipe_without_a_reference_is_refused(cli: Cli) -> None:
    done = cli("run", "plateau", "--model", "bench-60m", "--preset", REFERENCE, "--dry-run")
    assert (
        done.returncode == 2 and "--preset reference: there is none for recipe bench, only for smollm2" in done.stderr
    )
    with pytest.raises(ValueError, match="unknown preset 'referenc': choose from smoke, reference"):
        recipe("tiny", "math", "referenc")


def test_a_preset_says_what_its_claims_are_judged_by_first() -> None:
    assert planner().outcome == planner(default_family="math").outcome == {"outcome": "held-out loss"}
    assert planner(preset=None).outcome == {}
