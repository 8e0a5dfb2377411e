"""The command line: `run`, `tune`, `rerun`, `recipe`, `plan`, `status`, `cancel`, `list`, `show`, `table`, `figure`, `report`,
`compare`, `records`, `export`, `add`, `subtract`, `fetch`, `audit`, `check`.

Bad input is one line on standard error (what, value, remedy) and exit code 2; an interrupted sweep ends with 130, one with
failed runs with 1. Heavy libraries are imported inside the commands, so that `--help` is quick.
"""

from __future__ import annotations

import difflib
import os
import sys
import warnings
from pathlib import Path
from typing import Annotated, Any

import typer

from smt_bench import __version__
from smt_bench.cli.again import rerun
from smt_bench.cli.audit import audit
from smt_bench.cli.browse import list_
from smt_bench.cli.browse import show as show_record
from smt_bench.cli.check import check
from smt_bench.cli.draw import figure, table
from smt_bench.cli.export import add, export, subtract
from smt_bench.cli.manage import cancel, fetch, status
from smt_bench.cli.options import say, show
from smt_bench.cli.plan import plan
from smt_bench.cli.recipe import recipe
from smt_bench.cli.records import compare, records
from smt_bench.cli.report import report
from smt_bench.cli.run import run
from smt_bench.cli.tune import tune
from smt_bench.cli.values import check_words

INTERRUPTED = "interrupted: finished runs are kept, the same command goes on"

app = typer.Typer(
    help="Re-runs the tables and figures of the SMT and SpIEL papers, on any hardware.",
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)
for command in (
    run,
    tune,
    rerun,
    recipe,
    plan,
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
app.command("show")(show_record)
app.command("list")(list_)
app.add_typer(audit, name="audit")
app.add_typer(check, name="check")


def _version(asked: bool) -> None:
    if asked:
        show(f"smt-bench {__version__}")
        raise typer.Exit


@app.callback()
def _whole(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version and exit.")
    ] = False,
) -> None:
    pass


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
            if type(error).__name__ == "NoArgsIsHelpError":  # a group without a command: its help, which is no error
                show(str(error))
                sys.exit(2)
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
    if getattr(error, "option_name", None) and hasattr(error, "possibilities"):
        return _unknown_option(error)
    if hasattr(error, "format_message"):  # one of the command line's own
        return f"{error.format_message().rstrip('.')}: see --help"
    return None


MEANT = {  # as options are called in other commands, or elsewhere: here
    "--fraction": "--fractions",
    "--fractions": "--fraction",
    "--method": "--methods",
    "--seed": "--seeds",
    "--learning-rate": "--lr",
    "--output": "--results",
    "--output-dir": "--results",
    "--out": "--results",
}


ELSEWHERE = {  # what another command does
    "--parquet": "`records FILE.parquet` writes it",
    "--jsonl": "`records FILE.jsonl` writes it",
    "--latex": "`table EXPERIMENT --latex` writes it",
}


def _unknown_option(error: Any) -> str:
    """One line on an option that there is not, with the one that is meant."""
    context = error.ctx
    known = [name for parameter in context.command.params for name in parameter.opts] if context is not None else []
    meant = MEANT.get(error.option_name)
    near = difflib.get_close_matches(error.option_name, known, n=1, cutoff=0.6)
    right = meant if meant in known else near[0] if near else None
    hint = f"did you mean {right}?" if right else ELSEWHERE.get(error.option_name, "see --help")
    where = f" of {context.info_name}" if context is not None and context.parent is not None else ""
    return f"no option {error.option_name}{where}: {hint}"


if __name__ == "__main__":
    main()
