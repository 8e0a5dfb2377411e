"""`check gpu`: is this device right, repeatable and as fast as it should be? On a CPU it is a rehearsal, with small sizes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import torch

from smt_bench.checks import cost, numerics
from smt_bench.checks.report import Findings
from smt_bench.checks.resume import resume
from smt_bench.machine import facts
from smt_bench.machine.borders import folder_name
from smt_bench.methods import guarded
from smt_bench.plan.dry import Workload

PARTS = {
    "rates": "products and copies, against the datasheet",
    "ways": "every way to SMT's block gradients, against float64",
    "methods": "steps of every method, CPU against device; in bf16 with the kernels against without",
    "resume": "a run that is stopped goes on bit by bit",
    "cost": "time and peak of an architecture's steps",
}
# Of the cost part: model, layers, examples, tokens, for a GPU and for a rehearsal.
SIZES: dict[str, tuple[str, int | None, int, int]] = {
    "cuda": ("llama-7b", None, 16, 256),
    "cpu": ("bench-60m", 2, 2, 64),
}


def device_of(name: str) -> torch.device:
    """The device to check.

    Args:
        name: "auto" (a GPU), "cuda" or "cpu".

    Raises:
        ValueError: another name, or no GPU.
    """
    if name not in ("auto", "cuda", "cpu"):
        raise ValueError(f"--device {name}: choose from auto, cuda, cpu")
    if name == "cpu":
        return torch.device("cpu")
    if not torch.cuda.is_available():
        raise ValueError(f"--device {name}: torch sees no GPU here: --device cpu rehearses the checks on the CPU")
    return torch.device("cuda")


def check_gpu(
    device: torch.device,
    parts: Sequence[str],
    model: str | None,
    layers: int | None,
    batch: int | None,
    length: int | None,
    seconds: float,
    results: Path,
    say: Callable[[str], None],
) -> Findings:
    """Runs the parts, one after the other.

    Args:
        device: from `device_of`.
        parts: names in `PARTS`.
        model: for the cost; None: LLaMA-7B, in a rehearsal bench-60m.
        layers: of it; None: all, in a rehearsal two.
        batch: examples of a step.
        length: tokens of each.
        seconds: after which no further case of the cost begins.
        results: the results folder; findings go to `check/`.
        say: told of every finding.

    Raises:
        ValueError: an unknown part, or sizes that the model does not have.
    """
    for part in parts:
        if part not in PARTS:
            raise ValueError(f"--parts {part}: choose from {', '.join(PARTS)}")
    small = device.type == "cpu"
    usual = SIZES[device.type]
    which = model or usual[0]
    chosen = layers if layers is not None or model is not None else usual[1]
    sizes = (which, chosen, batch or usual[2], length or usual[3])
    Workload(which, sizes[2], sizes[3], layers=chosen)  # refuses what the model does not have
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else f"{facts.one_line()} (a rehearsal)"
    file = folder_name(torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu").replace(" ", "-")
    asked = {
        "device": device.type, "parts": list(parts), "model": sizes[0], "layers": sizes[1], "batch_size": sizes[2],
        "length": sizes[3],
    }  # fmt: skip
    found = Findings(results / "check" / f"gpu-{file}.json", name, asked, say, seconds)
    rates: dict[str, float] = {}

    def compare() -> None:
        numerics.compare(found, device, 4 if small else 8)
        if not small:  # a CPU has no kernels
            numerics.kernels(found, device, 8)

    doing: dict[str, Callable[[], object]] = {
        "rates": lambda: cost.reached(found, device),
        "ways": lambda: numerics.ways(found, device, small),
        "methods": compare,
        "resume": lambda: resume(found, device),
        "cost": lambda: cost.cost(found, device, rates, *sizes),
    }
    for part, do in doing.items():
        if part in parts and not found.had(part):
            do()
            kernels_left(found, part)
        if part in parts:
            found.ended(part)
        if part == "rates":
            rates |= cost.rates_of(found)
    found.end()
    return found


def kernels_left(found: Findings, part: str) -> None:
    """A kernel that did not work was replaced by the plain way, with right numbers: nothing else would show it.

    Args:
        found: where findings go.
        part: that has just ended; a kernel is named once, by the part that left it.
    """
    said = {f.what for f in found.found}
    for name, why in guarded.left.items():
        if name not in said:
            found.add(part, name, "FAIL", f"the kernel was left for the plain way: {why}")
