"""SMT's appendix G and I and its choices, SpIEL's appendix E: what blocks and deltas cost against other ways to their numbers.

Claims: sparse storage takes five times the memory of dense blocks (appendix G, figures 10 and 11: 16.0 against 3.2 MB, 83.2 MB
in all); writing blocks of 256 x 256 into the weight takes under 3 % of the forward pass, of 128 10 %, of 64 24 % (appendix I).

Decided: the matrix is the model's V projection (figure 11's is always 4096 x 4096, as printed); the paper writes blocks into
the weight in every forward pass, so its projection stands beside one forward pass, while here it happens once per
optimizer step. No weights are needed, so every model works on every machine.

SpIEL (appendix E) calls the gradient at the deltas alone "an enormous theoretical improvement" over gathering it from the dense
one, and has no numbers. Both ways stand side by side over densities, the model's shapes and two numbers of tokens, in a
measurement of its own; `methods.sampled` takes its rule from there.

Under `--base nf4` a frozen matrix of 4 bits stands beside the whole one, alone: blocks and deltas are whole numbers over either.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from smt_bench.experiments.cost.kernels import deltas, nf4, pieces
from smt_bench.experiments.cost.kernels.inplace import updates
from smt_bench.experiments.cost.kernels.tables import write_kernels
from smt_bench.machine.watch import Watcher
from smt_bench.methods.nf4 import check_installed
from smt_bench.questions.experiment import MeasuringExperiment
from smt_bench.questions.inputs import Inputs
from smt_bench.questions.planner import Planner
from smt_bench.records.runs import Measurement
from smt_bench.records.store import Record

ROUNDS = 15
SIDES = (256, 128, 64, 32)


def _matrix(planner: Planner) -> tuple[int, int]:
    shape = next((s for n, s in planner.shapes.items() if n.endswith("v_proj.weight")), None)
    if shape is None or not _sides(shape):
        raise ValueError(
            f"--model {planner.request.model}: no v_proj that {', '.join(map(str, SIDES))} divides: choose e.g. bench-60m"
        )
    return shape[0], shape[1]


def _sides(shape: Sequence[int]) -> list[int]:
    return [side for side in SIDES if all(n % side == 0 for n in shape)]


class Kernels(MeasuringExperiment):
    """Blocks of one matrix, without a model around it."""

    name = "kernels"
    reproduces = (
        "SMT appendix G (figures 10, 11) and I, SpIEL appendix E: storage, projection, gradients of blocks and deltas"
    )
    needs = "any model on any machine, no weights, no data"
    version = 1
    takes_base = True

    def method_names(self, planner: Planner) -> list[str]:
        """None: matrices are measured, not methods."""
        return []

    def check(self, planner: Planner) -> None:
        """The model needs a V projection that some block size divides.

        Raises:
            ValueError: it has none, or what quantizes is not installed.
        """
        _matrix(planner)
        if planner.recipe.base:
            planner.check_library(planner.recipe.base)

    def settings(self, planner: Planner) -> dict[str, Any]:
        """The matrix, and how often what is tried."""
        shape = _matrix(planner)
        return {
            "matrix": list(shape),
            "sides": _sides(shape),
            "tokens": 128 if planner.request.smoke else planner.recipe.micro_batch_size * planner.recipe.cutoff,
            "rounds": planner.request.steps or (2 if planner.request.smoke else ROUNDS),
        } | ({"dtype": "bf16"} if planner.here.gpus else {})  # of weights and activations, as training has them there

    def runs(self, planner: Planner) -> list[tuple[Measurement, None]]:
        """One measurement of blocks per seed, and one of deltas; with a base of 4 bits one of that."""
        blocks, _ = zip(*super().runs(planner))
        if planner.recipe.base:
            whole = nf4.settings(planner.shapes, self.settings(planner))
            return [(replace(found, settings=whole), None) for found in blocks]
        asked = deltas.settings(planner.shapes, self.settings(planner))
        return [(one, None) for found in blocks for one in (found, replace(found, settings=asked))]

    def check_inputs(self, measurement: Measurement, inputs: Inputs) -> None:
        """What quantizes must be installed, where the question is about it."""
        if measurement.settings.get("part") == nf4.PART:
            check_installed("--base nf4")

    def measure(self, measurement: Measurement, watch: Watcher, inputs: Inputs) -> dict[str, Any]:
        """Rows of every table; bytes are exact, milliseconds are medians."""
        s = measurement.settings
        device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        torch.manual_seed(measurement.seed)
        dtype = torch.bfloat16 if s.get("dtype") == "bf16" else torch.float32
        if s.get("part") == deltas.PART:
            return deltas.measure(s, device, dtype, watch, inputs.rows)
        if s.get("part") == nf4.PART:
            return nf4.measure(s, device, dtype, watch, inputs.rows)
        shape, tokens, rounds = tuple(s["matrix"]), s["tokens"], s["rounds"]
        result: dict[str, Any] = {}
        parts: dict[str, Callable[[], Any]] = {
            "storage": lambda: pieces.storage(tokens, rounds, device),
            "projection": lambda: pieces.projection(shape, s["sides"], tokens, rounds, device, measurement.seed, dtype),
            "gradient": lambda: pieces.gradients(shape, s["sides"], tokens, rounds, device, measurement.seed, dtype),
            "update": lambda: updates(shape, s["sides"][0], rounds, device, measurement.seed),
            "scores": lambda: pieces.scores(shape, s["sides"], tokens, rounds, device, dtype),
        }
        with torch.no_grad():
            for done, (name, part) in enumerate(parts.items()):
                watch("kernels", done, len(parts), name)
                found = inputs.rows.get(name)
                result[name] = part() if found is None else found
                inputs.rows.put({name: result[name]})
        return result

    def render(self, records: Sequence[Record], folder: Path, model: str) -> list[Path]:
        """One table per question."""
        return write_kernels(records, folder, model)
