"""A record's question once more: `check record` compares the two answers, `rerun` also keeps the new one."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from smt_bench.cli.options import AllowCode, Data, Results, say, show
from smt_bench.cli.values import check_results

if TYPE_CHECKING:
    from smt_bench.records.store import Record

Key = Annotated[str, typer.Argument(help="Of the record, or its first digits.")]
Where = Annotated[
    str | None, typer.Option("--model", help="Where the record's model is not found by its name: its folder.")
]
Into = Annotated[Path | None, typer.Option("--into", help="Results folder for the new record; default: RESULTS/rerun.")]
WORDS = {True: "same", False: "DIFFERS", None: "not judged"}
AGAIN = "rerun"  # folder for new records, below that of the old ones: a finished key is never written over


def rerun(
    key: Key,
    model: Where = None,
    data: Data = None,
    into: Into = None,
    allow_code: AllowCode = False,
    results: Results = Path("results"),
) -> None:
    """Asks a record's question again, keeps the new record beside the old one, and says whether the two agree."""
    from smt_bench.records.store import Store

    there = Store(into or check_results(results) / AGAIN)
    there.check_writable(there.root)
    old = Store(check_results(results)).resolve(key)
    if there.read(old["key"]) is not None:
        raise ValueError(f"record {old['key']} is in {there.root} already: choose another folder with --into")
    new = ask(old, model, data, results, allow_code)
    same = told(old, new)
    there.write(new)
    say(f"wrote {there.path(new['key'])}" + ("" if same else "; it differs from the record"))
    if new["status"] != old["status"]:
        raise typer.Exit(1)


def ask(old: Record, model: str | None, data: str | None, results: Path, allow_code: bool) -> Record:
    """The answer to a record's question, now.

    Raises:
        ValueError: what is here is not what the record was made with.
    """
    if "kind" in old["run"]:
        return _measure(old, model, data)
    from smt_bench.execute import execute
    from smt_bench.questions.again import inputs_of

    run, inputs = inputs_of(old, model, data, allow_code)
    if run.parts:
        inputs.keep = results / "adapters"  # where they are; it keeps nothing itself
    if run.key != old["key"]:
        raise ValueError(f"record {old['key']} asks what this version asks as {run.key}: use the version that wrote it")
    return execute(run, inputs)


def _measure(old: Record, model: str | None, data: str | None) -> Record:
    from smt_bench.experiments import REGISTRY
    from smt_bench.questions.experiment import MeasuringExperiment
    from smt_bench.questions.measured import inputs_of
    from smt_bench.records.outcome import measure

    found = REGISTRY.find(old["run"]["kind"])
    if not isinstance(found, MeasuringExperiment):
        raise ValueError(
            f"record {old['key']} is of {found.name}, which measures nothing here: use the version that wrote it"
        )
    asked, inputs = inputs_of(old, found.version, model, data)
    return measure(asked, lambda question, watch: found.measure(question, watch, inputs), inputs.watch)


def told(old: dict[str, Any], new: dict[str, Any]) -> bool:
    """Says point by point whether two answers to one question are the same; whether all are."""
    from smt_bench.questions import agreement, measured
    from smt_bench.questions.agreement import LOSS, NATS, PREDICTIONS, unlike

    other = unlike(old, new)
    measures = "kind" in old["run"]
    points = (measured if measures else agreement).compare(old, new, exact=not other)
    close = (
        f"values within {100 * measured.CLOSE:g} % of the largest of their kind, but for {100 * PREDICTIONS:g} %"
        if measures
        else f"losses within {LOSS:g} (relative), held-out loss within {NATS:g} nats, predictions but for {100 * PREDICTIONS:g} %"
    )
    how = f"on another kind of machine ({'; '.join(other)}): {close}" if other else "bit by bit"
    show(f"record {old['key']}: compared {how}")
    for point in points:
        show(f"  {WORDS[point.same]}  {point.what}: {point.told}")
    return not any(point.same is False for point in points)
