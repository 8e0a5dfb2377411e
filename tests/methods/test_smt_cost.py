"""SMT's cost, counted rather than timed: what is computed, kept and skipped, on a two-layer random LLaMA."""

from __future__ import annotations

import pytest
import torch
from helpers import tiny_llama
from torch import nn

from smt_bench import methods
from smt_bench.methods.smt.collect import Collector
from smt_bench.methods.smt.gradients import WAYS
from smt_bench.methods.smt.install import same_input, sparse_layers
from smt_bench.methods.smt.layer import SparseLinear
from smt_bench.methods.smt.pooled import PooledLinear
from smt_bench.methods.smt.selection import block_sums
from smt_bench.training.loss import enable_checkpointing
from smt_bench.training.optimizer import TorchUpdater

SIDE = 16
SELECTION = {
    "model.layers.1.self_attn.q_proj": [(0, 0), (3, 0), (1, 2)],
    "model.layers.1.self_attn.k_proj": [(1, 2)],
    "model.layers.1.self_attn.v_proj": [(0, 0), (1, 1)],
}


def attached(
    selection: dict[str, list[tuple[int, int]]] = SELECTION, **changes: object
) -> tuple[nn.Module, methods.Method]:
    """A model whose blocks are chosen by hand."""
    model = tiny_llama(**changes)
    method = methods.build("smt", {"block_size": SIDE, "warmup_steps": 1}, 0.02, 0, 5)
    method.load_state_dict({"observed": 1, "sums": {}, "selection": selection})
    method.groups = method.attach(model)  # type: ignore[attr-defined]
    method.before_step(model, 2)
    return model, method


def ids(seed: int = 0) -> torch.Tensor:
    return torch.randint(0, 100, (2, 12), generator=torch.Generator().manual_seed(seed))


def backward(model: nn.Module, seed: int = 0) -> None:
    model(input_ids=ids(seed), labels=ids(seed)).loss.backward()


PAIRS = [(0, 0), (2, 0), (1, 2), (2, 3), (0, 3)]


def naive(dy: torch.Tensor, kept: torch.Tensor, side: int) -> torch.Tensor:
    out = torch.zeros(len(PAIRS), side, side, dtype=torch.float64)
    for n, (row, column) in enumerate(PAIRS):
        for t in range(len(dy)):
            out[n] += torch.outer(dy[t, row * side : (row + 1) * side], kept[t, column * side : (column + 1) * side])
    return out


def sides(side: int, tokens: int, dtype: torch.dtype) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(side)
    dy = torch.randn(tokens, 3 * side, dtype=torch.float64, generator=generator)
    kept = torch.randn(tokens, 4 * side, dtype=torch.float64, generator=generator)
    return dy.to(dtype), kept.to(dtype)


@pytest.mark.parametrize("way", ["per_block", "batched"])
@pytest.mark.parametrize("side", [1, 4, 7])
def test_every_way_gives_the_naive_block_gradients(way: str, side: int) -> None:
    dy, kept = sides(side, 9, torch.float64)
    torch.testing.assert_close(WAYS[way](dy, kept, PAIRS, side), naive(dy, kept, side), rtol=1e-12, atol=1e-12)


def test_layers_that_read_one_input_keep_one_copy_of_its_columns() -> None:
    model, _ = attached()
    weights = {p.untyped_storage().data_ptr() for p in model.parameters()}
    attention = model.get_submodule("model.layers.1.self_attn")
    x = torch.randn(2, 12, 64)
    kept: dict[int, torch.Tensor] = {}

    def pack(t: torch.Tensor) -> torch.Tensor:
        if t.untyped_storage().data_ptr() not in weights:
            kept[t.untyped_storage().data_ptr()] = t
        return t

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda t: t):
        out = [getattr(attention, name)(x) for name in ("q_proj", "k_proj", "v_proj")]
    # Column 0, 1 and 2 of four: tokens x 3 x side numbers, once for the three projections, and not the input.
    assert [t.untyped_storage().nbytes() for t in kept.values()] == [24 * 3 * SIDE * 4]
    sum(o.sum() for o in out).backward()
    shared = attention.q_proj.shared
    assert shared is attention.v_proj.shared
    assert shared._kept is None and shared._input is None, "held beyond the forward pass"


def test_never_keeps_more_than_the_input() -> None:
    linears = {
        name: nn.Linear(64, 64, bias=False).requires_grad_(False) for name in ("a.q_proj", "a.k_proj", "a.v_proj")
    }
    every = {name: [(row, column) for column in range(4) for row in range(2)] for name in linears}
    layers, _ = sparse_layers(linears, every, (SIDE, SIDE))
    x = torch.randn(3, 8, 64)
    storages = set()
    with torch.autograd.graph.saved_tensors_hooks(
        lambda t: storages.add(t.untyped_storage().data_ptr()) or t, lambda t: t
    ):
        out = [layer(x) for layer in layers.values()]
    weights = {linear.weight.untyped_storage().data_ptr() for linear in linears.values()}
    assert storages - weights == {x.untyped_storage().data_ptr()}
    assert len(out) == 3


def test_gradients_through_shared_columns_equal_dense_ones_and_gather_over_micro_batches() -> None:
    model, method = attached()
    dense = tiny_llama()
    for seed in (1, 2):
        backward(model, seed)
        backward(dense, seed)
    method.after_backward(model, 2)
    for name, blocks in SELECTION.items():
        grad = dense.get_submodule(name).weight.grad
        layer = model.get_submodule(name)
        for n, (row, column) in enumerate(blocks):
            expected = grad[row * SIDE : (row + 1) * SIDE, column * SIDE : (column + 1) * SIDE]
            torch.testing.assert_close(layer.blocks.grad[n], expected)
    (group,) = method.groups  # type: ignore[attr-defined]
    (flat,) = group.params
    assert flat.shape == (6, SIDE, SIDE)
    together = torch.cat([model.get_submodule(name).blocks.grad for name in SELECTION])
    assert torch.equal(flat.grad, together), "the optimizer sees the layers' gradients"


def test_the_optimizer_moves_one_tensor_and_with_it_the_layers() -> None:
    model, method = attached()
    settings = methods.base.OptimizerSettings(1e-2)
    updater = TorchUpdater(model, method, method.groups, settings, 1.0)  # type: ignore[attr-defined]
    assert len(updater.params) == 1
    backward(model)
    method.after_backward(model, 2)
    before = {name: model.get_submodule(name).blocks.detach().clone() for name in SELECTION}
    updater.step(1.0)
    method.after_step(model, updater.optimizer, 2)
    for name, blocks in SELECTION.items():
        layer = model.get_submodule(name)
        assert not torch.equal(layer.blocks, before[name])
        row, column = blocks[-1]
        written = layer.weight[row * SIDE : (row + 1) * SIDE, column * SIDE : (column + 1) * SIDE]
        assert torch.equal(written, layer.blocks[-1])
    method.before_step(model, 3)
    assert all(not model.get_submodule(name).blocks.grad.any() for name in SELECTION), "gradients start from zero"


@pytest.mark.parametrize("checkpointing", [False, True])
def test_below_the_lowest_selected_layer_nothing_is_recomputed_or_differentiated(checkpointing: bool) -> None:
    model, _ = attached(num_hidden_layers=3)
    model.train()
    if checkpointing:
        enable_checkpointing(model)
    forwards, gradients = [0, 0, 0], [False, False, False]

    def watch(number: int):
        def hook(module: nn.Module, inputs: object, output: torch.Tensor) -> None:
            forwards[number] += 1
            gradients[number] |= output.requires_grad

        return hook

    for number, layer in enumerate(model.model.layers):
        layer.input_layernorm.register_forward_hook(watch(number))
    backward(model)
    assert gradients == [False, False, True], "the input of layer 1, whose blocks are the lowest, needs no gradient"
    assert forwards == ([1, 2, 2] if checkpointing else [1, 1, 1])


def test_an_unselected_sibling_keeps_nothing_and_stays_plain() -> None:
    only = {"model.layers.1.self_attn.v_proj": [(0, 1)]}
    model, _ = attached(only)
    kinds = {
        name: type(model.get_submodule(f"model.layers.1.self_attn.{name}")) for name in ("q_proj", "k_proj", "v_proj")
    }
    assert kinds == {"q_proj": nn.Linear, "k_proj": nn.Linear, "v_proj": SparseLinear}
    backward(model)
    assert all(p.grad is None for name, p in model.named_parameters() if not name.endswith("blocks"))


def test_siblings_are_found_by_parent_and_name() -> None:
    names = [
        "l.0.a.q_proj",
        "l.0.a.k_proj",
        "l.0.a.o_proj",
        "l.0.m.up_proj",
        "l.1.a.v_proj",
        "l.0.a.v_proj",
        "l.0.m.gate_proj",
    ]
    assert same_input(names) == [
        ["l.0.a.q_proj", "l.0.a.k_proj", "l.0.a.v_proj"],
        ["l.0.a.o_proj"],
        ["l.0.m.up_proj", "l.0.m.gate_proj"],
        ["l.1.a.v_proj"],
    ]


@pytest.mark.parametrize("checkpointing", [False, True])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_pooled_scores_equal_the_sums_over_dense_gradients(checkpointing: bool, dtype: torch.dtype) -> None:
    config = {"block_size": SIDE, "warmup_steps": 2, "warmup_trains": False}
    method = methods.build("smt", config, 0.02, 0, 5)
    model, dense = tiny_llama().to(dtype), tiny_llama().double()
    if checkpointing:
        model.train()
        enable_checkpointing(model)
    start = {name: value.clone() for name, value in model.state_dict().items()}
    assert method.warmup(model) == []
    pooled = {n: m for n, m in model.named_modules() if isinstance(m, PooledLinear)}
    assert len(pooled) == 6
    for step in (1, 2):
        for part in (0, 1):  # two micro-batches a step
            backward(model, 10 * step + part)
            backward(dense, 10 * step + part)
        method.observe(model, step)
    assert all(p.grad is None for p in model.parameters()), "a frozen warm-up makes no weight gradient"
    state = method.state_dict()
    for name in pooled:
        grad = dense.get_submodule(name).weight.grad
        expected = block_sums(grad, SIDE)
        error = (state["sums"][name].double() - expected).abs().max() / expected.abs().max()
        assert error < (1e-12 if dtype == torch.float64 else 1e-5)
        assert state["sums"][name].numel() == expected.numel(), "one number per block"
    method.attach(model)
    assert not any(isinstance(m, PooledLinear) for m in model.modules())
    now = {k: v for k, v in model.state_dict().items() if not k.endswith("blocks")}
    assert all(torch.equal(now[k], v) for k, v in start.items())


def test_a_frozen_warm_up_keeps_a_thin_matrix_per_input() -> None:
    config = {"block_size": SIDE, "warmup_steps": 2, "warmup_trains": False}
    method = methods.build("smt", config, 0.02, 0, 5)
    model = tiny_llama()
    method.warmup(model)
    attention = model.get_submodule("model.layers.0.self_attn")
    weights = {p.untyped_storage().data_ptr() for p in model.parameters()}
    sizes: dict[int, int] = {}
    with torch.autograd.graph.saved_tensors_hooks(
        lambda t: sizes.update({t.untyped_storage().data_ptr(): t.numel()}) or t, lambda t: t
    ):
        x = torch.randn(2, 12, 64)
        out = [getattr(attention, name)(x) for name in ("q_proj", "k_proj", "v_proj")]
    assert [n for at, n in sizes.items() if at not in weights] == [24 * 64 // SIDE]
    assert len(out) == 3


@pytest.mark.parametrize("metric", ["l2", "abs_mean", "abs_sum"])
def test_other_metrics_hold_one_matrix_gradient_at_a_time(metric: str) -> None:
    config = {"block_size": SIDE, "warmup_steps": 2, "warmup_trains": False, "metric": metric}
    method = methods.build("smt", config, 0.02, 0, 5)
    model = tiny_llama()
    method.warmup(model)
    alive = []
    for _, p in model.named_parameters():
        if p.requires_grad:
            p.register_post_accumulate_grad_hook(
                lambda _: alive.append(sum(q.grad is not None for q in model.parameters()))
            )
    backward(model)
    method.observe(model, 1)
    assert len(alive) == 6 and max(alive) == 0, "dropped before the next one is made"


@pytest.mark.parametrize("config", [{"metric": "activation"}, {"scope": "random"}])
def test_selections_without_gradients_need_no_backward_pass(config: dict[str, str]) -> None:
    method = methods.build("smt", {"block_size": SIDE, "warmup_steps": 1, "warmup_trains": False, **config}, 0.02, 0, 5)
    model = tiny_llama()
    method.warmup(model)
    assert not model(input_ids=ids(), labels=ids()).loss.requires_grad
    method.observe(model, 1)
    method.attach(model)
    assert method.selection  # type: ignore[attr-defined]


def test_a_frozen_warm_up_needs_no_dense_memory() -> None:
    assert methods.build("smt", {}, 0.01, 0, 1000).trains_dense
    assert not methods.build("smt", {"warmup_trains": False}, 0.01, 0, 1000).trains_dense


@pytest.mark.parametrize(("free", "fits"), [(4 * 6 * 64 * 64, True), (4 * 6 * 64 * 64 - 1, False)])
def test_sums_of_matrices_stay_on_a_gpu_where_all_of_them_fit(
    free: int, fits: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    gpu = torch.device("cuda", 0)
    # Free, reserved by the allocator, and the most that was ever in use of it.
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (free, 10**9))
    monkeypatch.setattr(torch.cuda, "memory_reserved", lambda device: 5000)
    monkeypatch.setattr(torch.cuda, "max_memory_allocated", lambda device: 5000)
    matrices = {f"l{n}.q_proj": (4, 4) for n in range(6)}
    collector = Collector(("q_proj",), "l2", "global", SIDE, matrices, {}, lambda tensor: tensor)
    assert collector._whole._fits_on(gpu) is fits
    assert not collector._whole._fits_on(torch.device("cpu")), "main memory is where they are anyway"
    for step in (1.0, 2.0):
        collector._add("l0.q_proj", torch.full((64, 64), step))
    assert torch.equal(collector.sums["l0.q_proj"], torch.full((64, 64), 3.0))
