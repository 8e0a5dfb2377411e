"""SpIEL-AG with everything switched to what the authors' code does, against that procedure written out one weight at a time."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from spiel_steps import LR, batches, llama, one_step, start

from smt_bench.methods.spiel.selection import replaced

THEIRS = {"updates": "offset", "candidates": "any", "adam": "transformers"}
TOTAL, EVERY, PHASE, RATE, DECAY = 60, 10, 3, 0.4, 3.0


@pytest.mark.parametrize("rates", ["linear", "cosine"])
def test_sixty_steps_equal_the_authors_procedure(rates: str) -> None:
    model = llama(torch.float64)
    naive = copy.deepcopy(model)
    settings: dict[str, Any] = {
        "update_every": EVERY, "estimate_steps": PHASE, "replace_rate": RATE, "weight_decay": DECAY, "rates": rates, **THEIRS,
    }  # fmt: skip
    method, optimizer = start(model, 0.03, TOTAL, **settings)
    weights = {name: naive.get_parameter(f"{name}.weight") for name in method.layers}
    pretrained = {name: w.detach().flatten().clone() for name, w in weights.items()}
    # Slot by slot: position, value, two moments, age.
    slots = {n: [[i, 0.0, 0.0, 0.0, 1] for i in layer.indices.tolist()] for n, layer in method.layers.items()}
    watched: dict[str, dict[int, list[float]]] = {name: {} for name in weights}
    moved = 0
    for t, ids in enumerate(batches(TOTAL), start=1):
        one_step(model, method, optimizer, ids, t)
        naive.zero_grad()
        naive(input_ids=ids, labels=ids).loss.backward()
        estimating = t <= PHASE or (
            t >= EVERY and t % EVERY <= PHASE
        )  # from the step after S - 1 to that of the update
        for name, weight in weights.items():
            grad, own = weight.grad.flatten().tolist(), slots[name]
            if estimating:
                if not watched[name]:
                    order = sorted(range(len(grad)), key=lambda i: -abs(grad[i]))  # noqa: B023 - used at once
                    watched[name] = {i: [] for i in order[: len(own)]}
                for i, seen in watched[name].items():
                    seen.append(grad[i])
            for slot in own:
                i, age = slot[0], slot[4]
                slot[2] = 0.9 * slot[2] + 0.1 * grad[i]
                slot[3] = 0.999 * slot[3] + 0.001 * grad[i] ** 2
                root = (slot[3] ** 0.5 + 1e-6) * (1 - 0.9**age) / (1 - 0.999**age) ** 0.5
                slot[1] -= LR * slot[2] / root
                slot[1] -= LR * DECAY * slot[1]
                slot[4] += 1
            if t % EVERY == PHASE and t < TOTAL:
                k = replaced(t, len(own), RATE, PHASE, TOTAL, rates == "cosine")
                going = sorted(own, key=lambda slot: abs(slot[1]))[:k]
                leaving = {slot[0] for slot in going}
                staying = {slot[0] for slot in own} - leaving
                scores = {i: abs(sum(seen)) for i, seen in watched[name].items() if i not in staying}
                coming = sorted(scores, key=lambda i: -scores[i])[:k]
                going = [slot for slot in going if slot[0] not in coming]
                coming = [i for i in coming if i not in leaving]
                for slot, i in zip(going, coming):
                    seen = watched[name][i]
                    n = len(seen)
                    mean, square = sum(seen) / n, sum(g * g for g in seen) / n
                    slot[:] = [i, 0.0, mean * (1 - 0.9**n), square * (1 - 0.999**n), n]
                    moved += 1
                watched[name] = {}
            with torch.no_grad():
                flat = pretrained[name].clone()
                for i, value, *_ in own:
                    flat[i] += value
                weight.copy_(flat.view_as(weight))
    assert method.replaced == moved > 0
    for name, weight in weights.items():
        assert set(method.layers[name].indices.tolist()) == {slot[0] for slot in slots[name]}
        torch.testing.assert_close(model.get_parameter(f"{name}.weight"), weight, rtol=0, atol=1e-9)


def test_defaults_are_not_in_the_key_and_choices_are() -> None:
    model = llama()
    usual, _ = start(copy.deepcopy(model))
    theirs, _ = start(model, **THEIRS)
    assert not THEIRS.keys() & usual.config.to_dict().keys()
    assert THEIRS.items() <= theirs.config.to_dict().items()
    # Updates after 2, 6 and 10 of 14 steps; 14 is the last.
    assert [t for t in range(1, 15) if theirs.phase(t)] == [1, 2, 4, 5, 6, 8, 9, 10]
