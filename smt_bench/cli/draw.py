"""The commands `table` and `figure`: written again from stored records, training nothing."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from smt_bench.cli.options import Model, Results, say
from smt_bench.models import registry

if TYPE_CHECKING:
    from smt_bench.questions.experiment import Experiment
    from smt_bench.records.index import Index
    from smt_bench.records.store import Store


def _rendered(name: str, model: str, results: Path, endings: tuple[str, ...]) -> list[Path]:
    from smt_bench import experiments
    from smt_bench.data import families
    from smt_bench.records.index import INDEX, Index, folder
    from smt_bench.records.store import Store

    store = Store(results)
    model = registry.find(model).name
    files: list[Path] = []
    for experiment in experiments.members(name):
        for family in families.all_families().values():
            place = folder(store, experiment.name, model, family.subfolder)
            if not (place / INDEX).exists():
                continue
            store.check_writable(place)
            index = Index.read(place)
            files += render(experiment, store, index, place, model)
    if not files:
        raise ValueError(f"no runs of {name} on {model} in {results}: `run {name} --model {model}` makes them")
    wanted = [f for f in files if f.suffix in endings]
    if not wanted:
        raise ValueError(f"{name} draws no figure: see `table {name} --model {model}`")
    return wanted


def table(experiment: str, model: Model = registry.DEFAULT, results: Results = Path("results")) -> None:
    """Writes an experiment's tables again from stored records, training nothing."""
    for path in _rendered(experiment, model, results, (".md", ".csv")):
        if path.suffix == ".md":
            print(path.read_text(encoding="utf-8"))
        say(f"wrote {path}")


def figure(experiment: str, model: Model = registry.DEFAULT, results: Results = Path("results")) -> None:
    """Draws an experiment's figures again from stored records, training nothing."""
    for path in _rendered(experiment, model, results, (".png", ".svg")):
        print(path)


def render(experiment: Experiment, store: Store, index: Index, place: Path, model: str) -> list[Path]:
    """Writes an experiment's tables and figures of the runs in `index` that have records; the files.

    Args:
        experiment: that made them.
        store: where the records are.
        index: as it is now: keys of the runs asked for.
        place: folder for the files.
        model: name for titles.
    """
    records = store.for_tables(index.keys)
    return experiment.render(records, place, model) if records else []
