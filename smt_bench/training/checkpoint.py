"""Checkpoint files of one run: written whole or not at all, proven by their name, the last two kept.

A state is `<step>-<hash>.pt`; the hash of its content is in the name, so one rename publishes both. Where the dense weights
moved before they were frozen (a dense warm-up), they are written once, as `base-<hash>.pt`, and later states name that file.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

import xxhash

from smt_bench.machine.files import write_whole
from smt_bench.records.files import BenchWarning
from smt_bench.records.store import Store

if TYPE_CHECKING:
    import torch  # takes seconds, and `status` only looks at names

KEPT = 2  # the newest, and the one before in case the newest is damaged
VERSION = 2  # of the state's layout; 2: the optimizer has all of SpIEL's deltas in one tensor
State = dict[str, Any]


def checkpoints(store: Store, key: str) -> Checkpoints:
    """Where a run's states are kept while it is not finished."""
    return Checkpoints(store.root / "checkpoints" / key)


class Checkpoints:
    """The checkpoint folder of one run; the process that holds the run's claim is the only one to use it.

    Args:
        folder: made at the first save.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def save(self, step: int, state: State) -> bool:
        """Writes a state and drops those that are no longer needed.

        Returns:
            False, with a warning, where it could not be written: the older states stay, and training can go on.
        """
        if self._write(f"{step:08d}", {**state, "step": step, "version": VERSION}, f"of step {step}") is None:
            return False
        kept = self._states()[:KEPT]
        # A base is needed by the states after it; the newest state's is the only one there is.
        needed = {path.name for path in kept} | {state["base"]}
        for path in self.folder.glob("*.pt"):
            if path.name not in needed:
                path.unlink(missing_ok=True)
        return True

    def save_base(self, tensors: dict[str, torch.Tensor]) -> str | None:
        """Writes the tensors that later states build on; the file's name, or None where it could not be written."""
        return self._write("base", tensors, "of the weights after the warm-up")

    def load(self, name: str | None = None) -> State | None:
        """The newest state that is whole, with its base's tensors under "base_tensors"; None where there is none.

        Args:
            name: only this file, and leave everything as it is: rank 0 has chosen it.
        """
        if name is None:
            for left in self.folder.glob(".*"):  # of a process that was killed while writing
                left.unlink(missing_ok=True)
        for path in self._states() if name is None else [self.folder / name]:
            state = self._read(path, name is None)
            if state is None or state.get("version") != VERSION:
                continue
            base = state["base"] and self._read(self.folder / state["base"], name is None)
            if state["base"] and base is None:
                continue
            return {**state, "base_tensors": base or {}, "file": path}
        return None

    def clear(self) -> None:
        """Removes the folder: the run has a record."""
        shutil.rmtree(self.folder, ignore_errors=True)
        with contextlib.suppress(OSError):
            self.folder.parent.rmdir()  # once no run is under way

    def set_aside(self, path: Path, why: str) -> None:
        """Takes a file that cannot be trusted out of use, without deleting it."""
        with contextlib.suppress(OSError):
            path.replace(path.with_name(path.name + ".damaged"))
        warnings.warn(f"checkpoint {path.name} of {self.folder.name} set aside: {why}", BenchWarning, stacklevel=2)

    def _states(self) -> list[Path]:
        """Newest first."""
        return sorted(self.folder.glob("[0-9]*.pt"), reverse=True)

    def _write(self, stem: str, content: Any, what: str) -> str | None:
        import torch

        def named(temporary: Path) -> Path:
            return self.folder / f"{stem}-{_file_hash(temporary)}.pt"

        try:
            target = write_whole(self.folder / stem, lambda file: torch.save(content, file), named)
            _sync(self.folder)
            return target.name
        except (OSError, RuntimeError) as error:  # torch's writer turns a full disk into a RuntimeError of its own
            cause = error if isinstance(error, OSError) else error.__context__
            why = cause.strerror if isinstance(cause, OSError) else str(error).splitlines()[0]
            older = self._states()
            left = f"the one of step {int(older[0].name[:8])} stays" if older else "there is no older one"
            warnings.warn(
                f"checkpoint {what} of {self.folder.name} not written ({why}): {left}, training goes on",
                BenchWarning,
                stacklevel=3,
            )
            return None

    def _read(self, path: Path, ours: bool) -> Any:
        """A file's content; None, with a warning, where it cannot be trusted: set aside if it is `ours` to do so."""
        import torch

        try:
            if _file_hash(path) == path.stem.rpartition("-")[2]:
                return torch.load(path, map_location="cpu", weights_only=True)
            if ours:
                self.set_aside(path, "its content is not what its name says")
        except FileNotFoundError:
            warnings.warn(f"checkpoint {path.name} of {self.folder.name} is missing", BenchWarning, stacklevel=3)
        except OSError as error:
            warnings.warn(
                f"checkpoint {path.name} of {self.folder.name} cannot be read ({error.strerror})",
                BenchWarning,
                stacklevel=3,
            )
        except Exception as error:  # whole, yet not loadable: by another version of torch, or of a method's state
            if ours:
                self.set_aside(path, f"it cannot be loaded ({type(error).__name__})")
        return None


def fingerprint(tensor: torch.Tensor) -> str:
    """A hash of a tensor's bits, to see whether it changed."""
    import torch

    from smt_bench.methods.nf4 import stored

    whole = xxhash.xxh3_128()
    for part in stored([tensor]):  # of a weight of 4 bits what there is of it
        flat = part.detach().reshape(-1).contiguous().cpu()
        whole.update(flat.view(torch.uint8).numpy().data)
    return whole.hexdigest()


def _file_hash(path: Path) -> str:
    whole = xxhash.xxh3_128()
    with path.open("rb") as file:
        while block := file.read(1 << 22):
            whole.update(block)
    return whole.hexdigest()[:16]


def _sync(folder: Path) -> None:
    """Makes a rename last through a power cut."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
