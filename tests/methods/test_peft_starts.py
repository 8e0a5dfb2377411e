"""EVA and LoftQ against versions written out in float64."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from helpers import tiny_llama
from labelled import labelled
from peft import PeftModel

from smt_bench import methods
from smt_bench.methods.base import OptimizerSettings
from smt_bench.methods.modules import linears
from smt_bench.training.optimizer import FrozenUpdater, TorchUpdater
from smt_bench.training.step import Step

STEPS, LOOKS = 6, 3


def build(start: str, **config: Any) -> Any:
    settings = {"init_lora_weights": start, **({"eva_steps": LOOKS} if start == "eva" else {}), **config}
    return methods.build("peft:lora", settings, 0.05, 0, STEPS)


def batch(step: int) -> torch.Tensor:
    return torch.randint(0, 100, (4, 24), generator=torch.Generator().manual_seed(step))


def look(method: Any, model: Any, first: int, last: int) -> None:
    assert method.warmup(model) == []
    step = Step("warmup", model, method, FrozenUpdater(model))
    for number in range(first, last + 1):
        step.take(number, [labelled(batch(number))], 1.0)


def tune(method: Any, model: Any, steps: int = 3) -> list[float]:
    updater = TorchUpdater(model, method, method.attach(model), OptimizerSettings(1e-2), 1.0)
    step = Step("tuning", model, method, updater)
    return [step.take(LOOKS + n, [labelled(batch(n))], 1.0).loss for n in range(1, steps + 1)]


def test_evas_start_are_the_leading_right_singular_vectors_of_what_layers_see() -> None:
    model, method = tiny_llama().train(), build("eva")
    seen: dict[str, list[torch.Tensor]] = {}
    for name, layer in linears(model, method.config.targets):
        layer.register_forward_pre_hook(
            lambda _, args, name=name: seen.setdefault(name, []).append(args[0].detach().flatten(0, -2).double())
        )
    look(method, model, 1, LOOKS)
    shapes = {name: tuple(p.shape) for name, p in model.named_parameters()}
    sums = method.state_dict()["sums"].values()
    assert method.capacity(shapes).kept == sum(t.nbytes for t in sums)  # what the gate counts
    inputs = {name: torch.cat(parts) for name, parts in seen.items()}  # not what comes after
    before = tiny_llama().train()(input_ids=batch(9)).logits
    method.attach(model)
    assert torch.equal(model(input_ids=batch(9)).logits, before)  # B is 0
    assert len(inputs) > 4
    for name, x in inputs.items():
        a = model.get_submodule(name).lora_A["default"].weight.double()
        # Singular values that are close have no directions of their own: what counts is how much of the inputs each holds.
        torch.testing.assert_close((x @ a.T).norm(dim=0), torch.linalg.svdvals(x)[: len(a)], rtol=1e-4, atol=0)
        torch.testing.assert_close(a @ a.T, torch.eye(len(a), dtype=a.dtype), rtol=0, atol=1e-4)


def test_eva_goes_on_where_it_was_and_peft_reads_what_it_saves(tmp_path: Any) -> None:
    whole, method = tiny_llama().train(), build("eva")
    look(method, whole, 1, LOOKS)
    first, half = tiny_llama().train(), build("eva")
    look(half, first, 1, 2)
    state = copy.deepcopy(half.state_dict())
    second, rest = tiny_llama().train(), build("eva")
    rest.load_state_dict(state)
    look(rest, second, 3, LOOKS)
    assert tune(method, whole) == tune(rest, second)
    method.save(whole, tmp_path)
    theirs = PeftModel.from_pretrained(tiny_llama(), str(tmp_path)).eval()
    with torch.no_grad():
        logits = [m.eval()(input_ids=batch(9)).logits for m in (whole, theirs)]
    torch.testing.assert_close(logits[0], logits[1], rtol=1e-5, atol=1e-6)


def test_loftq_begins_at_the_quantized_weights_and_what_they_lose() -> None:
    functional = pytest.importorskip("bitsandbytes").functional
    model, method = tiny_llama().train(), build("loftq")
    plain = tiny_llama()
    method.attach(model)
    for name, layer in linears(plain, method.config.targets):
        got, weight = model.get_submodule(name), layer.weight.detach()
        packed, state = functional.quantize_4bit(weight.contiguous(), blocksize=64, quant_type="nf4")
        quantized = functional.dequantize_4bit(packed, state).double()
        assert torch.equal(got.get_base_layer().weight.double(), quantized)
        a, b = got.lora_A["default"].weight.double(), got.lora_B["default"].weight.double()
        u, s, vh = torch.linalg.svd(weight.double() - quantized, full_matrices=False)
        best = u[:, : len(a)] * s[: len(a)] @ vh[: len(a)]
        torch.testing.assert_close(got.scaling["default"] * b @ a, best, rtol=0, atol=1e-6)
    assert method.save(model, None) is None  # the base is another one


@pytest.mark.parametrize(
    ("name", "config", "steps", "message"),
    [
        ("lora", {"init_lora_weights": "eva"}, 6, "init_lora_weights='eva': only peft:lora prepares it"),
        ("peft:adalora", {"init_lora_weights": "loftq"}, 6, "init_lora_weights='loftq': only peft:lora prepares it"),
        ("peft:lora", {"init_lora_weights": "eva", "eva_steps": 6}, 6, "eva_steps=6: choose fewer than the 6 steps"),
        ("peft:lora", {"init_lora_weights": "loftq", "use_dora": True}, 6, "not with use_dora"),
    ],
)
def test_what_cannot_start_so_is_refused(name: str, config: dict[str, Any], steps: int, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        methods.build(name, config, 0.05, 0, steps)


def test_evas_steps_are_in_the_key_only_where_they_are_read() -> None:
    kind = methods.find("peft:lora").Config
    assert "eva_steps" not in kind.from_dict({}).to_dict()
    assert kind.from_dict({"init_lora_weights": "eva"}).to_dict()["eva_steps"] == 4
    with pytest.raises(ValueError, match="eva_steps=9: only init_lora_weights=eva reads it"):
        kind.from_dict({"eva_steps": 9}).to_dict()
