"""Options that could change nothing: refused, unless other experiments share the request."""

from __future__ import annotations

import importlib.util
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
        "limit-heldout": r.limit_heldout,
        "protocol": r.protocol,
        "select": r.select,
        "vary": r.vary,
        "forgetting": r.forgetting,
        **_words(r.changes),
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
        "forgetting": r.forgetting, "limit-heldout": r.limit_heldout,
        **_words({k: v for k, v in r.changes.items() if k in ("epochs", "schedule", "lr_warmup", "weight_decay")}),
    }  # fmt: skip
    _refuse(options, shared, f"{r.experiment} makes no training run")


EVALUATION = {"lm_eval": "lm-eval", "datasets": "datasets"}  # modules and packages that judge a trained model


def evaluation_packages(experiment: str) -> None:
    """Refuses training where what judges the result is not installed: said before it, not after.

    Raises:
        ValueError: which.
    """
    lacking = [package for module, package in EVALUATION.items() if not _installed(module)]
    if lacking:
        raise ValueError(
            f"{experiment} judges what it trains with {' and '.join(lacking)}, not installed: pip install {' '.join(lacking)}"
        )


def _installed(module: str) -> bool:
    try:
        return importlib.util.find_spec(module) is not None
    except (ImportError, ValueError):
        return False


def _words(changes: Mapping[str, object]) -> dict[str, str]:
    """As options, in words, since 0 is something too; the batch size is that of a measured step as well."""
    return {name.replace("_", "-"): str(value) for name, value in changes.items() if name != "batch_size"}


def step_options(request: Request, shared: bool, trains: bool) -> None:
    """For experiments that take no steps of their own; arguments as `data_options`.

    Args:
        request: what was asked for.
        shared: other experiments share it.
        trains: training runs have a batch size.

    Raises:
        ValueError: an option on the steps.
    """
    r = request
    options = {
        "batch-size": None if trains else r.batch_size, "length": r.length, "layers": r.layers,
        "optimizer-dtype": r.optimizer_dtype, "checkpointing": r.checkpointing is not None and str(r.checkpointing),
    }  # fmt: skip
    _refuse(options, shared, f"{r.experiment} does not measure steps (speed, memory and plan do)")


def base_option(request: Request, shared: bool) -> None:
    """For experiments that neither train nor take steps; arguments as `data_options`.

    Raises:
        ValueError: an option on the base.
    """
    _refuse({"base": request.base}, shared, f"{request.experiment} puts no method over it")


def idle_settings(request: Request, shared: bool, names: Sequence[str]) -> None:
    """Settings of methods that do not run; `names` are those that do.

    Raises:
        ValueError: such a setting.
    """
    for name, what, _ in request.settings:
        if name not in names and not shared:
            runs = f"only {', '.join(names)} runs" if names else "no method runs"
            raise ValueError(f"--set {name}.{what}: {runs} here: leave it out, or name {name} in --methods")
    for option in ("lr", "weight_decay"):
        for name in (n for n in request.changes.get(option) or {} if n not in (*names, "all") and not shared):
            runs = f"only {', '.join(names)} runs" if names else "no method runs"
            raise ValueError(
                f"--{option.replace('_', '-')} {name}=...: {runs} here: leave it out, or name {name} in --methods"
            )
    if request.targets and not shared and not any(methods.find(name).Config().layers for name in names):
        raise ValueError(
            f"--targets {','.join(request.targets)}: no method that runs here has a choice of layers: leave it out"
        )


def _refuse(options: Mapping[str, object], shared: bool, why: str) -> None:
    for option, value in options.items():
        if value and not shared:
            raise ValueError(f"--{option}: {why}: leave it out")
