"""A planned run: where it is to go, what its model is made of, and all that was found."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

from torch import nn

from smt_bench.machine.spread import Spread
from smt_bench.measuring.account import Account
from smt_bench.methods.base import Capacity
from smt_bench.models import build
from smt_bench.plan.gpu.hardware import Gpu
from smt_bench.plan.gpu.roofline import Efficiency, StepTime, efficiency_of
from smt_bench.plan.gpu.sharding import words
from smt_bench.records.runs import Run


@dataclass(frozen=True)
class Target:
    """Where the runs are to go.

    Attributes:
        gpu: kind.
        spread: as asked for; a process has one GPU.
        fixed: exactly that stage of ZeRO; else the first that fits, on the host only where nothing else does or it was asked for.
        asked: efficiencies of the roofline; None: the card's.
        pieces: micro-batches of a step.
    """

    gpu: Gpu
    spread: Spread
    fixed: bool = False
    asked: Efficiency | None = None
    pieces: int = 1

    @property
    def efficiency(self) -> Efficiency:
        """Of the roofline."""
        return self.asked or efficiency_of(self.gpu)

    @property
    def gpus(self) -> int:
        """How many."""
        return self.spread.processes

    def spreads(self, gpus: int) -> list[Spread]:
        """What to try, the least intrusive first."""
        asked = replace(self.spread, processes=gpus)
        if self.fixed:
            return [asked]
        stages = (0, 2, 3) if gpus > 1 else (0,)
        offloads = (True,) if asked.offload else (False, True)
        return [replace(asked, zero=stage, offload=offload) for offload in offloads for stage in stages]


@dataclass
class Anatomy:
    """What a model's parameters are made of.

    Attributes:
        total: numbers in all of them, tied ones once.
        largest: numbers in the largest single module.
        linears: weight matrices of the linear layers without the output layer.
        weights: bytes of all weights where not all are in the run's precision.
    """

    total: int
    largest: int
    linears: dict[str, tuple[int, ...]]
    weights: int | None = None

    @classmethod
    def of(cls, name: str, layers: int | None = None) -> Anatomy:
        """A registered model's, or any other's; with so many layers of it."""
        model = build.build(name, layers=layers)
        head = model.get_output_embeddings()
        return cls(
            sum(p.numel() for p in model.parameters()),
            max(sum(p.numel() for p in module.parameters(recurse=False)) for module in model.modules()),
            {n: tuple(m.weight.shape) for n, m in model.named_modules() if isinstance(m, nn.Linear) and m is not head},
        )


@dataclass
class Row:
    """One planned run; `to_dict` is the object of `--json`. None where there is nothing to say.

    Attributes:
        run: the question.
        capacity: what the fraction becomes.
        refusal: why the run is impossible.
        published_pct: the papers' percentage nearest to the request, where they print one for this method and model.
        account: bytes of one GPU that holds everything, at its share of the batch.
        spreads: stage -> how it is spread; a dense warm-up may need the host where tuning does not.
        peaks: stage -> bytes per GPU, the phase where they are reached, bytes by category there; "tuning" includes attaching.
        phases: stage -> phase -> bytes by category at that phase's peak, per GPU.
        rule: bytes of weights, gradients and optimizer on one GPU by the gates' rule (`machine.states`).
        host: bytes of main memory.
        disk: bytes of checkpoints at most, while the run lasts.
        times: stage -> seconds of a step.
        seconds: the whole run's training.
        fits: "OK", "tight" or "no".
        smallest: the fewest GPUs of the smallest total memory that hold it, e.g. "2 x rtx3090 (ZeRO-3)".
    """

    run: Run
    capacity: Capacity | None
    gpus: int
    refusal: str | None = None
    published_pct: float | None = None
    account: Account | None = None
    spreads: dict[str, Spread] = field(default_factory=dict)
    peaks: dict[str, tuple[int, str, dict[str, int]]] = field(default_factory=dict)
    phases: dict[str, dict[str, dict[str, int]]] = field(default_factory=dict)
    rule: int | None = None
    host: int | None = None
    disk: int | None = None
    times: dict[str, StepTime] = field(default_factory=dict)
    seconds: float | None = None
    fits: str | None = None
    smallest: str | None = None

    @property
    def peak(self) -> tuple[int | None, str | None]:
        """The worst moment of the run: bytes per GPU, and stage and phase."""
        if not self.peaks:
            return None, None
        return max((total, at) for total, at, _ in self.peaks.values())

    @property
    def over(self) -> str:
        """What a method's name is followed by where its base is not whole."""
        return f" over {self.run.train.base}" if self.run.train.base else ""

    @property
    def how(self) -> str:
        """The spreads in words."""
        names = {stage: words(spread) for stage, spread in self.spreads.items()}
        return (
            names["tuning"] if len(set(names.values())) == 1 else f"warm-up {names['warmup']}, then {names['tuning']}"
        )

    @property
    def gpu_hours(self) -> float | None:
        """GPUs times hours of training."""
        return None if self.seconds is None else self.seconds * self.gpus / 3600

    def flops(self, kind: str) -> int | None:
        """FLOPs of a tuning step on one GPU."""
        work = self.account.flops.get("tuning") if self.account else None
        if work is None:
            return None
        return (
            sum(v for k, v in work.items() if k not in ("forward", "optimizer")) if kind == "backward" else work[kind]
        )

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values."""
        method, capacity = self.run.method, self.capacity
        tuning, warmup = self.times.get("tuning"), self.times.get("warmup")
        return {
            "model": self.run.model.name,
            "method": method.name + self.over,
            "fraction": method.fraction,
            "lr": self.run.train.lr,
            "seed": self.run.seed,
            "steps": self.run.train.steps,
            "capacity": capacity.units if capacity else None,
            "capacity_unit": capacity.unit if capacity else None,
            "trainable": capacity.trainable if capacity else None,
            "trainable_pct": 100 * capacity.fraction if capacity else None,
            "published_pct": self.published_pct,
            "refusal": self.refusal,
            "gpus": self.gpus,
            "layout": {stage: words(spread) for stage, spread in self.spreads.items()} or None,
            "memory_bytes": self.phases or None,
            "peak_bytes": self.peak[0],
            "peak_at": self.peak[1],
            "tuning_peak_bytes": self.peaks["tuning"][0] if self.peaks else None,
            "rule_bytes": self.rule,
            "host_bytes": self.host,
            "disk_bytes": self.disk,
            "flops_forward": self.flops("forward"),
            "flops_backward": self.flops("backward"),
            "flops_input_gradient": self.flops("input_gradient"),
            "flops_weight_gradient": self.flops("weight_gradient"),
            "flops_recomputation": self.flops("recomputation"),
            "step_s": tuning.total if tuning else None,
            "warmup_step_s": warmup.total if warmup else None,
            "run_s": self.seconds,
            "gpu_hours": self.gpu_hours,
            "fits": self.fits,
            "smallest": self.smallest,
        }
