"""SpIEL's table 3: GPU memory of LoRA, SpIEL-AG, SpIEL-MA and their 4-bit forms (section 5.2, appendices C and F).

Stated there: LoRA rank 64 and as many deltas, on all linear layers of the blocks; bf16 weights, float32 adapters and deltas,
bf16 for 4-bit bases; LoRA dropout 0.1; one A100; the least memory limit, in steps of 1 GiB, at which 30 steps pass. Not
stated: tokens per forward pass. They are taken such that LoRA on 7B without checkpointing comes out as printed; the other 23
numbers are then predictions.

What exists here as a method is run (LoRA with float32 and with bf16 adapters, SpIEL-AG, SpIEL-MA); 4 bits follow by rule:
`sharding.quantize`; of SpIEL, deltas, gradients, moments and sums of gradients in bf16, indices and SM3's buffers as they are.
The paper's QLoRA pages its optimizer to main memory when it must; here it is counted.
"""

from __future__ import annotations

import copy

from smt_bench.evidence import published
from smt_bench.measuring.account import Account
from smt_bench.plan.claims.lab import BATCH, LENGTH, Lab, Statement, at_tokens, bf16_adapters, most_tokens, near
from smt_bench.plan.gpu.hardware import GIB
from smt_bench.plan.gpu.sharding import quantize

RANK = 64
DROPOUT = 0.1
TARGETS = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")
TOLERANCE = 0.15
TABLE = "spiel_table3_memory_time"
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
    model = SAME[model]
    anatomy = lab.anatomy(model)
    shapes = list(anatomy.linears.values())
    pct = 100 * RANK * sum(rows + columns for rows, columns in shapes) / anatomy.total
    four_bits = name.startswith("q")
    if name.removeprefix("q") == "lora":
        adapt = bf16_adapters if four_bits else None
        kind = "bf16" if four_bits else "fp32"
        found = lab.run("lora", pct, model, checkpointing, kind, adapt=adapt, targets=TARGETS, dropout=DROPOUT).account
    else:
        adam = name.endswith("ag")
        run = lab.run("spiel" if adam else "spiel-ma", pct, model, checkpointing, targets=TARGETS)
        found = run.account
        if four_bits:
            found = in_bf16(found, run.account.trained["tuning"], adam)
    return quantize(found, anatomy.linears, 2) if four_bits else found


def claims(lab: Lab) -> list[Statement]:
    """One per printed number, calibrated on the first."""
    rows = published.published(TABLE)
    columns = {False: "memory_gb", True: "memory_gb_checkpointing"}
    model, name, checkpointing = CALIBRATOR
    first = float(rows[(rows["model"] == model) & (rows["method"] == name)][columns[checkpointing]].iloc[0])
    tokens = most_tokens(variant(lab, *CALIBRATOR), first * GIB / 1e9)
    share = tokens / (BATCH * LENGTH)
    made = []
    for row in rows.to_dict("records"):
        for with_it, column in columns.items():
            model, name = str(row["model"]), str(row["method"])
            printed = float(row[column])
            computed = at_tokens(variant(lab, model, name, with_it), share).peak().peak_bytes / GIB
            how = "run, 4-bit base by rule" if name.startswith("q") else "run"
            chosen = (model, name, with_it) == CALIBRATOR
            made.append(
                Statement(
                    f"spiel-table3-{model}-{name}{'-checkpointing' if with_it else ''}",
                    "SpIEL table 3",
                    f"memory of {name} on {model} {'with' if with_it else 'without'} checkpointing",
                    f"{tokens:,} tokens per forward pass{' (chosen for this number)' if chosen else ''}; rank {RANK}; {how}",
                    printed,
                    computed,
                    "GiB",
                    "holds by choice of the tokens"
                    if chosen
                    else "holds"
                    if near(computed, printed, TOLERANCE)
                    else f"does not hold within {TOLERANCE:.0%}: {100 * (computed / printed - 1):+.0f} %",
                )  # fmt: skip
            )
    return made
