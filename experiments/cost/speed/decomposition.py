"""Where table 1's 14.6 times can come from: FLOPs, and the full baseline's optimizer in main memory.

    t(full) = t(SMT) · FLOPs(full) / FLOPs(SMT) + t(links) + t(host)
    t(links) = (gradients down + weights up, 2 bytes a parameter each) / (links · rate)
    t(host)  = (Adam in main memory, 30 bytes a parameter) / rate

Adam on the host reads a 16-bit gradient and the float32 master weight and two moments, and writes these three and a 16-bit
weight: 2 + 12 + 12 + 4 bytes with the write of the weight counted with its read for ownership. Transfers and host work are
taken not to overlap with each other or with the GPUs' work, which favours the paper's ratio.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from smt_bench.evidence import published as papers
from smt_bench.methods.modules import numel, total_parameters
from smt_bench.models import build
from smt_bench.report.table import Table

ITERATIONS = 10  # section 4.4: times are averages over 10 iterations
GPUS = 4
LINK = 25e9  # bytes/s each way that PCIe 4.0 x16 reaches in practice; 31.5e9 on paper
HOST = 204.8e9  # bytes/s of eight channels of DDR4-3200, the most an EPYC 7002 or 7003 host of such GPUs has
HOST_BYTES, LINK_BYTES = 30, 4  # per parameter and step


@dataclass(frozen=True)
class Case:
    """Rates as a share of the nominal ones; None: nothing is offloaded."""

    name: str
    share: float | None


CASES = (
    Case("optimizer on the GPUs", None),
    Case("offloaded, nominal rates", 1.0),
    Case("offloaded, a quarter of the nominal rates", 0.25),
)


def decomposition(share_skipped: float | None, measured_limit: float | None) -> Table:
    """Table 1's ratio for LLaMA-7B under stated rates, and the rates that the printed ratio would need.

    Args:
        share_skipped: of the layers, below SMT's lowest block, in the measurement beside; None where SMT was not measured.
        measured_limit: FLOP ratio of full fine-tuning to SMT there.
    """
    printed = {row["method"]: row for row in papers.published("smt_table1_speed").to_dict("records")}
    pct, smt_10, full_10 = printed["smt"]["params_pct"], printed["smt"]["time_s"], printed["full"]["time_s"]
    shapes = build.shapes("llama-7b")
    total = total_parameters(shapes)
    matrices = total - numel(shapes["model.embed_tokens.weight"])
    trained = pct / 100 * total
    flops = (3 * matrices) / (2 * matrices + trained)  # forward, input gradients, weight gradients; attention left out
    smt_s, full_s = smt_10 / ITERATIONS, full_10 / ITERATIONS
    compute = smt_s * flops
    data: list[dict[str, Any]] = []
    for case in CASES:
        links = host = 0.0
        if case.share is not None:
            links = LINK_BYTES * total / (GPUS * LINK * case.share)
            host = HOST_BYTES * total / (HOST * case.share)
        whole = compute + links + host
        data.append(_row(case.name, compute, links, host, whole, whole / smt_s, case.share))
    # The rest of the printed time, at one share of both nominal rates.
    nominal = LINK_BYTES * total / (GPUS * LINK) + HOST_BYTES * total / HOST
    needed = nominal / (full_s - compute)
    links, host = LINK_BYTES * total / (GPUS * LINK * needed), HOST_BYTES * total / (HOST * needed)
    data.append(_row("as printed", compute, links, host, full_s, full_s / smt_s, needed))
    cells = [
        [
            r["case"],
            f"{r['compute_s']:.2f}",
            f"{r['links_s']:.2f}",
            f"{r['host_s']:.2f}",
            f"{r['full_s']:.2f}",
            f"{r['ratio']:.1f}",
            "" if r["share_of_nominal_rates"] is None else f"{100 * r['share_of_nominal_rates']:.1f}",
        ]
        for r in data
    ]
    notes = [
        f"LLaMA-7B, {total:,} parameters; SMT at {pct:g} % takes {smt_s:.2f} s an iteration as "
        f"printed ({smt_10:g} s, an average over {ITERATIONS} iterations); FLOPs allow full fine-tuning "
        f"{flops:.2f} times that, from weight gradients alone",
        f"links: {LINK_BYTES} bytes a parameter over {GPUS} PCIe 4.0 links at {LINK / 1e9:g} GB/s; host: Adam in main memory, "
        f"{HOST_BYTES} bytes a parameter at {HOST / 1e9:g} GB/s; nothing overlaps",
        f"the printed {full_s / smt_s:.1f} times needs links and main memory at {100 * needed:.0f} % of these rates "
        f"({HOST * needed / 1e9:.1f} GB/s of main memory): a ratio to slow offloading, not to full fine-tuning",
    ]
    if share_skipped is not None and measured_limit is not None:
        notes.append(
            f"in the measurement beside, {100 * share_skipped:.0f} % of the layers lie below SMT's lowest block; with them and "
            f"attention its FLOP ratio is {measured_limit:.2f}"
        )
    header = ["full fine-tuning", "GPU, s", "links, s", "host, s", "iteration, s", "x SMT", "% of nominal rates"]
    return Table("Where table 1's ratio comes from", header, cells, notes, data)


def _row(
    case: str, compute: float, links: float, host: float, whole: float, ratio: float, share: float | None
) -> dict[str, Any]:
    return {
        "case": case, "compute_s": compute, "links_s": links, "host_s": host, "full_s": whole, "ratio": ratio,
        "share_of_nominal_rates": share,
    }  # fmt: skip
