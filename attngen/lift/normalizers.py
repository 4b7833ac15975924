"""How the scores of a row become weights: a quotient of a weight and its sum over the row, or a weight by itself."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from attngen.codegen.derive.differentiable import check_differentiable
from attngen.codegen.derive.laws import shift_rate
from attngen.errors import SpecError
from attngen.ir.evaluate import Environment, evaluate
from attngen.ir.expr import Const, Expr, Op, op, rebuild, sym, symbols
from attngen.ir.normalizer import Streaming
from attngen.lift.blocked import blocked
from attngen.lift.factors import Factor, factors, is_condition
from attngen.lift.fold import fold
from attngen.lift.masks import SEEN, split
from attngen.lift.reductions import markers
from attngen.normalizers.softmax import softmax

if TYPE_CHECKING:
    from torch.fx import Node

    from attngen.lift.elements import Elements
    from attngen.lift.reductions import Reduction

S, M, ACC, MASS = sym("s"), sym("m"), sym("acc"), sym("mass")
SMALL = 1e-6
"""What people add to a sum of at least 1 to be safe; it changes less than rounding does."""
CURVES = frozenset({"sigmoid", "relu", "softplus", "exp", "exp2", "abs", "pow", "sqrt", "erf", "log1p"})


@dataclass(frozen=True, slots=True)
class Recognised:
    """Weights in the terms of a branch: which keys are present, their score, the normalizer, factors afterwards."""

    mask: Expr
    score: Expr
    normalizer: Streaming
    factors: tuple[Factor, ...]


def recognise(reader: Elements, weights: Expr, node: Node) -> Recognised:
    """What the weights of a row are. Raises `LiftError`."""
    after, core = factors(reader, weights)
    above, below = _quotient(core)
    if below is None:
        return _by_itself(reader, above, after, node)
    found = [reader.reduction(marker) for marker in markers(below)]
    sums = [each for each in found if each.kind == "sum"]
    if len(sums) != 1 or "score" in symbols(below):
        raise blocked("the weights are divided by something else than one sum over the keys", node)
    outer, above = factors(reader, above)
    inner, mass = factors(reader, sums[0].of)
    common = outer if outer == inner and all(is_condition(each.expr) for each in inner) else ()
    if inner and not common:
        raise blocked("the sum over the keys has factors that the weights do not have", node)
    after = after if common else (*after, *outer)
    tops = [reader.reduction(one) for one in markers(above, mass, below) if reader.reduction(one).kind == "max"]
    tops = list(dict.fromkeys(tops))
    if len(tops) > 1:
        raise blocked("the weights of a row have two different maxima", node)
    if sums[0].sink is not None:
        return _with_sink(reader, tops, sums[0], above, below, after, node)
    scores = tops[0].of if tops else _argument(reader, above)
    put = _Placed(scores, tops[0] if tops else None, sums[0])
    declared = Streaming(
        "lifted",
        phi=put(above),
        psi=put(mass),
        anchor=S if tops else None,
        # Of keys that a factor hides, the anchor may be far above the others, whose mass is small then.
        finalize=_finalize(put(below), anchored=bool(tops) and not common),
    )
    if any(reader.is_score(part) for part in (declared.phi, declared.psi or S, declared.finalize)):
        raise blocked("the weights depend on scores in a way that no normalizer has", node)
    mask, score = split(scores)
    for each in common:
        mask = fold("and", (mask, each.seen()))
    return Recognised(mask, score, _named(declared, mask != SEEN, node), after)


def _with_sink(
    reader: Elements, tops: list[Reduction], total: Reduction, above: Expr, below: Expr, after: tuple[Factor, ...],
    node: Node,
) -> Recognised:  # fmt: skip
    """Softmax over the keys and one more score of the row, whose value is nothing."""
    usual = len(tops) == 1 and above == total.of == op("exp", op("sub", tops[0].of, tops[0].marker))
    sink = tops[0].sink if usual else None
    if sink is None or below != total.marker or reader.is_score(sink) or "kv" in symbols(sink):
        raise blocked("keys and one more column are normalised by something else than softmax", node)
    mask, score = split(tops[0].of)
    library = softmax().ir
    assert isinstance(library, Streaming)
    return Recognised(mask, score, replace(library, sink=sink), after)


def _by_itself(reader: Elements, above: Expr, after: tuple[Factor, ...], node: Node) -> Recognised:
    """Weights without a sum: sigmoid, relu ** p. A factor of 0 where a condition is false makes the key absent."""
    if markers(above):
        raise blocked("the weights are shifted by a maximum, but not divided by their sum", node)
    scores = _argument(reader, above)
    declared = Streaming("lifted", phi=_Placed(scores, None, None)(above), finalize=ACC)
    if reader.is_score(declared.phi):
        raise blocked("the weights depend on scores in a way that no normalizer has", node)
    mask, score = split(scores)
    for each in after:
        if is_condition(each.expr):
            mask = fold("and", (mask, each.seen()))
    kept = tuple(each for each in after if not is_condition(each.expr))
    return Recognised(mask, score, _named(declared, split(scores)[0] != SEEN, node), kept)


def _quotient(core: Expr) -> tuple[Expr, Expr | None]:
    """Numerator and denominator. exp(s - (m + log(sum))) is a quotient too."""
    match core:
        case Op(name="truediv", args=(a, b)) if markers(b):
            return a, b
        case Op(
            name="exp", args=(Op(name="sub", args=(x, Op(name="add", args=(top, Op(name="log", args=(total,)))))),)
        ):
            if markers(total):
                return op("exp", op("sub", x, top)), total
    return core, None


@dataclass(frozen=True, slots=True)
class _Placed:
    """Scores, their maximum and the sum, in the symbols of a normalizer."""

    scores: Expr
    top: Reduction | None
    total: Reduction | None

    def __call__(self, expr: Expr) -> Expr:
        def change(node: Expr) -> Expr | None:
            if self.top is not None and node == self.top.marker:
                return M
            if self.total is not None and node == self.total.marker:
                return MASS
            return S if node == self.scores else None

        return rebuild(expr, change)


def _argument(reader: Elements, expr: Expr) -> Expr:
    """The score in phi(score): below the curves that are applied last."""
    while isinstance(expr, Op) and expr.name in CURVES:
        below = [a for a in expr.args if not isinstance(a, Const)]
        if len(below) != 1 or not reader.is_score(below[0]):
            break
        expr = below[0]
    return expr


def _finalize(divisor: Expr, anchored: bool) -> Expr:
    """acc / divisor. With an anchor the mass is at least 1, and a tiny summand or bound on it does nothing."""
    match divisor:
        case Op(name="add", args=(x, Const(value=value))) if anchored and x == MASS and 0 <= value <= SMALL:
            divisor = x
        case Op(name="maximum", args=(x, Const(value=value))) if anchored and x == MASS and value <= 1:
            divisor = x
    return op("safe_div" if divisor == MASS else "truediv", ACC, divisor)


def _named(declared: Streaming, masked: bool, node: Node) -> Streaming:
    """The normalizer of the library where it is one; else what was found, if its laws hold."""
    plain = op("exp", op("sub", S, M)), op("exp", S)
    usual = op("safe_div", ACC, MASS)
    if declared.phi == declared.psi and declared.phi in plain and declared.finalize == usual:
        library = softmax().ir
        assert isinstance(library, Streaming)
        return library
    top = declared.phi
    while isinstance(top, Op) and top.name == "pow":
        top = top.args[0]
    declared = replace(declared, name=top.name if isinstance(top, Op) else "linear")
    if masked and not _vanishes(declared):
        raise blocked("a score of -inf has a weight that is not 0; multiply the weights by the mask instead", node)
    try:
        shift_rate(declared)
        check_differentiable(declared)
    except SpecError as error:
        raise blocked(error.message, node) from None
    return declared


def _vanishes(declared: Streaming) -> bool:
    """Whether a score of -inf has weight 0, and adds nothing to the mass."""
    import torch

    parts = (declared.phi,) if declared.psi is None else (declared.phi, declared.psi)
    if any(symbols(part) - {"s", "m"} for part in parts):
        return False
    far = Environment({"s": torch.tensor(-math.inf), "m": torch.tensor(0.0)}, {})
    return all(float(evaluate(part, far)) == 0 for part in parts)
