"""Inputs that try the arithmetic of attention: each family turns ordinary random operands into one kind of trouble."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from torch import Tensor

    Operands = tuple[Tensor, Tensor, Tensor]
    Change = Callable[[Tensor, Tensor, Tensor, float], Operands]

DISTINCT = 5
"""Different keys under ties: a prime, so that windows and tiles do not see them in step."""

LEVELS = 6
"""Sizes of huge keys, each half of the one before."""


@dataclass(frozen=True, slots=True)
class Family:
    """A kind of input. `change` maps q, k, v of standard normal numbers in float32, and a strength, to new ones.

    `strengths`, strongest first, by dtype: the first is taken at which the formula itself stays finite in single
    precision (the square of a score of 1e30 is infinite, whoever computes it). `ordinary`: the absolute bounds hold.
    """

    name: str
    change: Change
    strengths: dict[str, tuple[float, ...]]
    ordinary: bool = False


def normal(q: Tensor, k: Tensor, v: Tensor, strength: float) -> Operands:
    """Scores of about 1."""
    return q, k, v


def large(q: Tensor, k: Tensor, v: Tensor, strength: float) -> Operands:
    """Scores of some tens, which every dtype holds: few keys share a row, and their scores have digits to lose."""
    return q * strength**0.5, k * strength**0.5, v


def huge(q: Tensor, k: Tensor, v: Tensor, strength: float) -> Operands:
    """Scores near the largest that float32 holds, of both signs.

    Entries are powers of two, so every precision computes the same scores exactly, in any order: keys of one level tie,
    and between levels lie gaps as huge as the scores. What is tried are differences, rescaling and underflow.
    """
    signs = torch.where(k[:1, :1, :1] < 0, -1.0, 1.0)
    level = torch.arange(k.shape[-2], device=k.device) % LEVELS
    turn = 1.0 - 2.0 * (torch.arange(q.shape[-2], device=q.device) % 2)
    keys = strength * signs * 0.5 ** level[:, None]
    return (strength * signs * turn[:, None]).expand_as(q).clone(), keys.expand_as(k).clone(), v


def tiny(q: Tensor, k: Tensor, v: Tensor, strength: float) -> Operands:
    """Scores that vanish beside 1: softmax is the mean, and only sums of many equal numbers are left."""
    return q * strength, k * strength, v


def ties(q: Tensor, k: Tensor, v: Tensor, strength: float) -> Operands:
    """Few different keys, each many times, and queries along one of them: every row has many keys at its maximum."""
    keys = k[..., torch.arange(k.shape[-2]) % DISTINCT, :]
    return strength * _targets(q, keys), keys, v


def one_hot(q: Tensor, k: Tensor, v: Tensor, strength: float) -> Operands:
    """Query i lies along key i, which takes the row where the mask shows it: all but 1e-9 of the weight."""
    return strength * _targets(q, k), k, v


def offset(q: Tensor, k: Tensor, v: Tensor, strength: float) -> Operands:
    """Scores of `strength` plus differences of about 1: a score has few digits left for what matters."""
    common = (strength / q.shape[-1] ** 0.5) ** 0.5
    along = common * torch.where(k[:1, :1, :1] < 0, -1.0, 1.0)
    return along + q / common, along + k / common, v


def _targets(q: Tensor, k: Tensor) -> Tensor:
    """For every query the key of the same number, of the key head that its head reads."""
    rows = torch.arange(q.shape[-2]).clamp(max=k.shape[-2] - 1)
    heads = torch.arange(q.shape[1]) * k.shape[1] // q.shape[1]
    batches = torch.arange(q.shape[0]).clamp(max=k.shape[0] - 1)
    return k[batches][:, heads][:, :, rows]


def _each(*strengths: float) -> dict[str, tuple[float, ...]]:
    return dict.fromkeys(("fp32", "bf16", "fp16"), strengths)


HUGE = tuple(2.0**power for power in (56, 30, 15, 8, 4))

FAMILIES = (
    Family("normal", normal, _each(1.0), ordinary=True),
    Family("large scores", large, _each(30.0, 5.0)),
    Family("huge scores", huge, {"fp32": HUGE, "bf16": HUGE, "fp16": HUGE[2:]}),
    Family("tiny scores", tiny, {"fp32": (2.0**-60,), "bf16": (2.0**-60,), "fp16": (2.0**-12,)}),
    Family("ties at maximum", ties, _each(0.5)),
    Family("one-hot rows", one_hot, _each(6.0, 1.0)),
    Family("common offset", offset, _each(2048.0, 128.0)),
)
LONG = Family("long rows", normal, _each(1.0), ordinary=True)
"""Scores of about 1 over thousands of keys: sums with many terms."""
