"""Length-bucketed training batches: the same for every method, since they depend on data, seed and sizes only."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import torch

from smt_bench.data.prompts import IGNORED, Encoded

POOL = 16  # batches that are sorted by length together: short padding, yet no order by length over the run


@dataclass(frozen=True)
class Batch:
    """One padded batch.

    Attributes:
        ids_BT: token ids, padded on the right. No attention mask is needed: in a causal model nothing before the
            padding sees it, and nothing in it has a label.
        labels_BT: labels already shifted: labels_BT[b, t] is the token to predict from position t.
        targets: positions with a label.
        tokens: tokens without padding.
        places_N: where the labels stand in the flattened batch, in order; known here, so that no step has to look for them (on a
            GPU it would have to wait for the answer).
        labels_N: the labels there.
    """

    ids_BT: torch.Tensor
    labels_BT: torch.Tensor
    targets: int
    tokens: int
    places_N: torch.Tensor = None  # type: ignore[assignment]  # follows from the labels
    labels_N: torch.Tensor = None  # type: ignore[assignment]

    def __post_init__(self) -> None:
        if self.places_N is None:
            places_N, labels_N = labelled(self.labels_BT)
            object.__setattr__(self, "places_N", places_N)
            object.__setattr__(self, "labels_N", labels_N)

    def to(self, device: torch.device) -> Batch:
        """The same batch on a device; a GPU gets it without that anyone waits."""
        waits = device.type != "cuda"
        names = ("ids_BT", "labels_BT", "places_N", "labels_N")
        moved = {name: getattr(self, name) for name in names}
        if not waits:
            moved = {name: tensor.pin_memory() for name, tensor in moved.items()}
        return replace(self, **{name: tensor.to(device, non_blocking=not waits) for name, tensor in moved.items()})


def labelled(labels_BT: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Where labels stand in the flattened batch, and which."""
    flat = labels_BT.flatten()
    places_N = (flat != IGNORED).nonzero().flatten()
    return places_N, flat[places_N]


def collate(examples: Sequence[Encoded], pad_id: int, width: int | None = None) -> Batch:
    """Pads examples to `width` tokens, or to the longest of them."""
    width = width or max(len(e.ids) for e in examples)
    ids = torch.full((len(examples), width), pad_id)
    labels = torch.full((len(examples), width), IGNORED)
    for row, example in enumerate(examples):
        ids[row, : len(example.ids)] = torch.tensor(example.ids)
        labels[row, : len(example.ids) - 1] = torch.tensor(example.labels[1:])
    return Batch(ids, labels, int((labels != IGNORED).sum()), sum(len(e.ids) for e in examples))


def training_order(lengths: Sequence[int], batch_size: int, seed: int) -> Iterator[list[int]]:
    """Endless batches of example numbers: shuffled, pooled, sorted by length within a pool, batches shuffled again.

    A last batch that would be short is filled up from the start of the same epoch's order.
    """
    epoch = 0
    while True:
        rng = random.Random(seed * 1_000_003 + epoch)
        order = list(range(len(lengths)))
        rng.shuffle(order)
        while len(order) % batch_size or len(order) < batch_size:
            order.append(order[len(order) - len(lengths)])
        for start in range(0, len(order), batch_size * POOL):
            pool = sorted(order[start : start + batch_size * POOL], key=lambda i: lengths[i])
            batches = [pool[i : i + batch_size] for i in range(0, len(pool), batch_size)]
            rng.shuffle(batches)
            yield from batches
        epoch += 1
