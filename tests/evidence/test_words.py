"""What methods say of themselves: names and order in tables, looks in figures, settings by the length of a run."""

from __future__ import annotations

from typing import Any, ClassVar

import pytest

from smt_bench import methods
from smt_bench.evidence import words
from smt_bench.methods.lora import Lora
from smt_bench.questions.recipes import RECIPES
from smt_bench.report.canvas import look


class Wide(Lora):
    name = "wide"
    default_lr = 5e-4


class Narrow(Lora):
    name = "narrow"
    title = "Narrow"
    look: ClassVar[tuple[str, str] | None] = ("#E69F00", "v")


@pytest.fixture
def others(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Two methods from elsewhere, made from LoRA."""
    found = methods.find
    monkeypatch.setattr(methods, "find", lambda name: {"wide": Wide, "narrow": Narrow}.get(name) or found(name))
    words.known.cache_clear()
    yield
    words.known.cache_clear()


def test_a_method_made_from_another_is_not_taken_for_it(others: None) -> None:
    assert [words.title(name) for name in ("lora", "wide", "narrow", "LoRA (best)")] == [
        "LoRA", "wide", "Narrow", "LoRA (best)",
    ]  # fmt: skip
    looks = [look(name, ["lora", "wide", "narrow"]) for name in ("lora", "wide", "narrow")]
    assert looks[2] == ("#E69F00", "v") and len({colour for colour, _ in looks}) == len({m for _, m in looks}) == 3


def test_methods_stand_in_the_papers_order_and_what_is_none_before_full() -> None:
    names = ["full", "zeta", "smt", "dora", "SMT (best)", "spiel", "base", "lora"]
    assert sorted(names, key=words.rank) == ["base", "lora", "spiel", "dora", "smt", "SMT (best)", "zeta", "full"]


def test_the_rate_is_the_recipes_then_the_methods_then_that_of_all_others(others: None) -> None:
    tiny = RECIPES["tiny"]
    assert (tiny.lr("smt"), tiny.lr("wide"), tiny.lr("narrow")) == (1e-3, 5e-4, tiny.lrs["*"])


@pytest.mark.parametrize(
    ("recipe", "steps", "smt", "spiel"),
    [
        ("paper", 31_000, {"warmup_steps": 100}, {"update_every": 160, "estimate_steps": 40, "weight_decay": 3.75}),
        ("paper", 40, {"warmup_steps": 10}, {"update_every": 8, "estimate_steps": 4}),
        ("tiny", 220, {"warmup_steps": 5, "block_size": 32}, {"update_every": 20, "estimate_steps": 5}),
        ("tiny", 3, {"warmup_steps": 1}, {"update_every": 2, "estimate_steps": 1}),
    ],
)
def test_settings_shrink_with_short_runs(recipe: str, steps: int, smt: dict[str, Any], spiel: dict[str, Any]) -> None:
    for name, wanted in (("smt", smt), ("spiel", spiel)):
        made = methods.find(name).Config.from_dict(RECIPES[recipe].config(name, steps)).to_dict()
        assert made == {**made, **wanted}
    assert RECIPES[recipe].config("lora", steps) == {}
