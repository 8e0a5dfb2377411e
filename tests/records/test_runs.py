"""Runs and their keys: same question, same key."""

from __future__ import annotations

import json
from dataclasses import replace

from made_up import RUN

from smt_bench.records.runs import MethodRef, Run


def test_golden_key() -> None:
    """Changes only with the record version: everything stored under the old key would be lost otherwise."""
    assert RUN.key == "ba59f75c7e864112"


def test_run_survives_json() -> None:
    assert Run.from_dict(json.loads(json.dumps(RUN.to_dict()))) == RUN


def test_every_field_is_part_of_the_key() -> None:
    keys = {RUN.key}
    changes = [
        replace(RUN, seed=1),
        replace(RUN, model=replace(RUN.model, revision="x")),
        replace(RUN, data=replace(RUN.data, train_on_inputs=True)),
        replace(RUN, method=replace(RUN.method, fraction=0.02)),
        replace(RUN, method=replace(RUN.method, version=2)),
        replace(RUN, method=replace(RUN.method, config={**RUN.method.config, "dropout": 0.0})),
        replace(RUN, train=replace(RUN.train, lr=2e-3)),
        replace(RUN, train=replace(RUN.train, version=2)),
        replace(RUN, evaluation=replace(RUN.evaluation, tasks={"facts-2": "00fe"})),
    ]
    keys |= {run.key for run in changes}
    assert len(keys) == len(changes) + 1


def test_setting_ignores_method_seed_and_rate_only() -> None:
    same = replace(RUN, seed=3, method=MethodRef("full", 1, None, {}), train=replace(RUN.train, lr=1.0))
    assert same.setting == RUN.setting != replace(RUN, train=replace(RUN.train, steps=7)).setting
