"""`check gpu`, rehearsed on the CPU: what is right passes, what is wrong fails and ends with 1, an error stops no other check."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers import Cli

from smt_bench.checks import cost, numerics, resume
from smt_bench.checks.report import Findings
from smt_bench.measuring import rates
from smt_bench.measuring.contestant import Contestant
from smt_bench.methods import guarded, sampled
from smt_bench.plan.dry import Workload
from smt_bench.plan.gpu.hardware import find

CPU = torch.device("cpu")
RATES = {"bf16": 1e12, "fp32": 1e11, "bandwidth": 1e10}


def findings(tmp_path: Path) -> Findings:
    return Findings(tmp_path / "found.json", "a test", {}, lambda text: None, 500.0)


def verdicts(found: Findings) -> dict[str, str]:
    kept = json.loads(found.path.read_text())
    assert [f["what"] for f in kept["findings"]] == [f.what for f in found.found]  # saved as it goes
    return {f.what: f.verdict for f in found.found}


def test_the_command_ends_with_a_table_a_file_and_its_exit_code(
    cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    done = cli("check", "gpu", "--device", "cpu", "--parts", "ways")
    assert done.returncode == 0, done.stderr
    record = json.loads((tmp_path / "results" / "check" / "gpu-cpu.json").read_text())
    assert record["failed"] == 0 and record["asked"]["parts"] == ["ways"] and "finished" in record
    assert "per_block, bfloat16" in done.stdout and "| pass " in done.stdout
    monkeypatch.setitem(numerics.WAYS, "batched", lambda dy, kept, pairs, side: torch.zeros(len(pairs), side, side))
    done = cli("check", "gpu", "--device", "cpu", "--parts", "ways")
    assert done.returncode == 1 and "FAIL" in done.stdout
    assert done.stdout.index("FAIL") < done.stdout.index("pass")  # what is wrong stands first


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (("--device", "tpu"), "--device tpu: choose from auto, cuda, cpu"),
        (("--device", "cpu", "--parts", "speed"), "--parts speed: choose from rates, ways, methods, resume, cost"),
        (("--device", "cpu", "--model", "tiny", "--layers", "9"), "--layers 9: tiny has 6"),
        (("--device", "cpu", "--length", "9999"), "--length 9999: bench-60m has 2048 positions"),
    ],
)
def test_bad_input_is_one_line(cli: Cli, args: tuple[str, ...], message: str) -> None:
    done = cli("check", "gpu", *args)
    assert done.returncode == 2 and message in done.stderr and done.stderr.count("\n") == 1


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_without_a_gpu_it_says_so(cli: Cli) -> None:
    done = cli("check", "gpu")
    assert done.returncode == 2 and "torch sees no GPU here: --device cpu rehearses" in done.stderr


def test_a_way_that_is_slightly_wrong_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    right = numerics.WAYS["per_block"]
    monkeypatch.setattr(numerics, "WAYS", {"off": lambda *a: right(*a) * 1.0002, "right": right})
    found = findings(tmp_path)
    numerics.ways(found, CPU, small=True)
    got = verdicts(found)
    assert got["off, float32"] == "FAIL" and got["right, float32"] == "pass"


def test_gradients_at_deltas_alone_are_held_against_float64(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = findings(tmp_path)
    numerics.deltas(found, CPU, small=True)
    assert len(found.found) == 3 and {f.verdict for f in found.found} == {"pass"}
    plain = sampled.by_row

    def by_row(*args: Any) -> torch.Tensor:
        return plain(*args) * 1.01

    monkeypatch.setattr(sampled, "by_row", by_row)
    found = findings(tmp_path)
    numerics.deltas(found, CPU, small=True)
    assert {f.verdict for f in found.found} == {"FAIL"}


def test_methods_that_step_otherwise_on_the_device_fail(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cases = {name: numerics.CASES[name] for name in ("smt", "lora")}
    monkeypatch.setattr(numerics, "CASES", cases)
    plain, calls = numerics.taken, list[int]()

    def other(*args: Any) -> dict[str, Any]:
        made = plain(*args)
        calls.append(1)
        if len(calls) == 2:  # SMT on the "device": one weight goes another way
            name = "model.layers.0.self_attn.v_proj.weight"
            made["weights"][name] = made["weights"][name] + 1e-3
        return made

    monkeypatch.setattr(numerics, "taken", other)
    found = findings(tmp_path)
    numerics.compare(found, CPU, 4)
    assert verdicts(found) == {"smt": "FAIL", "lora": "pass"}


def test_kernels_are_held_against_the_plain_ways(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """On a CPU both are plain; what differs while the kernels are in use, fails."""
    plain = numerics.taken

    def other(*args: Any) -> dict[str, Any]:
        made = plain(*args)
        assert args[4] == "bf16" and made["weights"]["lm_head.weight"].dtype == torch.bfloat16
        if args[0] == "spiel" and not guarded.left:
            name = "model.layers.0.self_attn.v_proj.weight"
            made["weights"][name] = made["weights"][name] + 1e-2
        return made

    monkeypatch.setattr(guarded, "left", {})
    monkeypatch.setattr(numerics, "MODEL", "tiny")
    monkeypatch.setattr(numerics, "taken", other)
    found = findings(tmp_path)
    numerics.kernels(found, CPU, 4)
    assert [f.verdict for f in found.found] == ["pass", "FAIL"] and found.found[0].numbers["weights"] == 0
    assert not guarded.left


def test_a_kernel_that_was_left_fails(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(guarded.left, "a kernel", "CompilationError: no such thing")
    monkeypatch.setattr(numerics, "WAYS", {"per_block": numerics.WAYS["per_block"]})
    done = cli("check", "gpu", "--device", "cpu", "--parts", "ways")
    assert done.returncode == 1 and "a kernel" in done.stdout and "CompilationError: no such thing" in done.stdout


def test_an_error_is_a_finding_and_the_next_check_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: Any) -> torch.Tensor:
        raise RuntimeError("CUDA error: an illegal memory access was encountered")

    monkeypatch.setattr(numerics, "WAYS", {"broken": broken, "per_block": numerics.WAYS["per_block"]})
    found = findings(tmp_path)
    numerics.ways(found, CPU, small=True)
    assert [f.verdict for f in found.found] == ["FAIL"] * 3 + ["pass"] * 6
    assert "illegal memory access" in found.found[0].says


def test_a_run_that_does_not_go_on_where_it_was_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = findings(tmp_path)
    resume.resume(found, CPU, ("lora",))
    assert verdicts(found) == {"lora": "pass"} and found.found[0].numbers["resumes"]
    plain = resume.trained

    def lossy(run: Any, planner: Any, device: Any, keeper: Any, stop: Any) -> Any:
        hashes, losses = plain(run, planner, device, keeper, stop)
        return ({**hashes, "one": "other"}, losses) if keeper.resumed else (hashes, losses)

    monkeypatch.setattr(resume, "trained", lossy)
    found = findings(tmp_path)
    resume.resume(found, CPU, ("lora",))
    assert verdicts(found) == {"lora": "FAIL"}


def test_resuming_is_checked_under_what_the_option_sets_and_has_to_repeat(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen, calls = list[tuple[bool, bool, bool]](), list[int]()

    def drifting(run: Any, planner: Any, device: Any, keeper: Any, stop: Any) -> Any:
        strict = not torch.is_deterministic_algorithms_warn_only_enabled()
        kernels = torch.backends.cuda.mem_efficient_sdp_enabled()
        seen.append((torch.are_deterministic_algorithms_enabled(), strict, kernels))
        if stop is not None:
            raise resume._Stopped
        keeper.resumed.extend([5] if keeper.files else [])
        calls.append(1)
        return {"weight": str(len(calls))}, [1.0]

    monkeypatch.setattr(resume, "trained", drifting)
    found = findings(tmp_path)
    resume.resume(found, CPU, ("lora",))
    assert verdicts(found) == {"lora": "FAIL"} and "repeat is not bit by bit the same" in found.found[0].says
    assert set(seen) == {(True, True, False)}
    assert not torch.are_deterministic_algorithms_enabled() and torch.backends.cuda.mem_efficient_sdp_enabled()


def test_steps_cost_what_was_counted_or_fail(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cost, "CASES", cost.CASES[1:2])
    monkeypatch.setattr(cost, "ROUNDS", 1)
    work, counted = Workload("tiny", 2, 16, "fp32", False, gpu=False, layers=1), []
    made = cost.DryRuns(work).run("lora", {"dropout": 0.05}, cost.FRACTION, cost.STEPS)
    counted.append(made.account.peak("tuning").peak_bytes)
    for factor, verdict in ((1.1, "pass"), (2.0, "FAIL")):
        monkeypatch.setattr(cost.memory, "end_phase", lambda factor=factor: {"gpu0_peak": int(factor * counted[0])})
        found = findings(tmp_path)
        cost._case(found, "lora", "lora", {"dropout": 0.05}, work, CPU, RATES)
        assert verdicts(found) == {"lora": verdict}
        assert found.found[0].numbers["roofline_ms"] > 0


def test_too_little_memory_is_no_fault_and_no_time_skips(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(self: Any, *_: Any) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(Contestant, "open", full)
    monkeypatch.setattr(cost, "CASES", cost.CASES[1:3])
    found = findings(tmp_path)
    cost.cost(found, CPU, {}, "tiny", 1, 2, 16)
    assert set(verdicts(found).values()) == {"skipped"} and len(found.found) == 4
    found = findings(tmp_path)
    found.seconds = 0.0
    cost.cost(found, CPU, {}, "tiny", 1, 2, 16)
    assert all("s are left" in f.says for f in found.found)


def test_what_does_not_fit_whole_is_measured_with_fewer_layers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def planned(layers: int) -> int:
        phases = cost.DryRuns(Workload("tiny", 2, 16, "fp32", False, gpu=False, layers=layers)).run("full", {}, None, 9)
        return max(phase.peak_bytes for phase in phases.account.phases)

    work = Workload("tiny", 2, 16, "fp32", False, gpu=False)  # 6 layers
    monkeypatch.setattr(cost, "ROUNDS", 1)
    for memory, what in ((planned(6), "full"), (planned(3), "full, 3 of 6 layers"), (1000, "full")):
        here = cost.fits.Machine((), round(memory / cost.fits.MEMORY_SHARE) + 10)
        monkeypatch.setattr(cost.fits, "here", lambda here=here: here)
        found = findings(tmp_path)
        cost._case(found, "full", "full", {}, work, CPU, {})
        assert verdicts(found) == {what: "skipped" if memory == 1000 else "noted"}


def test_rates_stand_beside_the_datasheet(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    card = find("h100-80gb")
    gpu = torch.device("cuda")
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda d: type("P", (), {"total_memory": card.memory}))
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda d: "NVIDIA H100 80GB HBM3")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)  # nothing to give back
    seen = {"bf16": card.measured.bf16, "fp32": 0.9 * card.fp32, "bandwidth": 0.1 * card.bandwidth}  # type: ignore[union-attr]
    monkeypatch.setattr(cost, "rates", lambda device: seen)
    found = findings(tmp_path)
    cost.reached(found, gpu)
    assert cost.rates_of(found) == seen
    assert verdicts(found) == {"bf16 products": "pass", "fp32 products": "pass", "copies": "FAIL"}
    assert "81% of the datasheet's" in found.found[0].says
    assert replace(card, measured=None).measured is None


def test_an_interrupted_check_goes_on(cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    args = (
        "check", "gpu", "--device", "cpu", "--parts", "rates,ways,cost", "--model", "tiny", "--layers", "2",
        "--batch-size", "2", "--length", "16",
    )  # fmt: skip
    monkeypatch.setattr(cost, "ROUNDS", 1)
    monkeypatch.setitem(rates.SIDES, "cpu", 64)
    measured = cost._case

    def stopped(found: Findings, what: str, *rest: Any) -> None:
        if what == "full, with checkpointing":
            raise KeyboardInterrupt
        measured(found, what, *rest)

    monkeypatch.setattr(cost, "_case", stopped)
    assert cli(*args).returncode == 130
    file = tmp_path / "results" / "check" / "gpu-cpu.json"
    first = json.loads(file.read_text())
    assert first["ended"] == ["rates", "ways"] and "finished" not in first
    again: list[str] = []
    monkeypatch.setattr(numerics, "ways", lambda *a: again.append("ways"))
    monkeypatch.setattr(cost, "reached", lambda *a: again.append("rates"))
    monkeypatch.setattr(cost, "_case", lambda found, what, *rest: again.append(what) or measured(found, what, *rest))
    assert cli(*args).returncode == 0
    second = json.loads(file.read_text())
    assert second["ended"] == ["rates", "ways", "cost"] and "finished" in second
    assert again[0] == "full, with checkpointing" and not any(a.startswith("smt, with ") for a in again)
    assert second["findings"][: len(first["findings"])] == first["findings"]
    assert "roofline_ms" in second["findings"][-1]["numbers"]  # from the rates that were kept
    again.clear()
    assert cli(*args).returncode == 0 and again[:2] == ["rates", "ways"]  # finished: another look is a new one
