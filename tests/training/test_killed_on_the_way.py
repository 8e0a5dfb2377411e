"""The command itself, killed by SIGKILL every few steps and given again: over 4 bits, and where runs need kept adapters."""

from __future__ import annotations

import json
import os
import signal
import sys
from pathlib import Path
from typing import Any

import pytest
from forks import OUTCOME, finish
from safetensors import safe_open

SAVES = 5  # of states of training, after which a process dies
KEPT = (*OUTCOME, "composition", "adapter")
ASKED = {
    "nf4": ("plateau", "--base", "nf4", "--fractions", "2", "--methods", "smt,spiel-ma,peft:osf"),
    "composition": ("composition", "--fractions", "4", "--methods", "smt"),
}
pytestmark = pytest.mark.slow


def command(folder: Path, asked: tuple[str, ...], dies: bool) -> None:
    """One process that was given a command."""
    if dies:
        from smt_bench.training.checkpoint import Checkpoints

        save, saved = Checkpoints.save, [0]

        def deadly(*args: Any) -> bool:
            done = save(*args)
            saved[0] += 1
            if saved[0] == SAVES:
                os.kill(os.getpid(), signal.SIGKILL)
            return done

        Checkpoints.save = deadly  # type: ignore[method-assign]
    from smt_bench.cli.app import main

    sys.stdout = sys.stderr = (folder.parent / f"{folder.name}.txt").open("a")
    sys.argv = [
        "smt-bench",
        "run",
        *asked,
        "--preset",
        "smoke",
        "--steps",
        "6",
        "--limit",
        "1",
        "--results",
        str(folder),
    ]
    sys.argv += ["--checkpoint-steps", "1"]
    main()


def answers(folder: Path) -> dict[str, Any]:
    """What the records say, without what merely happened."""
    records = [json.loads(path.read_text()) for path in (folder / "runs").glob("*.json")]
    return {r["key"]: {part: r.get(part) for part in KEPT} for r in records}


def kept(folder: Path) -> dict[str, Any]:
    """The adapters, number by number: a file's header is in no fixed order."""
    found = {}
    for path in folder.glob("adapters/*/*.safetensors"):
        with safe_open(path, "pt") as opened:
            found |= {f"{path.parent.name} {n}": opened.get_tensor(n).tolist() for n in opened.keys()}  # noqa: SIM118
    return found


@pytest.mark.parametrize("what", ASKED)
def test_a_command_that_is_killed_and_given_again_ends_as_one_that_is_not(what: str, tmp_path: Path) -> None:
    if "nf4" in ASKED[what]:
        pytest.importorskip("bitsandbytes", reason="bitsandbytes is not installed: nothing can be quantized")
    smooth, killed, kills = tmp_path / "smooth", tmp_path / "killed", 0
    assert finish(command, smooth, ASKED[what], False) == 0, (tmp_path / "smooth.txt").read_text()[-800:]
    while (code := finish(command, killed, ASKED[what], True)) == -signal.SIGKILL:
        kills += 1
        assert kills < 40
    assert code == 0, (tmp_path / "killed.txt").read_text()[-800:]
    resumed = [json.loads(p.read_text()).get("resumed_at_steps") for p in (killed / "runs").glob("*.json")]
    assert kills > 2 and sum(map(bool, resumed)) > 1
    assert answers(killed) == answers(smooth) and kept(killed) == kept(smooth)
    assert bool(kept(smooth)) == (what == "composition")
    names = [{p.relative_to(folder) for p in folder.rglob("*")} for folder in (smooth, killed)]
    assert names[0] == names[1]  # nothing half-written is left
