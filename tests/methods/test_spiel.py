"""SpIEL-AG against a naive dense reimplementation, and the invariants of its bookkeeping."""

from __future__ import annotations

import copy
import io
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.multiprocessing as mp
from labelled import labelled
from torch import nn

from smt_bench.data.batches import Batch
from smt_bench.machine import parallel
from smt_bench.methods.base import OptimizerSettings
from smt_bench.methods.deltas import DeltaGradient, SpielLinear
from smt_bench.methods.spiel.method import Spiel, SpielConfig
from smt_bench.methods.spiel.optim import SpielAdamW
from smt_bench.methods.spiel.selection import is_update, random_indices, replaced, spread
from smt_bench.training.optimizer import TorchUpdater, Updater
from smt_bench.training.step import Step

VOCAB = 128
LR = 1e-2


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Matrices this small lose time to a second thread, a lot of it on a busy machine."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def llama(dtype: torch.dtype = torch.float32) -> Any:
    from transformers import LlamaConfig, LlamaForCausalLM  # here, to keep it out of the child processes

    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=VOCAB, hidden_size=64, intermediate_size=96, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=2, max_position_embeddings=64, tie_word_embeddings=False, initializer_range=0.1,
    )  # fmt: skip
    return LlamaForCausalLM(config).to(dtype).train()


def batches(steps: int, size: int = 4) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    return [torch.randint(VOCAB, (size, 12), generator=generator) for _ in range(steps)]


def shapes(model: nn.Module) -> dict[str, tuple[int, ...]]:
    return {name: tuple(p.shape) for name, p in model.named_parameters()}


def start(model: nn.Module, fraction: float = 0.03, steps: int = 14, seed: int = 3, **config: Any) -> tuple[Spiel, Any]:
    values = {"update_every": 4, "estimate_steps": 2, "replace_rate": 0.5, **config}
    method = Spiel(SpielConfig(**values), fraction, seed, steps)
    method.set_average(parallel.averaged)
    groups = [{"params": g.params, "lr": LR, "weight_decay": g.weight_decay} for g in method.attach(model)]
    return method, method.optimizer(groups, OptimizerSettings(lr=LR))


class Around(TorchUpdater):
    """Training's updater around an optimizer that is there already."""

    def __init__(self, model: Any, optimizer: Any) -> None:
        Updater.__init__(self, model, [p for group in optimizer.param_groups for p in group["params"]])
        self.optimizer, self.max_grad_norm, self._masters = optimizer, math.inf, []
        self._peaks = [LR for _ in optimizer.param_groups]


def one_step(model: Any, method: Spiel, optimizer: Any, ids: torch.Tensor, step: int, micro: int = 1) -> float:
    parts = [labelled(part) for part in ids.chunk(micro)]
    return Step("tuning", model, method, Around(model, optimizer)).take(step, parts, 1.0).loss


def train(model: Any, method: Spiel, optimizer: Any, data: list[torch.Tensor], first: int = 1, micro: int = 1) -> None:
    for step, ids in enumerate(data, first):
        one_step(model, method, optimizer, ids, step, micro)


def same(a: nn.Module, b: nn.Module) -> bool:
    left, right = a.state_dict(), b.state_dict()
    return left.keys() == right.keys() and all(torch.equal(left[k], right[k]) for k in left)


class Naive:
    """SpIEL-AG with everything dense and one weight at a time: gradients and Adam state of all weights, as lists."""

    def __init__(self, model: Any, active: dict[str, list[int]], steps: int, every: int, phase: int) -> None:
        self.model, self.steps, self.phase = model, steps, phase
        self.updates = [u for u in range(1, steps) if u == phase or (u > phase and u % every == 0)]
        self.weights = {name: model.get_parameter(f"{name}.weight") for name in active}
        self.pretrained = {n: w.detach().clone().flatten() for n, w in self.weights.items()}
        self.active = {n: set(i) for n, i in active.items()}
        zeros = {n: [0.0] * len(w) for n, w in self.pretrained.items()}
        self.delta, self.mean, self.square, self.age = (copy.deepcopy(zeros) for _ in range(4))
        self.history: dict[str, list[list[float]]] = {n: [] for n in active}
        self.candidates: dict[str, list[int]] = {}

    def step(self, ids: torch.Tensor, t: int, decay: float, rate: float) -> None:
        beta1, beta2 = 0.9, 0.999
        self.model.zero_grad()
        self.model(input_ids=ids, labels=ids).loss.backward()
        for n, weight in self.weights.items():
            grad = weight.grad.flatten().tolist()
            delta, mean, square, age = self.delta[n], self.mean[n], self.square[n], self.age[n]
            if t + self.phase - 1 in self.updates:
                self.history[n] = []
                order = sorted(range(len(grad)), key=lambda i: -abs(grad[i]))  # noqa: B023 - used at once
                self.candidates[n] = [i for i in order if i not in self.active[n]][: len(self.active[n])]
            self.history[n].append(grad)
            for i in self.active[n]:
                age[i] += 1
                mean[i] = beta1 * mean[i] + (1 - beta1) * grad[i]
                square[i] = beta2 * square[i] + (1 - beta2) * grad[i] ** 2
                m, v = mean[i] / (1 - beta1 ** age[i]), square[i] / (1 - beta2 ** age[i])
                delta[i] = delta[i] * (1 - LR * decay) - LR * m / (v**0.5 + 1e-8)
            if t in self.updates:
                count = len(self.active[n])
                k = count if t == self.phase else int(rate * (self.steps - t) / self.steps * count)
                average = {i: sum(g[i] for g in self.history[n]) / self.phase for i in self.candidates[n]}
                drop = sorted(self.active[n], key=lambda i: abs(delta[i]))[:k]  # noqa: B023
                grow = sorted(average, key=lambda i: -abs(average[i]))[:k]  # noqa: B023
                for i in drop:
                    delta[i] = 0.0
                for i in grow:
                    mean[i] = average[i] * (1 - beta1**self.phase)
                    square[i] = sum(g[i] ** 2 for g in self.history[n]) / self.phase * (1 - beta2**self.phase)
                    age[i] = self.phase
                self.active[n] = (self.active[n] - set(drop)) | set(grow)
            with torch.no_grad():
                weight.copy_((self.pretrained[n] + torch.tensor(delta, dtype=torch.float64)).view_as(weight))


def test_equals_naive_dense_version():
    steps, decay = 13, 0.5
    model = llama(torch.float64)
    dense = copy.deepcopy(model)
    method, optimizer = start(model, steps=steps, weight_decay=decay)
    naive = Naive(dense, {n: layer.indices.tolist() for n, layer in method.layers.items()}, steps, 4, 2)
    moved = 0
    for t, ids in enumerate(batches(steps), 1):
        before = {n: set(layer.indices.tolist()) for n, layer in method.layers.items()}
        one_step(model, method, optimizer, ids, t)
        naive.step(ids, t, decay, rate=0.5)
        for n, layer in method.layers.items():
            indices = layer.indices.long()
            assert set(indices.tolist()) == naive.active[n] and len(indices) == len(naive.active[n])
            moved += len(set(indices.tolist()) - before[n])
            state = optimizer.state[layer.deltas]
            for ours, theirs in (
                (layer.deltas.detach(), naive.delta), (state["exp_avg"], naive.mean),
                (state["exp_avg_sq"], naive.square), (state["age"], naive.age),
            ):  # fmt: skip
                expected = torch.tensor(theirs[n], dtype=torch.float64)[indices]
                torch.testing.assert_close(ours, expected, rtol=1e-6, atol=1e-9)
            torch.testing.assert_close(layer.weight.detach(), naive.weights[n].detach(), rtol=1e-6, atol=1e-9)
    described = method.describe()
    assert described["updates"] == 4 and described["replaced"] == moved
    assert set(described["age_histogram"]) == {"2", "4", "8", "12"}
    assert sum(described["age_histogram"].values()) == sum(len(i) for i in naive.active.values())


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_inactive_and_dropped_weights_are_pretrained_bit_for_bit(dtype: torch.dtype):
    model = llama(dtype)
    pretrained = {n: p.detach().clone() for n, p in model.named_parameters()}
    method, optimizer = start(model)
    left = {n: set() for n in method.layers}
    for t, ids in enumerate(batches(14), 1):
        before = {n: set(layer.indices.tolist()) for n, layer in method.layers.items()}
        one_step(model, method, optimizer, ids, t)
        for n, layer in method.layers.items():
            now = set(layer.indices.tolist())
            left[n] = (left[n] | before[n]) - now
            active = torch.zeros(layer.weight.numel(), dtype=torch.bool)
            active[layer.indices.long()] = True
            original = pretrained[f"{n}.weight"].flatten()
            assert torch.equal(layer.flat()[~active], original[~active])
            assert torch.equal(layer.base, original[layer.indices.long()])
            assert (layer.deltas.dtype, layer.base.dtype, layer.indices.dtype) == (torch.float32, dtype, torch.int32)
    assert all(left.values())  # there were dropped weights to look at
    method.merge(model)
    assert dict(model.named_parameters()).keys() == pretrained.keys()
    targets = {f"{n}.weight" for n in left}
    assert all(torch.equal(p, pretrained[n]) for n, p in model.named_parameters() if n not in targets)
    assert not any(torch.equal(p, pretrained[n]) for n, p in model.named_parameters() if n in targets)


def test_capacity_and_density():
    model = llama()
    method, _ = start(model, fraction=0.03)
    capacity = Spiel(SpielConfig(), 0.03, 0, 10).capacity(shapes(llama()))
    trainable = [p for p in model.parameters() if p.requires_grad]
    assert sum(p.numel() for p in trainable) == capacity.trainable == capacity.units == round(0.03 * capacity.total)
    held = sum(layer.weight.numel() for layer in method.layers.values())
    for layer in method.layers.values():
        assert abs(len(layer.deltas) - capacity.units * layer.weight.numel() / held) < 1
        assert layer.indices.unique().numel() == len(layer.deltas)
    assert spread(7, {"a": 10, "b": 10, "c": 1}) == {"a": 4, "b": 3, "c": 0}


def test_first_indices_are_seeded_and_uniform():
    a, b, c = (start(llama(), seed=seed)[0] for seed in (5, 5, 6))
    for x, y, z in zip(a.layers.values(), b.layers.values(), c.layers.values()):
        assert torch.equal(x.indices, y.indices) and not torch.equal(x.indices, z.indices)
    generator = torch.Generator().manual_seed(0)
    for count in (2, 6):  # the sparse and the dense way
        drawn = torch.stack([random_indices(12, count, generator) for _ in range(3000)])
        assert all(len(set(row)) == count for row in drawn[:100].tolist())
        share = drawn.flatten().bincount(minlength=12) / (3000 * count / 12)
        assert (share - 1).abs().max() < 0.2


def test_schedule():
    assert [t for t in range(1, 101) if is_update(t, 20, 5, 100)] == [5, 20, 40, 60, 80]
    assert [t for t in range(1, 21) if is_update(t, 5, 5, 21)] == [5, 10, 15, 20]
    assert [t for t in range(1, 13) if is_update(t, 4, 3, 13)] == [3, 8, 12]  # 4 would share step 3 with the first
    assert replaced(5, 50, 0.2, 5, 100) == 50
    assert [replaced(t, 30, 0.1, 5, 100) for t in (0, 50, 100)] == [3, 1, 0]


def tensors(value: Any, seen: set[int]) -> list[torch.Tensor]:
    """All tensors reachable from a value through attributes and containers."""
    if id(value) in seen or isinstance(value, type):
        return []
    seen.add(id(value))
    if isinstance(value, torch.Tensor):
        return [value] + tensors(value.grad, seen)
    if isinstance(value, dict):
        return [t for pair in value.items() for v in pair for t in tensors(v, seen)]
    if isinstance(value, (list, tuple, set)):
        return [t for v in value for t in tensors(v, seen)]
    return tensors(vars(value), seen) if hasattr(value, "__dict__") and not callable(value) or isinstance(
        value, nn.Module
    ) else []  # fmt: skip


def test_memory_is_a_few_numbers_per_delta():
    model = llama()
    base = {p.data_ptr() for p in model.parameters()}
    method, optimizer = start(model)
    train(model, method, optimizer, batches(6))
    method.before_step(model, 7)  # into an estimation phase (7, 8), gradients still there
    ids = batches(1)[0]
    model(input_ids=ids, labels=ids).loss.backward()
    extra = [t for t in tensors([method, optimizer, model], set()) if t.data_ptr() not in base]
    most = max(len(layer.deltas) for layer in method.layers.values())
    deltas = sum(len(layer.deltas) for layer in method.layers.values())
    buffers = sum(b.numel() for n, b in model.named_buffers() if "rotary" in n)
    big = [t for t in extra if t.numel() > max(most, buffers)]
    assert not big, [t.shape for t in big]
    numbers = sum(t.numel() for t in extra)
    assert 11 * deltas <= numbers <= 11 * deltas + 4 * buffers  # indices, base, delta, grad, Adam 3, candidates 4


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
    torch.testing.assert_close(linear.weight.grad.flatten(), layer.deltas.grad)


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
    torch.distributed.destroy_process_group()


def test_two_processes_equal_one(tmp_path: Path):
    x = torch.randn(10, 6, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(2))
    mp.spawn(toy_process, (str(tmp_path / "meeting"), x, toy_run(x, 0, 1)), nprocs=2)


def test_config_round_trip_and_default_targets():
    config = SpielConfig.from_dict({"update_every": 10, "targets": ["q_proj"]})
    assert config == SpielConfig(targets=("q_proj",), update_every=10)
    assert SpielConfig.from_dict(config.to_dict()) == config
    assert (SpielConfig().update_every, SpielConfig().estimate_steps, SpielConfig().replace_rate) == (20, 5, 0.2)


@pytest.mark.parametrize(
    "config,fraction,message",
    [
        ({"update_every": 0}, 0.01, "update_every=0"),
        ({"estimate_steps": 0}, 0.01, "estimate_steps=0"),
        ({"estimate_steps": 21}, 0.01, "estimate_steps=21"),
        ({"replace_rate": 1.5}, 0.01, "replace_rate=1.5"),
        ({"weight_decay": -1.0}, 0.01, "weight_decay=-1.0"),
        ({"weight_decay": float("nan")}, 0.01, "weight_decay=nan"),
        ({}, None, "fraction=None"),
        ({}, 0.0, "fraction=0.0"),
        ({}, 1e-9, "fraction=1e-09"),
        ({}, 0.9, "fraction=0.9: .* choose at most 0.3"),
        ({"targets": ("q_proj",)}, 0.1, "fraction=0.1: .* choose at most 0.05"),
        ({"targets": ("c_attn",)}, 0.01, "c_attn"),
        ({"targets": ()}, 0.01, "targets"),
    ],
)
def test_bad_requests_are_refused(config: dict[str, Any], fraction: float | None, message: str):
    with pytest.raises(ValueError, match=message) as error:
        Spiel(SpielConfig(**config), fraction, 0, 100).capacity(shapes(llama()))
    assert "\n" not in str(error.value)


def test_targets_that_are_not_linear_are_refused():
    model = nn.ModuleDict({"table": nn.Embedding(8, 8), "head": nn.Linear(8, 8)})
    with pytest.raises(ValueError, match="table is a Embedding"):
        Spiel(SpielConfig(targets=("table", "head")), 0.1, 0, 10).attach(model)
