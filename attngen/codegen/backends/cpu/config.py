"""The free choices of the CPU kernel: tile sizes, by instruction set and element type."""

from __future__ import annotations

from dataclasses import dataclass

from attngen.codegen.problem import Dtype


@dataclass(frozen=True, slots=True)
class CpuConfig:
    """Rows of a query tile, keys of a key tile, query tiles that share one packed key tile, and the register tiles:
    rows x vectors of the score product and of the value product."""

    isa: str
    query_tile: int
    key_tile: int
    group: int
    score_rows: int
    score_vectors: int
    value_rows: int
    value_vectors: int

    @property
    def tile(self) -> tuple[int, int]:
        """Rows of a query tile, and how many of them a task takes at most."""
        return self.query_tile, self.group

    def __str__(self) -> str:
        return (
            f"{self.isa} q{self.query_tile} k{self.key_tile} g{self.group} "
            f"qk{self.score_rows}x{self.score_vectors} pv{self.value_rows}x{self.value_vectors}"
        )


DEFAULTS: dict[str, CpuConfig] = {
    "avx512_bf16": CpuConfig("avx512_bf16", 48, 192, 8, 8, 3, 6, 4),
    "avx512": CpuConfig("avx512", 48, 192, 8, 8, 3, 6, 4),
    "avx2": CpuConfig("avx2", 24, 192, 16, 6, 2, 6, 2),
    "portable": CpuConfig("portable", 48, 64, 8, 4, 2, 4, 2),
}


BACKWARD: dict[str, CpuConfig] = {
    "avx512_bf16": CpuConfig("avx512_bf16", 96, 96, 3, 8, 3, 8, 3),
    "avx512": CpuConfig("avx512", 96, 96, 3, 8, 3, 8, 3),
    "avx2": CpuConfig("avx2", 96, 96, 3, 6, 2, 6, 2),
    "portable": CpuConfig("portable", 48, 64, 4, 4, 2, 4, 2),
}
"""The value tile is that of the three sums."""


def default(isa: str, dtype: Dtype) -> CpuConfig:
    """The first guess; float64 runs on portable vectors."""
    return DEFAULTS["portable" if dtype == "fp64" else isa]


def default_backward(isa: str, dtype: Dtype) -> CpuConfig:
    """The first guess for a backward."""
    return BACKWARD["portable" if dtype == "fp64" else isa]
