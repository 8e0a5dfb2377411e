"""How one run is spread over processes, GPUs and nodes: one value from the command line to the record."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

STAGES = (0, 1, 2, 3)
MOST = 100_000  # processes, GPUs or nodes; more than there are anywhere


@dataclass(frozen=True)
class Spread:
    """How one run is spread. It is recorded, never part of a key: no result depends on it.

    Attributes:
        processes: data parallel, over all nodes, one GPU each where there are GPUs; one process alone spreads a large model's
            layers over all GPUs it sees.
        gpus_per_run: over all nodes; None: on one machine all there are, divided by `--jobs`, on a cluster CPUs only.
        nodes: of a cluster.
        zero: stage of ZeRO in phases that train all parameters; 0: every process holds everything.
        offload: their optimizer state lives in main memory.

    Raises:
        ValueError: a number that cannot be, or two that do not go together.
    """

    processes: int = 1
    gpus_per_run: int | None = None
    nodes: int = 1
    zero: int = 0
    offload: bool = False

    def __post_init__(self) -> None:
        over_nodes = {"--gpus-per-run": self.gpus_per_run, "--processes": self.processes}
        for option, value in {"--nodes": self.nodes, **over_nodes}.items():
            if value is not None and value < 1:
                raise ValueError(f"{option} {value}: choose a positive whole number")
            if value is not None and value > MOST:
                raise ValueError(f"{option} {value}: choose at most {MOST:,}")
        if self.zero not in STAGES:
            raise ValueError(f"--zero {self.zero}: choose 0, 2 or 3 (1 can only be planned)")
        for option, value in over_nodes.items():
            if value is not None and value % self.nodes:
                raise ValueError(f"{option} {value} on --nodes {self.nodes}: choose a multiple of the nodes")
        if self.gpus_per_run is not None and self.processes > self.gpus_per_run:
            raise ValueError(
                f"--processes {self.processes} on --gpus-per-run {self.gpus_per_run}: choose at most one per GPU"
            )

    def __str__(self) -> str:
        """E.g. "4 processes on 4 GPUs of 2 nodes with ZeRO-2+offload"."""
        places = [] if self.gpus_per_run is None else [_counted(self.gpus_per_run, "GPU")]
        places += [] if self.nodes == 1 else [_counted(self.nodes, "node")]
        words = _counted(self.processes, "process") + (f" on {' of '.join(places)}" if places else "")
        return words + (f" with {self.sharding}" if self.sharding else "")

    @property
    def sharding(self) -> str:
        """What is not held whole in every process, e.g. "ZeRO-3+offload"; empty where all is."""
        return "+".join([f"ZeRO-{self.zero}"] * (self.zero > 0) + ["offload"] * self.offload)

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Spread:
        """The inverse of `to_dict`."""
        return cls(**values)


ALONE = Spread()


def _counted(number: int, noun: str) -> str:
    plural = "es" if noun.endswith("s") else "s"
    return f"{number} {noun}" + ("" if number == 1 else plural)
