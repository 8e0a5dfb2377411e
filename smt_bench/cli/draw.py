"""The commands `table` and `figure`: written again from stored records, training nothing."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from smt_bench.cli.options import Model, Results, say, show
from smt_bench.cli.values import check_results
from smt_bench.models import registry

if TYPE_CHECKING:
    from smt_bench.questions.experiment import Experiment
    from smt_bench.records.index import Index
    from smt_bench.records.store import Record, Store


Out = Annotated[
    Path | None,
    typer.Option("--out", help="Folder for the files, laid out like the results folder; default: that one."),
]


def _rendered(name: str, model: str, results: Path, out: Path | None, endings: tuple[str, ...]) -> list[Path]:
    from smt_bench import experiments
    from smt_bench.data import families
    from smt_bench.records.files import check_writable
    from smt_bench.records.index import INDEX, TUNING, Index, folder
    from smt_bench.records.store import Store

    store = Store(check_results(results))
    there = store if out is None else Store(out)
    members = experiments.members(name)
    model = _called(model, [experiment.name for experiment in members], store)
    files: list[Path] = []
    for experiment in members:
        known = [family.subfolder for family in families.all_families().values()]
        root = folder(store, experiment.name, model, "")
        own = sorted(
            {path.parent.name for path in root.glob(f"*/{INDEX}")} - {TUNING, *known}
        )  # families of users' data
        for sub in (*known, *own):
            kept = folder(store, experiment.name, model, sub)
            if not (kept / INDEX).exists():
                continue
            place = folder(there, experiment.name, model, sub)
            check_writable(f"folder {there.root}", "--out", place)
            files += render(experiment, store, Index.read(kept), place, model, ".md" in endings)
    if not files:
        raise ValueError(f"no runs of {name} on {model} in {results}: `run {name} --model {model}` makes them")
    wanted = [f for f in files if f.suffix in endings]
    if not wanted:
        raise ValueError(f"{name} draws no figure: see `table {name} --model {model}`")
    return wanted


def _called(model: str, names: list[str], store: Store) -> str:
    """What the results of a model go by; its own folder may be gone since, its results are not.

    Args:
        model: as the user names it: also a folder that was, or the folder of its results.
        names: of the experiments.
        store: where the results are.

    Raises:
        ValueError: no such model, and no results of one.
    """
    from smt_bench.records.index import folder

    if model in registry.REGISTRY:
        return model
    last, refusal, found = Path(model).name, None, None
    try:
        found = registry.find(model).name
    except ValueError as error:
        refusal = error
    for known in (found, model, last, f"local-{last}"):
        if known and any(folder(store, name, known).is_dir() for name in names):
            if known not in (found, model):
                say(f"note: {model} is not here: results of {known}")
            return known
    if found is None:
        assert refusal is not None
        raise refusal
    return found


def table(
    experiment: str,
    model: Model = registry.DEFAULT,
    results: Results = Path("results"),
    out: Out = None,
    latex: Annotated[bool, typer.Option("--latex", help="Beside them as LaTeX (booktabs).")] = False,
    margin_points: Annotated[
        float | None, typer.Option(help="Smallest accuracy difference that matters; default 1.")
    ] = None,
    margin_nats: Annotated[
        float | None, typer.Option(help="The same of held-out NLL, per token; default 0.01.")
    ] = None,
) -> None:
    """Writes an experiment's tables again from stored records, training nothing."""
    from smt_bench.evidence.decisions import Margins, using
    from smt_bench.machine.files import write_text
    from smt_bench.report.latex import booktabs
    from smt_bench.report.table import in_short

    usual = Margins()
    chosen = Margins(
        usual.points if margin_points is None else margin_points, usual.nats if margin_nats is None else margin_nats
    )
    with using(chosen):
        files = _rendered(experiment, model, results, out, (".md", ".csv"))
    for path in files:
        if path.suffix == ".md":
            show(in_short(path.read_text(encoding="utf-8"), path.name))
            if latex:
                write_text(path.with_suffix(".tex"), booktabs(path.read_text(encoding="utf-8")))
                say(f"wrote {path.with_suffix('.tex')}")
        say(f"wrote {path}")


def figure(
    experiment: str, model: Model = registry.DEFAULT, results: Results = Path("results"), out: Out = None
) -> None:
    """Draws an experiment's figures again from stored records, training nothing."""
    for path in _rendered(experiment, model, results, out, (".png", ".svg")):
        show(str(path))


def render(
    experiment: Experiment, store: Store, index: Index, place: Path, model: str, shown: bool = True
) -> list[Path]:
    """Writes an experiment's tables and figures of the runs in `index` that have records; the files.

    Args:
        experiment: that made them.
        store: where the records are.
        index: as it is now: keys of the runs asked for.
        place: folder for the files.
        model: name for titles.
        shown: whether the tables are what was asked for.
    """
    from smt_bench.evidence.decisions import looking
    from smt_bench.questions import analysis, deviations
    from smt_bench.report.conditions import not_done
    from smt_bench.report.table import add_notes

    found = analysis.seen(index, store.for_tables(index.keys))
    records = found.records
    with looking(found.times):
        files = _render_all(experiment, records, place, model) if records else []
    if shown:
        _say_one_set(records)
    if files and (told := deviations.lines(experiment, index, found)):
        add_notes(files[:1], told)
        add_notes([f for f in files[1:] if re.fullmatch(r"table\d+\.md", f.name)], told[:1])
        if found.times > 1:
            claims = [f for f in files[1:] if f.suffix == ".md" and f.stem.endswith("_claims")]
            add_notes(claims, [deviations.times_told(found.times)])
    left_out = index.left_out.get(index.latest or "")
    return [*files, *not_done(left_out, model).write(place, "left_out")] if files and left_out else files


def _render_all(experiment: Experiment, records: list[Record], place: Path, model: str) -> list[Path]:
    """The experiment's files; with tuned runs those of the latest tuning beside them, and both side by side."""
    from smt_bench.report.accuracy.tuned import apart, found, untrained, write_beside
    from smt_bench.report.table import add_notes

    published, by_tuning = apart(records)
    files = _render_one(experiment, published, place, model) if published else []
    if by_tuning:
        tuning, runs = list(by_tuning.items())[-1]
        own = _render_one(experiment, [*untrained(published), *runs], place / "tuned", model)
        add_notes([f for f in own if f.suffix == ".md"], [found(runs, tuning)])
        files += [*write_beside([*published, *runs], place, model, tuning), *own]
        if len(by_tuning) > 1:
            say(f"note: runs of older tunings left out: {', '.join(list(by_tuning)[:-1])}")
    return files


def _render_one(experiment: Experiment, records: list[Record], place: Path, model: str) -> list[Path]:
    """What the experiment makes of some records, and beside it their other losses (`--forgetting`, test sets of that kind)."""
    from smt_bench.report.accuracy.losses import losses_table

    files = experiment.render(records, place, model)
    losses = losses_table(records, model) if files else None
    return files if losses is None else [*files, *losses.write(place, "losses")]


def _say_one_set(records: list[Record]) -> None:
    """Says where one set of held-out examples served for choices and for verdicts: their tables stay as they were written."""
    asked = [r["run"]["data"] for r in records if "data" in r["run"]]
    if any(data["heldout"] and not data.get("tune") for data in asked):
        say("note: of these records one set of held-out examples serves for choices and for verdicts")
