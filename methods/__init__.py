"""The methods, behind one contract (`methods.base`). A new method is one file, its test and one line here."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from smt_bench.registry import Listed, Registry

if TYPE_CHECKING:  # torch comes with it
    from smt_bench.methods.base import Method


def _accept(found: Any) -> type[Method] | None:
    from smt_bench.methods.base import Method

    return found if isinstance(found, type) and issubclass(found, Method) else None


def _peft_tuners() -> dict[str, Listed]:
    """Every tuner of the installed `peft`, as "peft:<name>"."""
    from smt_bench.methods.peft_tuners.known import PREFIX, reasons, working

    works = {
        PREFIX + name: Listed(f"smt_bench.methods.peft_tuners.made:{name}", {"title": title, "summary": summary})
        for name, (title, summary) in working().items()
    }
    return works | {PREFIX + name: Listed(None, {}, why) for name, why in reasons().items()}


REGISTRY: Registry[type[Method]] = Registry(
    "method",
    "smt_bench.methods",
    {
        "base": "smt_bench.methods.full:Base",
        "full": "smt_bench.methods.full:Full",
        "smt": "smt_bench.methods.smt.method:Smt",
        "spiel": "smt_bench.methods.spiel.method:Spiel",
        "spiel-ma": "smt_bench.methods.spiel.ma:SpielMa",
        "random-mask": "smt_bench.methods.masks.random_mask:RandomMask",
        "sift": "smt_bench.methods.masks.sift:Sift",
        "fish": "smt_bench.methods.masks.fish:Fish",
        "lt-sft": "smt_bench.methods.masks.lt_sft:LtSft",
        "diff-pruning": "smt_bench.methods.masks.diff_pruning:DiffPruning",
        "s2ft": "smt_bench.methods.s2ft.method:S2ft",
        "lora": "smt_bench.methods.lora:Lora",
        "dora": "smt_bench.methods.lora:Dora",
    },
    _accept,
    _peft_tuners,
)
find = REGISTRY.find


def build(name: str, config: Mapping[str, Any], fraction: float | None, seed: int, steps: int) -> Method:
    """One method for one run, from plain JSON values.

    Raises:
        ValueError: unknown method or setting, or a setting that is wrong for every model.
    """
    method = find(name)
    return method(method.Config.from_dict(config), fraction, seed, steps)
