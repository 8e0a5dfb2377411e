"""The trained model out: `export` a run's, `add` and `subtract` what runs have changed."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from smt_bench.cli.options import Results, say
from smt_bench.cli.values import check_results

if TYPE_CHECKING:
    from smt_bench.models.locate import Located

Base = Annotated[
    str | None, typer.Option("--model", help="The base: folder, id or registered name; default: the run's.")
]


def export(
    key: Annotated[str, typer.Argument(help="Of the run, or the beginning of its key.")],
    folder: Annotated[Path, typer.Argument(help="New folder.")],
    adapter: Annotated[
        bool, typer.Option("--adapter", help="The adapter as it was kept, not the whole model.")
    ] = False,
    model: Base = None,
    results: Results = Path("results"),
) -> None:
    """Writes a run's trained model as a plain transformers folder; the run was done with `--keep adapters`.

    The adapter is folded into the weights, also where the run judged it unmerged: in half precision that rounds.
    """
    from smt_bench.models import adapters, composing
    from smt_bench.records.store import Store

    store = Store(check_results(results))
    record = store.resolve(key)
    if parts := record["run"].get("parts"):
        where = " ".join(str(results / "adapters" / part) for part in parts)
        raise ValueError(f"record {record['key']} is a sum, which is not kept: `add {folder} {where}` makes it again")
    place = results / "adapters" / record["key"]
    said = adapters.described(place)
    adapters.check_new(folder)
    if adapter:
        folder.parent.mkdir(parents=True, exist_ok=True)
        shutil.copytree(place, folder, dirs_exist_ok=True)
    else:
        trained, words = composing.merged(_base(model, said["base"]), place)
        adapters.save(trained, words, folder)
    say(f"wrote {folder}")


def add(
    folder: Annotated[Path, typer.Argument(help="New folder.")],
    parts: Annotated[list[Path], typer.Argument(help="Difference files or kept adapters' folders.")],
    model: Base = None,
) -> None:
    """Writes a base with several runs' changes added to it; one difference alone gives that run's model, bit by bit."""
    _combine(folder, parts, model, [1.0] * len(parts))


def subtract(
    folder: Annotated[Path, typer.Argument(help="New folder.")],
    parts: Annotated[list[Path], typer.Argument(help="The first is added, the others are taken from it.")],
    model: Base = None,
) -> None:
    """Writes a base with the first run's changes, less those of the others."""
    _combine(folder, parts, model, [1.0] + [-1.0] * (len(parts) - 1))


def _combine(folder: Path, parts: list[Path], model: str | None, signs: list[float]) -> None:
    from smt_bench.models import adapters, composing

    if len({part.resolve() for part in parts}) < len(parts):
        raise ValueError(f"{', '.join(map(str, parts))}: one is named twice: name each once")
    said = [composing.said_of(part) for part in parts]
    adapters.check_new(folder)
    trained, words = composing.combined(_base(model, said[0]["base"]), dict(zip(parts, signs)))
    adapters.save(trained, words, folder)
    say(f"wrote {folder}")


def _base(model: str | None, named: str) -> Located:
    from smt_bench.models import locate

    try:
        return locate.locate(model or named)
    except ValueError:
        if model is not None:
            raise
        raise ValueError(f"the base {named} is not known here: name its folder with --model") from None
