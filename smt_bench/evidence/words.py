"""How methods, fractions, tasks and data families are called in tables and figures.

What a record names need not be there any more, and a row need not be a method ("SMT (best)"): then its name stands for itself.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

from smt_bench import methods
from smt_bench.data import families
from smt_bench.data.tasks import TASKS

PLACE = 50  # as `methods.base.Method.order`, with which torch would come


@dataclass(frozen=True)
class Shown:
    """How a method is shown: as `methods.base.Method` says."""

    title: str
    look: tuple[str, str] | None
    order: int


@cache  # a table asks once per cell
def known(method: str) -> Shown | None:
    """How the method of that name is shown, where there is one."""
    said = methods.REGISTRY.stated(method, "title", "look", "order")
    if said is not None:
        return Shown(**said)
    try:
        found = methods.find(method)  # torch comes with it
    except ValueError:
        return None
    return Shown(found.title, found.look, found.order)


def title(method: str) -> str:
    """A method's name in tables and figures."""
    found = known(method)
    return method if found is None else found.title


def rank(method: str) -> tuple[int, str]:
    """Sorts methods for display; what is no method stands among those without a place of their own."""
    found = known(method)
    return (PLACE if found is None else found.order), method


def percent(value: float) -> str:
    """A fraction for people, e.g. "0.84 %"."""
    return f"{value:.4g} %"


def task_title(name: str) -> str:
    """A task's name in tables."""
    return TASKS[name].title if name in TASKS else name


def family_title(name: str) -> str:
    """A data family's name in tables."""
    found = families.known(name)
    return name if found is None else found.title
