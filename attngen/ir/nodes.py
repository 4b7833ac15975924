"""The nodes of a Spec: WHAT an attention computes. Immutable, hashable, free of targets, shapes and tensors.

Shapes in the comments: q (B, Hq, Nq, D), k (B, Hk, Nk, D), v (B, Hv, Nk, Dv), result (B, Hq, Nq, Do).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from attngen.ir.expr import Expr, const, op, sym
from attngen.ir.normalizer import Normalizer
from attngen.ir.ops import Type

# --- index spaces -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Sequence:
    """Positions 0 .. n_q - 1 and 0 .. n_k - 1."""


@dataclass(frozen=True, slots=True)
class Grid:
    """A grid of 1 to 3 dimensions, flattened row by row: q = (q[0] * dims[1] + q[1]) * dims[2] + q[2]; so are keys."""

    dims: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Segments:
    """Packed sequences (batch 1): tokens offsets[i] .. offsets[i + 1] - 1 are sequence i.

    In expressions b is the number of the sequence, n_b the number of sequences, q and kv count from its start, n_q and
    n_k are its lengths; along axes "q" and "kv" an input is packed as q and k are, and its indices count from the start
    of the sequence too. `q_offsets` and `k_offsets` name int inputs of S + 1 entries.
    """

    q_offsets: str = "cu_seqlens_q"
    k_offsets: str = "cu_seqlens_k"


@dataclass(frozen=True, slots=True)
class Paged:
    """Keys and values live in pages: k (pages, Hk, page, D); key kv of b is at [table[b, kv // page], :, kv % page].

    `table` names an int input (B, pages per sequence), `lengths` an int input (B,): n_k is lengths[b], keys at or past
    it are absent, and entries of the table for such keys are not read.
    """

    page: int
    table: str = "page_table"
    lengths: str = "kv_lengths"


Space = Sequence | Grid | Segments | Paged

# --- inputs and routers -----------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Input:
    """A tensor (or, without axes, a number) given per call besides q, k and v.

    `axes` labels each dimension: "b", "h", "q", "kv" are checked against the call; "?" is free. `type` is what its
    elements are in expressions.
    """

    name: str
    axes: tuple[str, ...] = ()
    type: Type = "float"
    grad: bool = False


@dataclass(frozen=True, slots=True)
class PooledTopK:
    """Classes from pooled scores mean(q block) . mean(k block): the `top` share of a row is 1, the `bottom` share -1.

    The others are 0. Of n key blocks max(1, int(top * n)) are in the top, and int(bottom * n), as far as blocks are
    left, in the bottom. Blocks are ranked by score; of equal ones the lower index ranks higher. A ragged last block is
    the mean of what it has. `smooth_k` subtracts the mean of all keys first. Selection has no gradient.
    Source: SLA, arXiv 2509.24006.
    """

    top: float
    bottom: float = 0.0
    smooth_k: bool = False


@dataclass(frozen=True, slots=True)
class Given:
    """The classes arrive as the input `table`, int (B or 1, H or 1, query blocks, key blocks)."""

    table: str


@dataclass(frozen=True, slots=True)
class Router:
    """An int8 class per (b, h, query block, key block), which expressions read as name[b, h, q // qb, kv // kb].

    It classes the main keys, so it stands in their mask, score and join, and in the weight of a branch without others.
    """

    name: str
    query_block: int
    key_block: int
    rule: PooledTopK | Given


VISIBLE: Expr = const(True)
RAW: Expr = sym("score")

# --- branches ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class View:
    """How an operand is read: which tensor, which of its heads for head h of the result, which part of each vector.

    `head` is an int expression in h, n_h (heads of the result) and heads (those of the tensor); None: grouped, head h
    reads h * heads // n_h (GQA, MQA, MHA). `start` and `stop` are int expressions in d, the tensor's own head
    dimension; None: all of it. `feature` maps each element x, or the whole vector (`dim_softmax`).

    The result has the heads of q; where views have head maps, the most for which every map stays inside its tensor.
    """

    tensor: str
    head: Expr | None = None
    start: Expr | None = None
    stop: Expr | None = None
    feature: Expr | None = None


def default_scale() -> Expr:
    """1 / sqrt(d), where d is the width of the view."""
    return op("rsqrt", op("to_float", sym("d")))


@dataclass(frozen=True, slots=True)
class Dot:
    """scale * (q view . k view). `scale` sees b, h, q, sizes (d is the width of the view) and row inputs."""

    q: View = View("q")
    k: View = View("k")
    scale: Expr = field(default_factory=default_scale)


@dataclass(frozen=True, slots=True)
class KeySet:
    """Keys and values that enter the same normalizer: dots, values, mask, score. kv and n_k are those of the set."""

    dots: tuple[Dot, ...] = (Dot(),)
    v: View = View("v")
    mask: Expr = VISIBLE
    score: Expr = RAW
    join: Expr | None = None

    def joined(self) -> Expr:
        """The raw score in dot[0], dot[1], ...: `join` (a selection, a difference), or the sum."""
        if self.join is not None:
            return self.join
        total: Expr = sym("dot[0]")
        for i in range(1, len(self.dots)):
            total = op("add", total, sym(f"dot[{i}]"))
        return total


@dataclass(frozen=True, slots=True)
class Branch:
    """One normalised sum over keys: O_i = finalize(sum_j weight_ij phi(score_ij) V_j).

    `keysets` come after the main one (dots, v, mask, score) under the same normalizer. `weight` multiplies after the
    mass is taken, for all key sets. `decay` names an input of log decays, (B, H, N) or (B, H, N, D): a factor
    exp(sum of decay over kv < t <= q) inside each dot of the main keys, per channel in the second form; main keys with
    kv > q are absent.
    """

    normalizer: Normalizer
    dots: tuple[Dot, ...] = (Dot(),)
    v: View = View("v")
    mask: Expr = VISIBLE
    score: Expr = RAW
    join: Expr | None = None
    keysets: tuple[KeySet, ...] = ()
    weight: Expr | None = None
    decay: str | None = None

    def all_keysets(self) -> tuple[KeySet, ...]:
        """The main key set and the others, in the order in which they are visited."""
        return (KeySet(self.dots, self.v, self.mask, self.score, self.join), *self.keysets)


# --- combination ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Affine:
    """O = sum_k coefficient_k * T_k; coefficients are float expressions in b, h, q, dim, sizes, row inputs (gates)."""

    coefficients: tuple[Expr, ...]


@dataclass(frozen=True, slots=True)
class Concat:
    """O = the branches side by side along the head dimension."""


@dataclass(frozen=True, slots=True)
class Project:
    """O = sum_k T_k @ W_k, where `weights` names an input (Dv, Do) for each branch, or None for the identity."""

    weights: tuple[str | None, ...]


Combine = Affine | Concat | Project


@dataclass(frozen=True, slots=True)
class Spec:
    """A whole attention mechanism. `name` is for people and does not take part in equality."""

    branches: tuple[Branch, ...]
    space: Space = Sequence()
    inputs: tuple[Input, ...] = ()
    routers: tuple[Router, ...] = ()
    combine: Combine = Affine((const(1.0),))
    name: str = field(default="attention", compare=False)

    def input(self, name: str) -> Input | None:
        """The input of that name."""
        return next((i for i in self.inputs if i.name == name), None)


Layout = Literal["bhnd", "bnhd"]
