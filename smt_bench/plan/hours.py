"""How long the runs of a sweep take here, said by `run --dry-run` before any of them is started.

A run is counted in products: a forward pass over T tokens with N parameters is 2 N T FLOP; a training step adds 2 N T for the
gradients of activations and 2 N T for those of the weights that train. The rate is what the finished runs of the sweep reached;
before there is one, half of what large products reach on this machine. A rough number: within a factor of two at first. Tasks of
lm-eval, and measurements, are not counted.
"""

from __future__ import annotations

import heapq
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from statistics import median
from typing import Any

import torch

from smt_bench.data.prompts import Example, encode
from smt_bench.data.tasks import find_task
from smt_bench.measuring.rates import matrix_rate
from smt_bench.methods.base import Capacity
from smt_bench.models import build
from smt_bench.questions.planner import Planner
from smt_bench.records.runs import Run
from smt_bench.records.store import Store

REACHED = 0.5  # of the rate of large products, by a run as a whole
MANY = 64  # examples whose length is looked at
HOUR = 3600


@dataclass(frozen=True)
class Hours:
    """What is left of a sweep.

    Attributes:
        missing: runs without a record.
        seconds: that they take, one after the other.
        measured: finished runs behind the rate; 0: this machine's products are.
    """

    missing: int
    seconds: float
    measured: int

    def __str__(self) -> str:
        """One line."""
        if not self.missing:
            return "nothing is left to run"
        hours = self.seconds / HOUR
        about = f"{hours:.1f} h" if hours >= 1 else f"{max(1, round(60 * hours))} min"
        by = (
            f"{self.measured} finished of these runs"
            if self.measured
            else "the rate of large products here, half of it"
        )
        return f"{self.missing} runs to do: about {about} on this machine (by {by})"


def hours(planned: Sequence[tuple[Run, Capacity, Planner]], store: Store, jobs: int) -> Hours:
    """What the runs without a record take.

    Args:
        planned: all runs of the sweep.
        store: with the records of some.
        jobs: runs at the same time.
    """
    rates, left = list[float](), list[tuple[Run, Capacity, Planner]]()
    for run, capacity, planner in planned:
        record = store.read(run.key)
        if record is None:
            left.append((run, capacity, planner))
        elif record["status"] == "done" and (taken := record["seconds"]["total"]) > 0:
            rates.append(flops(run, capacity, planner) / taken)
    if not left:
        return Hours(0, 0.0, len(rates))
    if rates:
        rate = median(rates)
    else:
        device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        bf16 = left[0][0].train.precision == "bf16"
        rate = REACHED * matrix_rate(device, torch.bfloat16 if bf16 else torch.float32)
        rate /= 1 if device.type == "cuda" else jobs  # the cores of a CPU are shared out
    return Hours(len(left), _longest([flops(*one) / rate for one in left], jobs), len(rates))


def _longest(seconds: Sequence[float], jobs: int) -> float:
    """Until the last of some runs is done, each begun when one of so many places is free."""
    places = [0.0] * jobs
    for taken in seconds:
        heapq.heapreplace(places, places[0] + taken)
    return max(places)


def flops(run: Run, capacity: Capacity, planner: Planner) -> float:
    """Of a run's products: training, held-out loss and tests."""
    data, asked, total = planner.inputs(run).data, run.evaluation, capacity.total
    tokenizer = _tokenizer(planner)

    def tokens(examples: Sequence[Example]) -> float:
        """Per example, cut off; 0 without any. Of many every so-many-th is looked at."""
        some = tuple(examples[:: max(1, len(examples) // MANY)])
        return _tokens(some, tokenizer, run.data.template, run.data.cutoff)

    trained = 0.0
    if capacity.trainable:
        trained = run.train.steps * run.train.batch_size * tokens(data.train) * (4 + 2 * capacity.trainable / total)
    judged = len(data.heldout) * tokens(data.heldout)
    for name, examples in data.tests.items():
        task = find_task(name)
        new = asked.max_new_tokens_math if task.rationale else asked.max_new_tokens
        generates = task.generated or asked.protocol != "likelihood"
        judged += len(examples) * (tokens(examples) + (asked.beams * new if generates else 0))
    return total * (trained + 2 * judged)


@cache
def _tokenizer(planner: Planner) -> Any:
    return build.tokenizer(planner.located)


@cache  # runs share their data
def _tokens(examples: tuple[Example, ...], tokenizer: Any, template: str, cutoff: int) -> float:
    lengths = [len(encode(e, tokenizer, template, False, cutoff).ids) for e in examples]
    return sum(lengths) / len(lengths) if lengths else 0.0
