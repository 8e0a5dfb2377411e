"""`python tests/two_workers.py [--precision fp32 bf16]`: two runs of one thread side by side, against one of two threads.

Seconds per step of LoRA on 8 x 190 random tokens (GSM8K's batches are about as long), in both precisions: of two processes at
once, by their steps together, and of one process alone. In turns, medians. For machines of two cores that are idle.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from multiprocessing import get_context
from multiprocessing.connection import Connection

import torch

from smt_bench import methods
from smt_bench.measuring.contestant import Contestant
from smt_bench.measuring.random_inputs import random_batch, random_model
from smt_bench.methods.base import OptimizerSettings

TURNS, STEPS = 3, 1
BATCH, LENGTH, FRACTION = 8, 190, 0.05
CPU = torch.device("cpu")


def serve(wire: Connection, model: str, precision: str, threads: int) -> None:
    """Takes so many steps whenever told how many; 0 ends it."""
    torch.set_num_threads(threads)
    method: Callable[[], methods.Method] = lambda: methods.build("lora", {}, FRACTION, 0, 100)  # noqa: E731
    one = Contestant("lora", method, lambda: random_model(model, precision, CPU, 0))
    one.open(random_batch(model, BATCH, LENGTH, 0, CPU), OptimizerSettings(1e-4), False)
    one.step()
    wire.send("ready")
    while steps := wire.recv():
        for _ in range(steps):
            one.step()
        wire.send("done")


def seconds(wires: list[Connection], steps: int) -> float:
    """Until all of them have taken so many steps, per step of all."""
    start = time.perf_counter()
    for wire in wires:
        wire.send(steps)
    for wire in wires:
        wire.recv()
    return (time.perf_counter() - start) / (steps * len(wires))


def main() -> None:
    asked = argparse.ArgumentParser()
    asked.add_argument("--model", default="smollm2-135m")
    asked.add_argument(
        "--precision",
        nargs="+",
        default=["fp32", "bf16"],
        help="without bf16 in its processor a CPU takes minutes for a step",
    )
    model, precisions = (got := asked.parse_args()).model, got.precision
    context = get_context("spawn")
    print("type      two of one thread, s   one of two threads, s   ratio")
    for precision in precisions:
        wires = []
        for threads in (1, 1, 2):
            here, there = context.Pipe()
            context.Process(target=serve, args=(there, model, precision, threads), daemon=True).start()
            wires.append(here)
        for wire in wires:
            wire.recv()
        pairs = [(seconds(wires[:2], STEPS), seconds(wires[2:], 2 * STEPS)) for _ in range(TURNS)]
        for wire in wires:
            wire.send(0)
        two, one = (statistics.median(times) for times in zip(*pairs))
        ratio = statistics.median(o / t for t, o in pairs)
        print(f"{precision:8}  {two:20.2f}   {one:21.2f}   {ratio:5.2f}", flush=True)


if __name__ == "__main__":
    main()
