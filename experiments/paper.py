"""All of the SMT paper at once: every part below, runs that parts share done once, each part's tables in its own folder."""

from __future__ import annotations

from smt_bench.questions.experiment import Bundle


class Paper(Bundle):
    """The SMT paper."""

    name = "paper"
    reproduces = "all tables and figures of the SMT paper below: runs shared between them are done once"
    needs = "any model; commonsense and math tasks (parts without data are left out)"
    members = (
        "plateau", "commonsense", "allocation", "math10k", "qkv", "block-metric", "selection", "warmup", "block-size",
        "gradients", "anatomy", "saturation", "criteria", "break-even",
    )  # fmt: skip
