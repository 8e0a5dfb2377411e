"""How a run is spread: what is refused, what is said, and the same value again from the record."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from helpers import Cli
from hypothesis import given, settings
from hypothesis import strategies as st

from smt_bench.cli.work import Order
from smt_bench.machine import parallel
from smt_bench.machine.fits import Machine
from smt_bench.machine.spread import ALONE, Spread
from smt_bench.questions.request import Request
from smt_bench.sweep.carry_out import How
from smt_bench.training.resume import Pace


@st.composite
def spreads(draw: Any) -> Spread:
    nodes = draw(st.integers(1, 8))
    processes = nodes * draw(st.integers(1, 8))
    gpus = draw(st.none() | st.integers(processes // nodes, 16).map(lambda each: each * nodes))
    return Spread(processes, gpus, nodes, draw(st.integers(0, 3)), draw(st.booleans()))


@given(spreads())
@settings(derandomize=True)
def test_the_record_gives_the_same_value_again(spread: Spread) -> None:
    assert Spread.from_dict(json.loads(json.dumps(spread.to_dict()))) == spread


@given(spreads(), spreads())
@settings(derandomize=True)
def test_what_is_spread_differently_is_called_differently(one: Spread, other: Spread) -> None:
    assert (str(one) == str(other)) == (one == other)


@given(st.integers(-2, 9), st.none() | st.integers(-2, 9), st.integers(-2, 4), st.integers(-1, 5))
@settings(derandomize=True, max_examples=300)
def test_a_spread_is_possible_or_refused_in_one_line(processes: int, gpus: int | None, nodes: int, zero: int) -> None:
    try:
        spread = Spread(processes, gpus, nodes, zero)
    except ValueError as error:
        assert str(error).startswith("--") and ": choose " in str(error) and "\n" not in str(error)
        return
    each = spread.processes // spread.nodes
    assert each * spread.nodes == spread.processes and each > 0 and spread.zero in range(4)
    assert gpus is None or (gpus % nodes == 0 and gpus // nodes >= each)


@pytest.mark.parametrize(
    ("spread", "words"),
    [
        (ALONE, "1 process"),
        (Spread(2), "2 processes"),
        (Spread(gpus_per_run=1), "1 process on 1 GPU"),
        (Spread(4, nodes=2), "4 processes on 2 nodes"),
        (Spread(8, 8, 2, 3, True), "8 processes on 8 GPUs of 2 nodes with ZeRO-3+offload"),
    ],
)
def test_it_is_said_in_words(spread: Spread, words: str) -> None:
    assert str(spread) == words


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ("--processes 0", "--processes 0: choose a positive whole number"),
        ("--gpus-per-run 0", "--gpus-per-run 0: choose a positive whole number"),
        ("--jobs 0", "--jobs 0: choose a positive whole number"),
        ("--checkpoint-steps 0", "--checkpoint-steps 0: choose a positive whole number"),
        ("--checkpoint-minutes 0", "--checkpoint-minutes 0: choose a number above 0"),
        ("--gpus-per-run 1 --processes 2", "--processes 2 on --gpus-per-run 1: choose at most one per GPU"),
        ("--zero 4", "--zero 4: choose 0, 2 or 3 (1 can only be planned)"),
        ("--zero 1 --processes 2", "--zero 1: choose 0, 2 or 3 (1 can only be planned)"),
        ("--zero 2", "--zero 2 shards over processes: add --processes 2 or more"),
        ("--offload", "--offload goes with --zero 2 or --zero 3"),
        ("--nodes 2", "--partition, --time and --nodes go with --cluster slurm"),
        ("--time 1:00:00", "--partition, --time and --nodes go with --cluster slurm"),
        ("--cluster pbs", "--cluster pbs: the choice is slurm"),
        ("--cluster slurm --jobs 2", "--jobs goes with one machine: on a cluster every run is a task of its own"),
    ],
)
def test_the_command_line_refuses_what_does_not_go_together(options: str, message: str, cli: Cli) -> None:
    done = cli("run", "plateau", *options.split())
    assert (done.returncode, done.stderr) == (2, f"error: {message}\n")


def test_zero_needs_deepspeed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("smt_bench.training.zero.find_spec", lambda name: None)
    with pytest.raises(ValueError, match=r"--zero 3 needs DeepSpeed: pip install 'smt-bench\[deepspeed\]'"):
        How(Spread(2, zero=3))


@pytest.mark.parametrize("option", ["--jobs 2", "--processes 2", "--gpus-per-run 2", "--cluster slurm"])
def test_a_launcher_has_spread_the_run_already(option: str, cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "4")
    done = cli("run", "plateau", *option.split())
    assert done.returncode == 2
    assert done.stderr.startswith("error: a launcher has started 4 processes: leave --jobs,")


@pytest.mark.parametrize(
    ("environment", "nodes"),
    [
        ({}, 1),
        ({"WORLD_SIZE": "1", "LOCAL_WORLD_SIZE": "1"}, 1),
        ({"WORLD_SIZE": "4", "LOCAL_WORLD_SIZE": "4"}, 1),
        ({"WORLD_SIZE": "4", "LOCAL_WORLD_SIZE": "2"}, 2),
        ({"WORLD_SIZE": "4", "LOCAL_SIZE": "1"}, 4),
    ],
)
def test_a_launchers_nodes_are_counted(
    environment: dict[str, str], nodes: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("WORLD_SIZE", "LOCAL_WORLD_SIZE", "LOCAL_SIZE"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert parallel.launched_nodes() == nodes


@pytest.mark.parametrize("here", [None, Machine((80, 40), 7)])
def test_workers_read_the_spread_from_their_order(here: Machine | None, tmp_path: Path) -> None:
    spread = Spread(4, 4, 2, 3, True)
    order = Order("plateau", Request("plateau", "tiny"), tmp_path, Pace(3, 60.0), spread, here)
    assert Order.read(order.write()) == order


def test_an_order_of_an_older_version_is_refused(tmp_path: Path) -> None:
    path = Order("plateau", Request("plateau", "tiny"), tmp_path, Pace(), ALONE).write()
    values = json.loads(path.read_text())
    path.write_text(json.dumps({**{k: v for k, v in values.items() if k != "spread"}, "zero": None}))
    with pytest.raises(ValueError, match="is not readable .KeyError.: it is written by `run`"):
        Order.read(path)
