"""SpIEL's table 3: GPU memory of LoRA, SpIEL-AG, SpIEL-MA and their 4-bit forms (section 5.2, appendices C and F); and of qSMT.

Stated there: LoRA rank 64 and as many deltas, on all linear layers of the blocks; bf16 weights, float32 adapters and deltas,
bf16 for 4-bit bases; LoRA dropout 0.1; one A100; the least memory limit, in steps of 1 GiB, at which 30 steps pass. Not
stated: tokens per forward pass. They are taken such that LoRA on 7B without checkpointing comes out as printed; the other 23
numbers are then predictions.

All are runs of the real method on fake tensors, over a base of 4 bits (`methods.nf4`) where the name says so. By rule is only
what no method here does: SpIEL's deltas, gradients, moments and sums of gradients in bf16, indices and SM3's buffers as they are.
The paper's QLoRA pages its optimizer to main memory when it must; here it is counted. No paper has SMT over 4 bits: its rows have
the same budget and layers, blocks in float32 and a warm-up that looks, and no printed number.
"""

from __future__ import annotations

import copy
from collections.abc import Callable

from smt_bench.evidence import published
from smt_bench.measuring.account import Account
from smt_bench.plan.claims.lab import BATCH, LENGTH, Lab, Statement, at_tokens, bf16_adapters, most_tokens, near
from smt_bench.plan.gpu.hardware import GIB

RANK = 64
SIDE = 256  # of SMT's blocks
DROPOUT = 0.1
TARGETS = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")
TOLERANCE = 0.15
TABLE = "spiel_table3_memory_time"
Cell = tuple[str, str, bool]
CALIBRATOR = ("llama2-7b", "lora", False)
SAME = {"llama2-7b": "llama-7b", "llama2-13b": "llama-13b"}  # architectures
# Of 16 bytes per candidate (index, step's gradient, sum, squares) and 12 per delta of Adam's state (two moments and an age).
CANDIDATE_BF16, STATE_BF16 = 10 / 16, 6 / 12


def in_bf16(account: Account, deltas: int, adam: bool) -> Account:
    """A SpIEL account with what trains in bf16."""
    made = copy.deepcopy(account)
    for phase in made.phases:
        for found in (phase.peak, phase.end):
            found["parameters"] -= 2 * deltas
            found["gradients"] //= 2
            found["method_state"] = round(found["method_state"] * CANDIDATE_BF16)
            if adam:
                found["optimizer_state"] = round(found["optimizer_state"] * STATE_BF16)
    return made


def variant(lab: Lab, model: str, name: str, checkpointing: bool) -> Account:
    """The account of one cell of the table, at the dry run's number of tokens.

    Args:
        lab: dry runs.
        model: as in the table.
        name: likewise.
        checkpointing: its second pair of columns.
    """
    model, method, base = SAME[model], name.removeprefix("q"), "nf4" if name.startswith("q") else ""
    anatomy = lab.anatomy(model)
    pct = 100 * RANK * sum(rows + columns for rows, columns in anatomy.linears.values()) / anatomy.total
    if method == "lora":
        adapt, kind = (bf16_adapters, "bf16") if base else (None, "fp32")
        run = lab.run("lora", pct, model, checkpointing, kind, adapt=adapt, base=base, targets=TARGETS, dropout=DROPOUT)
        return run.account
    if method == "smt":
        run = lab.run(
            "smt", pct, model, checkpointing, base=base, targets=TARGETS, block_size=SIDE, warmup_trains=False
        )
        return run.account
    adam = method.endswith("ag")
    found = lab.run("spiel" if adam else "spiel-ma", pct, model, checkpointing, base=base, targets=TARGETS).account
    return in_bf16(found, found.trained["tuning"], adam) if base else found


def cells() -> list[Cell]:
    """Whose accounts `claims` asks for: (model, method, checkpointing); the dearest, larger models over 4 bits, first."""
    names = [*dict.fromkeys(published.published(TABLE)["method"].map(str)), "qsmt"]
    return [(model, name, again) for model in reversed(SAME) for name in reversed(names) for again in (True, False)]


def claims(account: Callable[[str, str, bool], Account]) -> list[Statement]:
    """One per printed number, calibrated on the first, and those of qSMT.

    Args:
        account: of one of `cells`, as `variant` gives it.
    """
    rows = published.published(TABLE)
    columns = {False: "memory_gb", True: "memory_gb_checkpointing"}
    model, name, checkpointing = CALIBRATOR
    first = float(rows[(rows["model"] == model) & (rows["method"] == name)][columns[checkpointing]].iloc[0])
    tokens = most_tokens(account(*CALIBRATOR), first * GIB / 1e9)

    def needed(model: str, name: str, with_it: bool) -> float:
        return at_tokens(account(model, name, with_it), tokens / (BATCH * LENGTH)).peak().peak_bytes / GIB

    made = []
    for row in rows.to_dict("records"):
        for with_it, column in columns.items():
            model, name = str(row["model"]), str(row["method"])
            printed, computed = float(row[column]), needed(model, name, with_it)
            chosen = (model, name, with_it) == CALIBRATOR
            if chosen:
                told = "holds by choice of the tokens"
            elif near(computed, printed, TOLERANCE):
                told = "holds"
            else:
                told = f"does not hold within {TOLERANCE:.0%}: {100 * (computed / printed - 1):+.0f} %"
            how = (
                f"run over 4 bits{', deltas in bf16 by rule' if 'spiel' in name else ''}"
                if name.startswith("q")
                else "run"
            )
            how = f"{' (chosen for this number)' if chosen else ''}; rank {RANK}; {how}"
            made.append(
                _statement(model, name, with_it, f"{tokens:,} tokens per forward pass{how}", printed, computed, told)
            )
    for model in SAME:
        for with_it in columns:
            computed = needed(model, "qsmt", with_it)
            others = ("qlora", "qspiel-ag", "qspiel-ma")
            ratios = [f"{computed / needed(model, other, with_it):.2f} of {other}" for other in others]
            how = f"{tokens:,} tokens per forward pass; as many numbers as rank {RANK}; run over 4 bits; {', '.join(ratios)}"
            made.append(_statement(model, "qsmt", with_it, how, None, computed, ""))
    return made


def _statement(
    model: str, name: str, checkpointing: bool, how: str, printed: float | None, computed: float, told: str
) -> Statement:
    what = f"memory of {name} on {model} {'with' if checkpointing else 'without'} checkpointing"
    key = f"spiel-table3-{model}-{name}{'-checkpointing' if checkpointing else ''}"
    source = "no paper has it" if printed is None else "SpIEL table 3"
    return Statement(key, source, what, how, printed, computed, "GiB", told)
