"""A record's question once more: `check record` compares the two answers, `rerun` also keeps the new one."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from smt_bench.cli.options import AllowCode, Data, Results, say, show
from smt_bench.cli.values import check_results

if TYPE_CHECKING:
    from smt_bench.questions.experiment import MeasuringExperiment
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
    from smt_bench.records.store import FINISHED, Store

    there = Store(into or check_results(results) / AGAIN)
    there.check_writable(there.root)
    old = Store(check_results(results)).resolve(key)
    asked, answer = prepare(old, model, data, results, allow_code)
    if (kept := there.read(asked)) is not None and kept["status"] in FINISHED:
        raise ValueError(f"record {asked} is in {there.root} already: choose another folder with --into")
    new = answer()
    same = told(old, new)
    there.write(new)
    say(f"wrote {there.path(new['key'])}" + ("" if same else "; it differs from the record"))
    if new["status"] != old["status"]:
        raise typer.Exit(1)


def prepare(
    old: Record, model: str | None, data: str | None, results: Path, allow_code: bool
) -> tuple[str, Callable[[], Record]]:
    """A record's question as it is asked now: its key, and what answers it.

    The key is the record's, unless that is a measurement of another machine.

    Raises:
        ValueError: what is here is not what the record was made with.
    """
    if (found := _measuring(old)) is not None:
        from smt_bench.questions import measured
        from smt_bench.records.outcome import measure

        if allow_code:
            raise ValueError(f"--allow-code: {found.name} is judged by no test set: leave it out")
        asked, what = measured.inputs_of(old, found, model, data)
        return asked.key, lambda: measure(asked, lambda one, watch: found.measure(one, watch, what), what.watch)
    from smt_bench.execute import execute
    from smt_bench.questions.again import inputs_of

    run, inputs = inputs_of(old, model, data, allow_code)
    if run.parts:
        inputs.keep = results / "adapters"  # where they are; it keeps nothing itself
    if run.key != old["key"]:
        raise ValueError(f"record {old['key']} asks what this version asks as {run.key}: use the version that wrote it")
    return run.key, lambda: execute(run, inputs)


def _measuring(old: Record) -> MeasuringExperiment | None:
    """What a measurement's record is of; None: it is of a run."""
    if "kind" not in old["run"]:
        return None
    from smt_bench.experiments import REGISTRY
    from smt_bench.questions.experiment import MeasuringExperiment

    found = REGISTRY.find(old["run"]["kind"])
    if not isinstance(found, MeasuringExperiment):
        raise ValueError(
            f"record {old['key']} is of {found.name}, which measures nothing here: use the version that wrote it"
        )
    return found


def told(old: Record, new: Record) -> bool:
    """Says point by point whether two answers to one question are the same; whether all are."""
    from smt_bench.questions import measured
    from smt_bench.questions.agreement import LOSS, NATS, PREDICTIONS, compare, unlike

    other, found = unlike(old, new), _measuring(old)
    if found is None:
        points = compare(old, new, exact=not other)
        close = f"losses within {LOSS:g} (relative), held-out loss within {NATS:g} nats, predictions"
    else:
        points = measured.compare(old, new, not other, found.repeats)
        close = f"numbers within {100 * measured.CLOSE:g} % of the largest of their kind, choices"
    how = (
        f"on another kind of machine ({'; '.join(other)}): {close} but for {100 * PREDICTIONS:g} %"
        if other
        else "bit by bit"
    )
    show(f"record {old['key']}: compared {how}")
    for point in points:
        show(f"  {WORDS[point.same]}  {point.what}: {point.told}")
    return not any(point.same is False for point in points)
