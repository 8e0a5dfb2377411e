"""GPUs by name: what the vendor prints, each number with its source. Rates are peaks; a plan multiplies them by an efficiency.

Tensor rates are dense (vendors print twice as much for 2:4 sparsity) with float32 accumulation, as training uses. Link and
host rates are per direction (vendors print both directions together). Capacity is what is printed, in GiB; `reserve` of it is
the CUDA context and is never free.
"""

from __future__ import annotations

import difflib
from dataclasses import dataclass

GIB = 2**30
CONTEXT = GIB  # bytes per GPU that CUDA, cuBLAS and NCCL take before the first tensor
TIGHT = 0.9  # above this share of what is free, fragmentation decides


@dataclass(frozen=True)
class Measured:
    """What a card reached.

    Attributes:
        bf16: FLOP/s of a dense product of large bf16 matrices.
        bandwidth: bytes/s, read and written, of a large copy.
        source: how and where it was measured.
    """

    bf16: float
    bandwidth: float
    source: str


@dataclass(frozen=True)
class Gpu:
    """One GPU.

    Attributes:
        name: as given on the command line.
        memory: bytes.
        bf16: peak bfloat16 tensor rate, FLOP/s.
        fp32: peak float32 rate outside tensor cores, FLOP/s (torch multiplies float32 exactly by default, not as TF32).
        bandwidth: of the memory, bytes/s.
        link: to another GPU, bytes/s per direction.
        host: to main memory, bytes/s per direction.
        source: of these numbers.
        measured: what one was seen to reach; None: none was at hand.
    """

    name: str
    memory: int
    bf16: float
    fp32: float
    bandwidth: float
    link: float
    host: float
    source: str
    measured: Measured | None = None

    @property
    def free(self) -> int:
        """Bytes for tensors."""
        return self.memory - CONTEXT


_SEEN = "dense bf16 products and large copies on one card, November 2026 (LOG.md)"
_MEASURED = {"h100-80gb": Measured(798e12, 3.0e12, _SEEN), "h200-141gb": Measured(788e12, 4.3e12, _SEEN)}


def _gpu(name: str, gib: int, bf16: float, fp32: float, bandwidth: float, link: float, host: float, source: str) -> Gpu:
    return Gpu(
        name, gib * GIB, bf16 * 1e12, fp32 * 1e12, bandwidth * 1e9, link * 1e9, host * 1e9, source, _MEASURED.get(name)
    )


_AMPERE = "NVIDIA A100 Tensor Core GPU datasheet (SXM)"
_GA102 = "NVIDIA Ampere GA102 GPU Architecture whitepaper v2, appendix"
# GiB; TFLOP/s bf16, fp32; GB/s memory, GPU link (NVLink, or PCIe where there is none), host.
GPUS = {
    gpu.name: gpu
    for gpu in (
        _gpu("rtx3090", 24, 71, 35.6, 936, 56.25, 32, f"{_GA102} (A: GeForce RTX 3090; NVLink 112.5, PCIe 4.0 x16)"),
        _gpu("rtx4090", 24, 165.2, 82.6, 1008, 32, 32, "NVIDIA Ada GPU Architecture whitepaper, appendix (PCIe 4.0 x16)"),
        _gpu("a10-24gb", 24, 125, 31.2, 600, 32, 32, "NVIDIA A10 Tensor Core GPU datasheet (PCIe 4.0: 64 both ways)"),
        _gpu("l4-24gb", 24, 121, 30.3, 300, 32, 32, "NVIDIA L4 Tensor Core GPU datasheet (dense: half of 242; PCIe 4.0)"),
        _gpu("a100-40gb", 40, 312, 19.5, 1555, 300, 32, f"{_AMPERE}: 40 GB HBM2, NVLink 600, PCIe 4.0 64 both ways"),
        _gpu("a6000-48gb", 48, 154.8, 38.7, 768, 56.25, 32, f"{_GA102} (C: RTX A6000; dense: half of 309.7; NVLink 112.5)"),
        _gpu("l40s-48gb", 48, 362, 91.6, 864, 32, 32, "NVIDIA L40S datasheet (dense bf16 362.05; PCIe 4.0 64 both ways)"),
        _gpu("a100-80gb", 80, 312, 19.5, 2039, 300, 32, f"{_AMPERE}: 80 GB HBM2e, NVLink 600, PCIe 4.0 64 both ways"),
        _gpu("h100-80gb", 80, 989.4, 66.9, 3350, 450, 64, "NVIDIA H100 datasheet (SXM5; dense: half of 1979; NVLink 900)"),
        _gpu("h200-141gb", 141, 989.4, 66.9, 4800, 450, 64, "NVIDIA H200 datasheet (SXM; dense: half of 1979; NVLink 900)"),
    )
}  # fmt: skip
# The host's memory, shared by its GPUs: eight channels of DDR4-3200 (8 x 25.6 GB/s), as AMD prints for EPYC 7003.
HOST_BANDWIDTH = 204.8e9
HOST_SOURCE = "AMD EPYC 7003 datasheet: 8 channels of DDR4-3200, 204.8 GB/s per socket"
NUMBERS = (1, 2, 4, 8)  # GPUs in one machine


def find(name: str) -> Gpu:
    """The GPU called `name`.

    Raises:
        ValueError: no such GPU; the message names the nearest.
    """
    if name not in GPUS:
        near = difflib.get_close_matches(name.lower(), GPUS, n=1, cutoff=0.5)
        hint = f"did you mean {near[0]}?" if near else f"choose from {', '.join(GPUS)}"
        raise ValueError(f"unknown GPU {name!r}: {hint}")
    return GPUS[name]


def recognised(device: str, memory: int) -> Gpu | None:
    """The card that a driver calls `device`, e.g. "NVIDIA H100 80GB HBM3"; None where it is not one of these."""
    words = device.lower().replace("geforce ", "").replace("rtx ", "rtx").replace("-", " ").split()
    near = [gpu for gpu in GPUS.values() if gpu.name.split("-")[0] in words and abs(gpu.memory / memory - 1) < 0.1]
    return near[0] if len(near) == 1 else None
