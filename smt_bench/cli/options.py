"""What the commands share: options, how their values are read, and where users are told something."""

from __future__ import annotations

import contextlib
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from smt_bench.machine.borders import terminal

Results = Annotated[Path, typer.Option("--results", help="Folder for records, tables and figures.")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON on standard output.")]
Model = Annotated[str, typer.Option("--model", help="Registered model, Hugging Face id or local folder.")]
Recipe = Annotated[
    str | None,
    typer.Option(
        "--recipe",
        help="Whose choices: paper (the text's), paper-code (the released scripts'), ...; default: the model's.",
    ),
]
Precision = Annotated[
    str | None,
    typer.Option(
        "--precision",
        help="fp32 or bf16 (mixed, under autocast); default: see `list models`; other models fp32 up to 10^9 parameters.",
    ),
]
Base = Annotated[
    str | None,
    typer.Option("--base", help="nf4: of the frozen weights 4 bits, as in QLoRA; methods that train them are refused."),
]
Many = list[str] | None
Targets = Annotated[
    Many,
    typer.Option(
        "--targets",
        help="Layers, for methods that choose: q, k, v, o, gate, up, down, qkv, attention, mlp, all-linear, a name or pattern.",
    ),
]
Select = Annotated[
    str | None,
    typer.Option("--select", help="Weights that are judged: last, or best by the held-out examples to choose by."),
]
SelectEvery = Annotated[int | None, typer.Option("--select-every", help="Steps between two looks for the best.")]
# The steps that are measured or planned: `run speed`, `run memory`, `plan`.
BatchSize = Annotated[int | None, typer.Option("--batch-size", help="Examples per step; default: the recipe's.")]
Length = Annotated[int | None, typer.Option("--length", help="Tokens per example; default: the recipe's cut-off.")]
Layers = Annotated[
    int | None, typer.Option("--layers", help="So many of the model's layers; tables say what all of them would take.")
]
Checkpointing = Annotated[
    bool | None,
    typer.Option("--checkpointing/--no-checkpointing", help="Recompute activations; default: the recipe's choice."),
]
OptimizerDtype = Annotated[
    str | None,
    typer.Option(
        "--optimizer-dtype", help="fp32: Adam in float32, with copies of bf16 weights; bf16: as the weights, no copies."
    ),
]


def check_select(select: str | None, zero: int) -> None:
    """Refuses to keep weights that no process holds whole.

    Raises:
        ValueError: sharded ones.
    """
    if select == "best" and zero:
        raise ValueError(
            f"--select best: with --zero {zero} no process holds the weights to keep: leave one of them out"
        )


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


def say(text: str) -> None:
    """One line on standard error: standard output is for results. Where nobody reads any more nothing is lost."""
    with contextlib.suppress(OSError):
        print(terminal(text), file=sys.stderr, flush=True)


def show(text: str) -> None:
    """Text on standard output, where results go."""
    print(terminal(text))
