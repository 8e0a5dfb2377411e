"""A training run's state: gathered when it is time, and put back so that the run goes on bit by bit.

State: weights that differ from those at the start of the phase (the pretrained ones, or the dense weights at the end of a
warm-up that trained them), the method's state, optimizer and master copies, random number generators, and what training
measured so far. The data position is the step: the order of batches follows from the seed.
"""

from __future__ import annotations

import io
import random
import time
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import nn

from smt_bench.machine import parallel
from smt_bench.machine.signals import Stop
from smt_bench.methods.base import Method
from smt_bench.training.checkpoint import Checkpoints, State, fingerprint
from smt_bench.training.optimizer import Updater, tensors_of
from smt_bench.training.step import Stage


@dataclass(frozen=True)
class Pace:
    """How often a state is saved: after so many steps or seconds, whichever comes first."""

    steps: int | None = None
    seconds: float = 600.0


@dataclass
class Keeper:
    """Saves one run's states and restores the last.

    Attributes:
        files: where they are; None keeps nothing (and a stopped run starts anew).
        pace: how often.
        stop: whether the process is to leave.
        resumed: steps that had been done when this or an earlier process took the run up again.
    """

    files: Checkpoints | None = None
    pace: Pace = field(default_factory=Pace)
    stop: Stop = field(default_factory=Stop)
    resumed: list[int] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._prints: dict[str, str] = {}
        self._base: str | None = None
        self._saved_at = time.monotonic()
        self._saved_step = 0

    def load(self) -> State | None:
        """The last good state; None: start at the beginning."""
        if self.files is None:
            return None
        state = self.files.load() if parallel.rank() == 0 else None
        name = parallel.broadcast(state and state["file"].name)
        if name is not None and state is None:
            state = self.files.load(name)
        (lacking,) = parallel.agreed(name is not None and state is None)
        if lacking:
            raise RuntimeError(
                f"checkpoint {name} can be read by some of the run's processes only: all nodes have to see the results folder"
            )
        if state is not None:
            self.resumed = [*state["resumed"], state["step"]]
            self._saved_step = state["step"]
        return state

    def begin(self, model: nn.Module, moved: bool, state: State | None) -> None:
        """Notes the weights that a phase starts from, once its trainables are in place.

        Args:
            model: as the phase starts: nothing of the state has been put back yet.
            moved: an earlier phase trained these weights, so that no one could make them again: they are saved now.
            state: of this very phase, where it goes on.
        """
        if self.files is None:
            return
        if state is not None and state["base"]:
            self._base = state["base"]
            copy_into(model, state["base_tensors"])
        elif moved and parallel.rank() == 0:
            self._base = self.files.save_base(tensors_of(model))
        self._prints = {} if moved and self._base is None else fingerprints(tensors_of(model))

    def restore_weights(self, state: State, model: nn.Module) -> None:
        """Puts the weights back; the method has its state already.

        Raises:
            RuntimeError: the result is not what was saved.
        """
        assert self.files is not None
        copy_into(model, state["model"])
        if fingerprints(tensors_of(model)) != state["fingerprints"]:
            self.files.set_aside(state["file"], "it does not lead back to the weights it was saved from")
            raise RuntimeError(
                "the checkpoint leads to other weights: it is set aside, the next try takes an older one"
            )

    def restore_rest(self, state: State, updater: Updater) -> None:
        """Puts optimizer and random number generators back."""
        updater.load_state_dict(state["updater"])
        if parallel.rank() < len(state["random"]):  # of another number of processes: new ones draw from their seeds
            _set_random_state(state["random"][parallel.rank()])

    def due(self, step: int) -> bool:
        """Whether to save after this step."""
        steps, seconds = self.pace.steps, self.pace.seconds
        return (
            self.stop.asked
            or (steps is not None and step - self._saved_step >= steps)
            or time.monotonic() - self._saved_at >= seconds
        )

    def save(
        self,
        stage: Stage,
        step: int,
        method: Method,
        updater: Updater,
        measured: dict[str, Any],
        best: dict[str, Any] | None = None,
    ) -> None:
        """Writes the state after `step` finished steps, with what was measured and the best weights; a failure is a warning."""
        if self.files is None:
            return
        generators = parallel.gathered(_random_state())
        tensors, optimizer = updater.weights(), updater.state_dict()
        self._saved_at, self._saved_step = time.monotonic(), step
        if parallel.rank() != 0:
            return
        prints = fingerprints(tensors)
        state = {
            "phase": stage,
            "base": self._base,
            "model": {k: v for k, v in tensors.items() if prints[k] != self._prints.get(k)},
            "fingerprints": prints,
            "method": pack(method.state_dict()),
            "updater": optimizer,
            "random": generators,
            "measured": measured,
            "best": best,
            "resumed": self.resumed,
        }
        self.files.save(step, state)
        self._saved_at = time.monotonic()


def unpack_method(state: State) -> dict[str, Any]:
    """The method's state, its tensors on the devices they were on."""

    def place(storage: Any, location: str) -> Any:
        # Saved by rank 0, perhaps on more GPUs: where the same one is not this process's, its own.
        device = torch.device(location)
        if device.type == "cuda" and (parallel.size() > 1 or device.index >= torch.cuda.device_count()):
            location = f"cuda:{torch.cuda.current_device()}" if torch.cuda.is_available() else "cpu"
        return torch.serialization.default_restore_location(storage, location)

    content = io.BytesIO(state["method"].numpy().tobytes())
    own: dict[str, Any] = torch.load(content, map_location=place, weights_only=True)
    return own


def pack(state: dict[str, Any]) -> torch.Tensor:
    """A method's state as bytes of their own, since everything else is read to the CPU and copied into place."""
    buffer = io.BytesIO()
    torch.save(state, buffer)
    return torch.frombuffer(bytearray(buffer.getvalue()), dtype=torch.uint8)


def fingerprints(tensors: dict[str, torch.Tensor]) -> dict[str, str]:
    """Hashes of the tensors' bits, by name."""
    return {name: fingerprint(value) for name, value in tensors.items()}


def copy_into(model: nn.Module, values: dict[str, torch.Tensor]) -> None:
    """Values into the model's tensors of these names."""
    own = tensors_of(model)
    with torch.no_grad():
        for name, value in values.items():
            own[name].copy_(value)


def _random_state() -> dict[str, Any]:
    name, keys, *rest = np.random.get_state(legacy=True)
    return {
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [],
        "python": random.getstate(),
        "numpy": [name, torch.from_numpy(np.asarray(keys).astype(np.int64)), *rest],
    }


def _set_random_state(state: dict[str, Any]) -> None:
    torch.set_rng_state(state["torch"])
    if len(state["cuda"]) == torch.cuda.device_count():
        torch.cuda.set_rng_state_all(state["cuda"])
    random.setstate(state["python"])
    name, keys, *rest = state["numpy"]
    np.random.set_state((name, keys.numpy().astype(np.uint32), *rest))
