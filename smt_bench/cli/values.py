"""How the values of the commands' options are read; each is refused in one line."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from smt_bench.cli.options import Many
from smt_bench.machine.borders import terminal


def own_recipe(
    recipe: str | None,
    lr: Many = None,
    weight_decay: Many = None,
    batch_size: int | None = None,
    micro_batch: int | None = None,
    epochs: float | None = None,
    cutoff: int | None = None,
    schedule: str | None = None,
    lr_warmup: float | None = None,
    heldout: float | None = None,
) -> dict[str, Any]:
    """The fields of a request that say what stands in place of a recipe's choices.

    Raises:
        ValueError: a file that cannot be read, or a value that cannot be.
    """
    from smt_bench.questions import own_recipe as own

    changes = {
        "lr": own.rates(several(lr, "--lr"), "--lr"),
        "weight_decay": own.rates(several(weight_decay, "--weight-decay"), "--weight-decay"),
        "batch_size": batch_size, "micro_batch": micro_batch, "epochs": epochs, "cutoff": cutoff,
        "schedule": schedule, "lr_warmup": lr_warmup, "heldout": heldout,
    }  # fmt: skip
    given = {name: value for name, value in changes.items() if value is not None}
    file = {} if recipe is None or own.named(recipe) else own.read(Path(recipe))
    return {
        "recipe": file.get("base") if file or (recipe and not own.named(recipe)) else recipe,
        "recipe_file": {name: value for name, value in file.items() if name != "base"},
        "changes": own.Own.of(given).values(),
    }


def check_select(select: str | None, zero: int) -> None:
    """Refuses to keep weights that no process holds whole.

    Raises:
        ValueError: sharded ones.
    """
    if select == "best" and zero:
        raise ValueError(
            f"--select best: with --zero {zero} no process holds the weights to keep: leave one of them out"
        )


def check_track(track: str | None) -> None:
    """Looks whether a tracker is there.

    Raises:
        ValueError: no such tracker, or its package is not installed.
    """
    if track is not None:
        from smt_bench.sweep.tracking import check

        check(track)


def several(values: Many, option: str) -> list[str]:
    """Options that take several values: repeated, or separated by commas.

    Raises:
        ValueError: one is empty.
    """
    found = [part.strip() for value in values or [] for part in value.split(",")]
    if "" in found:
        raise ValueError(
            f"{option} {','.join(values or [])!r}: a value is empty: choose one or several, separated by commas"
        )
    return found


def check_words(words: Sequence[str]) -> None:
    """Refuses what no command means: a value that is empty, as an unset variable's is, and text that no file can hold.

    Raises:
        ValueError: the option, and what is wrong with it.
    """
    for before, word in zip(["", *words], words):
        name, equals, value = word.partition("=") if word.startswith("--") else (before, "", word)
        if not value.strip() and (equals or not word.strip()):
            what = f"{name}: its value" if name.startswith("-") else "an argument"
            raise ValueError(f"{what} is empty: give one, or leave it out")
        try:
            word.encode()
        except UnicodeEncodeError:
            what = name if name.startswith("-") else "an argument"
            raise ValueError(f"{what}: {terminal(ascii(word))} is not UTF-8 text: rename it") from None


def check_results(results: Path) -> Path:
    """A results folder that is read.

    Raises:
        ValueError: there is none.
    """
    if not results.is_dir():
        why = "is a file, not a folder" if results.exists() else "does not exist"
        raise ValueError(f"results folder {results} {why}: choose another with --results, `run` makes one")
    return results


def numbers(values: Many, kind: type, option: str) -> tuple[Any, ...]:
    """The values of such an option as numbers of one kind.

    Raises:
        ValueError: one is none.
    """
    found = []
    for text in several(values, option):
        try:
            found.append(kind(text))
        except ValueError:
            what = "whole numbers" if kind is int else "numbers"
            raise ValueError(f"{option} {text!r}: choose {what}, separated by commas") from None
    return tuple(found)


def setting(text: str) -> tuple[str, str, Any]:
    """`method.setting=value`; the value is JSON, or else plain text."""
    left, _, value = text.partition("=")
    method, dot, name = left.partition(".")
    if not (dot and method and name and value.strip()):
        raise ValueError(f"--set {text[:80]!r}: write METHOD.SETTING=VALUE, e.g. smt.block_size=64")
    try:
        return method, name, json.loads(value)
    except RecursionError:
        raise ValueError(f"--set {method}.{name}: its value is nested too deeply: choose another") from None
    except ValueError:
        return method, name, value
