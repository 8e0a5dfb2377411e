"""A recipe of one's own: single choices on the command line, or any of them in a TOML file that starts from a known recipe.

    base = "smollm2"          # a name of `recipes.RECIPES`; left out: the model's recipe
    batch_size = 16
    schedule = "cosine"
    [lr]
    all = 1e-3                # every method, but for those that are named
    smt = 2e-3
    [settings.smt]
    block_size = 64

`python -m smt_bench recipe` prints the effective recipe as such a file. The file's values take the place of the
recipe's and of the preset `reference`'s, before `smoke` cuts down; those of options come after it.
"""

from __future__ import annotations

import difflib
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

from smt_bench import methods
from smt_bench.data.prompts import TEMPLATES
from smt_bench.evaluation.protocols import PROTOCOLS
from smt_bench.methods.settings import make_canonical, setting, short
from smt_bench.models.precision import PRECISIONS
from smt_bench.questions.capacity import setting_named
from smt_bench.questions.recipe import Recipe
from smt_bench.questions.recipes import RECIPES, find
from smt_bench.records.runs import SCHEDULES

MANY = 10**9
SUFFIX = ".toml"
# Rates: of every method that is not named; of methods that have none in the recipe or of their own.
ALL, OTHERS = "all", "others"
_BY_NAME = "names, each with a number"  # how `methods.settings` calls what a field of rates takes
EACH = ("lr", "weight_decay")  # what may be said method by method
# Of a file, by the recipe's field; what is not here is called alike.
FIELDS = {"micro_batch": "micro_batch_size", "fractions": "fractions_pct"}


@dataclass(frozen=True)
class Own:
    """Choices in place of a recipe's; None: as the recipe has it.

    Attributes:
        base: name of the recipe to start from.
        lr: peak learning rate by method, `ALL` or `OTHERS`; a number stands for `ALL`.
        weight_decay: of AdamW by method or `ALL`; a number stands for `ALL`.
        micro_batch: examples per forward pass.
        lr_warmup: steps of the schedule's warm-up, or below 1 a share of all steps; taken as it is.
        heldout: examples set aside, or below 1 a share.
        fractions: trainable fractions in %.
        settings: by method, what it is given to make its settings of; what is not named stays the recipe's.

    The others are as in `recipe.Recipe`.

    Raises:
        ValueError: what, the value, the remedy.
    """

    base: str | None = None
    lr: None | dict[str, float] = setting(None, above=0, at_most=1000)
    weight_decay: None | dict[str, float] = setting(None, at_least=0, at_most=1000)
    batch_size: int | None = setting(None, at_least=1, at_most=MANY)
    micro_batch: int | None = setting(None, at_least=1, at_most=MANY)
    steps: int | None = setting(None, at_least=1, at_most=MANY)
    epochs: float | None = setting(None, above=0, at_most=MANY)
    cutoff: int | None = setting(None, at_least=2, at_most=MANY)
    schedule: str | None = setting(None, choices=SCHEDULES)
    lr_warmup: float | None = setting(None, at_least=0, at_most=MANY)
    heldout: float | None = setting(None, at_least=0, at_most=MANY)
    precision: str | None = setting(None, choices=PRECISIONS)
    train_on_inputs: bool | None = None
    gradient_checkpointing: bool | None = None
    max_grad_norm: float | None = setting(None, above=0, at_most=MANY)
    betas: tuple[float, float] | None = setting(None, at_least=0, below=1)
    template: str | None = setting(None, choices=TEMPLATES)
    protocol: str | None = setting(None, choices=PROTOCOLS)
    beams: int | None = setting(None, at_least=1, at_most=MANY)
    max_new_tokens: int | None = setting(None, at_least=1, at_most=MANY)
    max_new_tokens_math: int | None = setting(None, at_least=1, at_most=MANY)
    repetition_penalty: float | None = setting(None, above=0, at_most=1000)
    limit: int | None = setting(None, at_least=1, at_most=MANY)
    fractions: tuple[float, ...] | None = setting(None, above=0, at_most=100, once=True)
    seeds: tuple[int, ...] | None = setting(None, at_least=0, at_most=99, once=True)
    select_every: int | None = setting(None, at_least=1, at_most=MANY)
    with_base: bool | None = None
    settings: dict[str, dict[str, Any]] | None = None

    @classmethod
    def of(cls, values: Mapping[str, Any], where: str = "") -> Own:
        """From plain values, called as on the command line, or by the name of the file that they are from.

        Raises:
            ValueError: an unknown name or a value that cannot be, a method that there is not, steps and epochs at once.
        """

        def told(name: str, value: Any, part: Any) -> str:
            return f"{where}: {name} = {short(part)}" if where else f"--{name.replace('_', '-')} {short(part)}"

        known = [f.name for f in fields(cls)]
        for name in values:
            if name not in known:
                near = difflib.get_close_matches(name, known, n=1)
                hint = f"did you mean {near[0]}?" if near else f"choose from {', '.join(known)}"
                raise ValueError(f"{where}: unknown name {short(name)}: {hint}")
        made = cls.__new__(cls)
        for f in fields(cls):
            value = values.get(f.name)
            value = {ALL: value} if f.name in EACH and isinstance(value, int | float) else value
            object.__setattr__(made, f.name, value)
        try:
            make_canonical(made, told)
        except ValueError as error:  # a plain number stands for all
            raise ValueError(str(error).replace(_BY_NAME, "a number, or METHOD = NUMBER for each")) from None
        try:
            made._check(where)
        except ValueError as error:
            at = "" if not where or str(error).startswith(where) else f"{where}: "
            raise ValueError(f"{at}{error}") from None
        return made

    def _check(self, where: str) -> None:
        if self.base is not None:
            find(self.base)
        for name in EACH:
            rates = getattr(self, name) or {}
            special = (ALL, OTHERS) if name == "lr" else (ALL,)
            for method in (m for m in rates if m not in special):
                methods.find(method)
                if name == "weight_decay" and "weight_decay" in methods.find(method).Config().to_dict():
                    raise ValueError(
                        f"--weight-decay {method}=...: the method has one of its own: --set {method}.weight_decay=VALUE"
                    )
        if self.heldout is not None and self.heldout >= 1 and self.heldout % 1:
            raise ValueError(
                f"{where or '--heldout'} {self.heldout:g}: choose a whole number of examples, or a share below 1"
            )
        if self.steps is not None and self.epochs is not None:
            raise ValueError(f"{where or '--epochs'}: steps and epochs are two ways to say one thing: choose one")
        for method, given in (self.settings or {}).items():
            with setting_named(method, given):
                kind = methods.find(method)
                kind.Config.from_dict(kind.recipe(1000, given))

    def values(self) -> dict[str, Any]:
        """What is chosen, as plain values."""
        found = {f.name: getattr(self, f.name) for f in fields(self)}
        return {name: value for name, value in found.items() if value is not None}


def read(path: Path) -> dict[str, Any]:
    """The values of a recipe file, checked.

    Raises:
        ValueError: no such file, no TOML, or as `Own.of`; names the file.
    """
    try:
        values = tomllib.loads(path.read_text(encoding="utf-8-sig"))
    except FileNotFoundError:
        raise ValueError(f"--recipe {path}: no such file: `python -m smt_bench recipe` prints one") from None
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise ValueError(f"--recipe {path}: not a TOML file ({str(error).splitlines()[0][:80]}): mend it") from None
    return Own.of(values, path.name).values()


def rates(texts: list[str], option: str) -> dict[str, float] | None:
    """Values like `1e-3` or `smt=1e-3`, for every method or for one; None where there are none.

    Raises:
        ValueError: one is no number, or is given twice.
    """
    found: dict[str, float] = {}
    for text in texts:
        name, equals, value = text.rpartition("=")
        name = name.strip() if equals else ALL
        try:
            number = float(value)
        except ValueError:
            raise ValueError(f"{option} {text!r}: write a number, or METHOD=NUMBER, separated by commas") from None
        if not name:
            raise ValueError(f"{option} {text!r}: no method: write METHOD=NUMBER")
        if name in found:
            of = "all methods" if name == ALL else name
            raise ValueError(f"{option} {text!r}: a second value for {of}: give one, or METHOD=NUMBER for each method")
        found[name] = number
    return found or None


def _over(usual: Mapping[str, Any], own: Mapping[str, Any]) -> dict[str, Any]:
    """A method's settings over the recipe's; a length in steps and one as a share of the run stand in each other's place."""
    replaced = {name.replace("_steps", "_share") for name in own} | {name.replace("_share", "_steps") for name in own}
    return {name: value for name, value in usual.items() if name not in replaced} | dict(own)


def applied(recipe: Recipe, own: Own) -> Recipe:
    """A recipe with other values.

    Raises:
        ValueError: a micro-batch larger than a batch.
    """
    values = own.values()
    for name in ("base", "precision"):
        values.pop(name, None)
    changes: dict[str, Any] = {}
    if (lr := values.pop("lr", None)) is not None:
        named = {"*" if name == OTHERS else name: rate for name, rate in lr.items() if name != ALL}
        changes["lrs"] = ({} if ALL in lr else recipe.lrs) | named
        changes["lr_of_all"] = lr.get(ALL, recipe.lr_of_all)
    if (decay := values.pop("weight_decay", None)) is not None:
        changes["decays"] = ({} if ALL in decay else recipe.decays) | {n: v for n, v in decay.items() if n != ALL}
        changes["weight_decay"] = decay.get(ALL, recipe.weight_decay)
    if "epochs" in values:
        changes["steps"] = None
    if (given := values.pop("settings", None)) is not None:
        changes["given"] = {**recipe.given, **{m: _over(recipe.given.get(m, {}), own) for m, own in given.items()}}
    if "batch_size" in values and "micro_batch" not in values:
        changes["micro_batch_size"] = min(recipe.micro_batch_size, values["batch_size"])
    changes |= {FIELDS.get(name, name): value for name, value in values.items()}
    made = replace(recipe, **changes)
    if made.micro_batch_size > made.batch_size:
        raise ValueError(
            f"--micro-batch {made.micro_batch_size}: more than the {made.batch_size} examples of a step: choose fewer"
        )
    return made


def differences(usual: Recipe, own: Recipe, method: str | None) -> dict[str, list[Any]]:
    """What of a recipe is otherwise than usual, as [usual, own] in plain values.

    Args:
        usual: the recipe as it is known.
        own: the one in use.
        method: whose rate and decay are compared; None: nothing trains.
    """
    found: dict[str, list[Any]] = {}
    apart = {"lrs", "lr_of_all", "decays", "weight_decay", "by_family", "source", "sources", "seeds", "fractions_pct"}
    for f in fields(Recipe):
        was, now = getattr(usual, f.name), getattr(own, f.name)
        if f.name not in apart and was != now and not (f.name == "epochs" and own.steps is not None):
            found[f.name] = [was, now]
    if method is not None:
        for what, was, now in (
            ("lr", usual.lr(method), own.lr(method)),
            ("weight_decay", usual.decay(method), own.decay(method)),
        ):
            if was != now:
                found[what] = [was, now]
    return found


def named(recipe: str) -> bool:
    """Whether `--recipe` names a known recipe; else it is a file."""
    return recipe in RECIPES or not recipe.endswith(SUFFIX)
