"""Dry runs of one workload, each made once per structure.

A structure is what decides bytes and FLOPs: method, settings and fraction; seeds and learning rates share it. A warm-up that
the same method with the same settings went through for another fraction is not repeated.
"""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import Any

from smt_bench import methods
from smt_bench.machine.facts import PACKAGES, QUANTIZES, version_of
from smt_bench.machine.remembered import remembered
from smt_bench.methods.base import Method
from smt_bench.models import build
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
        self._warmups: dict[str, Warmup] = {}

    def run(self, name: str, config: dict[str, Any], fraction: float | None, steps: int) -> DryRun:
        """One method at one fraction; steps are the whole run's, warm-up included."""
        settings = json.dumps([name, config, steps], sort_keys=True)
        key = f"{settings} {fraction}"
        if key not in self._done:

            def make(share: float | None) -> Method:
                return methods.build(name, config, share, 0, steps)

            def made() -> dict[str, Any]:
                return dry_run_of(self.workload, make, fraction, self._warmups, settings).to_dict()

            # A method of another package may change without a line of this one.
            ours = methods.find(name).__module__.startswith("smt_bench.")
            answer = remembered([*self._about, name, config, fraction, steps], made) if ours else made()
            self._done[key] = DryRun.from_dict(answer)
        return self._done[key]
