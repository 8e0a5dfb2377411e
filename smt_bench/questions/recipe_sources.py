"""The effective recipe as a file, every value with where it is from; `run --recipe FILE` asks the same questions with it."""

from __future__ import annotations

import json
from typing import Any

from smt_bench import methods
from smt_bench.questions.own_recipe import ALL, OTHERS
from smt_bench.questions.planner import Planner
from smt_bench.questions.presets import REFERENCE, REFERENCES
from smt_bench.questions.recipe import Recipe

_TRAINER = "transformers' Trainer, with which LLM-Adapters and DoRA train"
_EVALUATION = "LLM-Adapters' commonsense_evaluate.py"
_SPIEL = "SpIEL table 4"
_PAPER = {
    "fractions": "SMT table 3", "lr": "DoRA's script for LLaMA2-7B, to which SMT section 4 refers", "lr.full": _SPIEL,
    "lr.spiel": _SPIEL, "lr.spiel-ma": _SPIEL, "lr.lora": "LLM-Adapters' script", "batch_size": "DoRA's script",
    "micro_batch": "ours: the whole batch at once", "epochs": "SMT section 4", "cutoff": "DoRA's script",
    "heldout": "DoRA's script", "schedule": f"{_TRAINER}; counted so that every step moves the weights",
    "lr_warmup": "LLM-Adapters' script", "train_on_inputs": "LLM-Adapters' script", "weight_decay": _TRAINER,
    "betas": _TRAINER, "max_grad_norm": _TRAINER, "protocol": _EVALUATION, "beams": _EVALUATION,
    "max_new_tokens": _EVALUATION, "max_new_tokens_math": "LLM-Adapters' evaluate.py", "repetition_penalty": _EVALUATION,
    "select_every": "DoRA's scripts (eval_step)", "gradient_checkpointing": "ours: what fits a GPU of 40 GB",
    "settings.smt": "SMT section 4; a tenth of the rate while its warm-up trains everything is ours",
    "settings.spiel": f"{_SPIEL}, as many examples apart", "settings.spiel-ma": f"{_SPIEL}, as many examples apart",
}  # fmt: skip
_CODE = "SMT's released fine_tune.py"
_SIZED = "ours: sized for two CPU cores"
_TUNED = "experiment learning-rate: held-out loss at the largest fraction (LOG.md)"
SOURCES: dict[str, dict[str, str]] = {
    "paper": _PAPER,
    "paper-13b": _PAPER,
    "paper-llama3": _PAPER | {"lr.dora": "DoRA's script for LLaMA3-8B", "lr.smt": "DoRA's script for LLaMA3-8B"},
    "paper-code": _PAPER
    | dict.fromkeys(("lr.smt", "lr.full", "betas", "weight_decay", "cutoff", "heldout", "schedule"), _CODE)
    | dict.fromkeys(("epochs", "settings.smt"), _CODE)
    | dict.fromkeys(("batch_size", "lr_warmup"), "the command in its README")
    | dict.fromkeys(("max_new_tokens", "max_new_tokens_math", "repetition_penalty", "beams"), "run_commonsense_parallel.py")
    | {"train_on_inputs": "helper.py", "max_grad_norm": "deepspeed_helpers.py", "select_every": _CODE, "template": "helper.py"},
    "smollm2": dict.fromkeys(("lr.full", "lr.lora", "lr.smt"), "a trial of 20 steps on GSM8K (LOG.md)")
    | {"lr": "by likeness to LoRA's and SMT's", "": _SIZED},
    "tiny": {"lr": _TUNED, "": "ours: for the embedded testbed"},
    "bench": {"": "ours: LLaMA-7B's block size, at the fraction of the paper's tables", "settings.smt": "SMT section 4"},
}  # fmt: skip
_APPENDIX = "SpIEL appendix C and table 4"
_PAPERS_FAMILIES = {  # what the papers' recipes have otherwise on these data
    "math": {
        "settings.smt": "SMT section 4 (a warm-up of 25 steps); a tenth of the rate while it trains everything is ours"
    },
    "instructions": dict.fromkeys(
        ("fractions", "batch_size", "lr_warmup", "cutoff", "epochs", "train_on_inputs"), _APPENDIX
    )
    | dict.fromkeys(("lr.full", "lr.lora", "lr.spiel", "lr.spiel-ma", "lr.peft:ia3"), _APPENDIX)
    | dict.fromkeys(("settings.lora", "settings.spiel", "settings.spiel-ma"), _APPENDIX)
    | dict.fromkeys(("max_new_tokens", "max_new_tokens_math"), "SpIEL's evaluation scripts")
    | dict.fromkeys(("micro_batch", "heldout", "protocol", "beams", "max_grad_norm"), "ours")
    | {"lr": "ours: LoRA's, of which the paper has none"},
}
SOURCES["small"] = SOURCES["smollm2"]
_SHORT = {"micro_batch_size": "micro_batch", "fractions_pct": "fractions", "lr_warmup_steps": "lr_warmup"}


def as_toml(planner: Planner, preset: str | None = None) -> str:
    """The recipe that a planner has, as `run --recipe FILE` takes it.

    Args:
        planner: for the request.
        preset: named, since a file's values are cut down by it again.
    """
    r, request = planner.recipe, planner.request
    name = request.recipe or request.recipe_file.get("base") or planner.entry.recipe
    known = SOURCES.get(name, {})
    papers = name.startswith("paper") and name != "paper-code" and planner.family.name in r.by_family
    of_family = _PAPERS_FAMILIES.get(planner.family.name, {}) if papers else {}
    given = _of_reference(name, planner.family.name) if preset == REFERENCE else {}
    given |= _named(request.recipe_file, "given: --recipe FILE") | _named(request.changes, "given: option")

    def source(field: str) -> str:
        whole, _, _ = field.partition(".")
        by_name = [given.get(field), *(d.get(n) for d in (of_family, known) for n in (field, whole)), known.get("")]
        return next(filter(None, by_name), None) or _PAPER.get(whole) or "ours"

    lines = [
        f"# The recipe of {planner.entry.name} on {planner.family.title} data"
        + (f", preset {preset}" if preset else "")
        + ": `run EXPERIMENT --recipe FILE` takes it.",
        f"base = {json.dumps(name)}  # {'asked for' if request.recipe else 'the one of this model'}",
    ]
    for field, value in _plain(r, planner).items():
        lines.append(f"{field} = {_toml(value)}  # {source(field)}")
    if r.lr_warmup is None:  # a number in a file would be taken as it is, however short a run
        share = r.lr_warmup_share
        length = (
            f"{r.lr_warmup_steps} steps, at most a quarter of the run" if share is None else f"{share:g} of the steps"
        )
        lines.append(f"# lr_warmup: {length}  # {source('lr_warmup')}")
    if r.by_family and planner.family.name in r.by_family:
        lines.append(f"# {planner.family.name}: {', '.join(r.by_family[planner.family.name])} are of this data family")
    lines += ["", "[lr]"]
    if r.lr_of_all is not None:
        lines.append(f"{ALL} = {_toml(r.lr_of_all)}  # {source('lr')}: every method that is not named")
    for method, rate in r.lrs.items():
        if method != "*":
            lines.append(f"{_key(method)} = {_toml(rate)}  # {source(f'lr.{method}')}")
    if "*" in r.lrs:
        lines.append(f"{OTHERS} = {_toml(r.lrs['*'])}  # methods that have no rate above, nor one of their own")
        for method in methods.REGISTRY.names():
            own = None if method in r.lrs or r.lr_of_all is not None else _own_rate(method)
            if own is not None:
                lines.append(f"# {_key(method)} = {_toml(own)}  # its own")
    if r.decays:
        lines = [line for line in lines if not line.startswith("weight_decay")]
        lines += ["", "[weight_decay]", f"{ALL} = {_toml(r.weight_decay)}  # {source('weight_decay')}"]
        lines += [f"{_key(m)} = {_toml(v)}  # {source('weight_decay')}" for m, v in r.decays.items()]
    for method, settings in r.given.items():
        lines += ["", f"[settings.{_key(method)}]  # {source(f'settings.{method}')}"]
        lines += [f"{name} = {_toml(value)}" for name, value in settings.items()]
    return "\n".join(lines) + "\n"


def _of_reference(name: str, family: str) -> dict[str, str]:
    """Sources of what a reference has in place of a recipe's values."""
    found = REFERENCES[name].of(family)
    return _named(dict(found.design), "preset reference: fixed before its first run") | _named(
        dict(found.found), f"preset reference: tuning {found.tuning}"
    )


def _named(values: dict[str, Any], why: str) -> dict[str, str]:
    """The fields that are given, those by method apart."""
    found: dict[str, str] = {}
    for field, value in values.items():
        parts = [f"{field}.{name}" for name in value] if isinstance(value, dict) else []
        found |= dict.fromkeys([field, *parts] if ALL in value else parts, why) if parts else {field: why}
    return found


def _plain(r: Recipe, planner: Planner) -> dict[str, Any]:
    """By the names of a file, what is neither a rate nor a method's; without what is not set."""
    names = (
        "fractions_pct", "batch_size", "micro_batch_size", "steps", "epochs", "cutoff", "schedule", "heldout", "train_on_inputs",
        "weight_decay", "betas", "max_grad_norm", "gradient_checkpointing", "protocol", "limit", "beams", "max_new_tokens",
        "max_new_tokens_math", "repetition_penalty", "template", "select_every", "with_base", "seeds",
    )  # fmt: skip
    found = {_SHORT.get(name, name): getattr(r, name) for name in names}
    found["epochs" if r.steps is not None else "steps"] = None
    found["lr_warmup"] = r.lr_warmup
    found["precision"] = planner.precision
    return {name: value for name, value in found.items() if value is not None}


def _own_rate(method: str) -> float | None:
    try:
        return methods.find(method).default_lr
    except ValueError:
        return None


def _key(name: str) -> str:
    return name if name.replace("-", "").replace("_", "").isalnum() else json.dumps(name)


def _toml(value: Any) -> str:
    """A value as TOML writes it; of numbers the shortest text that reads as the same."""
    if isinstance(value, tuple | list):
        return f"[{', '.join(map(_toml, value))}]"
    if isinstance(value, float):
        return str(int(value)) if value.is_integer() and abs(value) < 1e15 else repr(value)
    return json.dumps(value)
