"""All of the SMT paper at once: every part below, runs that parts share done once, each part's tables in its own folder."""

from __future__ import annotations

NAME = "paper"
REPRODUCES = "all tables and figures of the SMT paper below: runs shared between them are done once"
NEEDS = "any model; commonsense and math tasks (parts without data are left out)"
MEMBERS = (
    "plateau", "commonsense", "allocation", "math10k", "qkv", "block-metric", "selection", "warmup", "block-size", "gradients",
    "anatomy", "saturation", "criteria", "break-even",
)  # fmt: skip
