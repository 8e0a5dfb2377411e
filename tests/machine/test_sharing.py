"""Examples shared out over processes, and GPUs over workers: nothing twice, nothing left out."""

from __future__ import annotations

from unittest import mock

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from smt_bench.machine import parallel
from smt_bench.machine.spread import Spread
from smt_bench.sweep.workers import slots

few = st.integers(1, 8)


def shares(items: list[int], processes: int) -> list[list[int]]:
    """What each of so many processes takes."""
    made = []
    for rank in range(processes):
        with mock.patch.object(parallel, "size", lambda: processes), mock.patch.object(parallel, "rank", lambda: rank):  # noqa: B023
            made.append(list(parallel.share(items)))
    return made


@given(items=st.lists(st.integers(), max_size=40), processes=few)
def test_merge_is_the_inverse_of_share(items: list[int], processes: int) -> None:
    parts = shares(items, processes)
    assert parallel.merge(parts) == items
    assert max(map(len, parts)) - min(map(len, parts)) <= 1


@given(jobs=few, gpus=few, wanted=st.none() | few, processes=st.integers(1, 3), first=st.integers(0, 9))
def test_every_worker_has_gpus_of_its_own(jobs: int, gpus: int, wanted: int | None, processes: int, first: int) -> None:
    visible = [str(first + i) for i in range(gpus)]
    environment = {"CUDA_VISIBLE_DEVICES": ",".join(visible)}
    each = processes if processes > 1 else wanted or max(1, gpus // jobs)
    with mock.patch.object(torch.cuda, "device_count", lambda: gpus):
        if jobs * each > gpus or (processes > 1 and wanted not in (None, processes)):
            with pytest.raises(ValueError, match="--jobs|--processes"):
                slots(jobs, Spread(processes, wanted), environment)
            return
        found = slots(jobs, Spread(processes, wanted), environment)
    if jobs == processes == 1 and wanted is None:
        assert found == [{}]  # this process, with all of them
        return
    parts = [place["CUDA_VISIBLE_DEVICES"].split(",") for place in found]
    taken = [name for part in parts for name in part]
    assert [len(part) for part in parts] == [each] * jobs
    assert len(set(taken)) == len(taken) and set(taken) <= set(visible)
