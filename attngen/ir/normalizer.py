"""Normalizers: how the scores of a row become weights. Declarations only; what follows from them is derived elsewhere.

Streaming normalizers need one pass over the keys with a running state:
    m     the anchor: running maximum of `anchor(s)`, or absent
    mass  sum of psi(s, m) over the visible keys
    acc   sum of phi(s, m) * V
    count number of visible keys; vsum: sum of V over them
A masked key is absent: it enters none of these, whatever phi(0) is.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from attngen.ir.expr import Expr

Scores = Literal["real", "nonnegative"]


@dataclass(frozen=True, slots=True)
class Streaming:
    """Unnormalised weight phi(s, m), row mass psi(s, m), result finalize(acc, mass, m, count, vsum, row tensors).

    `anchor` is the expression in `s` whose running maximum is `m`; None: no anchor. `offset` is added to the maximum
    (numerics="adjusted": 0 < offset <= 1/2 keeps every weight of a finite row below 1). `sink` is the score of a
    virtual key with value zero that every row sees; `count` leaves it out. `lse` is the log-sum-exp in `m` and `mass`,
    for those that have one. All may use b, h, q and sizes as well.
    """

    name: str
    phi: Expr
    finalize: Expr
    psi: Expr | None = None
    anchor: Expr | None = None
    offset: float = 0.0
    sink: Expr | None = None
    lse: Expr | None = None
    scores: Scores = "real"


@dataclass(frozen=True, slots=True)
class Chained:
    """Several passes over the keys; the `s` of a later pass is the weight phi / mass that the pass before gave.

    A pass without mass gives weights of 0. What counts as present is decided by the first scores. The result and the
    log-sum-exp are those of the last pass.
    """

    name: str
    passes: tuple[Streaming, ...]


@dataclass(frozen=True, slots=True)
class Threshold:
    """entmax: weight = relu((alpha - 1) s - tau) ** (1 / (alpha - 1)), tau such that a row sums to 1; 2: sparsemax."""

    name: str
    alpha: float


@dataclass(frozen=True, slots=True)
class Ordered:
    """Keys are visited in order; weight = weight(s) * exp(sum of log_keep(s) over the visible keys visited before).

    `direction` "backward" visits from the last visible key to the first (nearest to farthest under a causal mask).
    """

    name: str
    direction: Literal["backward", "forward"]
    weight: Expr
    log_keep: Expr


Normalizer = Streaming | Chained | Threshold | Ordered
