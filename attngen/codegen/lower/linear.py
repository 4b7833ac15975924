"""Branches whose keys can be summed up before the queries are met, and what their loop is over then.

The licence is phi(s) = s: then sum_j phi(q . k_j) v_j = phi(q) (sum_j phi(k_j) v_j^T). The mask has to say the same for
all pairs of a block of queries and a block of keys, or be causal: then pairs of one chunk are looked at one by one, and
earlier chunks are summed up.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from attngen.codegen.analysis import closed_form
from attngen.codegen.lower.produced import Producer
from attngen.codegen.lower.projections import is_linear
from attngen.codegen.lower.reach import CHUNK, Classed, DecaySums, Earlier, Everything
from attngen.codegen.lower.states import Names, Reach, States
from attngen.ir.expr import Const, Expr, Op, const, load, op, postorder, rebuild, substitute, sym, symbols
from attngen.ir.nodes import Affine, Branch, Dot, KeySet, Router, Sequence, Spec, View
from attngen.ir.normalizer import Streaming

CAUSAL = op("le", sym("kv"), sym("q"))
ROW = frozenset(("acc", "mass", "b", "h", "q", "dim", "n_q", "n_b", "n_h"))
"""What a result may be made of."""

KEYS = frozenset(("n_k", "n_visible"))
"""What counts keys, of which virtual ones are no part."""


@dataclass(frozen=True, slots=True)
class Kind:
    """How the keys of a branch are summed up. `block`: the queries that share a state; None: all of them."""

    block: int | None
    router: Router | None = None
    causal: bool = False


@dataclass(frozen=True, slots=True)
class Summed:
    """What the branch reads: its views after features, with their channels, and the width of the result."""

    q: View
    k: View
    k_extent: tuple[int, int]
    v: View
    v_extent: tuple[int, int]
    weight: str | None
    width: int
    dtype: str


def kinds(spec: Spec) -> tuple[Kind | None, ...]:
    """How the keys of each branch are summed up, or None where they have to be looked at one by one."""
    combine = spec.combine
    coefficients = combine.coefficients if isinstance(combine, Affine) else (const(1.0),) * len(spec.branches)
    pairs = zip(spec.branches, coefficients, strict=True)
    return tuple(None if symbols(each) & KEYS else kind_of(branch, spec.routers) for branch, each in pairs)


def kind_of(branch: Branch, routers: tuple[Router, ...]) -> Kind | None:
    """The same for a branch, whatever its result is multiplied by."""
    node = branch.normalizer
    score = sym("s")
    if not isinstance(node, Streaming) or node.phi != score or node.psi not in (None, score):
        return None
    if node.anchor is not None or node.sink is not None or node.lse is not None:
        return None
    if not is_linear(node) or not symbols(node.finalize) <= ROW | {f"q[{i}]" for i in range(3)}:
        return None
    if branch.keysets or branch.weight is not None or branch.join is not None or len(branch.dots) != 1:
        return None
    if branch.score != sym("score") or symbols(branch.dots[0].scale) & KEYS:
        return None
    causal = closed_form(branch.mask, Sequence()) == closed_form(CAUSAL, Sequence())
    if causal or (branch.decay is not None and branch.mask == const(True)):
        return Kind(CHUNK, causal=True)
    if branch.decay is not None:
        return None
    if branch.mask == const(True):
        return Kind(None)
    router = next((r for r in routers if condition_of(branch.mask, r) is not None), None)
    return None if router is None else Kind(router.query_block, router)


LOGIC = frozenset(("eq", "ne", "lt", "le", "gt", "ge", "and", "or", "not"))


def condition_of(mask: Expr, router: Router) -> Expr | None:
    """The mask as a condition on x, the class of the block of a pair; None where it is anything else."""
    blocks = (op("floordiv", sym("q"), router.query_block), op("floordiv", sym("kv"), router.key_block))
    entry = load(router.name, (sym("b"), sym("h"), *blocks), "int")
    found = rebuild(mask, lambda node: sym("x") if node == entry else None)
    known = (isinstance(n, Const) or n == sym("x") or (isinstance(n, Op) and n.name in LOGIC) for n in postorder(found))
    return found if all(known) and "x" in symbols(found) else None


def summed_up(branch: Branch, kind: Kind, given: Summed, names: Names, decay: str | None) -> tuple[Branch, Reach]:
    """The branch over virtual keys (and, if causal, the keys of the same chunk), and what these sum up.

    `decay` names the sums of log decays within each chunk.
    """
    reach: Reach = Everything()
    if kind.router is not None:
        condition = condition_of(branch.mask, kind.router)
        assert condition is not None
        reach = Classed(kind.router.name, condition, kind.router.key_block)
    elif kind.causal:
        reach = Earlier(decay)
    channels = given.k_extent[1] - given.k_extent[0]
    scale = branch.dots[0].scale
    score: Expr = sym("score")
    if names.masses is not None:
        score = op("mul", score, load(names.masses, (sym("b"), sym("h"), sym("kv"))))
    if decay is not None:
        score = op("mul", score, op("exp", _at(decay, "q")))
    mask: Expr = const(True)
    if kind.block is not None:
        mask = op("eq", op("floordiv", sym("kv"), channels), op("floordiv", sym("q"), kind.block))
    virtual = KeySet((Dot(given.q, View(names.units), scale),), View(names.values), mask, score)
    own: Expr = sym("score")
    if names.size is not None:
        size = load(names.size, (sym("b"), sym("h")))
        own = op("truediv", own, size)
        sums = {name: op("mul", sym(name), size) for name in ("acc", "mass")}
        node = branch.normalizer
        assert isinstance(node, Streaming)
        branch = replace(branch, normalizer=replace(node, finalize=substitute(node.finalize, sums)))
    if not kind.causal:
        return replace(branch, dots=virtual.dots, v=virtual.v, mask=virtual.mask, score=virtual.score), reach
    chunk = op("eq", op("floordiv", sym("kv"), CHUNK), op("floordiv", sym("q"), CHUNK))
    if decay is not None:
        own = op("mul", own, op("exp", op("sub", _at(decay, "q"), _at(decay, "kv"))))
    return replace(
        branch,
        dots=(Dot(given.q, given.k, scale),),
        v=given.v,
        mask=op("and", chunk, CAUSAL),
        score=own,
        keysets=(virtual,),
        decay=None,
    ), reach


def _at(name: str, position: str) -> Expr:
    return load(name, (sym("b"), sym("h"), sym(position)))


def producers_of(
    given: Summed, reach: Reach, names: Names, has_mass: bool, decay: tuple[str, str] | None
) -> tuple[Producer, ...]:
    """What makes the virtual keys. `decay`: the names of the sums and of the log decays that they are of."""
    wide = "float64" if given.dtype == "float64" else "float32"
    first = () if decay is None else (DecaySums(*decay, wide),)
    states = States(
        names, reach, given.k, given.k_extent, given.v, given.v_extent, given.weight, given.width, given.dtype, has_mass
    )
    return (*first, states)
