"""The commands `table` and `figure`: written again from stored records, training nothing."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from smt_bench.cli.options import Model, Results, say


def _rendered(experiment: str, model: str, results: Path, endings: tuple[str, ...]) -> list[Path]:
    from smt_bench import experiments
    from smt_bench.models import registry
    from smt_bench.records.index import INDEX, Index, folder
    from smt_bench.records.store import Store

    store = Store(results)
    name = registry.find(model).name
    files: list[Path] = []
    for module in experiments.members(experiment):
        for family in ("commonsense", "math"):
            place = folder(store, module.NAME, name, family)
            if not (place / INDEX).exists():
                continue
            store.check_writable(place)
            index = Index.read(place)
            files += render(module, store, index, place, name)
    if not files:
        raise ValueError(
            f"no runs of {experiment} on {name} in {results}: `run {experiment} --model {name}` makes them"
        )
    wanted = [f for f in files if f.suffix in endings]
    if not wanted:
        raise ValueError(f"{experiment} draws no figure: see `table {experiment} --model {name}`")
    return wanted


def table(experiment: str, model: Model = "tiny", results: Results = Path("results")) -> None:
    """Writes an experiment's tables again from stored records, training nothing."""
    for path in _rendered(experiment, model, results, (".md", ".csv")):
        if path.suffix == ".md":
            print(path.read_text(encoding="utf-8"))
        say(f"wrote {path}")


def figure(experiment: str, model: Model = "tiny", results: Results = Path("results")) -> None:
    """Draws an experiment's figures again from stored records, training nothing."""
    for path in _rendered(experiment, model, results, (".png", ".svg")):
        print(path)


def render(module: Any, store: Any, index: Any, place: Path, model: str) -> list[Path]:
    """Writes an experiment's tables and figures of the runs in `index` that have records; the files.

    Args:
        module: the experiment.
        store: where the records are.
        index: as it is now: keys of the runs asked for.
        place: folder for the files.
        model: name for titles.
    """
    records = store.for_tables(index.keys)
    return module.render(records, place, model) if records else []
