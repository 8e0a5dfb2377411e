"""How methods, fractions and tasks are called in tables and figures."""

from __future__ import annotations

from smt_bench.data.tasks import TASKS

# Display only: the papers' order and spelling. Other methods stand before the last one, by name.
TITLES = {"base": "base", "lora": "LoRA", "spiel": "SpIEL", "dora": "DoRA", "smt": "SMT", "full": "full"}


def title(method: str) -> str:
    """A method's name in tables and figures."""
    return TITLES.get(method, method)


def rank(method: str) -> tuple[int, str]:
    """Sorts methods for display."""
    order = list(TITLES)
    return (order.index(method), "") if method in order[:-1] else (len(order) + (method == order[-1]), method)


def percent(value: float) -> str:
    """A fraction for people, e.g. "0.84 %"."""
    return f"{value:.4g} %"


def task_title(name: str) -> str:
    """A task's name in tables."""
    return TASKS[name].title if name in TASKS else name
