"""What no rearrangement of the code may change: the keys of all planned runs, the records of short runs, the committed files.

    python tests/golden.py            compares with tests/golden.json and results/reference; exit code 1 where something moved
    python tests/golden.py --write    writes tests/golden.json anew: only where numbers are meant to move, and LOG.md says why

`tests/test_golden.py` asks the same of the default tests, with fewer runs. Floating-point numbers are compared bit by bit on the
processor and with the versions that wrote them, elsewhere within `TOLERANCE`.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import io
import json
import math
import os
import shutil
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")
HERE = Path(__file__).resolve().parent
GOLDEN = HERE / "golden.json"
RESULTS = HERE.parent / "results"
# By `table`; all but the kernels of 4 bits, which are of an earlier setting of their folder.
MADE = (".md", ".csv", ".png", ".svg", ".tex")
TOLERANCE = 1e-3  # relative, where another processor or version adds up in another order

# Every experiment, on the models that need no download; the paper's parts on its own model are planned without weights.
PLANS = {
    "paper tiny": ("paper", "--model", "tiny"),
    "paper tiny, three seeds": ("paper", "--model", "tiny", "--seeds", "0,1,2"),
    "paper tiny, smoke": ("paper", "--model", "tiny", "--preset", "smoke"),
    "plateau tiny, math": ("plateau", "--model", "tiny", "--tasks", "facts-math"),
    "frozen-warmup tiny": ("frozen-warmup", "--model", "tiny"),
    "learning-rate tiny": ("learning-rate", "--model", "tiny"),
    "speed bench-60m": ("speed", "--model", "bench-60m"),
    "memory bench-60m": ("memory", "--model", "bench-60m"),
    "kernels bench-60m": ("kernels", "--model", "bench-60m"),
    "break-even bench-110m": ("break-even", "--model", "bench-110m"),
    "settings": (
        "plateau", "--methods", "smt,lora,spiel", "--fractions", "1,4", "--steps", "40", "--limit", "20",
        "--protocol", "llm-adapters", "--set", "smt.block_size=16", "--set", "lora.targets=[\"q_proj\"]",
    ),
}  # fmt: skip
SHORT = {"plateau": ("plateau", "--preset", "smoke", "--methods", "base,full,smt,spiel,lora,dora")}
LONG = {
    name: (name, "--preset", "smoke")
    for name in ("math10k", "frozen-warmup", "selection", "allocation", "gradients", "criteria", "saturation")
}


def call(*args: str) -> str:
    """The command line in this process; what it prints.

    Raises:
        RuntimeError: it ended with another exit code than 0.
    """
    from smt_bench.cli.app import main

    out, before = io.StringIO(), sys.argv
    sys.argv = ["smt_bench", *args]
    try:
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(io.StringIO()) as said:
            main()
    except SystemExit as end:
        if end.code:
            raise RuntimeError(f"{' '.join(args)}: exit code {end.code}: {said.getvalue().strip()[-300:]}") from None
    finally:
        sys.argv = before
    return out.getvalue()


def digest(value: Any) -> str:
    """A short hash of plain JSON values."""
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()[:16]


def planned(name: str) -> list[str]:
    """The keys of a plan; of a measurement, which names the machine, the hash of all else."""
    rows = json.loads(call("run", *PLANS[name], "--dry-run", "--json"))
    # A measurement's row holds the whole question.
    asked = ("kind", "version", "model", "settings", "seed")
    return [digest({k: row[k] for k in asked}) if "kind" in row else row["key"] for row in rows]


def on_llama(model: str, experiment: str) -> list[str]:
    """The keys of an experiment on the paper's model, planned without weights and data, as for four GPUs."""
    from smt_bench import experiments
    from smt_bench.machine.fits import Machine
    from smt_bench.plan.rows import DryPlanner
    from smt_bench.questions.request import Request

    planner = DryPlanner(Request(experiment, model), Machine((80_000_000_000,) * 4, 0))
    planner.open_without_data()
    return [run.key for run, _ in experiments.find(experiment).runs(planner)]


def keys() -> dict[str, list[str]]:
    """All plans."""
    llama = {f"plateau {m}": on_llama(m, "plateau") for m in ("llama-7b", "llama3-8b", "smollm2-135m")}
    return {name: planned(name) for name in PLANS} | llama | {"allocation llama-7b": on_llama("llama-7b", "allocation")}


def essence(record: dict[str, Any]) -> dict[str, Any]:
    """What a record says, without when, where and how fast."""
    kept = {name: record[name] for name in ("status", "capacity", "result") if name in record}
    if "training" in record:
        kept |= {name: record["training"][name] for name in ("losses", "grad_norms", "tokens")}
        kept |= {name: record[name] for name in ("probes",) if name in record}
        kept["method"] = digest(record["method"])
        kept["heldout_nll"] = record["heldout"]["nll"]
        kept["predictions"] = {t: digest(v["examples"]["prediction"]) for t, v in record["evaluation"].items()}
    return kept


def records(runs: dict[str, tuple[str, ...]]) -> dict[str, dict[str, Any]]:
    """By key, the records of short runs."""
    with tempfile.TemporaryDirectory() as folder:
        for args in runs.values():
            call("run", *args, "--model", "tiny", "--results", folder)
        found = sorted(Path(folder, "runs").glob("*.json"))
        return {path.stem: essence(json.loads(path.read_text(encoding="utf-8"))) for path in found}


def here() -> str:
    """What decides the last bits of a sum."""
    from importlib.metadata import version

    import torch

    lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines() if Path("/proc/cpuinfo").exists() else []
    cpu = next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), "unknown")
    able = torch.backends.cpu.get_cpu_capability()  # one name of a processor stands for several
    return f"{cpu} {able}, torch {version('torch')}, transformers {version('transformers')}, peft {version('peft')}"


def moved(old: Any, new: Any, exact: bool, path: str = "") -> Iterator[str]:
    """Where two values differ, one line each."""
    if isinstance(old, dict) and isinstance(new, dict):
        for name in sorted({*old, *new}):
            yield from moved(old.get(name), new.get(name), exact, f"{path}/{name}")
    elif isinstance(old, list) and isinstance(new, list) and len(old) == len(new):
        for number, (a, b) in enumerate(zip(old, new)):
            yield from moved(a, b, exact, f"{path}[{number}]")
    elif isinstance(old, float) and isinstance(new, float) and not exact:
        if not math.isclose(old, new, rel_tol=TOLERANCE, abs_tol=1e-6):
            yield f"{path}: {old!r} is now {new!r}"
    elif old != new and (exact or not isinstance(old, str)):  # hashes of what a rounding error may turn round
        yield f"{path}: {str(old)[:80]} is now {str(new)[:80]}"


def rendered() -> Iterator[str]:
    """Committed tables and figures that the committed records no longer give, byte by byte."""
    for root in sorted(RESULTS.glob("reference*")):
        with tempfile.TemporaryDirectory() as folder:
            copy = Path(folder) / root.name
            shutil.copytree(root, copy)
            for index in copy.rglob("runs.json"):  # what is not made again is missed
                if "tuning" not in index.parts:
                    for made in (p for p in index.parent.iterdir() if p.suffix in MADE and p.stem != "nf4"):
                        made.unlink()
            places = {p.parent.relative_to(copy).parts[:2] for p in copy.rglob("runs.json")}
            for experiment, model in sorted(places):
                call("table", experiment, "--model", model, "--results", str(copy))
            if (copy / "audit").exists():
                call("audit", "paper", "--results", str(copy))
            for path in sorted(root.rglob("*")):
                twin = copy / path.relative_to(root)
                if path.is_file() and (not twin.is_file() or path.read_bytes() != twin.read_bytes()):
                    yield str(path.relative_to(RESULTS))


def main() -> int:
    """Compares, or writes."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--write", action="store_true")
    write = parser.parse_args().write
    made = {"machine": here(), "keys": keys(), "records": records(SHORT | LONG)}
    if write:
        GOLDEN.write_text(json.dumps(made, indent=1, sort_keys=True) + "\n", encoding="utf-8")
        print(f"wrote {GOLDEN}: {sum(map(len, made['keys'].values()))} keys, {len(made['records'])} records")
        return 0
    golden = json.loads(GOLDEN.read_text(encoding="utf-8"))
    exact = golden["machine"] == made["machine"]
    lines = [*moved(golden["keys"], made["keys"], True), *moved(golden["records"], made["records"], exact)]
    lines += [f"results/{name}: rendered otherwise" for name in rendered()]
    print("\n".join(lines) or f"nothing moved ({'bit by bit' if exact else 'within the tolerance'})")
    return int(bool(lines))


if __name__ == "__main__":
    sys.exit(main())
