"""How methods, fractions, tasks and data families are called in tables and figures.

What a record names need not be there any more, and a row need not be a method ("SMT (best)"): then its name stands for itself.
"""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING

from smt_bench import methods
from smt_bench.data import families
from smt_bench.data.tasks import TASKS

if TYPE_CHECKING:  # torch comes with it
    from smt_bench.methods.base import Method


@cache  # a table asks once per cell
def known(method: str) -> type[Method] | None:
    """The method of that name, where there is one."""
    try:
        return methods.find(method)
    except ValueError:
        return None


def title(method: str) -> str:
    """A method's name in tables and figures."""
    found = known(method)
    return method if found is None else found.title


def rank(method: str) -> tuple[int, str]:
    """Sorts methods for display; what is no method stands among those without a place of their own."""
    from smt_bench.methods.base import Method

    return (known(method) or Method).order, method


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
