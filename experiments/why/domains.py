"""Where gradients and chosen blocks lie for text of several domains: Q, K, V, the output projection and the MLP, one model.

No table of the papers; an open question is whether what SMT finds on commonsense holds for other tasks (code, translation,
medical, legal and everyday text). The texts are the test sets of kind "text" or "loss" of the user's `--data`, or what the
machine brings along (`data.domains`).

Gradients are those of the mean loss per token over a domain's examples, on the weights as they are: SMT's warm-up with nothing
trained, so that domains see the same weights. Blocks are the best by |mean gradient| over all linear layers, as many as the
middle fraction of the recipe. A share is set against what chance gives: the kind's part of all blocks. Shared blocks of two
domains are set against those of two halves of one domain's text, since small samples share less.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from itertools import combinations
from pathlib import Path
from typing import Any

import torch

from smt_bench.data.batches import collate
from smt_bench.data.datasets import content_hash
from smt_bench.data.domains import embedded, spread
from smt_bench.data.own import known_as
from smt_bench.data.prompts import TEMPLATE, Example, encode
from smt_bench.machine.watch import Watcher
from smt_bench.methods.roles import ATTENTION, MLP, role
from smt_bench.methods.smt.selection import METRICS, grid, select
from smt_bench.models import build, locate
from smt_bench.questions import refusals
from smt_bench.questions.experiment import MeasuringExperiment
from smt_bench.questions.grid import middle
from smt_bench.questions.inputs import Inputs
from smt_bench.questions.planner import Planner
from smt_bench.records.runs import ANY_MACHINE, Measurement
from smt_bench.records.store import Record, finished
from smt_bench.report.notes import made_with
from smt_bench.report.table import Cell, Table
from smt_bench.training.loss import response_loss

EXAMPLES, AT_ONCE = 32, 4  # of each domain, and per backward pass
KINDS = {"q_proj": "Q", "k_proj": "K", "v_proj": "V", "o_proj": "O", **dict.fromkeys(MLP, "MLP")}
Blocks = set[tuple[str, int, int]]


def domains_of(source: str | None) -> dict[str, list[Example]]:
    """The texts by domain, from `--data` or the machine.

    Raises:
        ValueError: fewer than two domains.
    """
    if source is None:
        found = embedded()
    else:
        family = known_as(source)
        assert family.own is not None
        found = {name: spread(examples) for name, examples in family.own().losses.items()}
    if len(found) < 2:
        what = ", ".join(found) or "none"
        raise ValueError(
            f"domains: two or more texts are needed, here: {what}: describe test sets of kind text (docs/own.md)"
        )
    return found


class Domains(MeasuringExperiment):
    """Gradients of trained weights on several texts."""

    name = "domains"
    reproduces = (
        "no table of the papers: where gradients and chosen blocks lie for code, translation, legal and other text"
    )
    needs = "any model that fits on one device; --data with test sets of kind text, or what the machine brings along"
    version = 1
    reads_data = True

    def method_names(self, planner: Planner) -> list[str]:
        """SMT, whose warm-up needs the gradients of all targeted matrices."""
        return ["smt"]

    def check(self, planner: Planner) -> None:
        """Refuses options that could change nothing, and blocks that do not fit."""
        refusals.training_options(planner.request, planner.shared)
        grid(planner.shapes, self._targets(planner), planner.config("smt", 1000)["block_size"])

    def _targets(self, planner: Planner) -> tuple[str, ...]:
        return planner.has((*ATTENTION, *MLP))

    def settings(self, planner: Planner) -> dict[str, Any]:
        """The domains by hash; where they are from, so that they are found again."""
        asked = planner.request
        return {
            "targets": list(self._targets(planner)), "block_size": planner.config("smt", 1000)["block_size"],
            "fraction": middle(planner)[0], "examples": EXAMPLES, "cutoff": planner.recipe.cutoff,
            "domains": {name: content_hash(texts) for name, texts in domains_of(asked.data).items()},
        }  # fmt: skip

    def runs(self, planner: Planner) -> list[tuple[Measurement, None]]:
        """One: it draws nothing, and its answer depends on no machine."""
        located, asked = locate.locate(planner.request.model), self.settings(planner)
        return [(Measurement(self.name, self.version, located.ref, asked, ANY_MACHINE, 0), None)]

    def check_inputs(self, measurement: Measurement, inputs: Inputs) -> None:
        """The texts must be those that were planned with: what a machine brings along is not the same everywhere."""
        here = {name: content_hash(texts) for name, texts in domains_of(inputs.source_of_data).items()}
        asked = measurement.settings["domains"]
        if other := [name for name in here.keys() | asked.keys() if here.get(name) != asked.get(name)]:
            raise ValueError(
                f"domains: other text than was planned with ({', '.join(sorted(other))}): pass it with --data, or run it anew"
            )

    def measure(self, measurement: Measurement, watch: Watcher, inputs: Inputs) -> dict[str, Any]:
        """Per domain and matrix the gradient's root mean square, and the chosen blocks of all and of each half of the text."""
        s = measurement.settings
        self.check_inputs(measurement, inputs)
        texts = domains_of(inputs.source_of_data)
        located = locate.locate(str(inputs.located.path))
        model, tokenizer = build.load(located, "fp32")
        model.to("cuda" if torch.cuda.is_available() else "cpu")
        model.requires_grad_(False)
        shapes = {name: tuple(p.shape) for name, p in model.named_parameters()}
        side, sizes = grid(shapes, tuple(s["targets"]), s["block_size"])
        total = sum(p.numel() for p in model.parameters())
        count = min(max(1, round(s["fraction"] * total / side**2)), sum(r * c for r, c in sizes.values()))
        weights = {layer: model.get_submodule(layer).weight for layer in sizes}
        for weight in weights.values():
            weight.requires_grad_(True)
        found: dict[str, Any] = {}
        for number, (name, examples) in enumerate(texts.items(), start=1):
            halves = [examples[: s["examples"]][i::2] for i in range(2)]
            grads, chosen = dict.fromkeys(weights, torch.zeros(())), []
            tokens = loss = 0.0
            for half in halves:
                model.zero_grad(set_to_none=True)
                told = _backward(model, tokenizer, half, s["cutoff"])
                loss, tokens = loss + told[0], tokens + told[1]
                own = {layer: _gradient(weight) for layer, weight in weights.items()}
                chosen.append(_best(own, side, count))
                grads = {layer: grads[layer] + grad for layer, grad in own.items()}
            rms = {layer: (grad / tokens).square().mean().sqrt().item() for layer, grad in grads.items()}
            blocks = [_best(grads, side, count), *chosen]
            found[name] = {
                "nll": loss / tokens, "tokens": int(tokens), "examples": sum(map(len, halves)), "rms": rms,
                "blocks": [{layer: [list(b) for b in spots] for layer, spots in of.items()} for of in blocks],
            }  # fmt: skip
            watch("domains", number, len(texts), name)
        return {"domains": found, "sizes": {k: list(v) for k, v in sizes.items()}, "side": side, "count": count}

    def render(self, records: Sequence[Record], folder: Path, model: str) -> list[Path]:
        """Shares and gradients by kind, and the blocks that domains share."""
        done = finished(records, model)
        latest = max(done, key=lambda r: r["finished"])
        result = latest["result"]
        total = sum(rows * cols for rows, cols in result["sizes"].values())
        lines = [
            f"{result['count']} blocks of side {result['side']} are chosen of {total:,}, by the absolute mean gradient over all "
            "linear layers of the attention and the MLP; weights as they are, nothing trained. One sample of each domain: "
            "differences carry no interval.",
            made_with(done),
        ]
        return [
            *_kinds(result, lines, model).of([latest]).write(folder, "domains"),
            *_shared(result, lines, model).of([latest]).write(folder, "domains_shared"),
        ]


def _backward(model: Any, tokenizer: Any, examples: Sequence[Example], cutoff: int) -> tuple[float, float]:
    """Adds the gradient of the summed loss; that loss (nats) and its tokens."""
    pad = tokenizer.pad_token_id if tokenizer.pad_token_id is not None else tokenizer.eos_token_id
    loss = tokens = 0.0
    for start in range(0, len(examples), AT_ONCE):
        part = [encode(e, tokenizer, TEMPLATE, False, cutoff) for e in examples[start : start + AT_ONCE]]
        batch = collate(part, pad).to(model.device)
        summed = response_loss(model, batch)
        summed.backward()
        loss, tokens = loss + summed.item(), tokens + batch.targets
    return loss, tokens


def _gradient(weight: torch.Tensor) -> torch.Tensor:
    return torch.zeros_like(weight) if weight.grad is None else weight.grad.detach().clone()


def _best(grads: Mapping[str, torch.Tensor], side: int, count: int) -> dict[str, list[tuple[int, int]]]:
    return select({layer: METRICS["mean_abs"](grad, side) for layer, grad in grads.items()}, count, "global", 0)


def _flat(chosen: Mapping[str, Sequence[Sequence[int]]]) -> Blocks:
    return {(layer, row, col) for layer, spots in chosen.items() for row, col in spots}


def kind(layer: str) -> str:
    """Q, K, V, O or MLP."""
    return KINDS[role(layer) or ""]


def _kinds(result: Mapping[str, Any], lines: Sequence[str], model: str) -> Table:
    names = [k for k in dict.fromkeys(KINDS.values()) if any(kind(layer) == k for layer in result["sizes"])]
    sizes = {k: sum(r * c for layer, (r, c) in result["sizes"].items() if kind(layer) == k) for k in names}
    total = sum(sizes.values())
    rows: list[list[Cell]] = [
        ["all blocks", None, *(f"{100 * sizes[k] / total:.1f}" for k in names), *[None] * len(names)]
    ]
    data: list[dict[str, Cell]] = []
    for domain, found in result["domains"].items():
        chosen = _flat(found["blocks"][0])
        share = {k: sum(kind(layer) == k for layer, _, _ in chosen) / len(chosen) for k in names}
        # Of the gradient's energy per number, averaged over matrices.
        mean = {k: _mean([v for layer, v in found["rms"].items() if kind(layer) == k]) for k in names}
        rows.append(
            [
                domain,
                f"{found['nll']:.3f}",
                *(f"{100 * share[k]:.1f}" for k in names),
                *(f"{mean[k]:.2e}" for k in names),
            ]
        )
        data.append(
            {"domain": domain, "nll": found["nll"], "tokens": found["tokens"], "examples": found["examples"]}
            | {f"share_{k}": share[k] for k in names}
            | {f"rms_{k}": mean[k] for k in names}
            | {f"of_all_{k}": sizes[k] / total for k in names}
        )
    header = ["domain", "nats per token", *(f"{k}, % of chosen" for k in names), *(f"{k}, gradient" for k in names)]
    told = [
        "Gradient: root mean square over a matrix, mean over layers. First row: the kind's share of all blocks.",
        *lines,
    ]
    return Table(f"Chosen blocks and gradients by domain, {model}", header, rows, told, data)


def _shared(result: Mapping[str, Any], lines: Sequence[str], model: str) -> Table:
    count, total = result["count"], sum(r * c for r, c in result["sizes"].values())
    halves = {name: [_flat(b) for b in found["blocks"][1:]] for name, found in result["domains"].items()}
    rows: list[list[Cell]] = []
    data: list[dict[str, Cell]] = []
    pairs = [(name, name) for name in halves] + list(combinations(halves, 2))
    for one, other in pairs:
        sets = [(halves[one][0], halves[other][1]), (halves[one][1], halves[other][0])]
        share = _mean([len(a & b) / count for a, b in sets])
        what = f"{one}, two halves" if one == other else f"{one} and {other}"
        rows.append([what, f"{100 * share:.1f}", f"{100 * count / total:.1f}"])
        data.append({"one": one, "other": other, "shared": share, "by_chance": count / total})
    told = [
        "Blocks that the choices from one half of one text and one half of another have in common, % of those chosen. Domains "
        "that share as many as the two halves of each are alike to the choice; by chance: the share of blocks that are chosen.",
        *lines,
    ]
    return Table(f"Blocks that domains share, {model}", ["texts", "shared, %", "by chance, %"], rows, told, data)


def _mean(values: Sequence[float]) -> float:
    return math.fsum(values) / len(values) if values else math.nan
