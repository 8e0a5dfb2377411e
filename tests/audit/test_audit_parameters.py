"""Percentages of trainable parameters on a made-up architecture, caught and passed."""

from __future__ import annotations

from decimal import Decimal

import pytest

from smt_bench.audit.checks import parameters as p

D = Decimal
# One layer: all matrices 1000 x 1000 but for the MLP's; 13,401,000 parameters in all.
SHAPES = {
    "embed.weight": (1000, 1000),
    **{f"layer.{name}.weight": (1000, 1000) for name in ("q_proj", "k_proj", "v_proj", "o_proj")},
    **{f"layer.{name}.weight": (2800, 1000) for name in ("gate_proj", "up_proj")},
    "layer.down_proj.weight": (1000, 2800),
    "layer.norm.weight": (1000,),
}
PER_RANK = 3 * 2000 + 2 * 3800  # on the five modules


def test_the_rank_behind_a_percentage() -> None:
    of_base = D(100 * 8 * PER_RANK) / 13_401_000
    capacity, counted = p.low_rank("lora", p.FIVE, of_base.quantize(D("0.001")), SHAPES)
    assert (capacity.units, capacity.trainable, counted) == (8, 8 * PER_RANK, p.BASE_ONLY)
    of_both = D(100 * 8 * PER_RANK) / (13_401_000 + 8 * PER_RANK)
    capacity, counted = p.low_rank("lora", p.FIVE, of_both.quantize(D("0.001")), SHAPES)
    assert (capacity.units, counted) == (8, p.WITH_ADAPTERS)
    capacity, counted = p.low_rank("lora", p.FIVE, D("0.850"), SHAPES)  # ranks 8 and 9 give 0.812 and 0.913
    assert (capacity.units, counted) == (8, None)


def test_adapter_sizes_name_the_modules() -> None:
    rows = [
        {"model": "m", "method": "lora(best)", "params_pct": "0.805"},
        {"model": "m", "method": "spiel(best)", "params_pct": "0.805"},
        {"model": "other", "method": "lora", "params_pct": "0.805"},
    ]
    found = p.adapter_sizes("smt_table2_x", rows, {"m": SHAPES})
    assert [f.row for f in found] == ["m lora(best) on q, k, v, up, down", "m lora(best) on all seven modules"]
    assert [f.verdict for f in found] == [f"agrees: {p.WITH_ADAPTERS}", "no rank gives it"]
    assert found[0].computed == "rank 8: 0.8053"


def test_blocks_of_smt() -> None:
    shapes = {f"layer.{n}.weight": (1024, 1024) for n in ("q_proj", "k_proj", "v_proj")} | {"rest.weight": (1024, 7168)}
    rows = [{"model": "m", "method": "smt", "params_pct": pct} for pct in ("1.25", "1.30")]  # a block is 0.625 %
    found = p.block_sizes("smt_table2_x", rows, {"m": shapes})
    assert [f.verdict for f in found] == ["agrees", "no number of blocks gives it"]
    assert found[0].computed == "2 blocks: 1.2500"


def test_one_request_has_one_share_on_one_architecture() -> None:
    other = SHAPES | {"more.weight": (8, 8)}
    shapes = {"a": SHAPES, "b": dict(SHAPES), "c": other}

    def verdicts(*cells: tuple[str, str, str]) -> list[str]:
        rows = [dict(zip(("model", "method", "params_pct"), cell)) for cell in cells]
        return [f.verdict for f in p.one_request("smt_table2_x", rows, shapes)]

    assert verdicts(("a", "spiel", "0.84"), ("b", "spiel", "0.83")) == ["differs by 0.01 from a"]
    assert verdicts(("a", "spiel", "0.84"), ("b", "spiel", "0.84")) == ["agrees"]
    assert verdicts(("a", "spiel", "0.84"), ("c", "spiel", "0.83")) == []  # another architecture
    assert verdicts(("a", "spiel", "0.84"), ("b", "lora", "0.83"), ("x", "spiel", "0.83")) == []
    assert verdicts(("a", "dora", "0.84"), ("b", "dora", "0.42")) == []  # another request
    assert verdicts(("a", "full", "100"), ("b", "full", "100")) == []


def test_blocks_of_one_matrix() -> None:
    found = p.blocks_of_matrix(D("2.1"), (4096, 4096), 256)
    assert (found.computed, found.verdict) == ("5 blocks: 1.95, 6 blocks: 2.34", "no number of blocks gives it")
    assert p.blocks_of_matrix(D("2.1"), (4096, 4096), 128).verdict == "agrees"
    assert [p.blocks_of_matrix(D(x), (4096, 4096), 256).verdict for x in ("2.0", "2.3")] == ["agrees"] * 2


def test_spiels_shares_of_ranks() -> None:
    found = p.spiel_ranks((8, 8), (D("0.81"), D("0.85")), "m", SHAPES, p.FIVE)
    assert [f.verdict for f in found] == [f"agrees: {p.WITH_ADAPTERS}", "neither way of counting gives it"]


def test_the_count_of_the_example() -> None:
    assert p.parameter_count(13_401_000, SHAPES, "m").verdict == "agrees"
    assert p.parameter_count(13_400_000, SHAPES, "m").verdict == "differs by 1,000: the size of one norm vector"
    assert p.parameter_count(13_400_999, SHAPES, "m").verdict == "differs by 1"
    assert p.whole_blocks(514 * 256**2).verdict == "agrees"
    assert p.whole_blocks(514 * 256**2 + 1).verdict == "1 more than whole blocks"


@pytest.mark.parametrize(("printed", "holds"), [("50.00", True), ("75.00", True), ("66.67", False)])
def test_a_share_of_whole_blocks(printed: str, holds: bool) -> None:
    found = p.block_share(D(printed), D("4"), 100 * 256**2)  # 3.5 to 4.5 % of 100 blocks: four
    assert found.holds is holds
    if not holds:
        assert found.computed == "with 3, 6, 9 blocks"


def test_largest_common_block() -> None:
    shapes = {"a": {"x.weight": (768, 512), "n.weight": (100,)}, "b": {"x.weight": (1024, 256)}}
    assert p.largest_block(256, shapes).verdict == "agrees"
    assert p.largest_block(128, shapes).verdict == "differs by 128"


def test_memory_of_tensors() -> None:
    rows = [
        {"tensor": "values", "shape": "1024x1024", "memory_mib": "4.0"},
        {"tensor": "indices", "shape": "2x262144", "memory_mib": "4.0"},
        {"tensor": "values", "shape": "1024x1024", "memory_mib": "8.0"},
    ]
    assert [f.verdict for f in p.tensor_memory("smt_figure11_x", rows)] == ["agrees", "agrees", "differs by 4.0"]
