"""Options that could change nothing: refused, unless other experiments share the request."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from smt_bench import methods
from smt_bench.questions.request import Request


def data_options(request: Request, shared: bool) -> None:
    """For experiments that look at no data.

    Args:
        request: what was asked for.
        shared: other experiments share it.

    Raises:
        ValueError: an option on data.
    """
    r = request
    options = {
        "data": r.data,
        "tasks": r.tasks,
        "limit": r.limit,
        "protocol": r.protocol,
        "select": r.select,
        "vary": r.vary,
    }
    _refuse(options, shared, f"{r.experiment} measures on random inputs")


def training_options(request: Request, shared: bool) -> None:
    """For experiments that look at trained weights and data but make no training run; arguments as `data_options`.

    Raises:
        ValueError: an option on training.
    """
    r = request
    options = {
        "methods": r.methods, "fractions": r.fractions_pct, "protocol": r.protocol, "set": r.settings, "limit": r.limit,
        "targets": r.targets, "select": r.select, "vary": r.vary,
    }  # fmt: skip
    _refuse(options, shared, f"{r.experiment} makes no training run")


def idle_settings(request: Request, shared: bool, names: Sequence[str]) -> None:
    """Settings of methods that do not run; `names` are those that do.

    Raises:
        ValueError: such a setting.
    """
    for name, what, _ in request.settings:
        if name not in names and not shared:
            runs = f"only {', '.join(names)} runs" if names else "no method runs"
            raise ValueError(f"--set {name}.{what}: {runs} here: leave it out, or name {name} in --methods")
    if request.targets and not shared and not any(methods.find(name).Config().layers for name in names):
        raise ValueError(
            f"--targets {','.join(request.targets)}: no method that runs here has a choice of layers: leave it out"
        )


def _refuse(options: Mapping[str, object], shared: bool, why: str) -> None:
    for option, value in options.items():
        if value and not shared:
            raise ValueError(f"--{option}: {why}: leave it out")
