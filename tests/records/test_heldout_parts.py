"""The two parts of the held-out examples: their losses, what is believed of them, and what tables make of them."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import pytest

from smt_bench.evidence.group import Answers
from smt_bench.records import heldout
from smt_bench.records.trust import Damaged, _check_heldout, _check_selection


def record(logliks: list[float | None], tokens: list[int], tune: list[int] | None = None) -> dict[str, Any]:
    scored = [v for v, n in zip(logliks, tokens) if n]
    nll = -sum(v for v in scored if v is not None) / sum(tokens)
    examples: dict[str, Any] = {"loglik": logliks, "tokens": tokens, "cluster": list(range(len(tokens)))}
    return {"status": "done", "heldout": {"nll": nll, "examples": examples | ({} if tune is None else {"tune": tune})}}


MADE = record([-1.0, -4.0, None, -9.0, -2.0], [1, 2, 0, 3, 4], [1, 0, 1, 0, 1])


def test_each_part_has_its_own_loss() -> None:
    assert heldout.nll(MADE, "tune") == pytest.approx((1 + 2) / 5) and heldout.nll(MADE, "report") == pytest.approx(
        13 / 5
    )
    assert heldout.examples(MADE, "report") == ([-4.0, -9.0], [2, 3])


def test_one_set_serves_for_both_where_there_are_no_parts() -> None:
    old = record([-1.0, -4.0], [1, 2])
    assert heldout.nll(old, "tune") == heldout.nll(old, "report") == old["heldout"]["nll"]
    assert heldout.nll({"status": "diverged"}, "tune") is None
    assert heldout.nll(record([-1.0, None], [1, 0], [0, 1]), "tune") is None  # nothing was left of its response


@pytest.mark.parametrize("parts", [[1, 0, 1, 0], [1, 0, 1, 1, 1], [2, 0, 1, 0, 0], None])
def test_parts_that_were_not_asked_for_are_not_believed(parts: list[int] | None) -> None:
    _check_heldout(MADE["heldout"], 5, 3)
    other = copy.deepcopy(MADE["heldout"])
    if parts is None:
        del other["examples"]["tune"]
    else:
        other["examples"]["tune"] = parts
    with pytest.raises(Damaged, match="its parts are not the 3 of 5"):
        _check_heldout(other, 5, 3)
    with pytest.raises(Damaged, match="its parts are not the 0 of 5"):
        _check_heldout(MADE["heldout"], 5, 0)


@pytest.mark.parametrize(
    ("selection", "wrong"),
    [
        ({"steps": [2, 4], "nll": [0.3, 0.2], "kept": 4}, False),
        ({"steps": [2, 4], "nll": [0.3, 0.2], "kept": 2}, True),
        ({"steps": [2, 4], "nll": [0.3, 0.2], "kept": 3}, True),
        ({"steps": [2, 4], "nll": [None, 0.2], "kept": 4}, False),
        ({"steps": [2, 4], "nll": [None, None], "kept": 4}, False),
        ({"steps": [2], "nll": [0.3, 0.2], "kept": 2}, True),
        ({"steps": [], "nll": [], "kept": 2}, True),
    ],
)
def test_the_kept_step_has_the_least_loss(selection: dict[str, Any], wrong: bool) -> None:
    if wrong:
        with pytest.raises(Damaged, match="selection"):
            _check_selection(selection)
    else:
        _check_selection(selection)


def test_verdicts_are_about_the_reported_part_also_where_the_data_vary() -> None:
    other = record([-3.0, -5.0, -1.0, -7.0, -2.0], [2, 2, 1, 1, 3], [0, 1, 1, 0, 0])  # other examples, one more of them
    run = {"data": {"varies": "seed"}, "train": {"lr": 1.0, "steps": 1}}
    both = [r | {"run": run} for r in (MADE, other)]
    found = Answers(both).heldout
    assert found is not None and [h.nll for h in found] == [heldout.nll(r, "report") for r in both]
    assert np.array_equal(found[0].loglik, [-4.0, -9.0]) and np.array_equal(found[0].tokens, [2.0, 3.0])
    side = Answers(both).nll_side
    assert side is not None
