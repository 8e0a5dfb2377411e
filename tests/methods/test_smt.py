"""SMT's numerics against naive float64 versions."""

from __future__ import annotations

import pytest
import torch
from helpers import tiny_llama
from torch import nn

from smt_bench import methods
from smt_bench.methods.modules import apportion
from smt_bench.methods.smt.install import sparse_layers
from smt_bench.methods.smt.layer import BlockLinear, SparseLinear, columns_of
from smt_bench.methods.smt.selection import METRICS, activation_scores, grid, resolve_side, select

INDEX = [(0, 0), (2, 0), (1, 2)]  # rows and columns of blocks


def layer(
    o: int = 12, i: int = 16, side: int = 4, bias: bool = True, dtype: torch.dtype = torch.float64
) -> SparseLinear:
    torch.manual_seed(0)
    layers, _ = sparse_layers({"q": nn.Linear(i, o, bias=bias).to(dtype)}, {"q": INDEX}, (side, side))
    return layers["q"]


@pytest.mark.parametrize("shape", [(5, 16), (2, 5, 16)])
@pytest.mark.parametrize("bias", [True, False])
def test_block_gradients_equal_the_dense_gradients_blocks(shape: tuple[int, ...], bias: bool) -> None:
    sparse = layer(bias=bias)
    x = torch.randn(*shape, dtype=torch.float64, requires_grad=True)
    weight = sparse.weight.detach().clone().requires_grad_(True)
    dense_x = x.detach().clone().requires_grad_(True)
    out, dense_out = sparse(x), nn.functional.linear(dense_x, weight, sparse.bias)
    torch.testing.assert_close(out, dense_out, rtol=0, atol=0)
    grad = torch.randn_like(out)
    out.backward(grad)
    dense_out.backward(grad)
    torch.testing.assert_close(x.grad, dense_x.grad)
    for n, (row, column) in enumerate(INDEX):
        expected = weight.grad[4 * row : 4 * row + 4, 4 * column : 4 * column + 4]
        torch.testing.assert_close(sparse.blocks.grad[n], expected, rtol=1e-12, atol=1e-12)


def test_gradcheck() -> None:
    sparse = layer(bias=False)

    def through_blocks(x: torch.Tensor, blocks: torch.Tensor) -> torch.Tensor:
        # gradcheck moves the blocks, so the dense weight must follow them.
        weight = sparse.weight.detach().clone()
        for n, (row, column) in enumerate(INDEX):
            weight[4 * row : 4 * row + 4, 4 * column : 4 * column + 4] = blocks[n].detach()
        return BlockLinear.apply(
            x, blocks, columns_of(x.detach(), torch.tensor([0, 2]), 4), weight, None, [(0, 0), (2, 0), (1, 1)]
        )

    x = torch.randn(3, 16, dtype=torch.float64, requires_grad=True)
    blocks = sparse.blocks.detach().clone().requires_grad_(True)
    assert torch.autograd.gradcheck(through_blocks, (x, blocks))


def test_saves_exactly_the_distinct_columns_as_copies() -> None:
    sparse = layer()
    x = torch.randn(2, 5, 16, dtype=torch.float64, requires_grad=True)
    saved: list[torch.Tensor] = []

    def keep(t: torch.Tensor) -> torch.Tensor:
        saved.append(t)
        return t

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda t: t):
        sparse(x)
    own = [t for t in saved if t.data_ptr() != sparse.weight.data_ptr()]
    assert [tuple(t.shape) for t in own] == [(10, 2 * 4)]  # tokens x 2 distinct columns x side
    assert own[0].untyped_storage().nbytes() == 10 * 8 * 8
    assert own[0].untyped_storage().data_ptr() != x.untyped_storage().data_ptr()


def test_saves_no_input_without_gradients() -> None:
    sparse = layer()
    with torch.no_grad():
        assert not sparse(torch.randn(3, 16, dtype=torch.float64)).requires_grad
    sparse.requires_grad_(False)
    saved: list[torch.Tensor] = []
    with torch.autograd.graph.saved_tensors_hooks(lambda t: saved.append(t) or t, lambda t: t):
        sparse(torch.randn(3, 16, dtype=torch.float64, requires_grad=True))
    assert sum(t.numel() for t in saved if t.data_ptr() != sparse.weight.data_ptr()) == 0


def test_write_back_moves_the_blocks_and_nothing_else() -> None:
    sparse = layer()
    before = sparse.weight.detach().clone()
    with torch.no_grad():
        sparse.blocks += 1.0
    sparse.write_back()
    moved = (sparse.weight != before).view(3, 4, 4, 4).permute(0, 2, 1, 3).flatten(2)
    expected = torch.zeros(3, 4, dtype=torch.bool)
    for row, column in INDEX:
        expected[row, column] = True
    assert torch.equal(moved.all(-1), expected)
    assert torch.equal(moved.any(-1), expected)


def naive_score(grad: torch.Tensor, side: int, metric: str) -> list[list[float]]:
    out = []
    for r in range(grad.shape[0] // side):
        row = []
        for c in range(grad.shape[1] // side):
            values = [grad[r * side + a, c * side + b].item() for a in range(side) for b in range(side)]
            n = len(values)
            row.append(
                {
                    "mean_abs": abs(sum(values) / n),
                    "abs_mean": sum(abs(v) for v in values) / n,
                    "abs_sum": sum(abs(v) for v in values),
                    "l2": sum(v * v for v in values) ** 0.5,
                }[metric]
            )
        out.append(row)
    return out


@pytest.mark.parametrize("metric", METRICS)
def test_scores_equal_naive_loops(metric: str) -> None:
    grad = torch.randn(6, 9, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    expected = torch.tensor(naive_score(grad, 3, metric), dtype=torch.float64)
    torch.testing.assert_close(METRICS[metric](grad, 3), expected, rtol=1e-12, atol=1e-14)


def naive_select(scores: dict[str, torch.Tensor], count: int, scope: str) -> dict[str, set[tuple[int, int]]]:
    flat = [
        (name, r, c, s[r, c].item()) for name, s in scores.items() for r in range(s.shape[0]) for c in range(s.shape[1])
    ]
    if scope == "global":
        best = sorted(flat, key=lambda b: -b[3])[:count]
    else:
        shares = apportion(count, {name: s.numel() for name, s in scores.items()})
        best = []
        for name in scores:
            best += sorted([b for b in flat if b[0] == name], key=lambda b: -b[3])[: shares[name]]
    out: dict[str, set[tuple[int, int]]] = {}
    for name, r, c, _ in best:
        out.setdefault(name, set()).add((r, c))
    return out


@pytest.mark.parametrize("scope", ["global", "per_layer"])
@pytest.mark.parametrize("count", [1, 5, 13, 22])
@pytest.mark.parametrize("ties", [False, True])
def test_selection_equals_a_naive_one(scope: str, count: int, ties: bool) -> None:
    generator = torch.Generator().manual_seed(count)
    scores = {"q": torch.rand(4, 4, generator=generator), "k": torch.rand(2, 4, generator=generator)}
    if ties:
        scores = {name: (s * 3).floor() for name, s in scores.items()}
    chosen = select(scores, count, scope, seed=0)
    assert {name: set(blocks) for name, blocks in chosen.items()} == naive_select(scores, count, scope)
    assert sum(len(blocks) for blocks in chosen.values()) == count
    for blocks in chosen.values():
        assert blocks == sorted(blocks, key=lambda b: (b[1], b[0]))


def test_random_scope_is_seeded_and_ignores_scores() -> None:
    scores = {"q": torch.full((8, 8), float("nan")), "k": torch.zeros(8, 8)}
    first, again, other = (select(scores, 20, "random", seed) for seed in (1, 1, 2))
    assert first == again != other
    assert sum(len(b) for b in first.values()) == 20


def test_scores_that_are_not_finite_are_refused() -> None:
    with pytest.raises(ValueError, match="not finite"):
        select({"q": torch.tensor([[float("nan")]])}, 1, "global", 0)


def test_activation_scores_are_column_means() -> None:
    norms = torch.arange(8.0)
    assert activation_scores(norms, rows=2, side=4).tolist() == [[1.5, 5.5], [1.5, 5.5]]


@pytest.mark.parametrize(("metric", "trains"), [(m, t) for m in (*METRICS, "activation") for t in (True, False)])
def test_selection_of_a_real_warmup_equals_naive_sums(metric: str, trains: bool) -> None:
    config = {"block_size": 16, "warmup_steps": 2, "metric": metric, "warmup_trains": trains}
    method = methods.build("smt", config, 0.03, 0, 10)
    model, plain = tiny_llama().double(), tiny_llama().double()  # `plain` has all its gradients
    names = [n for n, _ in model.named_modules() if n.endswith(("q_proj", "k_proj", "v_proj"))]
    inputs: dict[str, list[torch.Tensor]] = {n: [] for n in names}
    for n in names:
        plain.get_submodule(n).register_forward_pre_hook(lambda m, i, n=n: inputs[n].append(i[0].detach()))
    groups = method.warmup(model)
    assert bool(groups) == trains
    sums = {n: torch.zeros_like(plain.get_submodule(n).weight) for n in names}
    for step in (1, 2):
        ids = torch.randint(0, 100, (2, 12), generator=torch.Generator().manual_seed(step))
        loss = model(input_ids=ids, labels=ids).loss
        if loss.requires_grad:
            loss.backward()
        method.observe(model, step)
        plain(input_ids=ids, labels=ids).loss.backward()
        for n in names:
            sums[n] += plain.get_submodule(n).weight.grad
        model.zero_grad()
        plain.zero_grad()
    method.attach(model)
    if metric == "activation":
        norms = {n: sum(x.flatten(0, 1).norm(dim=0) for x in inputs[n]) for n in names}
        scores = {n: torch.stack([v.view(-1, 16).mean(1)] * (sums[n].shape[0] // 16)) for n, v in norms.items()}
    else:
        scores = {n: METRICS[metric](g, 16) for n, g in sums.items()}
    expected = select(scores, method._count, "global", 0)
    assert method.selection == expected
    assert method.describe()["blocks_per_target"] == {
        t: sum(len(b) for n, b in expected.items() if n.endswith(t))
        for t in ("q_proj", "k_proj", "v_proj")
        if any(n.endswith(t) for n in expected)
    }


def test_block_sizes() -> None:
    matrices = {"q": (576, 576), "k": (192, 576)}
    assert resolve_side("auto", matrices) == 192
    with pytest.raises(
        ValueError, match=r"block_size=256 does not divide q.weight \(576, 576\): choose a divisor of 192"
    ):
        resolve_side(256, matrices)
    side, blocks = grid({"a.q_proj.weight": (64, 32), "a.x.weight": (7, 7)}, ("q_proj",), 16)
    assert (side, blocks) == (16, {"a.q_proj": (4, 2)})


def test_spread_adds_up() -> None:
    assert apportion(10, {"a": 1, "b": 1, "c": 1}) == {"a": 4, "b": 3, "c": 3}
    assert apportion(0, {"a": 5}) == {"a": 0}


def test_layers_without_blocks_stay_plain_and_frozen() -> None:
    method = methods.build("smt", {"block_size": 16, "warmup_steps": 1, "scope": "random"}, 0.002, 0, 5)
    model = tiny_llama()
    method.warmup(model)
    ids = torch.arange(12)[None]
    model(input_ids=ids, labels=ids).loss.backward()
    method.observe(model, 1)
    method.attach(model)
    sparse = [m for m in model.modules() if isinstance(m, SparseLinear)]
    assert len(sparse) == len(method.selection) < 6
    assert {id(p) for p in model.parameters() if p.requires_grad} == {id(m.blocks) for m in sparse}


def test_bad_settings() -> None:
    for config, message in [
        ({"metric": "max"}, "choose from mean_abs"),
        ({"scope": "all"}, "choose from global"),
        ({"block_size": 0}, "at least 1"),
        ({"warmup_steps": 10}, "smaller warm-up"),
    ]:
        with pytest.raises(ValueError, match=message):
            methods.build("smt", config, 0.01, 0, 10)


ATTENTION, MLP = ["q_proj", "k_proj", "v_proj"], ["gate_proj", "up_proj", "down_proj"]


def test_shares_split_the_budget_between_groups_and_the_best_of_each_train() -> None:
    assert apportion(7, {"a": 0.5, "b": 0.5}) == {"a": 4, "b": 3} and apportion(80, {"a": 0.25, "b": 0.75})["a"] == 20
    config = {"targets": ATTENTION + MLP, "block_size": 16, "shares": {"+".join(MLP): 0.25, "+".join(ATTENTION): 0.75}}
    model = tiny_llama()
    method = methods.build("smt", {**config, "warmup_steps": 1}, 0.08, 0, 10)
    method.warmup(model)
    for i, parameter in enumerate(model.parameters()):
        parameter.grad = torch.full_like(parameter, float(i))  # all gradients of later layers are larger
    method.observe(model, 1)
    method.attach(model)
    per_target = method.describe()["blocks_per_target"]
    count = method.capacity({n: tuple(p.shape) for n, p in tiny_llama().named_parameters()}).units
    assert sum(per_target.get(t, 0) for t in MLP) == round(count / 4) and sum(per_target.values()) == count
    assert list(method.selection) == sorted(method.selection, key=[n for n, _ in model.named_modules()].index)


@pytest.mark.parametrize(
    ("shares", "message"),
    [
        ({"q_proj+k_proj": 1.0}, "name each of the targets"),
        ({"q_proj+k_proj": 0.5, "v_proj": 0.6}, "add up to 1"),
        (3, "choose names, each with a number"),
    ],
)
def test_impossible_shares_are_refused(shares: object, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        methods.build("smt", {"shares": shares, "warmup_steps": 1}, 0.01, 0, 10)


def test_a_share_larger_than_its_group_is_refused_and_no_share_leaves_the_config_as_it_was() -> None:
    shapes = {name: tuple(p.shape) for name, p in tiny_llama().named_parameters()}
    config = {"block_size": 16, "warmup_steps": 1, "shares": {"q_proj+k_proj": 0.01, "v_proj": 0.99}}
    with pytest.raises(ValueError, match="v_proj is to get .* but holds"):
        methods.build("smt", config, 0.1, 0, 10).capacity(shapes)
    assert "shares" not in methods.find("smt").Config().to_dict()
