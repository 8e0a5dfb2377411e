"""Appendix C: does softmax saturation make the gradients of Q and K small, and does √d_k have to do with it?

Claims (SMT, appendix C): large logits saturate the softmax and shrink the gradients of Q and K; "if d_k is small, the problem of
small gradients persists", since √d_k "is not sufficiently large".

Two measurements. On random inputs (i.i.d. queries and keys of one variance, as the appendix has them) saturation and gradients
have exact expectations (`softmax`), set against autograd in float64, over d_k and the logits' standard deviation. On
the model's own weights and held-out text the logits are multiplied by ½, 1 and 2, as if √d_k were twice or half as large, and
the gradients of the three weight matrices are compared.

Where the paper is ambiguous: it speaks of small gradients without saying against what. Here they are set against V's, as in its
figure 3. Larger logits come from larger queries and keys, and larger keys enlarge Q's gradient: the last column takes that out.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from smt_bench.data.batches import collate
from smt_bench.data.prompts import encode
from smt_bench.evidence.interval import mean_of
from smt_bench.evidence.stats import mean_ci
from smt_bench.evidence.verdicts import judge, tally
from smt_bench.experiments.why.projections import place
from smt_bench.experiments.why.softmax import analytic, measured
from smt_bench.machine.watch import Watcher
from smt_bench.methods.roles import role
from smt_bench.models.build import load
from smt_bench.questions import refusals
from smt_bench.questions.experiment import MeasuringExperiment
from smt_bench.questions.inputs import Inputs
from smt_bench.questions.planner import Planner
from smt_bench.records.runs import Measurement
from smt_bench.records.store import Record, finished
from smt_bench.report.notes import made_with
from smt_bench.report.numbers import written
from smt_bench.report.table import Table
from smt_bench.training.loss import response_loss

SETTINGS = {
    "keys": 64, "repeats": 64, "widths": [8, 32, 128], "scales": [0.5, 1.0, 2.0, 4.0, 8.0], "factors": [0.5, 1.0, 2.0],
    "examples": 16,
}  # fmt: skip
MATTERS = math.log(1.1)  # a ratio of gradients below 1.1 is no difference that matters


def _own(measurement: Measurement, inputs: Inputs) -> list[dict[str, Any]]:
    """Per factor on the logits and per layer: mean Σp² and largest weight, and gradients of the three matrices."""
    s, data = measurement.settings, measurement.settings["data"]
    model, tokenizer = load(inputs.located, "fp32")
    model.set_attn_implementation("eager")  # the only one that gives its weights
    device = "cuda" if torch.cuda.is_available() else "cpu"
    model.to(device)
    weights = {spot: m.weight for name, m in model.named_modules() if (spot := place(name)) is not None}
    model.requires_grad_(False)
    for weight in weights.values():
        weight.requires_grad_(True)
    heads = [
        m for m in model.modules() if hasattr(m, "scaling") and any(role(n) == "q_proj" for n, _ in m.named_modules())
    ]
    if len(heads) != len({layer for layer, _ in weights}):
        raise ValueError(
            f"saturation changes the factor of attention (`scaling`), which {type(model).__name__} does not have in every layer: "
            "choose another model"
        )
    usual = [head.scaling for head in heads]
    picked = torch.randperm(len(inputs.data.heldout), generator=torch.Generator().manual_seed(measurement.seed))
    chosen = [inputs.data.heldout[i] for i in picked[: s["examples"]]]
    encoded = [encode(e, tokenizer, data["template"], data["train_on_inputs"], data["cutoff"]) for e in chosen]
    batch = collate(encoded, tokenizer.pad_token_id if tokenizer.pad_token_id is not None else tokenizer.eos_token_id)
    batch = batch.to(torch.device(device))
    lengths = [len(e.ids) for e in encoded]
    rows = []
    for factor in s["factors"]:
        for head, scaling in zip(heads, usual):
            head.scaling = factor * scaling
        model.zero_grad(set_to_none=True)
        with torch.no_grad():
            attentions = model(input_ids=batch.ids_BT, output_attentions=True, use_cache=False).attentions
        (response_loss(model, batch) / batch.targets).backward()
        for layer, p_BHTT in enumerate(attentions):
            # Rows with few keys are near 1 whatever the logits; padding is no text.
            p_NT = torch.cat([p_BHTT[b, :, 8:length].flatten(0, 1) for b, length in enumerate(lengths)]).double()
            gradients = {n: weights[layer, n].grad.double() for n in "QKV"}
            rows.append(
                {"factor": factor, "layer": layer, "sum_p2": p_NT.square().sum(dim=-1).mean().item()}
                | {"largest": p_NT.amax(dim=-1).mean().item()}
                | {f"rms_{n.lower()}": g.square().mean().sqrt().item() for n, g in gradients.items()}
                | {f"median_{n.lower()}": g.abs().median().item() for n, g in gradients.items()}
            )
    return rows


def _log_ratios(own: Sequence[dict[str, Any]], factor: float, name: str) -> float:
    """Mean over layers of the log ratio of a projection's gradient to V's (root mean square)."""
    return float(np.mean([math.log(r[f"rms_{name}"] / r["rms_v"]) for r in own if r["factor"] == factor]))


def _random(result: dict[str, Any], d_k: int, scale: float) -> dict[str, float]:
    return next(r["measured"] for r in result["random"] if (r["d_k"], r["scale"]) == (d_k, scale))


def _claims(results: Sequence[dict[str, Any]], s: dict[str, Any]) -> list[tuple[str, str, str]]:
    """Statement, verdict, evidence: log ratios per seed, judged by their t-interval."""
    wide, narrow, small, large = s["widths"][-1], s["widths"][0], min(s["scales"]), max(s["scales"])
    middle = s["scales"][len(s["scales"]) // 2]

    def part(r: dict[str, Any], d_k: int, scale: float, reference: float = 0.0) -> float:
        found = _random(r, d_k, scale)
        return math.log(found["q"] / found["v"]) - reference * math.log(scale) / 2

    statements: tuple[tuple[str, list[float]], ...] = (
        (
            f"random inputs: logits of standard deviation {large:g} instead of {small:g} saturate, and shrink Q's gradient "
            "against V's with keys of one length",
            [part(r, wide, small, 1.0) - part(r, wide, large, 1.0) for r in results],
        ),
        (
            "random inputs: they do so with keys as large as such logits take",
            [part(r, wide, small) - part(r, wide, large) for r in results],
        ),
        (
            f"random inputs: d_k = {narrow} has smaller gradients of Q against V's than d_k = {wide}, at a logit deviation of "
            f"{middle:g}",
            [part(r, wide, middle) - part(r, narrow, middle) for r in results],
        ),
        (
            "this model: halving the logits (√d_k twice as large) raises Q's gradient against V's",
            [_log_ratios(r["own"], 0.5, "q") - _log_ratios(r["own"], 1.0, "q") for r in results],
        ),
        (
            "this model: halving the logits raises K's gradient against V's",
            [_log_ratios(r["own"], 0.5, "k") - _log_ratios(r["own"], 1.0, "k") for r in results],
        ),
    )
    estimates = [mean_of(values) for _, values in statements]
    verdicts = judge(estimates, MATTERS, lambda v: f"a factor of {math.exp(v):.2f}")
    made = []
    for (statement, _), estimate, verdict in zip(statements, estimates, verdicts):
        interval = estimate.interval()
        between = None if interval is None else (math.exp(interval[0]), math.exp(interval[1]))
        made.append((statement, verdict, f"factor {written(math.exp(estimate.value), 2, between=between)}"))
    return made


def _quantities(found: dict[str, float], scale: float) -> dict[str, float]:
    """The table's four, from Σp² and root-mean-square gradients; keys have the length sqrt(scale) per entry."""
    q, k = found["q"] / found["v"], found["k"] / found["v"]
    return {"sum_p2": found["sum_p2"], "q_over_v": q, "k_over_v": k, "q_over_v_equal_keys": q / math.sqrt(scale)}


def _random_table(results: Sequence[dict[str, Any]], s: dict[str, Any], model: str, lines: list[str]) -> Table:
    rows, data = [], []
    for number, first in enumerate(results[0]["random"]):
        exact, scale = first["analytic"], first["scale"]
        found = [r["random"][number]["measured"] for r in results]
        line: dict[str, Any] = {"d_k": first["d_k"], "scale": scale}
        for name, values in _quantities(exact, scale).items():
            line[f"{name}_analytic"] = values
            line[name], line[f"{name}_ci95"] = mean_ci([_quantities(x, scale)[name] for x in found])
        data.append(line)
        rows.append(
            [first["d_k"], f"{scale:g}"]
            + [
                f"{line[f'{n}_analytic']:.3f}, {line[n]:.3f}"
                for n in ("sum_p2", "q_over_v", "k_over_v", "q_over_v_equal_keys")
            ]
        )
    header = ["d_k", "deviation of logits", "Σp²", "Q / V", "K / V", "Q / V, keys of one length"]
    about = f"Each cell: analytic, measured ({s['repeats']} draws of {s['keys']} queries and keys per seed, float64)."
    return Table("Appendix C on random inputs: saturation and gradients", header, rows, [*lines, about], data)


def _own_table(results: Sequence[dict[str, Any]], s: dict[str, Any], model: str, made: str) -> Table:
    rows, data = [], []
    for factor in s["factors"]:
        for layer in sorted({r["layer"] for r in results[0]["own"]}):
            found = [r for result in results for r in result["own"] if (r["factor"], r["layer"]) == (factor, layer)]
            mean = {name: float(np.mean([r[name] for r in found])) for name in found[0]}
            line = {"factor": factor, "layer": layer, "sum_p2": mean["sum_p2"], "largest": mean["largest"]}
            for kind in ("rms", "median"):
                for name in "qk":
                    line[f"{name}_over_v_{kind}"] = mean[f"{kind}_{name}"] / mean[f"{kind}_v"]
            data.append(line | {"n_seeds": len(found)})
            rows.append([f"{factor:g}", layer, *(f"{line[n]:.3f}" for n in list(line)[2:])])
    header = [
        "logits times",
        "layer",
        "Σp²",
        "largest weight",
        "Q / V (rms)",
        "K / V (rms)",
        "Q / V (median)",
        "K / V (median)",
    ]
    lines = [
        f"{s['examples']} held-out examples, queries with more than 8 keys; gradients of the weight matrices of the loss on "
        "them, at the weights as they are; with the rest of the model left as trained for the usual logits.",
        "median: ratio of median absolute gradients, as in figure 3.",
        made,
    ]
    return Table(f"Appendix C in {model} itself: saturation and gradients by layer", header, rows, lines, data)


class Saturation(MeasuringExperiment):
    """Attention on random inputs, and in the model itself."""

    name = "saturation"
    reproduces = (
        "SMT appendix C: softmax saturation and Q/K gradients against d_k and logit scale, analytic and measured"
    )
    needs = "any model with q_proj, k_proj, v_proj that fits on one device; its training data"
    version = 1
    needs_inputs = True

    def method_names(self, planner: Planner) -> list[str]:
        """No method: the model as it is."""
        return ["base"]

    def check(self, planner: Planner) -> None:
        """Refuses options that could change nothing."""
        refusals.training_options(planner.request, planner.shared)

    def settings(self, planner: Planner) -> dict[str, Any]:
        """The same for every model."""
        return SETTINGS

    def measure(self, measurement: Measurement, watch: Watcher, inputs: Inputs) -> dict[str, Any]:
        """Random inputs, then the model's own."""
        s, seed = measurement.settings, measurement.seed
        pairs = [(d, scale) for d in s["widths"] for scale in s["scales"]]
        rows = []
        for number, (d, scale) in enumerate(pairs, start=1):
            found = {
                "analytic": analytic(s["keys"], d, scale),
                "measured": measured(s["keys"], d, scale, s["repeats"], seed),
            }
            rows.append({"d_k": d, "scale": scale, **found})
            watch("random inputs", number, len(pairs))
        return {"random": rows, "own": _own(measurement, inputs)}

    def render(self, records: Sequence[Record], folder: Path, model: str) -> list[Path]:
        """Both measurements as tables, with the verdicts above the rule."""
        done = finished(records, model)
        results, s = [r["result"] for r in done], done[0]["run"]["settings"]
        claims = _claims(results, s)
        lines = [
            f"Verdict: {tally([verdict for _, verdict, _ in claims])}.",
            *(f"{statement}: {verdict} ({shown})." for statement, verdict, shown in claims),
            "Rule: a factor above 1 favours the statement; it does not hold where the 90 % t-interval over seeds lies within a "
            "factor of 1.1 either way, or the 95 % one below 1; else holds where the 95 % one lies above 1; else, and "
            "with one seed, it cannot be told. All statements corrected together (Holm).",
            f"{len(done)} seed{'s' if len(done) > 1 else ''}. Σp²: mean over queries of the sum of squared attention weights, 1 "
            "where one key takes all. Gradients: root mean square, as a ratio to V's.",
            made_with(done),
        ]
        return [
            *_random_table(results, s, model, lines).of(done).write(folder, "saturation"),
            *_own_table(results, s, model, made_with(done)).of(done).write(folder, "own"),
        ]
