"""One contract for every tuner of the installed peft, on the two-layer random LLaMA; and what is said of the others."""

from __future__ import annotations

import copy
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers import tiny_llama
from labelled import labelled
from peft import PeftModel
from safetensors.torch import load_file
from torch import nn

from smt_bench import methods
from smt_bench.methods.base import OptimizerSettings
from smt_bench.methods.peft_tuners import known
from smt_bench.methods.peft_tuners.method import PeftTuner
from smt_bench.models import merging
from smt_bench.training.loss import enable_checkpointing
from smt_bench.training.optimizer import TorchUpdater
from smt_bench.training.step import Step

STEPS = 6
NAMES = list(known.working())
CONFIG: dict[str, dict[str, Any]] = {"trainable_tokens": {"token_indices": [3, 5, 7]}}
FRACTIONS = {  # what they can hold
    "adamss": 0.02, "lokr": 0.01, "miss": 0.02, "p_tuning": 0.15, "psoft": 0.005, "pvera": 0.008,
    "tinylora": 0.0004, "vera": 0.008,
}  # fmt: skip


def build(name: str, **more: Any) -> PeftTuner:
    cls = methods.find(f"peft:{name}")
    fraction = FRACTIONS.get(name, 0.04) if cls.takes_fraction else None
    made = methods.build(f"peft:{name}", CONFIG.get(name, {}) | more, fraction, 5, STEPS)
    assert isinstance(made, PeftTuner)
    return made


def batch(step: int) -> torch.Tensor:
    return torch.randint(0, 100, (2, 12), generator=torch.Generator().manual_seed(step))


class Training:
    """Steps of a model with a tuner, as training takes them."""

    def __init__(self, method: PeftTuner, model: nn.Module) -> None:
        self.method, self.model, self.losses = method, model, []
        self.start = copy.deepcopy(model.state_dict())
        groups = method.attach(model)
        self.updater = TorchUpdater(model, method, groups, OptimizerSettings(1e-2), max_grad_norm=math.inf)
        self.step = Step("tuning", model, method, self.updater)

    def go(self, first: int, last: int) -> Training:
        for number in range(first, last + 1):
            torch.manual_seed(number)  # PVeRA draws while it trains
            self.losses.append(self.step.take(number, [labelled(batch(number))], 1.0).loss)
        return self


@pytest.mark.parametrize("name", NAMES)
def test_a_tuner_keeps_the_contract(name: str) -> None:
    model, method = tiny_llama(), build(name)
    types = {path: type(m) for path, m in model.named_modules()}
    shapes = {path: tuple(p.shape) for path, p in model.named_parameters()}
    capacity = method.capacity(shapes)
    model.train()
    state = torch.random.get_rng_state()
    training = Training(method, model)
    assert torch.equal(torch.random.get_rng_state(), state), "it drew from the global generator"
    trainable = [p for p in model.parameters() if p.requires_grad]
    assert sum(p.numel() for p in trainable) == capacity.trainable
    if method.fraction is not None:
        assert abs(capacity.trainable - method.fraction * capacity.total) <= capacity.unit_numbers
    frozen = {path: p.clone() for path, p in model.named_parameters() if not p.requires_grad}
    training.go(1, STEPS)
    assert len(set(training.losses)) == STEPS, "nothing trains"
    now = dict(model.named_parameters())
    assert all(torch.equal(now[path], before) for path, before in frozen.items())
    merged = merging.merge(method, model)
    if method.merges:
        assert merged["difference"] is not None and merged["difference"] <= 1e-5
        assert {path: type(m) for path, m in model.named_modules()} == types
        assert set(model.state_dict()) == set(training.start)
        assert any(not torch.equal(value, training.start[path]) for path, value in model.state_dict().items())
    else:
        assert merged["difference"] is None and "unmerged" in merged


@pytest.mark.parametrize("name", NAMES)
def test_a_tuner_goes_on_where_it_was_saved(name: str) -> None:
    """All that resume has: the trainable numbers, the optimizer, the method's own state; the rest comes from the seed."""
    whole = Training(build(name), tiny_llama()).go(1, STEPS)
    assert Training(build(name), tiny_llama()).go(1, STEPS).losses == whole.losses
    first = Training(build(name), tiny_llama()).go(1, 3)
    there = {path: p.detach() for path, p in first.model.named_parameters() if p.requires_grad}
    saved = copy.deepcopy((there, first.method.state_dict(), first.updater.state_dict()))
    method, model = build(name), tiny_llama()
    method.load_state_dict(saved[1])
    second = Training(method, model)
    with torch.no_grad():
        for path, p in model.named_parameters():
            if path in saved[0]:
                p.copy_(saved[0][path])
    second.updater.load_state_dict(saved[2])
    assert first.losses + second.go(4, STEPS).losses == whole.losses


@pytest.mark.parametrize("name", NAMES)
def test_peft_reads_what_a_tuner_saves(name: str, tmp_path: Path) -> None:
    method, model = build(name), tiny_llama()
    Training(method, model).go(1, 3)
    numbers = method.save(model, tmp_path)
    model.eval()
    theirs = PeftModel.from_pretrained(tiny_llama(), str(tmp_path)).eval()
    with torch.no_grad():
        ours, read = (m(input_ids=batch(9), use_cache=False).logits for m in (model, theirs))
    assert torch.allclose(
        read[:, -ours.shape[1] :], ours, rtol=1e-5, atol=1e-6
    )  # peft's output has the virtual tokens too
    file = load_file(tmp_path / "adapter_model.safetensors")
    assert numbers == sum(t.numel() for t in file.values()) > 0


@pytest.mark.parametrize("start", ["pissa", "olora"])
def test_an_adapter_of_a_changed_base_is_none_of_the_base(start: str, tmp_path: Path) -> None:
    method, model = build("lora", init_lora_weights=start), tiny_llama()
    Training(method, model).go(1, 2)
    assert method.save(model, tmp_path) is None and not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", NAMES)
def test_recomputed_activations_change_no_loss(name: str) -> None:
    plain = Training(build(name), tiny_llama().train()).go(1, 2)
    model = tiny_llama()
    model.train()
    enable_checkpointing(model)
    assert Training(build(name), model).go(1, 2).losses == pytest.approx(plain.losses, rel=1e-5)


@pytest.mark.parametrize("name", ["p_tuning", "prefix_tuning", "prompt_tuning"])
def test_virtual_tokens_stay_where_answers_are_generated(name: str) -> None:
    """With a cache and padding on the left, as lm-eval generates, the same as one pass over all at a time."""
    model, method = tiny_llama(), build(name)
    Training(method, model).go(1, 3)
    model.eval()
    ids = torch.randint(3, 100, (1, 7), generator=torch.Generator().manual_seed(0))
    padded, mask = nn.functional.pad(ids, (3, 0)), nn.functional.pad(torch.ones_like(ids), (3, 0))
    slow = ids
    with torch.no_grad():
        for _ in range(6):
            slow = torch.cat([slow, model(input_ids=slow).logits[:, -1:].argmax(-1)], dim=1)
        fast = model.generate(
            padded, attention_mask=mask, max_new_tokens=6, do_sample=False, pad_token_id=0, eos_token_id=None
        )
    assert fast[0, 3:].tolist() == slow[0].tolist()


@pytest.mark.parametrize("name", NAMES)
def test_a_tuner_of_a_bf16_model_trains_in_float32(name: str) -> None:
    model, method = tiny_llama().to(torch.bfloat16), build(name)
    training = Training(method, model)
    assert {p.dtype for p in model.parameters() if p.requires_grad} == {torch.float32}
    training.go(1, 3)
    assert all(math.isfinite(loss) for loss in training.losses)
    merging.merge(method, model)
    if method.merges:
        assert {p.dtype for p in model.parameters()} == {torch.bfloat16}
