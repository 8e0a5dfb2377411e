"""Hostile, empty and odd values of every option: one line and exit code 2 before anything is trained; 130 when interrupted."""

from __future__ import annotations

import os
import pty
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import typer
from helpers import Cli

from smt_bench.cli.app import app
from smt_bench.machine.borders import LONGEST, folder_name
from smt_bench.models import registry

COMMANDS: dict[str, Any] = typer.main.get_command(app).commands  # type: ignore[attr-defined]
BASE = {
    "run": ["plateau", "--dry-run"], "plan": ["plateau", "--model", "tiny", "--json"], "list": ["runs"], "show": ["ffff"],
    "table": ["plateau"], "figure": ["plateau"], "status": [], "cancel": [],
}  # fmt: skip
OPTIONS = [
    (command, option.opts[0])
    for command in BASE
    for option in COMMANDS[command].params
    if option.opts[0].startswith("--") and not option.is_flag
]
DEEP = "[" * 100_000
HOSTILE = [
    ("run --fractions 1e-12", "--fractions 1e-12: choose"),
    ("run --fractions nan", "--fractions nan: choose"),
    ("run --fractions 1,,2", "--fractions '1,,2': a value is empty"),
    ("run --methods ,", "--methods ',': a value is empty"),
    ("run --seeds 18446744073709551616", "--seeds 18446744073709551616: choose"),
    ("run --seeds -1", "--seeds -1: choose"),
    ("run --seeds 1.5", "--seeds '1.5': choose whole numbers"),
    ("run --steps 99999999999999999999", "--steps 99999999999999999999: choose"),
    ("run --limit 0", "--limit 0: choose"),
    (f"run --set smt.warmup_steps={DEEP}", "--set smt.warmup_steps: its value is nested too deeply"),
    ("run --set smt.warmup_steps=", "write METHOD.SETTING=VALUE"),
    ("run --set smt.warmup_steps=2 --set smt.warmup_steps=3", "--set smt.warmup_steps: given twice"),
    ("run --jobs 99999999999999999999", "--jobs 99999999999999999999: choose at most"),
    ("run --processes 99999999999999999999", "--processes 99999999999999999999: choose at most"),
    ("run --checkpoint-minutes nan", "--checkpoint-minutes nan: choose"),
    ("run --cluster slurm --time 00:00:00", "--time 00:00:00: no run gets anywhere"),
    ("run --cluster slurm --time 12:99:99", "--time 12:99:99: write HH:MM:SS"),
    ("run --cluster slurm --time 99999999999:00:00", "--time 99999999999:00:00: write HH:MM:SS"),
    ("run --cluster slurm --nodes 99999999999999999999", "--nodes 99999999999999999999: choose at most"),
    ("plan --batch-size 1000000000", "--batch-size: 1,000,000,000 examples of 128 tokens per GPU: choose at most"),
    ("plan --gpus 99999999999999999999", "--gpus 99999999999999999999: choose 1 or more, at most"),
    ("plan --efficiency 1e-300", "--efficiency 1e-300: choose"),
    ("plan --efficiency nan", "--efficiency nan: choose"),
    (f"run --protocol {'a' * 100_000}", "--protocol aaaa"),
    ("run --protocol a\nb", "--protocol a b: choose"),
    ("run --model \x1b[31mred", "error: unknown model '\\x1b[31mred'"),
]


def refused(cli: Cli, command: str, *options: str) -> str:
    """The one line that a command says."""
    done = cli(command, *BASE[command], *options)
    assert (done.returncode, done.stdout) == (2, ""), done.stderr
    assert done.stderr.startswith("error: ") and done.stderr.endswith("\n") and len(done.stderr) <= LONGEST + 10
    assert done.stderr[:-1].isprintable()  # so it is one line
    return done.stderr


@pytest.mark.parametrize(("command", "option"), OPTIONS)
def test_an_empty_value_is_never_the_default(command: str, option: str, cli: Cli) -> None:
    for words in ((option, ""), (f"{option}=",), (option, "  ")):
        assert refused(cli, command, *words) == f"error: {option}: its value is empty: give one, or leave it out\n"
    assert f"{option}: '\\udcff' is not UTF-8 text" in refused(cli, command, option, "\udcff")


@pytest.mark.parametrize(("words", "told"), HOSTILE, ids=[words[:40] for words, _ in HOSTILE])
def test_a_hostile_value_is_one_line_that_names_it(words: str, told: str, cli: Cli, tmp_path: Path) -> None:
    command, *options = words.split(" ")
    assert told in refused(cli, command, *options)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("command", ["status", "table", "figure", "list", "show", "cancel"])
def test_what_is_no_results_folder_is_not_read_as_an_empty_one(command: str, cli: Cli, tmp_path: Path) -> None:
    (tmp_path / "taken").write_text("x")
    assert "results folder taken is a file, not a folder" in refused(cli, command, "--results", "taken")
    assert "results folder nowhere does not exist" in refused(cli, command, "--results", "nowhere")


def test_a_plan_that_could_not_be_written_is_not_made(cli: Cli, tmp_path: Path) -> None:
    (tmp_path / "taken").write_text("x")
    done = cli("plan", "plateau", "--model", "tiny", "--results", "taken")
    assert done.returncode == 2 and "taken is a file, not a folder: choose another with --results" in done.stderr


def test_a_nested_config_is_named(cli: Cli, tmp_path: Path) -> None:
    (tmp_path / "deep").mkdir()
    (tmp_path / "deep" / "config.json").write_text(DEEP)
    assert "model deep: config.json is not usable" in refused(cli, "run", "--model", "deep")


def test_usual_models_keep_the_names_of_their_folders() -> None:
    for name in (*registry.REGISTRY, "meta-llama/Llama-2-7b-hf", "local-tiny", "my model_1.5+x", "Qwen/Qwen2.5-0.5B"):
        assert folder_name(name) == name.replace("/", "--")
    assert folder_name("../../etc") == "----..--etc" and folder_name("<b>\x1b[31m") == "-b---31m"


def _hears_hang_ups() -> None:
    signal.signal(signal.SIGHUP, signal.SIG_DFL)  # whoever runs these tests may ignore it


def started(folder: Path, *args: str, **environment: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "smt_bench", *args]
    return subprocess.Popen(
        command, cwd=folder, env={**os.environ, **environment}, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        encoding=environment.get("PYTHONIOENCODING", "utf-8"), preexec_fn=_hears_hang_ups,
    )  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("encoding", ["ascii", "latin-1"])
def test_a_narrow_terminal_gets_the_table_in_other_letters(encoding: str, tmp_path: Path) -> None:
    sweep = (
        "run",
        "plateau",
        "--preset",
        "smoke",
        "--methods",
        "lora",
        "--steps",
        "2",
        "--limit",
        "2",
        "--seeds",
        "0,1",
    )
    done = started(tmp_path, *sweep, PYTHONIOENCODING=encoding)
    out, err = done.communicate(timeout=200)
    assert done.returncode == 0 and "Traceback" not in err, err
    table = (tmp_path / "results" / "plateau" / "tiny" / "table3.md").read_text(encoding="utf-8")
    assert "±" in table and ("±" in out or ("+-" in out and encoding == "ascii"))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("number", "after"), [(signal.SIGINT, 2.0), (signal.SIGTERM, 2.0), (signal.SIGHUP, 2.0), (signal.SIGTERM, 9.0)]
)
def test_a_signal_while_planning_is_one_line_and_130(number: signal.Signals, after: float, tmp_path: Path) -> None:
    """Early it comes while libraries are imported, which turn it into errors of their own; late among the runs."""
    process = started(tmp_path, "plan", "plateau", "--model", "llama-7b", "--methods", "smt,spiel,dora")
    time.sleep(after)
    process.send_signal(number)
    out, err = process.communicate(timeout=60)
    assert (process.returncode, out) == (130, "")
    assert err == "interrupted: finished runs are kept, the same command goes on\n"


@pytest.mark.slow
def test_a_terminal_that_hangs_up_leaves_a_saved_state(tmp_path: Path) -> None:
    """The next line written to it would be an error; the state has to be on the disk all the same."""
    child, terminal = pty.fork()
    if child == 0:
        _hears_hang_ups()
        os.chdir(tmp_path)
        sweep = ["run", "plateau", "--methods", "full", "--steps", "5000", "--checkpoint-minutes", "100"]
        os.execv(sys.executable, [sys.executable, "-m", "smt_bench", *sweep])
    os.set_blocking(terminal, False)
    end, said = time.monotonic() + 120, b""
    while b"/5000" not in said and time.monotonic() < end:  # steps are counted on the terminal
        time.sleep(0.2)
        try:
            said += os.read(terminal, 1 << 16)
        except BlockingIOError:
            continue
    assert not list(tmp_path.rglob("*.pt"))
    os.close(terminal)
    end = time.monotonic() + 60
    while (ended := os.waitpid(child, os.WNOHANG)) == (0, 0) and time.monotonic() < end:
        time.sleep(0.2)
    if ended == (0, 0):
        os.kill(child, signal.SIGKILL)
    assert os.waitstatus_to_exitcode(ended[1]) == 130
    assert len(list((tmp_path / "results" / "checkpoints").rglob("*.pt"))) == 1


@pytest.mark.slow
def test_nohup_lets_a_hang_up_pass(tmp_path: Path) -> None:
    command = f"trap '' HUP; exec {sys.executable} -m smt_bench plan plateau --model tiny --methods lora --json"
    process = subprocess.Popen(["sh", "-c", command], cwd=tmp_path, stdout=subprocess.PIPE, text=True)
    time.sleep(3)
    process.send_signal(signal.SIGHUP)
    assert process.communicate(timeout=100)[0].startswith("[") and process.returncode == 0
