"""A results folder with very many records of real size, and what the commands need on it: seconds (by the clock, and of
the processor: others may be at work) and peak memory.

    python tests/many_records.py [--records 20000] [--folder DIR]

The records are copies of the committed ones of `plateau` on `tiny` with other seeds, sealed anew; all belong to one table.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
REFERENCE = ROOT / "results" / "reference"
PLACE = "plateau/tiny"
# Two records of their own, in an index of their own; done once before it is timed.
NOTHING_TO_DO = (
    "run",
    "plateau",
    "--preset",
    "smoke",
    "--methods",
    "base,lora",
    "--tasks",
    "facts-math",
    "--steps",
    "2",
    "--limit",
    "1",
)
COMMANDS = {
    "status": ("status",),
    "list runs": ("list", "runs"),
    "run with nothing to do": NOTHING_TO_DO,
    "table": ("table", "plateau"),
    "report": ("report",),
}  # fmt: skip


def fill(folder: Path, count: int) -> None:
    """Writes `count` records and their index."""
    from smt_bench.records.runs import digest
    from smt_bench.records.trust import SCHEMA, sealed

    (folder / "runs").mkdir(parents=True, exist_ok=True)
    index = json.loads((REFERENCE / PLACE / "runs.json").read_text(encoding="utf-8"))
    latest = index["settings"][index["latest"]]
    originals = [json.loads((REFERENCE / "runs" / f"{key}.json").read_text(encoding="utf-8")) for key in latest]
    originals = [record for record in originals if record["run"]["train"]["lr"]]  # an untrained model has one seed
    keys = []
    for number in range(count):
        record = originals[number % len(originals)]
        record["run"]["seed"] += 100
        record["key"] = digest(record["run"])
        keys.append(record["key"])
        text = sealed({**{name: part for name, part in record.items() if name != "sha256"}, "schema": SCHEMA})
        (folder / "runs" / f"{record['key']}.json").write_text(text, encoding="utf-8")
    place = folder / PLACE
    place.mkdir(parents=True, exist_ok=True)
    values = {"schema": 1, "latest": index["latest"], "settings": {index["latest"]: keys}, "names": {}}
    (place / "runs.json").write_text(json.dumps(values, indent=1), encoding="utf-8")


def cost(folder: Path, *args: str) -> tuple[float, float, float]:
    """Seconds by the clock, seconds of the processor and peak memory (MB) of a command, in a process of its own.

    Raises:
        RuntimeError: it did not end well.
    """
    command = [sys.executable, "-m", "smt_bench", *args, "--results", str(folder)]
    started = time.perf_counter()
    with tempfile.TemporaryFile() as said:
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=said, cwd=ROOT)
        _, code, used = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(code)
        if process.returncode:
            said.seek(0)
            raise RuntimeError(f"{' '.join(args)}: {said.read().decode()[-500:]}")
    return time.perf_counter() - started, used.ru_utime + used.ru_stime, used.ru_maxrss / 1000


def main() -> None:
    """Prints a line per command."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--records", type=int, default=20_000)
    parser.add_argument("--folder", type=Path, help="kept; filled where it is new")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = asked.folder or Path(temporary) / "results"
        if not (folder / "runs").exists():
            fill(folder, asked.records)
            cost(folder, *NOTHING_TO_DO)
        cost(folder, *NOTHING_TO_DO)  # what the model's files tell is remembered by the first command of a version
        size = sum(path.stat().st_size for path in (folder / "runs").glob("*.json"))
        print(f"{asked.records} records, {size / 1e6:.0f} MB")
        for name, args in COMMANDS.items():
            seconds, busy, peak = cost(folder, *args)
            print(f"{name:<24} {seconds:6.1f} s ({busy:.1f} s of the processor)  {peak:6.0f} MB", flush=True)


if __name__ == "__main__":
    main()
