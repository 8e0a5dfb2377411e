"""The commands `list` and `show`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from smt_bench.cli.options import Json, Results, say
from smt_bench.cli.options import show as show_text
from smt_bench.cli.values import check_results
from smt_bench.registry import Registry


def list_(
    what: Annotated[str, typer.Argument(help="experiments, methods, models, gpus, runs or all.")] = "all",
    results: Results = Path("results"),
    as_json: Json = False,
) -> None:
    """Shows experiments, methods and models with what they need, the GPUs that `plan` knows, or the stored runs."""
    kinds = ("experiments", "methods", "models", "gpus", "runs")
    if what not in (*kinds, "all"):
        raise ValueError(f"list {what!r}: choose from {', '.join(kinds)}, all")
    found: dict[str, list[dict[str, Any]]] = {}
    if what == "runs":
        found["runs"] = _runs(check_results(results))
    if what in ("experiments", "all"):
        from smt_bench import experiments

        found["experiments"] = _words(experiments.REGISTRY, reproduces="reproduces", needs="needs")
    if what in ("methods", "all"):
        found["methods"] = _methods(with_settings=as_json)
    if what in ("models", "all"):
        from smt_bench.models import registry

        found["models"] = [
            {"name": e.name, "hub_id": e.hub_id, "recipe": e.recipe, "precision": e.precision, "needs": e.note}
            for e in registry.REGISTRY.values()
        ]
    if what == "gpus":
        found["gpus"] = _gpus()
    if as_json:
        print(json.dumps(found if what == "all" else found[what], indent=1))
        return
    for kind, rows in found.items():
        show_text(kind)
        cells = [[str("" if v is None else v) for v in row.values()] for row in rows]
        widths = [max(map(len, column)) for column in zip(*cells)]
        for row in cells:
            show_text("  " + "  ".join(text.ljust(width) for text, width in zip(row, widths)).rstrip())


def _methods(with_settings: bool) -> list[dict[str, Any]]:
    """One row per method; version and settings need the methods themselves, and with them torch."""
    from smt_bench import methods

    idle = [{"name": name, "what": f"does not work: {why}"} for name, why in methods.REGISTRY.idle().items()]
    if not with_settings:
        return _words(methods.REGISTRY, what="summary") + idle
    usable, faults = methods.REGISTRY.usable()
    for fault in faults:
        say(f"warning: {fault}")
    return [
        {"name": name, "version": m.version, "what": m.summary, "settings": m.Config().to_dict()}
        for name, m in usable.items()
    ] + idle


def _gpus() -> list[dict[str, Any]]:
    """The cards that `plan` knows: what is printed of them, what was measured, and where both come from."""
    from smt_bench.plan.gpu.hardware import GIB, GPUS

    return [
        {"name": g.name, "memory": f"{g.memory // GIB} GiB", "bf16": f"{g.bf16 / 1e12:g} TFLOP/s"}
        | {"fp32": f"{g.fp32 / 1e12:g} TFLOP/s", "bandwidth": f"{g.bandwidth / 1e9:g} GB/s"}
        | {"measured": g.measured and f"{g.measured.bf16 / 1e12:g} TFLOP/s, {g.measured.bandwidth / 1e9:g} GB/s"}
        | {"source": g.source + (f"; measured: {g.measured.source}" if g.measured else "")}
        for g in GPUS.values()
    ]


def _words(registry: Registry[Any], **columns: str) -> list[dict[str, Any]]:
    """One row per entry with what it says of itself; entries of other packages that cannot be used are named instead."""
    rows = []
    for name in registry.names():
        try:
            said = registry.words(name, *columns.values())
        except ValueError as error:
            say(f"warning: {error}")
            continue
        rows.append({"name": name} | {column: said[word] for column, word in columns.items()})
    return rows


def _runs(results: Path) -> list[dict[str, Any]]:
    """What each record says of itself; what is no record is named on standard error, and left as it is."""
    from smt_bench.records.survey import survey

    files = survey(results / "runs")
    for line in files.told():
        say(f"warning: {line}")
    return [
        {
            "key": r["key"],
            "status": r["status"],
            "model": r["run"]["model"]["name"],
            "method": r["run"].get("kind") or r["run"]["method"]["name"],
            "fraction_pct": None if (f := r["run"].get("method", {}).get("fraction")) is None else round(100 * f, 10),
            "seed": r["run"]["seed"],
        }
        for r in (file.head for file in files.files)
        if r is not None
    ]


def show(
    key: Annotated[str, typer.Argument(help="Key of a run, or its first digits.")],
    examples: Annotated[
        str | None, typer.Option(help="Its test examples instead: wrong, unread (no answer could be read) or all.")
    ] = None,
    data: Annotated[str | None, typer.Option(help="With --examples: data of the run, to see the questions.")] = None,
    results: Results = Path("results"),
    as_json: Json = False,
) -> None:
    """Shows one record; --json prints all of it."""
    from smt_bench.records.store import Store

    store = Store(check_results(results))
    record = store.resolve(key)
    if examples is not None:
        from smt_bench.cli.examples import rows_of, text_of

        rows = rows_of(record, examples, store, data)
        print(json.dumps(rows, indent=1)) if as_json else show_text(text_of(rows))
        return
    if data is not None:
        raise ValueError("--data goes with --examples")
    if not as_json and "kind" not in record["run"]:
        # The long per-step and per-example lists are for machines.
        record["training"] = {k: v for k, v in record.get("training", {}).items() if k == "tokens"} | {
            "first_loss": (record.get("training", {}).get("losses") or [None])[0],
            "last_loss": (record.get("training", {}).get("losses") or [None])[-1],
        }
        record.get("heldout", {}).pop("examples", None)
        record.get("method", {}).pop("blocks", None)
        for task in record.get("evaluation", {}).values():
            task.pop("examples", None)
    print(json.dumps(record, indent=1))
