"""What tuning one block alone does to the held-out loss, and what could have predicted it (experiment `criteria`)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from smt_bench.data.batches import Batch, collate, training_order
from smt_bench.data.prompts import encode
from smt_bench.evaluation.heldout import mean_nll, response_loglik
from smt_bench.evaluation.protocols import EVAL_BATCH
from smt_bench.methods.smt.selection import ACTIVATION, METRICS, activation_scores, grid
from smt_bench.models.build import load
from smt_bench.questions.inputs import Inputs
from smt_bench.training.loss import response_loss

Block = tuple[str, int, int]  # layer name, row and column of blocks


@dataclass
class Bench:
    """A model with its data, and the blocks of its targeted matrices.

    Attributes:
        model: trained weights, on its device.
        side: l.
        sizes: layer name -> (R, C).
        batches: endless training batches.
    """

    model: Any
    tokenizer: Any
    inputs: Inputs
    data: dict[str, Any]
    side: int
    sizes: dict[str, tuple[int, int]]
    batches: Iterator[Batch]

    @classmethod
    def open(cls, settings: dict[str, Any], seed: int, inputs: Inputs) -> Bench:
        """Loads the model and prepares batches in the order that a run of this seed has."""
        model, tokenizer = load(inputs.located, "fp32")
        model.to("cuda" if torch.cuda.is_available() else "cpu")
        model.requires_grad_(False)
        shapes = {name: tuple(p.shape) for name, p in model.named_parameters()}
        side, sizes = grid(shapes, tuple(settings["targets"]), settings["block_size"])
        data = settings["data"]
        pad = tokenizer.pad_token_id if tokenizer.pad_token_id is not None else tokenizer.eos_token_id

        def batches() -> Iterator[Batch]:
            lengths = [len(e.instruction) + len(e.input) + len(e.output) for e in inputs.data.train]
            for numbers in training_order(lengths, settings["batch_size"], seed):
                chosen = [inputs.data.train[i] for i in numbers]
                encoded = [
                    encode(e, tokenizer, data["template"], data["train_on_inputs"], data["cutoff"]) for e in chosen
                ]
                yield collate(encoded, pad).to(model.device)

        return cls(model, tokenizer, inputs, data, side, sizes, batches())

    def weight(self, layer: str) -> torch.nn.Parameter:
        """The weight matrix of a layer."""
        weight: nn.Parameter = self.model.get_submodule(layer).weight
        return weight

    def loss(self, batch: Batch) -> torch.Tensor:
        """Mean cross-entropy per label token, in nats."""
        return response_loss(self.model, batch) / max(1, batch.targets)

    def heldout(self) -> float:
        """Negative log-likelihood per held-out response token, in nats."""
        d = self.data
        found = response_loglik(
            self.model, self.tokenizer, self.inputs.data.heldout, d["template"], d["cutoff"], EVAL_BATCH
        )
        mean = mean_nll(found)
        assert mean is not None, "planning refuses held-out examples without a response"
        return mean

    def scores(self, steps: int, seed: int) -> dict[str, dict[str, torch.Tensor]]:
        """Every block's scores from `steps` frozen warm-up batches: criterion -> layer -> (R, C), higher is better.

        `mean_abs` and `abs_mean` read the gradient summed with its sign, as SMT does; `activation` is AW-selection's channel
        norm; `weight` the mean absolute weight; `random` says nothing.
        """
        norms: dict[str, torch.Tensor] = {}

        def watch(layer: str) -> Any:
            def hook(_module: Any, args: tuple[torch.Tensor, ...]) -> None:
                x_TI = args[0].detach().reshape(-1, args[0].shape[-1]).float()
                norms[layer] = norms.get(layer, torch.zeros(x_TI.shape[1], device=x_TI.device)) + x_TI.norm(dim=0)

            return hook

        hooks = [self.model.get_submodule(layer).register_forward_pre_hook(watch(layer)) for layer in self.sizes]
        for layer in self.sizes:
            self.weight(layer).requires_grad_(True)
        for _ in range(steps):
            self.loss(next(self.batches)).backward()
        for hook in hooks:
            hook.remove()
        generator = torch.Generator().manual_seed(seed)
        found: dict[str, dict[str, torch.Tensor]] = {}
        for layer, (rows, cols) in self.sizes.items():
            weight = self.weight(layer)
            assert weight.grad is not None
            values = {
                "mean_abs": METRICS["mean_abs"](weight.grad, self.side),
                "abs_mean": METRICS["abs_mean"](weight.grad, self.side),
                ACTIVATION: activation_scores(norms[layer], rows, self.side),
                "weight": METRICS["abs_mean"](weight.detach(), self.side),
                "random": torch.rand(rows, cols, generator=generator),
            }
            for name, value in values.items():
                found.setdefault(name, {})[layer] = value.cpu()
            weight.grad = None
            weight.requires_grad_(False)
        return found

    def tune(self, block: Block, batches: Sequence[Batch], lr: float) -> float:
        """Held-out loss after tuning this block alone with AdamW, one step per batch; the weights are put back."""
        layer, row, col = block
        weight = self.weight(layer)
        part = (slice(row * self.side, (row + 1) * self.side), slice(col * self.side, (col + 1) * self.side))
        before = weight.data[part].clone()
        values = torch.nn.Parameter(before.clone())
        optimizer = torch.optim.AdamW([values], lr=lr, weight_decay=0.0)
        weight.requires_grad_(True)
        for batch in batches:
            self.loss(batch).backward()
            assert weight.grad is not None
            values.grad, weight.grad = weight.grad[part].clone(), None
            optimizer.step()
            weight.data[part] = values.detach()
        weight.requires_grad_(False)
        after = self.heldout()
        weight.data[part] = before
        return after


def stratified(scores: dict[str, torch.Tensor], count: int, strata: int, seed: int) -> list[tuple[Block, int]]:
    """Blocks drawn evenly from equal parts of the ranking by `scores`, with the number of their part (0: lowest scores)."""
    blocks = [
        (layer, row, col)
        for layer, grid_RC in scores.items()
        for row in range(len(grid_RC))
        for col in range(grid_RC.shape[1])
    ]
    order = torch.argsort(torch.cat([grid_RC.reshape(-1) for grid_RC in scores.values()]), stable=True)
    generator = torch.Generator().manual_seed(seed)
    drawn = []
    for number, part in enumerate(torch.tensor_split(order, strata)):
        picked = part[torch.randperm(len(part), generator=generator)[: max(1, count // strata)]]
        drawn += [(blocks[i], number) for i in picked.tolist()]
    return drawn
