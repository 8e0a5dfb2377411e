"""The SMT paper's efficiency claims (ICLR 2025), in the order in which it makes them."""

from __future__ import annotations

import torch

from smt_bench.evidence import published
from smt_bench.machine.spread import ALONE, Spread
from smt_bench.methods.modules import numel
from smt_bench.plan.claims.lab import (
    BATCH,
    GB,
    LENGTH,
    Lab,
    Statement,
    most_tokens,
    near,
    peak_gb,
    tuning,
)
from smt_bench.plan.gpu.hardware import GPUS, HOST_BANDWIDTH
from smt_bench.plan.gpu.roofline import ADAM_BYTES, EFFICIENCY, step_time
from smt_bench.plan.gpu.sharding import divide, host_bytes, per_gpu
from smt_bench.plan.rows import verdict

SIDE = 256  # of the paper's blocks
BLOCKS = 514  # its footnote 6: 33,685,504 numbers, z = 0.5 %
Z = 0.5
PCT = 0.84  # the fraction of most of its tables
TWO_GB = 2.0


def claims(lab: Lab) -> list[Statement]:
    """All of them."""
    return [
        full_needs(lab),
        smt_needs(lab),
        smt_card(lab),
        saved_share(lab),
        optimizer_share(lab),
        activation_share(lab),
        backward_share(lab),
        against_lora(lab),
        *speedups(lab),
        sparse_storage(),
    ]


def full_needs(lab: Lab) -> Statement:
    """58 GB = 13.6 + 40 + 2."""
    plain = lab.run("full", None, checkpointing=False, optimizer_dtype="bf16").account
    at = plain.find("tuning", "backward").peak
    states = plain.find("tuning", "optimizer").peak
    fixed = [states["parameters"] / GB, (states["optimizer_state"] + states["gradients"]) / GB]
    share = TWO_GB * GB / (at["saved_activations"] + at["logits_loss"])
    tokens = int(share * BATCH * LENGTH)
    again = lab.run("full", None, optimizer_dtype="bf16").account.find("tuning", "forward").peak
    more = int(TWO_GB * GB / (again["saved_activations"] + again["logits_loss"]) * BATCH * LENGTH)
    masters = peak_gb(lab.run("full", None).account)
    computed = sum(fixed) + TWO_GB
    return Statement(
        "full-58gb", "SMT section 1 (after GaLore)",
        "full fine-tuning of LLaMA-7B needs at least 58 GB: 13.6 parameters, 40 Adam states and gradients, 2 activations",
        f"bf16 moments, no float32 masters: {fixed[0]:.1f} + {fixed[1]:.1f}; 2 GB of activations and logits are {tokens} tokens "
        f"without checkpointing, {more} with; with float32 masters and moments {masters:.0f} GB in all",
        58, computed, "GB",
        ("holds" if near(computed, 13.6 + 40 + 2, 0.05) else "does not hold")
        + f" if Adam's states are bf16; its own parts add up to {13.6 + 40 + 2:g}",
    )  # fmt: skip


def smt_needs(lab: Lab) -> Statement:
    """Under 20 GB."""
    with_it, without = tuning(lab.run("smt", PCT)), tuning(lab.run("smt", PCT, checkpointing=False))
    computed, limit = peak_gb(with_it), 20.0
    found = {"with": most_tokens(with_it, limit), "without": most_tokens(without, limit)}
    holds = computed < limit
    return Statement(
        "smt-20gb", "SMT section 3", "SMT fine-tunes LLaMA-7B in less than 20 GB",
        f"{PCT} %, after the warm-up, {BATCH} x {LENGTH} tokens with checkpointing (not stated); up to "
        f"{found['with']:,} tokens with it, {found['without']:,} without ({peak_gb(without):.1f} GB at {BATCH} x {LENGTH})",
        limit, computed, "GB",
        "holds if checkpointing is on, or for few tokens" if holds else "does not hold",
    )  # fmt: skip


def smt_card(lab: Lab) -> Statement:
    """On a 24 GB card, warm-up included."""
    run, gpu, anatomy = lab.run("smt", PCT), GPUS["rtx3090"], lab.anatomy("llama-7b")
    host = Spread(offload=True)
    warm = [p for p in run.account.phases if p.stage == "warmup"]
    # With the optimizer on the host, gradients leave as they are made: the optimizer phase needs nothing here.
    warmup = max(sum(divide(p.peak, host, anatomy.largest).values()) for p in warm if p.phase != "optimizer")
    tuned = per_gpu(tuning(run), ALONE, anatomy.largest)[0]
    fits = [verdict(warmup, gpu), verdict(tuned, gpu)]
    alone = run.account.peak("warmup").peak_bytes
    return Statement(
        "smt-24gb-card", "SMT section 3", "it fits an RTX 3090 with 24 GB",
        f"{PCT} %, {BATCH} x {LENGTH} tokens, checkpointing; the warm-up trains everything: {warmup / GB:.1f} GB with the "
        f"optimizer in main memory, which must hold {host_bytes(anatomy.total, host) / GB:.0f} GB; {alone / GB:.0f} GB without",
        24, max(warmup, tuned) / GB, "GB",
        f"holds (warm-up {fits[0]}, tuning {fits[1]}) if the warm-up is offloaded" if "no" not in fits else "does not hold",
    )  # fmt: skip


def saved_share(lab: Lab) -> Statement:
    """67 % less GPU memory than full fine-tuning."""
    printed = 67.0
    found: dict[str, float] = {}
    for checkpointing in (True, False):
        for kind in ("bf16", "fp32"):
            full = peak_gb(lab.run("full", None, checkpointing=checkpointing, optimizer_dtype=kind).account)
            smt = peak_gb(tuning(lab.run("smt", PCT, checkpointing=checkpointing)))
            name = "checkpointing" if checkpointing else "no checkpointing"
            name += ", bf16 Adam" if kind == "bf16" else ", float32 Adam"
            found[name] = 100 * (1 - smt / full)
    best = min(found, key=lambda name: abs(found[name] - printed))
    others = "; ".join(f"{name}: {value:.0f} %" for name, value in found.items() if name != best)
    return Statement(
        "memory-67pct", "SMT abstract", "SMT takes 67 % less GPU memory than full fine-tuning",
        f"LLaMA-7B, {PCT} %, {BATCH} x {LENGTH} tokens, {best}; {others}",
        printed, found[best], "%",
        f"holds if {best}" if near(found[best], printed, 0.05) else "does not hold",
    )  # fmt: skip


def optimizer_share(lab: Lab) -> Statement:
    """99.5 % of optimizer memory saved."""
    full = lab.run("full", None).account.find("tuning", "optimizer").peak["optimizer_state"]
    smt = lab.run("smt", _z_pct(lab)).account.find("tuning", "optimizer").peak["optimizer_state"]
    computed = 100 * (1 - smt / full)
    return Statement(
        "optimizer-99.5pct", "SMT section 3", "the memory of Adam's states falls to z % (z = 0.5): 99.5 % saved",
        f"{BLOCKS} blocks of {SIDE} x {SIDE} on LLaMA-7B ({_z_pct(lab):.4f} %); float32 moments on both sides",
        99.5, computed, "%", "holds" if near(computed, 99.5, 0.001) else "does not hold",
    )  # fmt: skip


def activation_share(lab: Lab) -> Statement:
    """Saved activations of the selected layers to z %."""
    shapes = [s for n, s in lab.anatomy("llama-7b").linears.items() if n.endswith(("q_proj", "k_proj", "v_proj"))]
    rows, columns = shapes[0][0] // SIDE, shapes[0][1] // SIDE
    available = len(shapes) * rows * columns
    chosen = torch.randperm(available, generator=torch.Generator().manual_seed(0))[:BLOCKS]
    per_matrix = {(int(i) // (rows * columns), int(i) % columns) for i in chosen}
    in_layer = {(matrix // 3, column) for matrix, column in per_matrix}
    computed = 100 * len(in_layer) / (len(shapes) // 3 * columns)
    least = 100 * -(-BLOCKS // (3 * rows)) / (len(shapes) // 3 * columns)
    full = lab.run("full", None, checkpointing=False).account.saved_activations()
    smt = lab.run("smt", _z_pct(lab), checkpointing=False).account.saved_activations()
    return Statement(
        "activations-z", "SMT section 3", "activation memory of the selected linear layers falls to z % (z = 0.5)",
        f"share of the input columns of Q, K, V that {BLOCKS} blocks scattered at random need, one copy for Q, K and V "
        f"({100 * len(per_matrix) / (len(shapes) * columns):.0f} % with one each); {least:.1f} % at best (whole columns of "
        f"blocks chosen together); of all saved activations of the step {100 * smt / full:.0f} % remain, without checkpointing",
        Z, computed, "%", "does not hold: a block needs its columns for all tokens, shared only by blocks above it"
        if least > 2 * Z else "holds",
    )  # fmt: skip


def backward_share(lab: Lab) -> Statement:
    """Backward computation to z %."""
    full = lab.run("full", None, checkpointing=False).account.flops["tuning"]
    smt = lab.run("smt", _z_pct(lab), checkpointing=False).account.flops["tuning"]
    weights = 100 * smt["weight_gradient"] / full["weight_gradient"]
    kinds = ("input_gradient", "weight_gradient")
    computed = 100 * sum(smt[k] for k in kinds) / sum(full[k] for k in kinds)
    step = sum(full[k] for k in (*kinds, "forward")) / sum(smt[k] for k in (*kinds, "forward"))
    return Statement(
        "backward-z", "SMT section 3", "backward computation falls to z % (z = 0.5) of full fine-tuning's",
        f"FLOPs of LLaMA-7B's backward pass, {BLOCKS} blocks, no checkpointing; of the weight gradients alone {weights:.2f} %; "
        f"the whole step shrinks {step:.2f} times",
        Z, computed, "%",
        "holds" if near(computed, Z, 0.1)
        else "holds for the weight gradients only: the gradient still passes through all layers above the lowest block"
        if near(weights, Z, 0.1) else "does not hold",
    )  # fmt: skip


def against_lora(lab: Lab) -> Statement:
    """250 MB saved against LoRA on LLaMA-13B at 1 %."""
    lora = lab.run("lora", 1.0, "llama-13b").account
    smt = tuning(lab.run("smt", 1.0, "llama-13b"))
    total = lab.anatomy("llama-13b").total
    base = 2 * total
    extra = {
        name: (a.find("tuning", "forward").peak["parameters"] - base) / 1e6
        for name, a in (("lora", lora), ("smt", smt))
    }
    computed = extra["lora"] - extra["smt"]
    in_place = 2 * 0.01 * total / 1e6
    return Statement(
        "lora-250mb", "SMT section 4.4", "at 1 % of LLaMA-13B SMT saves 250 MB against LoRA and DoRA: no adapters",
        f"parameters beside the model: LoRA {extra['lora']:.0f} MB, SMT {extra['smt']:.0f} MB (float32, blocks as copies); peaks "
        f"at {BATCH} x {LENGTH} tokens with checkpointing: {peak_gb(lora):.2f} and {peak_gb(smt):.2f} GB; bf16 adapters against "
        f"bf16 blocks in place: {in_place:.0f} MB",
        250, computed, "MB",
        "holds" if near(computed, 250, 0.1)
        else "holds if blocks are trained in place and both are bf16" if near(in_place, 250, 0.1) else "does not hold",
    )  # fmt: skip


def speedups(lab: Lab) -> list[Statement]:
    """Table 1: seconds against full fine-tuning with offload, on 4 A100 40 GB."""
    gpu, total = GPUS["a100-40gb"], lab.anatomy("llama-7b").total
    rows = published.published("smt_table1_speed")
    settings = ((4, False), (16, True))  # examples per GPU, checkpointing: 16 or 64 examples per step
    made = []
    for row in rows[rows["method"] != "full"].to_dict("records"):
        name, printed = str(row["method"]), float(row["speedup"])
        found, rates, limits = {}, {}, {}
        for batch, checkpointing in settings:
            full = lab.run("full", None, checkpointing=checkpointing, batch=batch)
            mine = lab.run(name, 1.26, checkpointing=checkpointing, batch=batch)
            slow = step_time(full.operations["tuning"], total, total, gpu, Spread(4, zero=2, offload=True))
            quick = step_time(mine.operations["tuning"], mine.account.trained["tuning"], total, gpu, Spread(4))
            key = f"{batch} examples per GPU, {'with' if checkpointing else 'no'} checkpointing"
            found[key] = slow.total / quick.total
            limits[key] = slow.compute / quick.compute
            rates[key] = _adam_rate(printed * quick.total - slow.total, total)
        best = min(found, key=lambda key: abs(found[key] - printed))
        needed = rates[best]
        made.append(
            Statement(
                f"speed-{name}",
                "SMT table 1",
                f"{name} at 1.26 % is {printed:g} times as fast as full fine-tuning (offloaded)",
                f"4 x A100 40 GB, {best}; full: ZeRO-2, Adam on the host at {HOST_BANDWIDTH / GB:.0f} GB/s; "
                f"e = {EFFICIENCY.matrix:g}; "
                + "; ".join(f"{key}: {value:.1f}" for key, value in found.items() if key != best)
                + f"; without offload {limits[best]:.2f}",
                printed,
                found[best],
                "times",
                "holds"
                if near(found[best], printed, 0.15)
                else f"holds if the host's Adam moves {needed / GB:.1f} GB/s, {100 * needed / HOST_BANDWIDTH:.0f} % of its peak: "
                "the ratio is the baseline's offloading"
                if needed is not None
                else "does not hold",
            )  # fmt: skip
        )
    return made


def _adam_rate(missing: float, numbers: int) -> float | None:
    """The host's memory rate at which a step takes `missing` seconds longer than at its peak; None if none does."""
    seconds = ADAM_BYTES * numbers / HOST_BANDWIDTH + missing
    return ADAM_BYTES * numbers / seconds if seconds > 0 else None


def sparse_storage() -> Statement:
    """Figure 11: COO against dense blocks."""
    values = 397 * 2113
    dense = torch.float32.itemsize * values
    coo = dense + 2 * torch.int64.itemsize * values
    csr = dense + torch.int32.itemsize * (values + 4096 + 1)
    half = (torch.bfloat16.itemsize + 2 * torch.int64.itemsize) / torch.bfloat16.itemsize
    return Statement(
        "sparse-5x", "SMT appendix G.1, figures 10 and 11", "a sparse matrix takes 5 times the memory of dense blocks",
        f"COO with two int64 indices per float32 value (the paper's code); {csr / dense:.1f} times as CSR with int32, {half:g} "
        "times as COO of bf16",
        5, coo / dense, "times",
        "holds if the format is COO with int64 indices" if near(coo / dense, 5, 0.01) else "does not hold",
    )  # fmt: skip


def _z_pct(lab: Lab) -> float:
    """The percentage that is exactly the paper's 514 blocks."""
    return 100 * BLOCKS * numel((SIDE, SIDE)) / lab.anatomy("llama-7b").total
