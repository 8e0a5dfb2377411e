"""Merging, checked: the merged model must say what the unmerged one said."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from smt_bench.methods.base import Method
from smt_bench.models.precision import mixed
from smt_bench.models.quantized import is_quantized

# Difference of the logits after from those before, root mean square over root mean square. Sums in another order make some
# millionths in float32; in bfloat16 W + B A is rounded to 8 bits, which W x + B A x is not: some hundredths.
TOLERANCE = {torch.float32: 1e-4, torch.bfloat16: 0.1}
SHAPE = (2, 16)  # sequences and tokens


def merge(method: Method, model: Any) -> dict[str, float | str | None]:
    """Merges, with the logits of a short batch of random tokens taken before and after.

    Returns:
        `difference` (root mean square, relative to that of the logits before; None where they are no numbers) and the
        `tolerance` it was held to. Where the method does not merge, no difference, and in `unmerged` its name: it is judged as
        it was trained. So is every method over a base of 4 bits: a whole model is what such a base is there to do without.

    Raises:
        RuntimeError: the merged model is another one; the weights are then of no use.
    """
    if not method.merges or is_quantized(model):
        return {"difference": None, "tolerance": TOLERANCE[model.dtype], "unmerged": method.name}
    before = _logits(model)
    method.merge(model)
    after = _logits(model)
    tolerance = TOLERANCE[model.dtype]
    if not before.isfinite().all():  # a diverged run, and recorded as one
        return {"difference": None, "tolerance": tolerance}
    difference = unlike(before, after)
    if not difference <= tolerance:  # nor where merging made it no number
        raise RuntimeError(
            f"{method.name}: merging changed the model: its logits moved by {difference:.3g} of their size, {tolerance:g} is "
            "rounding"
        )
    return {"difference": difference, "tolerance": tolerance}


def unlike(before: Tensor, after: Tensor) -> float:
    """Root mean square of a difference, relative to that of what was there before; NaN where that is no number."""
    return float(torch.linalg.vector_norm(after - before) / torch.linalg.vector_norm(before))


@torch.no_grad()
def _logits(model: Any) -> Tensor:
    embedding = model.get_input_embeddings().weight
    drawn = torch.randint(len(embedding), SHAPE, generator=torch.Generator().manual_seed(0))
    training = model.training
    model.eval()
    try:
        with mixed(model):
            logits: torch.Tensor = model(input_ids=drawn.to(embedding.device), use_cache=False).logits
        return logits.float()
    finally:
        model.train(training)
