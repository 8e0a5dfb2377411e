"""Batches out of token ids alone; without transformers, which takes child processes seconds to import."""

from __future__ import annotations

import torch

from smt_bench.data.batches import Batch
from smt_bench.data.prompts import IGNORED


def labelled(ids_BT: torch.Tensor) -> Batch:
    """A batch in which every token but the first of each row is to be predicted."""
    labels_BT = torch.full_like(ids_BT, IGNORED)
    labels_BT[:, :-1] = ids_BT[:, 1:]
    return Batch(ids_BT, labels_BT, ids_BT[:, 1:].numel(), ids_BT.numel())
