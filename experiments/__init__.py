"""The experiments: one module per table or figure of the papers (or per question), and this registry.

A new experiment is one file with a class of `smt_bench.questions.experiment`, and one line here.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from smt_bench.registry import Registry

if TYPE_CHECKING:  # torch comes with it
    from smt_bench.questions.experiment import Bundle, Experiment


def _accept(found: Any) -> Experiment | Bundle | None:
    from smt_bench.questions.experiment import Bundle, Experiment

    if isinstance(found, type) and issubclass(found, Experiment | Bundle):
        return found()
    return found if isinstance(found, Experiment | Bundle) else None


REGISTRY: Registry[Experiment | Bundle] = Registry(
    "experiment",
    "smt_bench.experiments",
    {
        "paper": "smt_bench.experiments.paper:Paper",
        "plateau": "smt_bench.experiments.accuracy.plateau:Plateau",
        "commonsense": "smt_bench.experiments.accuracy.commonsense:Commonsense",
        "allocation": "smt_bench.experiments.choices.allocation:Allocation",
        "math10k": "smt_bench.experiments.accuracy.math10k:Math10k",
        "qkv": "smt_bench.experiments.choices.qkv:Qkv",
        "block-metric": "smt_bench.experiments.choices.block_metric:BlockMetric",
        "selection": "smt_bench.experiments.choices.selection:Selection",
        "warmup": "smt_bench.experiments.choices.warmup:Warmup",
        "block-size": "smt_bench.experiments.choices.block_size:BlockSize",
        "gradients": "smt_bench.experiments.why.gradients:Gradients",
        "anatomy": "smt_bench.experiments.why.anatomy:Anatomy",
        "saturation": "smt_bench.experiments.why.saturation:Saturation",
        "domains": "smt_bench.experiments.why.domains:Domains",
        "criteria": "smt_bench.experiments.why.criteria:Criteria",
        "break-even": "smt_bench.experiments.cost.break_even:BreakEven",
        "speed": "smt_bench.experiments.cost.speed.experiment:Speed",
        "memory": "smt_bench.experiments.cost.memory.experiment:Memory",
        "kernels": "smt_bench.experiments.cost.kernels.experiment:Kernels",
        "spiel-cost": "smt_bench.experiments.cost.spiel_cost.experiment:SpielCost",
        "frozen-warmup": "smt_bench.experiments.why.frozen_warmup:FrozenWarmup",
        "spiel-schedule": "smt_bench.experiments.choices.spiel_schedule:SpielSchedule",
        "spiel-search": "smt_bench.experiments.choices.spiel_search.experiment:SpielSearch",
        "spiel-quantized": "smt_bench.experiments.accuracy.spiel_quantized:SpielQuantized",
        "spiel-ages": "smt_bench.experiments.why.spiel_ages:SpielAges",
        "masking": "smt_bench.experiments.choices.masking:Masking",
        "rate-transfer": "smt_bench.experiments.choices.rate_transfer:RateTransfer",
        "spiel-main": "smt_bench.experiments.accuracy.spiel_main:SpielMain",
        "composition": "smt_bench.experiments.accuracy.composition.experiment:Composition",
        "learning-rate": "smt_bench.experiments.accuracy.learning_rate:LearningRate",
    },
    _accept,
)


def find(name: str) -> Experiment:
    """The experiment called `name`.

    Raises:
        ValueError: no such experiment, the message names the nearest; or a bundle of several.
    """
    from smt_bench.questions.experiment import Bundle

    found = REGISTRY.find(name)
    if isinstance(found, Bundle):
        raise ValueError(f"{name} stands for {', '.join(found.members)}: choose one of them")
    return found


def members(name: str) -> list[Experiment]:
    """The experiment called `name`, or those that it bundles.

    Raises:
        ValueError: no such experiment.
    """
    from smt_bench.questions.experiment import Bundle

    found = REGISTRY.find(name)
    return [find(member) for member in found.members] if isinstance(found, Bundle) else [found]
