"""Dry runs of one workload, each made once per structure, and several at a time.

A structure is what decides bytes and FLOPs: method, settings and fraction; seeds and learning rates share it. A warm-up that
the same method with the same settings went through for another fraction is not repeated by the same process.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager, suppress
from dataclasses import asdict
from typing import Any

from smt_bench import methods
from smt_bench.machine.facts import PACKAGES, QUANTIZES, version_of
from smt_bench.machine.remembered import known, remembered
from smt_bench.methods.base import Method
from smt_bench.models import build
from smt_bench.plan import side_by_side
from smt_bench.plan.dry import DryRun, Warmup, Workload, dry_run
from smt_bench.plan.shorter import Make, from_shorter


def dry_run_of(
    workload: Workload, make: Make, fraction: float | None, warmups: dict[str, Warmup], settings: str
) -> DryRun:
    """One method at one fraction, in the quickest way that gives the same numbers.

    Args:
        workload: model, batch and kernels.
        make: a fresh method at a fraction.
        fraction: of the model.
        warmups: those seen so far, by `settings`.
        settings: what the warm-up depends on.
    """
    return from_shorter(workload, make, fraction) or dry_run(workload, make(fraction), warmups, settings)


Structure = tuple[str, dict[str, Any], float | None, int]  # method, its settings, fraction, steps with the warm-up


class DryRuns:
    """Executes and remembers, in the cache folder too (`machine.remembered`).

    Args:
        workload: of every run.
    """

    def __init__(self, workload: Workload) -> None:
        self.workload = workload
        config = build.config(workload.model, workload.layers).to_dict()
        packages = {name: version_of(name) for name in (*PACKAGES, QUANTIZES)}
        self._about = ["dry run", asdict(workload), json.loads(json.dumps(config, default=str)), packages]
        self._done: dict[str, DryRun] = {}
        self._coming: dict[str, Future[dict[str, Any]]] = {}
        self._warmups: dict[str, Warmup] = {}

    def run(self, name: str, config: dict[str, Any], fraction: float | None, steps: int) -> DryRun:
        """One method at one fraction; steps are the whole run's, warm-up included."""
        key = _key(name, config, fraction, steps)
        if key not in self._done:
            coming, answer = self._coming.pop(key, None), None
            with suppress(BrokenProcessPool):  # the kernel's answer to too little memory: one at a time may do
                answer = None if coming is None else coming.result()
            self._done[key] = DryRun.from_dict(answer or self.answer(name, config, fraction, steps))
        return self._done[key]

    def answer(self, name: str, config: dict[str, Any], fraction: float | None, steps: int) -> dict[str, Any]:
        """The same, as it is remembered."""

        def make(share: float | None) -> Method:
            return methods.build(name, config, share, 0, steps)

        def made() -> dict[str, Any]:
            settings = json.dumps([name, config, steps], sort_keys=True)
            return dry_run_of(self.workload, make, fraction, self._warmups, settings).to_dict()

        # A method of another package may change without a line of this one.
        return remembered([*self._about, name, config, fraction, steps], made) if _ours(name) else made()

    def ahead(self, structures: Iterable[Structure]) -> list[tuple[str, Structure]]:
        """Those that have to be made, each once, by key."""
        found = {_key(*structure): structure for structure in structures}
        return [
            (key, (name, config, fraction, steps))
            for key, (name, config, fraction, steps) in found.items()
            if not (_ours(name) and known([*self._about, name, config, fraction, steps]))
        ]

    def give(self, key: str, coming: Future[dict[str, Any]]) -> None:
        """Takes what another process will have made."""
        self._coming[key] = coming


def _key(name: str, config: dict[str, Any], fraction: float | None, steps: int) -> str:
    return f"{json.dumps([name, config, steps], sort_keys=True)} {fraction}"


def _ours(name: str) -> bool:
    return methods.find(name).__module__.startswith("smt_bench.")


@contextmanager
def several_at_a_time(asked: Sequence[tuple[DryRuns, Iterable[Structure]]]) -> Iterator[None]:
    """What has to be made for these is made by a process per core; each `DryRuns.run` waits for its own.

    Args:
        asked: dry runs of a workload, and the structures that will be asked of them.
    """
    jobs = [(number, *job) for number, (runs, structures) in enumerate(asked) for job in runs.ahead(structures)]
    if len(jobs) < 2 or side_by_side.cores() < 2:
        yield
        return
    with side_by_side.pool(len(jobs), _begin, [runs.workload for runs, _ in asked]) as workers:
        with suppress(BrokenProcessPool):  # what was not handed in is made here
            for number, key, structure in jobs:
                asked[number][0].give(key, workers.submit(_answer, number, structure))
        yield


_runs: list[DryRuns] = []  # of a process of the pool


def _begin(workloads: list[Workload]) -> None:
    _runs[:] = [DryRuns(workload) for workload in workloads]


def _answer(number: int, structure: Structure) -> dict[str, Any]:
    return _runs[number].answer(*structure)
