"""`python tests/kept_memory.py [--model smollm2-135m]`: a step when glibc keeps freed memory, and when not.

Seconds per step of LoRA, one thread, float32, 8 x 190 random tokens: of a process with glibc's own thresholds, and of one that
never gives a piece back before it is told to (`machine.memory.give_back`). In turns, medians. Every page that was given back is
filled with zeros by the system when it is next used; what that costs depends on the machine.
"""

from __future__ import annotations

import argparse
import os
import statistics
from multiprocessing import get_context
from multiprocessing.connection import Connection

from two_workers import seconds, serve

TURNS = 4
KEEPS = {
    "MALLOC_MMAP_THRESHOLD_": str(1 << 33),
    "MALLOC_TRIM_THRESHOLD_": str(1 << 33),
    "MALLOC_TOP_PAD_": str(1 << 28),
}


def started(model: str, environment: dict[str, str]) -> Connection:
    """A process that takes steps; glibc reads its settings at its start alone."""
    os.environ.update(environment)
    here, there = get_context("spawn").Pipe()
    get_context("spawn").Process(target=serve, args=(there, model, "fp32", 1), daemon=True).start()
    for name in environment:
        del os.environ[name]
    here.recv()
    return here


def main() -> None:
    asked = argparse.ArgumentParser()
    asked.add_argument("--model", default="smollm2-135m")
    model = asked.parse_args().model
    gives, keeps = started(model, {}), started(model, KEEPS)
    steps = 10 if model == "tiny" else 1
    pairs = [(seconds([gives], steps), seconds([keeps], steps)) for _ in range(TURNS)]
    one, other = (statistics.median(times) for times in zip(*pairs, strict=True))
    ratios = [a / b for a, b in pairs]
    print(f"{model}: {one:.2f} s given back, {other:.2f} s kept")
    print(f"ratio {statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})")
    for wire in (gives, keeps):
        wire.send(0)


if __name__ == "__main__":
    main()
