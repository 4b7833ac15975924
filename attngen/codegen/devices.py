"""What the GPUs can do, and how fast a kernel could be at best on one of them.

Rates are of dense products with fp32 accumulators at the clock that the maker states them for. Shared memory, registers
and the rate of exponentials (16 a clock and SM) by compute capability: NVIDIA, CUDA C++ Programming Guide, the tables
"Technical Specifications per Compute Capability" and "Throughput of Native Arithmetic Instructions".
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

from attngen.errors import InputError

Bound = Literal["matrix", "exp", "fma", "memory"]

KIB = 1024
_COST_OF_PRODUCTS = {1: 0.5, 2: 1.0, 4: 6.0}
"""Against bf16, by bytes of an element: fp8 at twice the rate; fp32 as three products of tf32 at half the rate."""


@dataclass(frozen=True, slots=True)
class Device:
    """One GPU. Rates in tera per second, the clock in GHz, memory in GB/s, the L2 cache in MB, other sizes in bytes.

    `exps` is how many exponentials (MUFU) an SM starts in a clock, `registers` how many of 32 bits it has, and
    `tensor_memory` how many columns a block may take (sm_100 only).
    """

    name: str
    capability: tuple[int, int]
    sms: int
    bf16_tflops: float
    fp32_tflops: float
    clock_ghz: float
    shared_per_sm: int
    shared_per_block: int
    memory_gbs: float
    l2_mb: float
    exps: int = 16
    registers: int = 65536
    tensor_memory: int = 0

    @property
    def arch(self) -> str:
        return f"sm_{self.capability[0]}{self.capability[1]}"

    @property
    def exps_per_second(self) -> float:
        return self.sms * self.exps * self.clock_ghz * 1e9

    def runs(self, arch: str) -> bool:
        """Whether machine code for `arch` runs here: any older minor on sm_80, from sm_90 on the same capability."""
        found = re.fullmatch(r"sm_(\d+)(\d)a?", arch)
        if found is None:
            raise InputError(f"arch: {arch!r}; allowed: sm_ and the compute capability, such as sm_80, sm_90, sm_100")
        built = int(found[1]), int(found[2])
        if built[0] >= 9:
            return built == self.capability
        return built[0] == self.capability[0] and built[1] <= self.capability[1]


DEVICES: tuple[Device, ...] = (
    # NVIDIA A100 Tensor Core GPU Architecture (2020); memory of the 80 GB SXM: A100 datasheet (2021).
    Device("A100", (8, 0), 108, 312.0, 19.5, 1.41, 164 * KIB, 163 * KIB, 2039.0, 40.0),
    # NVIDIA H100 Tensor Core GPU Architecture (2022), SXM5. The clock is the one of the tensor rate: 989.4e12 / (132 *
    # 4096); fp32 is stated at 1.98 GHz.
    Device("H100", (9, 0), 132, 989.4, 66.9, 1.83, 228 * KIB, 227 * KIB, 3352.0, 50.0),
    # NVIDIA H200 datasheet (2024): the SMs of the H100, with HBM3e.
    Device("H200", (9, 0), 132, 989.4, 66.9, 1.83, 228 * KIB, 227 * KIB, 4800.0, 50.0),
    # NVIDIA HGX B200 datasheet (2024), an eighth of it; SMs and L2: CUDA device query. The clock is the one of the
    # tensor rate: 2250e12 / (148 * 8192).
    Device("B200", (10, 0), 148, 2250.0, 75.0, 1.86, 228 * KIB, 227 * KIB, 8000.0, 126.0, tensor_memory=512),
    # NVIDIA Ada GPU Architecture (2022), appendix A.
    Device("RTX 4090", (8, 9), 128, 165.2, 82.6, 2.52, 100 * KIB, 99 * KIB, 1008.0, 72.0),
    # NVIDIA RTX Blackwell GPU Architecture (2025), appendix A.
    Device("RTX 5090", (12, 0), 170, 209.5, 104.8, 2.41, 100 * KIB, 99 * KIB, 1792.0, 96.0),
)


_LESSER = frozenset({"PCIe", "PCIE", "NVL", "40GB", "Laptop", "MIG", "D"})
"""Words in the name of a board with fewer SMs, a lower clock or slower memory than the table says."""


@dataclass(frozen=True, slots=True)
class Prediction:
    """The least time a kernel can take, in seconds, which unit it waits for, and the time that each unit needs."""

    seconds: float
    bound: Bound
    parts: dict[Bound, float]


def named(name: str) -> Device | None:
    """The device that a CUDA name belongs to ("NVIDIA A100-SXM4-80GB"), or None where the table has none."""
    words = re.split(r"[\s-]+", name)
    if _LESSER & set(words):
        return None
    return next((d for d in DEVICES if _is_in(d.name.split(), words)), None)


def built_for(arch: str) -> Device:
    """The device that stands for an architecture where none is at hand. Raises `InputError` for an unknown one."""
    for device in DEVICES:
        if device.arch == arch:
            return device
    raise InputError(f"arch: {arch!r}; allowed: {', '.join(dict.fromkeys(d.arch for d in DEVICES))}")


def predict(
    device: Device,
    *,
    pairs: float,
    d: int,
    dv: int,
    moved: float,
    element_bytes: int = 2,
    exps: float = 1.0,
    fmas: float = 4.0,
    products: tuple[int, int] = (1, 1),
) -> Prediction:
    """The roofline of a kernel that visits `pairs` pairs of a query and a key and moves `moved` bytes.

    `d` and `dv` are the channels of a key and of a value, `exps` and `fmas` what a pair costs beside its products, and
    `products` how many of these run over `d` and over `dv`: (1, 1) forward, (3, 2) backward in one pass over the pairs,
    (4, 3) in two. Units are taken to overlap, so the slowest decides. Raises `InputError` for a size of elements that
    has no matrix product on a GPU.
    """
    cost = _COST_OF_PRODUCTS.get(element_bytes)
    if cost is None:
        raise InputError(f"element_bytes: {element_bytes}; allowed: {', '.join(map(str, _COST_OF_PRODUCTS))}")
    flops = 2.0 * pairs * (products[0] * d + products[1] * dv)
    parts: dict[Bound, float] = {
        "matrix": cost * flops / (device.bf16_tflops * 1e12),
        "exp": pairs * exps / device.exps_per_second,
        "fma": 2.0 * pairs * fmas / (device.fp32_tflops * 1e12),
        "memory": moved / (device.memory_gbs * 1e9),
    }
    bound = max(parts, key=lambda part: parts[part])
    return Prediction(parts[bound], bound, parts)


def _is_in(part: list[str], words: list[str]) -> bool:
    return any(words[n : n + len(part)] == part for n in range(len(words)))
