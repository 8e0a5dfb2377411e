"""The command line: `run`, `tune`, `recipe`, `plan`, `status`, `cancel`, `list`, `show`, `table`, `figure`, `report`, `compare`,
`records`, `export`, `add`, `subtract`, `fetch`, `audit`, `check`.

Bad input is one line on standard error (what, value, remedy) and exit code 2; an interrupted sweep ends with 130, one with
failed runs with 1. Heavy libraries are imported inside the commands, so that `--help` is quick.
"""

from __future__ import annotations

import os
import sys
import warnings
from pathlib import Path
from typing import Annotated, Any

import typer

from smt_bench.cli.audit import audit
from smt_bench.cli.browse import list_, show
from smt_bench.cli.check import check
from smt_bench.cli.draw import figure, table
from smt_bench.cli.export import add, export, subtract
from smt_bench.cli.manage import cancel, fetch, status
from smt_bench.cli.options import check_words, say
from smt_bench.cli.plan import plan
from smt_bench.cli.recipe import recipe
from smt_bench.cli.records import compare, records
from smt_bench.cli.report import report
from smt_bench.cli.run import run
from smt_bench.cli.tune import tune

INTERRUPTED = "interrupted: finished runs are kept, the same command goes on"

app = typer.Typer(
    help="Re-runs the tables and figures of the SMT and SpIEL papers, on any hardware.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)
for command in (
    run,
    tune,
    recipe,
    plan,
    show,
    table,
    figure,
    report,
    compare,
    records,
    export,
    add,
    subtract,
    fetch,
    status,
    cancel,
):
    app.command()(command)
app.command("list")(list_)
app.add_typer(audit, name="audit")
app.add_typer(check, name="check")


@app.command(hidden=True)
def work(order: Path, only: Annotated[str | None, typer.Option()] = None) -> None:
    """One worker of a sweep."""
    from smt_bench.cli.work import work as sweep_order
    from smt_bench.machine.signals import EXIT_CODE
    from smt_bench.sweep.loop import Interrupted

    try:
        sweep_order(order, only)
    except Interrupted:
        raise typer.Exit(EXIT_CODE) from None


def main() -> None:
    """Entry point: turns expected errors into one line and an exit code."""
    from smt_bench.machine.borders import one_line, widen_streams
    from smt_bench.machine.signals import EXIT_CODE, Stop
    from smt_bench.records.files import BenchWarning

    widen_streams()
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")

    def show_warning(message: Any, category: type[Warning], *_: Any) -> None:
        if issubclass(category, BenchWarning):  # libraries' warnings are for developers
            say(f"warning: {message}")

    warnings.showwarning = show_warning  # type: ignore[assignment]  # fewer names for the same arguments
    warnings.simplefilter("always", BenchWarning)
    # DeepSpeed's launcher says with an option of its own what it also says in the environment.
    asked = [word for word in sys.argv[1:] if not word.startswith("--local_rank=")]
    stop = Stop(in_imports=INTERRUPTED)
    try:
        with stop.installed():
            check_words(asked)
            code = app(args=asked, standalone_mode=False) or 0
        if code != EXIT_CODE or not stop.asked:  # typer makes this code of a signal; a sweep has said what became of it
            sys.exit(code)
    except (KeyboardInterrupt, typer.Abort):
        pass
    except Exception as error:
        if not stop.asked:  # libraries turn an interruption into errors of their own
            what = _expected(error)
            if what is None:
                raise
            say(one_line(f"error: {what}"))
            sys.exit(2)
    say(INTERRUPTED)
    sys.exit(EXIT_CODE)


def _expected(error: Exception) -> str | None:
    """What a user is told of an error; None: it is a fault of ours."""
    if isinstance(error, ValueError):
        return str(error)
    if isinstance(error, OSError):
        where = f"{error.filename}: " if error.filename else ""
        return f"{where}{error.strerror or error}: finished runs are kept; make room or choose another folder"
    if hasattr(error, "format_message"):  # one of the command line's own
        return f"{error.format_message().rstrip('.')}: see --help"
    return None


if __name__ == "__main__":
    main()
