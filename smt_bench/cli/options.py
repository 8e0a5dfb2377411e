"""What the commands share: options, how their values are read, and where users are told something."""

from __future__ import annotations

import json
import sys
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
Many = list[str] | None


def several(values: Many) -> list[str]:
    """Options that take several values: repeated, or separated by commas."""
    return [part.strip() for value in values or [] for part in value.split(",") if part.strip()]


def numbers(values: Many, kind: type, option: str) -> tuple[Any, ...]:
    """The values of such an option as numbers of one kind.

    Raises:
        ValueError: one is none.
    """
    found = []
    for text in several(values):
        try:
            found.append(kind(text))
        except ValueError:
            what = "whole numbers" if kind is int else "numbers"
            raise ValueError(f"{option} {text!r}: choose {what}, separated by commas") from None
    return tuple(found)


def setting(text: str) -> tuple[str, str, Any]:
    """`method.setting=value`; the value is JSON, or else plain text."""
    left, equals, value = text.partition("=")
    method, dot, name = left.partition(".")
    if not (equals and dot and method and name):
        raise ValueError(f"--set {text!r}: write METHOD.SETTING=VALUE, e.g. smt.block_size=64")
    try:
        return method, name, json.loads(value)
    except ValueError:
        return method, name, value


def say(text: str) -> None:
    """One line on standard error: standard output is for results."""
    print(terminal(text), file=sys.stderr)


def show(text: str) -> None:
    """Text on standard output, where results go."""
    print(terminal(text))
