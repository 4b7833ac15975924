"""What a deviation may be: the numerical contract, on the results and gradients of one call.

A kernel may err twice as much as dense torch does in the same precision, plus the rounding of what it writes; on
ordinary inputs its error also stays below a fixed bound. Finite inputs give no NaN. Two things are added:

* Where dense torch itself fails (q k^T overflows float16), the formula in single precision stands in for it.
* A gradient whose terms cancel leaves their rounding behind, in any algorithm that sums a row once: `noise` is what
  float32 sums of dO . V amount to. Errors are relative to the exact result, or to that noise where it is larger.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import inf, nan
from typing import TYPE_CHECKING

import torch

from attngen.verification.values import LARGEST, LSE, ROUNDING

if TYPE_CHECKING:
    from torch import Tensor

    from attngen.verification.numerics_errors import Results, Trial

STATISTIC = 2.0**-22
"""Relative rounding of row statistics, which are float32 in every dtype: a few units in the last place."""


@dataclass(frozen=True, slots=True)
class Deviation:
    """How far one quantity is from float64. Errors are relative (Frobenius); `largest` is the largest of an entry.

    `dense` and `largest_dense` are those of dense torch, nan where it fails or the spec has no such form; `allowed` may
    be inf.
    """

    quantity: str
    error: float
    dense: float
    allowed: float
    largest: float
    largest_dense: float
    has_nan: bool

    @property
    def ok(self) -> bool:
        return not self.has_nan and self.error <= self.allowed

    @property
    def share(self) -> float:
        """The part of what is allowed that is used."""
        if self.has_nan:
            return inf
        return self.error / self.allowed if self.allowed else (inf if self.error else 0.0)


def judge(
    trial: Trial, found: Results, dense: Results | None, exact: Results, dtype: str, ordinary: bool
) -> tuple[Deviation, ...]:
    """Every quantity that was computed."""
    floors = noise(trial, exact["O"])
    single: Results | None = None
    deviations = []
    for name, got in found.items():
        wanted, floor, fixed = exact[name].double(), floors.get(name, 0.0), _fixed(name, dtype)
        error, largest = _distance(got, wanted, floor)
        rival = (nan, nan) if dense is None else _distance(dense[name], wanted, floor)
        if rival[0] < inf:
            allowed = 2 * rival[0] + (STATISTIC if name == "LSE" else ROUNDING[dtype])
        else:
            single = single or trial.by_formula(gradients="dq" in found)
            allowed = 2 * _distance(single[name], wanted, floor)[0] + fixed
        cancelled = floor / max(_size(wanted), floor) if floor else 0.0
        allowed = min(fixed, allowed) if ordinary else allowed + cancelled
        has_nan = bool((got.isnan() & ~wanted.isnan()).any())
        allowed = inf if allowed != allowed else allowed  # nothing finite to compare with
        deviations.append(Deviation(name, error, rival[0], allowed, largest, rival[1], has_nan))
    return tuple(deviations)


def noise(trial: Trial, out: Tensor) -> dict[str, float]:
    """The rounding in float32 of the terms scale * (dO . V) * K of dq, and of those of dk (Frobenius).

    A sum of D products rounds D times, to a partial sum each time; these errors add up like a random walk.
    """
    q, k, v, upstream = (t.double() for t in (trial.call.q, trial.call.k, trial.call.v, trial.upstream(out.shape)))
    if 0 in (q.numel(), k.numel(), v.numel()):
        return {}
    rows = upstream.norm(dim=-1) * v.norm(dim=-1).amax() * q.shape[-1] ** -0.5 * (v.shape[-1] / 2) ** 0.5 * 2.0**-24
    queries = q.norm(dim=-1).amax(1, keepdim=True)
    return {"dq": float(rows.norm() * k.norm(dim=-1).amax()), "dk": float((rows * queries).norm())}


def _fixed(name: str, dtype: str) -> float:
    """The bound of ordinary inputs."""
    if name == "LSE":
        return LSE if dtype == "fp32" else 50 * LSE
    return LARGEST[dtype]


def _distance(found: Tensor, wanted: Tensor, floor: float) -> tuple[float, float]:
    """Relative Frobenius distance and the largest difference, over what the dtype of `found` can hold."""
    held = (wanted.abs() < torch.finfo(found.dtype).max) | wanted.isinf()
    gap = torch.where(~held | (found.double() == wanted), 0.0, found.double() - wanted)
    size = max(_size(torch.where(held, wanted, 0.0)), floor)
    largest = float(gap.abs().amax()) if gap.numel() else 0.0
    return (float(gap.norm()) / size if size else largest), largest


def _size(wanted: Tensor) -> float:
    return float(torch.where(wanted.isfinite(), wanted, 0.0).norm())
