"""SpIEL's layer and optimizer, and training in parts: accumulated, checkpointed, resumed, in two processes, merged."""

from __future__ import annotations

import copy
import io
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.multiprocessing as mp
from spiel_steps import Around, batches, llama, same, start, train
from torch import nn

from smt_bench.data.batches import Batch
from smt_bench.methods.deltas import DeltaGradient, SpielLinear
from smt_bench.methods.spiel import optim
from smt_bench.methods.spiel.optim import SpielAdamW
from smt_bench.training.step import Step

pytestmark = pytest.mark.usefixtures("one_thread")


def test_saved_for_backward_is_the_input_only():
    layer = SpielLinear(nn.Linear(6, 5).requires_grad_(False), torch.tensor([3, 7]))
    saved: list[torch.Tensor] = []
    with torch.autograd.graph.saved_tensors_hooks(lambda t: saved.append(t) or t, lambda t: t):
        x = torch.randn(2, 6)
        layer(x)
        assert {t.data_ptr() for t in saved} == {x.data_ptr(), layer.weight.data_ptr()}
        saved.clear()
        layer.deltas.requires_grad_(False)
        layer(x.requires_grad_())
        assert {t.data_ptr() for t in saved} == {layer.weight.data_ptr()}
        saved.clear()
        with torch.no_grad():
            layer(x)
        assert not saved


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("shape", [(3, 4), (2, 3, 4)])
def test_gradcheck(bias: bool, shape: tuple[int, ...]):
    torch.manual_seed(0)
    linear = nn.Linear(4, 5, bias=bias, dtype=torch.float64).requires_grad_(False)
    layer = SpielLinear(linear, torch.tensor([0, 6, 13, 19]))
    x = torch.randn(shape, dtype=torch.float64, requires_grad=True)
    offset = torch.randn(5, dtype=torch.float64, requires_grad=True) if bias else None

    def output(x: torch.Tensor, deltas: torch.Tensor, offset: torch.Tensor | None) -> torch.Tensor:
        weight = linear.weight.detach().clone()
        weight.view(-1)[layer.indices.long()] = layer.base + deltas.detach()
        return DeltaGradient.apply(x, weight, offset, deltas, layer)

    deltas = torch.randn(4, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(output, (x, deltas, offset))
    torch.testing.assert_close(layer(x), linear(x), rtol=0, atol=0)


def test_autocast_equals_linear():
    torch.manual_seed(0)
    linear = nn.Linear(16, 8)
    layer = SpielLinear(copy.deepcopy(linear).requires_grad_(False), torch.arange(8 * 16))
    x, y = (torch.ones(3, 16).requires_grad_() for _ in range(2))
    with torch.autocast("cpu", torch.bfloat16):
        a, b = linear(x), layer(y)
    assert a.dtype == b.dtype == torch.bfloat16 and torch.equal(a, b)
    a.float().square().sum().backward()
    b.float().square().sum().backward()
    torch.testing.assert_close(x.grad, y.grad)
    # Ours is summed in float32; a dense weight's gradient is rounded on its way to it.
    torch.testing.assert_close(linear.weight.grad.flatten(), layer.deltas.grad.bfloat16().float())
    assert not torch.equal(layer.deltas.grad, layer.deltas.grad.bfloat16().float())


def test_accumulation_equals_one_batch():
    runs = []
    for micro in (1, 2):
        model = llama(torch.float64)
        held = sum(p.numel() for n, p in model.named_parameters() if "_proj" in n)
        total = sum(p.numel() for p in model.parameters())
        # Half of every matrix is active, so every inactive weight is a candidate whichever batch picks them.
        method, optimizer = start(model, fraction=held / 2 / total, steps=9)
        train(model, method, optimizer, batches(9), micro=micro)
        assert method.updates == 3
        runs.append(method)
    for a, b in zip(runs[0].layers.values(), runs[1].layers.values()):
        assert set(a.indices.tolist()) == set(b.indices.tolist())
        torch.testing.assert_close(a.weight, b.weight, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("reentrant", [False, True])
def test_checkpointing_equals_none(reentrant: bool):
    models = []
    for checkpointing in (False, True):
        model = llama()
        if checkpointing:
            model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": reentrant})
            assert model.is_gradient_checkpointing
        model.enable_input_require_grads()
        method, optimizer = start(model)
        train(model, method, optimizer, batches(9), micro=2)
        models.append(model)
    assert same(*models)


@pytest.mark.parametrize("dtype,tolerance", [(torch.float32, 1e-6), (torch.float64, 1e-13)])
def test_optimizer_is_adamw_without_replacement(dtype: torch.dtype, tolerance: float):
    torch.manual_seed(0)
    ours, theirs = (nn.Parameter(torch.linspace(-1, 1, 50, dtype=dtype)) for _ in range(2))
    settings: dict[str, Any] = {"lr": 1e-2, "betas": (0.9, 0.99), "eps": 1e-8, "weight_decay": 0.3}
    a, b = SpielAdamW([ours], **settings), torch.optim.AdamW([theirs], **settings)
    for step in range(40):
        for group in (*a.param_groups, *b.param_groups):
            group["lr"] = 1e-2 * (1 - step / 50)
        ours.grad = torch.randn(50, dtype=dtype)
        theirs.grad = ours.grad.clone()
        a.step()
        b.step()
        torch.testing.assert_close(ours, theirs, rtol=tolerance, atol=tolerance)
    assert torch.equal(a.state[ours]["age"], torch.full((50,), 40, dtype=dtype))


def test_reseeded_weights_continue_from_the_estimates():
    param = nn.Parameter(torch.zeros(6))
    optimizer = SpielAdamW([{"params": [param], "lr": 0.1}], betas=(0.9, 0.99))
    for _ in range(3):
        param.grad = torch.ones(6)
        optimizer.step()
    slots, mean, square = torch.tensor([1, 4]), torch.tensor([0.5, -2.0]), torch.tensor([0.3, 5.0])
    optimizer.reseed(param, slots, mean, square, age=5)
    state = optimizer.state[param]
    assert state["age"].tolist() == [3, 5, 3, 3, 5, 3]
    torch.testing.assert_close(state["exp_avg"][slots] / (1 - 0.9**5), mean)
    torch.testing.assert_close(state["exp_avg_sq"][slots] / (1 - 0.99**5), square)
    restored = SpielAdamW([{"params": [param], "lr": 0.1}])
    restored.load_state_dict(copy.deepcopy(optimizer.state_dict()))
    assert torch.equal(restored.state[param]["age"], state["age"])


@pytest.mark.parametrize("cut,whole", [(1, True), (6, False), (7, True), (7, False)])  # phases: 1-2, 3-4, 7-8, 11-12
def test_resume_is_bit_identical(cut: int, whole: bool):
    data = batches(13)
    extra = {"update_every": 4, "estimate_steps": 2, "steps": 13}
    model = llama()
    method, optimizer = start(model, **extra)
    train(model, method, optimizer, data[:cut])
    parameters = model.state_dict() if whole else {n: p for n, p in model.named_parameters() if p.requires_grad}
    file = io.BytesIO()
    torch.save((parameters, method.state_dict(), optimizer.state_dict()), file)
    train(model, method, optimizer, data[cut:], first=cut + 1)

    file.seek(0)
    parameters, state, moments = torch.load(file, weights_only=True)
    again = llama()  # pretrained weights; the checkpoint may carry dense weights or the trainable numbers only
    resumed, fresh = start(again, seed=99, **extra)
    resumed.load_state_dict(state)
    missing = again.load_state_dict(parameters, strict=whole)
    assert not missing.unexpected_keys
    fresh.load_state_dict(moments)
    train(again, resumed, fresh, data[cut:], first=cut + 1)
    assert same(model, again)
    assert resumed.describe() == method.describe()


def test_merge_gives_the_same_model_back():
    model = llama(torch.bfloat16)
    types = {n: type(m) for n, m in model.named_modules()}
    keys = list(model.state_dict())
    method, optimizer = start(model)
    train(model, method, optimizer, batches(7))
    described = method.describe()
    ids = batches(1)[0]
    model.eval()
    with torch.no_grad():
        before = model(input_ids=ids).logits
        method.merge(model)
        assert torch.equal(before, model(input_ids=ids).logits)
    assert {n: type(m) for n, m in model.named_modules()} == types and list(model.state_dict()) == keys
    assert not any(m.training for m in model.modules())
    assert method.describe() == described


def test_wrapped_optimizer_is_unwrapped():
    class Wrapper:
        def __init__(self, optimizer: Any) -> None:
            self.optimizer = optimizer

        def __getattr__(self, name: str) -> Any:
            return getattr(self.optimizer, name)

    a, b = llama(), llama()
    one, plain = start(a)
    two, inner = start(b)
    train(a, one, plain, batches(5))
    train(b, two, Wrapper(inner), batches(5))
    assert one.updates == 2 and same(a, b)


class Toy(nn.Module):
    """A regression that needs no transformers import in the child processes."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.up_proj, self.down_proj = nn.Linear(8, 24).double(), nn.Linear(24, 3).double()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.down_proj(self.up_proj(x).tanh()).square().mean()


class ToyStep(Step):
    """A step whose batch is the toy's input."""

    def loss(self, part: Batch, targets: int) -> torch.Tensor:
        return self.model(part.ids_BT)


def toy_run(x: torch.Tensor, rank: int, ranks: int) -> list[torch.Tensor]:
    model = Toy()
    method, optimizer = start(model, fraction=0.2, steps=9, targets=("up_proj", "down_proj"))
    step = ToyStep("tuning", model, method, Around(model, optimizer))
    for number in range(1, 10):
        part = x[number].chunk(ranks)[rank]
        step.take(number, [Batch(part, part, len(part), len(part))], 1.0)
    return [t.detach() for layer in method.layers.values() for t in (layer.indices, layer.deltas, layer.weight)]


def toy_process(rank: int, meeting: str, x: torch.Tensor, expected: list[torch.Tensor]) -> None:
    torch.set_num_threads(1)
    torch.distributed.init_process_group("gloo", init_method=f"file://{meeting}", rank=rank, world_size=2)
    for got, want in zip(toy_run(x, rank, 2), expected):
        torch.testing.assert_close(got, want, rtol=1e-9, atol=1e-12)
    torch.distributed.barrier()  # gloo aborts where one leaves while the other still hears of it
    torch.distributed.destroy_process_group()


def test_two_processes_equal_one(tmp_path: Path):
    x = torch.randn(10, 6, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(2))
    mp.spawn(toy_process, (str(tmp_path / "meeting"), x, toy_run(x, 0, 1)), nprocs=2)


def test_chunks_change_no_bit(monkeypatch: pytest.MonkeyPatch):
    losses = []
    for chunk in (1 << 24, 7):
        monkeypatch.setattr(optim, "CHUNK", chunk)
        model = llama()
        method, optimizer = start(model)
        train(model, method, optimizer, batches(8))
        losses.append([p.detach().clone() for p in model.parameters()])
    assert all(torch.equal(a, b) for a, b in zip(*losses))
