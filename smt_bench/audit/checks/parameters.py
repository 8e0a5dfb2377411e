"""Printed "#Params%" against what ranks and target modules give on the real architectures.

A printed percentage agrees with a rank if it is trainable / (base + trainable), or trainable / base parameters, rounded to
the printed digits. The first is what `peft` prints (`print_trainable_parameters`): adapters count as parameters of the
model.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from decimal import Decimal
from itertools import combinations

from smt_bench import methods
from smt_bench.audit.finding import AGREES, Finding, Interval, against, differs, rounded, unit
from smt_bench.audit.printed import Row, number, title
from smt_bench.methods.base import Capacity, Shapes
from smt_bench.methods.modules import numel, total_parameters

FIVE = ("q_proj", "k_proj", "v_proj", "up_proj", "down_proj")
SEVEN = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")  # SMT's section 4
WITH_ADAPTERS, BASE_ONLY = "of the base model with adapters", "of the base model"
NAMES = {FIVE: "q, k, v, up, down", SEVEN: "all seven modules"}


def shares(capacity: Capacity) -> tuple[Decimal, Decimal]:
    """Trainable parameters in % of the base model, and of the base model with the adapters."""
    trainable, total = Decimal(capacity.trainable), Decimal(capacity.total)
    return 100 * trainable / total, 100 * trainable / (total + trainable)


def low_rank(method: str, targets: Sequence[str], printed: Decimal, shapes: Shapes) -> tuple[Capacity, str | None]:
    """The rank that comes nearest to a printed percentage, and in which way of counting it gives it (None: in neither).

    Args:
        method: "lora" or "dora".
        targets: modules with an adapter.
        printed: trainable parameters in %.
        shapes: of the model.
    """
    share = float(printed) / 100
    # The second share is trainable / (base + trainable): as many numbers as share / (1 - share) of the base model.
    near = [
        methods.build(method, {"targets": list(targets)}, fraction, 0, 1).capacity(shapes)
        for fraction in (share, share / (1 - share))
    ]
    for capacity in near:
        if rounded(shares(capacity)[1], printed) == printed:
            return capacity, WITH_ADAPTERS
    for capacity in near:
        if rounded(shares(capacity)[0], printed) == printed:
            return capacity, BASE_ONLY
    return near[0], None


def adapter_sizes(table: str, rows: Iterable[Row], shapes_of: dict[str, Shapes]) -> list[Finding]:
    """LoRA's and DoRA's percentages: which rank on the usual five modules, and which on the seven of the text."""
    found = []
    for row in rows:
        printed, method = number(row["params_pct"]), row["method"].removesuffix("(best)")
        if method not in ("lora", "dora") or printed is None or row["model"] not in shapes_of:
            continue
        for targets in (FIVE, SEVEN):
            capacity, counted = low_rank(method, targets, printed, shapes_of[row["model"]])
            of_base, of_both = shares(capacity)
            value = of_both if counted == WITH_ADAPTERS else of_base
            verdict = "no rank gives it" if counted is None else f"{AGREES}: {counted}"
            computed = f"rank {capacity.units}: {value:.4f}"
            where = f"{row['model']} {row['method']} on {NAMES[targets]}"
            found.append(Finding("trainable share", title(table), where, "#Params%", printed, computed, verdict))
    return found


def block_sizes(table: str, rows: Iterable[Row], shapes_of: dict[str, Shapes]) -> list[Finding]:
    """SMT's percentages as whole numbers of 256 x 256 blocks in Q, K and V."""
    found = []
    for row in rows:
        printed = number(row["params_pct"])
        if row["method"].removesuffix("(best)") != "smt" or printed is None or row["model"] not in shapes_of:
            continue
        capacity = methods.build("smt", {}, float(printed) / 100, 0, 1000).capacity(shapes_of[row["model"]])
        of_base, _ = shares(capacity)
        verdict = AGREES if rounded(of_base, printed) == printed else "no number of blocks gives it"
        computed = f"{capacity.units} blocks: {of_base:.4f}"
        where = f"{row['model']} {row['method']}"
        found.append(Finding("trainable share", title(table), where, "#Params%", printed, computed, verdict))
    return found


def one_request(table: str, rows: Iterable[Row], shapes_of: dict[str, Shapes], near: float = 0.05) -> list[Finding]:
    """Shares of one method on models of one architecture that are nearly the same: one setting gives one share.

    Args:
        table: file name without ".csv".
        rows: the table.
        shapes_of: of the models that are known; equal shapes are one architecture.
        near: shares further apart than this (relative) are different requests and say nothing.
    """
    cells = [(row, printed) for row in rows if row["model"] in shapes_of and (printed := number(row["params_pct"]))]
    cells = [(row, printed) for row, printed in cells if printed < 100]  # full fine-tuning is no request
    found = []
    for (a, x), (b, y) in combinations(cells, 2):
        alike = (
            a["method"] == b["method"] and a["model"] != b["model"] and shapes_of[a["model"]] == shapes_of[b["model"]]
        )
        if not alike or abs(x - y) > Decimal(near) * max(x, y):
            continue
        where = f"{b['model']} {b['method']}, the architecture of {a['model']}"
        verdict = AGREES if Interval.of(x).meets(Interval.of(y)) else f"{differs(y, x)} from {a['model']}"
        found.append(Finding("trainable share", title(table), where, "#Params%", y, x, verdict))
    return found


def blocks_of_matrix(printed: Decimal, shape: tuple[int, int], side: int) -> Finding:
    """Whether some whole number of blocks is `printed` % of one matrix (SMT's appendix I: 2.1 % of a V matrix)."""
    total = (shape[0] // side) * (shape[1] // side)
    below = int(printed * total / 100)
    shares = {n: Decimal(100 * n) / total for n in (below, below + 1)}
    fit = any(rounded(share, printed) == printed for share in shares.values())
    shown = ", ".join(f"{n} blocks: {rounded(share, Decimal('0.01'))}" for n, share in shares.items())
    row = f'"in a V vector where {printed}% parameters were selected", blocks of {side} x {side}'
    verdict = AGREES if fit else "no number of blocks gives it"
    return Finding("trainable share", "SMT appendix I", row, "% of the matrix", printed, shown, verdict)


def spiel_ranks(
    ranks: Sequence[int], printed: Sequence[Decimal], model: str, shapes: Shapes, targets: Sequence[str] = SEVEN
) -> list[Finding]:
    """The shares that SpIEL's appendix D gives for LoRA's ranks on all linear layers of the blocks."""
    found = []
    per_rank = methods.build("lora", {"targets": list(targets)}, 0.01, 0, 1).capacity(shapes).unit_numbers
    total = total_parameters(shapes)
    for rank, value in zip(ranks, printed):
        of_base, of_both = shares(Capacity("rank", rank, rank * per_rank, per_rank, total))
        ways = ((WITH_ADAPTERS, of_both), (BASE_ONLY, of_base))
        good = [name for name, share in ways if rounded(share, value) == value]
        verdict = f"{AGREES}: {good[0]}" if good else "neither way of counting gives it"
        shown = f"{of_base:.4f} or {of_both:.4f}"
        where = f"{model} rank {rank} on {NAMES[tuple(targets)]}"
        found.append(Finding("trainable share", "SpIEL appendix D", where, "%", value, shown, verdict))
    return found


def parameter_count(printed: int, shapes: Shapes, model: str) -> Finding:
    """The total that the paper divides by against the real one; a missing norm vector is named."""
    total = total_parameters(shapes)
    off = total - printed
    verdict = AGREES if off == 0 else f"differs by {abs(off):,}"
    if off in {shape[0] for shape in shapes.values() if len(shape) == 1}:
        verdict += ": the size of one norm vector"
    return Finding(
        "trainable share", "SMT section 3, footnote 6", model, "parameters", Decimal(printed), Decimal(total), verdict
    )


def whole_blocks(trainable: int, side: int = 256) -> Finding:
    """Whether the example's number of trainable parameters is a whole number of blocks."""
    count, rest = divmod(trainable, side**2)
    verdict = AGREES if rest == 0 else f"{rest:,} more than whole blocks"
    where, about = "SMT section 3, footnote 6", "trainable parameters"
    shown = f"{count} blocks of {side} x {side}"
    return Finding("trainable share", where, "llama-7b", about, Decimal(trainable), shown, verdict)


def block_share(printed: Decimal, share: Decimal, total: int, side: int = 256) -> Finding:
    """Whether some whole number of blocks is `printed` % of a number of blocks that trains `share` % of the model.

    Args:
        printed: blocks of one kind in % of all chosen ones.
        share: trainable parameters in %, as printed.
        total: parameters of the model.
        side: side of a block.
    """

    def counts(like: Interval) -> list[int]:
        low, high = (bound * total / (100 * side**2) for bound in (like.low, like.high))
        return [n for n in range(max(1, math.ceil(low)), math.floor(high) + 1) if _divides(n, printed)]

    possible = counts(Interval.of(share))
    wider = counts(Interval(share - 5 * unit(share), share + 5 * unit(share)))
    shown = f"with {', '.join(map(str, wider))} blocks" if wider else "with no number of blocks near it"
    verdict = AGREES if possible else f"no number of blocks at {share} % gives it"
    where, row = "SMT section 5.2, figure 5", f"llama-7b SMT {share} %"
    return Finding("trainable share", where, row, "% of the blocks in V", printed, shown, verdict)


def _divides(blocks: int, printed: Decimal) -> bool:
    """Whether a whole number of `blocks` is printed as this percentage."""
    count = (printed * blocks / 100).to_integral_value()
    return any(rounded(100 * (count + k) / Decimal(blocks), printed) == printed for k in (-1, 0, 1))


def largest_block(printed: int, shapes_of: Mapping[str, Shapes]) -> Finding:
    """The greatest common divisor of the sides of all matrices against the block size said to be that."""
    sides = [side for shapes in shapes_of.values() for shape in shapes.values() if len(shape) == 2 for side in shape]
    found = math.gcd(*sides)
    verdict = AGREES if found == printed else f"differs by {abs(found - printed)}"
    where, row = "SMT section 4", '"largest common factor"'
    return Finding("trainable share", where, row, ", ".join(shapes_of), Decimal(printed), Decimal(found), verdict)


def tensor_memory(table: str, rows: Iterable[Row]) -> list[Finding]:
    """Figure 11's tensors: float32 values and int64 indices, in MiB."""
    found = []
    for row in rows:
        count = numel(int(side) for side in row["shape"].split("x"))
        size = 8 if "indices" in row["tensor"] else 4
        printed = number(row["memory_mib"])
        assert printed is not None
        exact = Interval.exact(Decimal(count * size) / 2**20)
        computed, verdict = against(printed, exact)
        found.append(
            Finding("memory", title(table), f"{row['tensor']} {row['shape']}", "MiB", printed, computed, verdict)
        )
    return found
