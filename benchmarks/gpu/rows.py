"""The rows of the H200 table: what is computed, in which direction, beside whom, and what is asked for."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from benchmarks.gpu.variants import variants
from benchmarks.gpu.works import Size, Work, dense, dual_triangle, geometries, sparse_linear
from benchmarks.gpu.works import causal as causal_work

Peer = Literal["cudnn", "flash", "flex", "cudnn dense", "flash dense"]


@dataclass(frozen=True, slots=True)
class Row:
    """One line. `peers`: the first is the baseline; a dense peer computes something else, on the same tensors.

    `floors`: a peer's time over attngen's that is asked of Triton kernels, of as many peers as it is asked for, and
    `goal` what we are after beside the first. `alone`: peers are measured where attngen has no kernel, too; elsewhere
    they have nothing to stand beside.
    """

    name: str
    work: Work
    peers: tuple[Peer, ...]
    floors: tuple[float, ...]
    goal: float | None
    backward: bool = False
    group: str = ""
    alone: bool = False

    def asked(self, peer: Peer) -> tuple[float | None, float | None]:
        """Floor and goal beside a peer."""
        at = self.peers.index(peer)
        return self.floors[at] if at < len(self.floors) else None, self.goal if at == 0 else None

    @property
    def direction(self) -> str:
        return "backward" if self.backward else "forward"


GROUP_FLOORS = {"variants, forward": 1.3, "variants, backward": 1.15}
"""The geometric means that are asked for; no variant may be below 1."""


def rows(dry: bool) -> list[Row]:
    """Forwards first: peers tune a backward for longer."""
    size = Size(1, 2, 32, 16, (4, 8)) if dry else Size(4, 16, 8192, 128, (64, 128))
    flat = Size(size.b, size.h, size.n, size.d)
    full, triangle = dense(flat), causal_work(flat)
    found = [
        Row("dense full", full, ("cudnn", "flash"), (0.75,), 0.85, alone=True),
        Row("dense causal", triangle, ("cudnn", "flash"), (0.75,), 0.85, alone=True),
        Row("dense full, backward", full, ("cudnn", "flash"), (0.55,), 0.70, True, alone=True),
        Row("dense causal, backward", triangle, ("cudnn", "flash"), (0.55,), 0.70, True, alone=True),
    ]
    ten = variants(size)
    found += [Row(f"{w.name} beside FlexAttention", w, ("flex",), (1.0,), None, group="variants, forward") for w in ten]
    asked = {"window-1d": ((7.0,), 8.5), "flux": ((8.0,), 9.5), "hunyuan": ((8.5,), 10.0)}
    found += [Row(w.name, w, ("cudnn dense",), *asked[w.name]) for w in geometries(dry)]
    long = flat if dry else Size(2, 16, 32760, 128)
    found += [
        Row("dual triangle", dual_triangle(flat), ("cudnn dense",), (1.25,), 1.4),
        Row("SLA, 95 % sparse", sparse_linear(long), ("cudnn dense", "flash dense"), (8.0, 14.0), None),
    ]
    found += [
        Row(f"{w.name} beside FlexAttention, backward", w, ("flex",), (1.0,), None, True, "variants, backward")
        for w in ten
    ]
    return found


def works(dry: bool) -> list[tuple[Work, bool]]:
    """What the rows are made of, each direction once."""
    return list({(row.work.name, row.backward): (row.work, row.backward) for row in rows(dry)}.values())


def titled(work: Work, backward: bool) -> str:
    """The name of a work and a direction, as the journal of tune has it."""
    return f"{work.name}, {'backward' if backward else 'forward'}"
