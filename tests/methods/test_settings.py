"""Every setting has a type, a range and one canonical form, whoever wrote the method; checked before anything else."""

from __future__ import annotations

from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Literal, get_type_hints

import pytest
from helpers import Cli

from smt_bench import methods
from smt_bench.methods.base import MethodConfig
from smt_bench.methods.settings import setting
from smt_bench.questions.request import Request

REFUSED = [
    ("smt", "warmup_trains", "no", "choose true or false"),
    ("smt", "warmup_trains", 1, "choose true or false"),
    ("smt", "warmup_steps", 2.5, "choose a whole number, at least 1"),
    ("smt", "warmup_steps", "5", "choose a whole number, at least 1"),
    ("smt", "warmup_steps", 0, "choose a whole number, at least 1"),
    ("smt", "warmup_steps", None, "choose a whole number, at least 1"),
    ("smt", "warmup_lr_scale", -5, "choose a number, above 0"),
    ("smt", "warmup_lr_scale", float("nan"), "choose a number, above 0"),
    ("smt", "warmup_lr_scale", 10**400, "choose a number, above 0"),
    ("smt", "block_size", True, "choose a whole number, at least 1 or auto"),
    ("smt", "block_size", "automatic", "choose a whole number, at least 1 or auto"),
    ("smt", "block_size", [32], "choose a whole number, at least 1 or auto"),
    ("smt", "metric", "most", "choose from mean_abs, "),
    ("smt", "scope", 3, "choose from global, "),
    ("smt", "shares", {"q_proj+k_proj": -1, "v_proj": 2}, "each with a number, above 0, at most 1"),
    ("smt", "shares", "none", "choose names"),
    ("smt", "targets", [1], "each a text"),
    ("smt", "targets", "q_proj,,v_proj", "each a text"),
    ("lora", "alpha_per_rank", 0, "choose a number, above 0"),
    ("lora", "dropout", 2, "choose a number, at least 0, below 1"),
    ("dora", "dropout", True, "choose a number, at least 0, below 1"),
    ("spiel", "update_every", 0, "choose a whole number, at least 1"),
    ("spiel", "replace_rate", 1.5, "choose a number, at least 0, at most 1"),
    ("spiel", "weight_decay", float("inf"), "choose a number, at least 0"),
]


@pytest.mark.parametrize(("method", "name", "value", "remedy"), REFUSED)
def test_a_value_of_no_sense_is_refused_and_the_option_named(method: str, name: str, value: Any, remedy: str) -> None:
    with pytest.raises(ValueError, match="choose") as told:
        Request("plateau", "tiny", settings=((method, name, value),))
    line = str(told.value)
    assert line.startswith(f"{name}=") and remedy in line and line.endswith(f"(--set {method}.{name}=...)")
    assert "\n" not in line and len(line) < 300
    with pytest.raises(ValueError, match=f"^{name}="):
        methods.find(method).Config.from_dict({name: value})


@pytest.mark.parametrize(
    ("method", "name", "values", "canonical"),
    [
        ("smt", "warmup_trains", (False, "False", "false", "FALSE"), False),
        ("smt", "block_size", (32, 32.0), 32),
        ("smt", "block_size", ("auto",), "auto"),
        ("smt", "warmup_lr_scale", (1, 1.0), 1.0),
        ("smt", "shares", ({"q_proj+k_proj+v_proj": 1},), {"q_proj+k_proj+v_proj": 1.0}),
        ("lora", "dropout", (0, 0.0, -0.0), 0.0),
        ("lora", "targets", ("q_proj", ["q_proj"], ("q_proj",), "q_proj,q_proj"), ["q_proj"]),
    ],
)
def test_one_meaning_is_one_value(method: str, name: str, values: tuple[Any, ...], canonical: Any) -> None:
    for value in values:
        made = methods.find(method).Config.from_dict({name: value}).to_dict()[name]
        assert repr(made) == repr(canonical)  # 1 is not 1.0, 0.0 not -0.0


@pytest.mark.parametrize("name", methods.REGISTRY.names())
def test_every_method_keeps_its_own_defaults(name: str) -> None:
    """A default that its own annotation or range changed would be another key than the class says."""
    config = methods.find(name).Config
    assert get_type_hints(config) is not None
    for one in fields(config):
        assert repr(getattr(config(), one.name)) == repr(one.default)


@dataclass(frozen=True)
class Theirs(MethodConfig):
    """Somebody else's settings, with annotations alone but for one range."""

    mode: Literal["fast", "exact"] = "fast"
    rank: int = 8
    pair: tuple[int, float] = (1, 0.5)
    sides: list[int] = (2, 4)  # type: ignore[assignment]
    decay: float | None = None
    extra: Any = None
    share: float = setting(0.5, above=0, at_most=1)


def test_annotations_are_enough_for_others() -> None:
    made = Theirs.from_dict({"pair": [2.0, 1], "sides": [1, 2.0], "decay": 3, "rank": 4.0, "extra": {"a": [1]}})
    assert repr((made.pair, made.sides, made.decay, made.rank)) == "((2, 1.0), (1, 2), 3.0, 4)"
    assert Theirs.from_dict(made.to_dict()) == made
    deep: Any = []
    for _ in range(100_000):
        deep = [deep]
    wrong = {
        "mode": "slow", "rank": "8", "pair": [1], "sides": [1, "x"], "decay": "0", "share": 0, "extra": {1, 2},
    }  # fmt: skip
    for name, value in [*wrong.items(), ("extra", deep)]:
        with pytest.raises(ValueError, match=f"^{name}=.*choose"):
            Theirs.from_dict({name: value})
        with pytest.raises(ValueError, match=f"^{name}=.*choose"):
            Theirs(**{name: value})


def test_an_annotation_that_no_key_can_hold_is_named() -> None:
    @dataclass(frozen=True)
    class Odd(MethodConfig):
        place: Path = Path()

    with pytest.raises(ValueError, match=r"type .*Path.*only plain JSON"):
        Odd()


@pytest.mark.parametrize(
    ("field", "value", "told"),
    [
        ("steps", 2.5, "--steps 2.5: choose a whole number"),
        ("steps", True, "--steps True"),
        ("limit", 0, "--limit 0: choose a whole number, at least 1"),
        ("seeds", (0, 2**64), "--seeds 18446744073709551616: choose one or several, each a whole number"),
        ("seeds", (-1,), "--seeds -1"),
        ("fractions_pct", (1e-12,), "--fractions 1e-12: choose"),
        ("fractions_pct", (float("nan"),), "--fractions nan"),
        ("fractions_pct", (True,), "--fractions True"),
        ("model", 3, "--model 3"),
        ("settings", (("smt", "warmup_steps"),), "--set"),
        ("settings", (("smt", "warmup_steps", 1), ("smt", "warmup_steps", 2)), "--set smt.warmup_steps: given twice"),
    ],
)
def test_a_request_has_types_too(field: str, value: Any, told: str) -> None:
    with pytest.raises(ValueError, match="choose") as error:
        Request(**{"experiment": "plateau", "model": "tiny", field: value})
    assert str(error.value).startswith(told)


def test_a_setting_of_a_method_that_does_not_run(cli: Cli) -> None:
    for command in (("run", "plateau", "--dry-run"), ("plan", "plateau", "--model", "tiny")):
        done = cli(*command, "--methods", "smt", "--set", "lora.dropout=0")
        assert done.returncode == 2 and done.stdout == ""
        assert done.stderr == (
            "error: --set lora.dropout: only smt runs here: leave it out, or name lora in --methods\n"
        )
    shared = cli("run", "paper", "--dry-run", "--preset", "smoke", "--set", "lora.dropout=0")
    assert shared.returncode == 0, shared.stderr
