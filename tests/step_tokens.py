"""`python tests/step_tokens.py --model smollm2-135m --data FOLDER [--tasks gsm8k]`: what a training step's length is made of.

Prints tokens per step of the model's recipe: as they are, padded in the order of the data's shuffle, padded with batches of
alike lengths, and both under a cut-off at the 95th percentile. And, of the SMT runs in `--results`, how many layers lie below the
lowest chosen block: so much of the backward pass could be left out.
"""

from __future__ import annotations

import argparse
import random
from collections.abc import Sequence
from itertools import islice
from pathlib import Path
from statistics import mean

import numpy as np

from smt_bench.data.batches import training_order
from smt_bench.data.prompts import encode
from smt_bench.machine import fits
from smt_bench.models import build
from smt_bench.questions.planner import Planner
from smt_bench.questions.request import Request
from smt_bench.records.store import Store

SAMPLE = 4000  # training examples that are read
STEPS = 400


def padded(lengths: Sequence[int], batches: Sequence[Sequence[int]]) -> float:
    """Tokens of a step, padding counted."""
    return mean(len(batch) * max(lengths[i] for i in batch) for batch in batches)


def main() -> None:
    asked = argparse.ArgumentParser()
    asked.add_argument("--model", default="smollm2-135m")
    asked.add_argument("--data")
    asked.add_argument("--tasks", default="")
    asked.add_argument("--results", default="results/reference")
    options = asked.parse_args()
    tasks = tuple(filter(None, options.tasks.split(",")))
    planner = Planner(Request("plateau", options.model, options.data, tasks=tasks), fits.here())
    planner.open()
    r, tokenizer = planner.recipe, build.tokenizer(planner.located)
    some = random.Random(0).sample(planner.data.train, min(SAMPLE, len(planner.data.train)))
    whole = [len(encode(e, tokenizer, planner.template, False, 10**6).ids) for e in some]
    p95 = int(np.percentile(whole, 95))
    print(f"{len(whole):,} examples, tokens: mean {mean(whole):.0f}, 95th percentile {p95}, longest {max(whole)}")
    for cutoff in (r.cutoff, p95):
        lengths = [min(cutoff, n) for n in whole]
        order = list(range(len(lengths)))
        random.Random(1).shuffle(order)
        plain = [order[i : i + r.batch_size] for i in range(0, len(order) - r.batch_size + 1, r.batch_size)]
        alike = list(islice(training_order(lengths, r.batch_size, 0), min(STEPS, len(plain))))
        bare = r.batch_size * mean(lengths)
        cut = 100 * mean(n > cutoff for n in whole)
        print(
            f"cut-off {cutoff} ({cut:.1f} % are longer): {bare:.0f} tokens a step, padded {padded(lengths, plain):.0f}, "
            f"batches of alike lengths {padded(lengths, alike):.0f}"
        )
    store = Store(Path(options.results))
    for path in sorted(store.runs.glob("*.json")) if store.runs.is_dir() else []:
        record = store.read(path.stem)
        if record is None or record["run"].get("method", {}).get("name") != "smt":
            continue
        if record["run"]["model"]["name"] != options.model or record["status"] != "done":
            continue
        chosen = [name for name, blocks in record["method"].get("blocks", {}).items() if blocks]
        layers = sorted({int(part) for name in chosen for part in name.split(".") if part.isdigit()})
        if layers:
            print(
                f"{path.stem} SMT at {100 * record['run']['method']['fraction']:g} %: lowest block in layer {layers[0]}"
            )


if __name__ == "__main__":
    main()
