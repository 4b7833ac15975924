"""Whether the scores of a branch are never negative, as some normalizers ask: `scores: nonnegative`."""

from __future__ import annotations

from attngen.errors import SpecError
from attngen.ir.expr import Expr, const, sym
from attngen.ir.nodes import Branch, Dot, KeySet, View
from attngen.ir.normalizer import Chained, Normalizer, Streaming
from attngen.ir.signs import never_negative, span_of
from attngen.ir.span import LINE, Span, at_least

ABSENT: dict[Expr, Span] = {const(float("-inf")): at_least(0)}
"""A score of -inf is that of an absent key."""
ADVICE = (
    "give q and k feature maps that are never negative (relu(x), exp(x), sigmoid(x), x * x, elu(x) + 1, "
    "dim_softmax(x)) and a scale >= 0, or end the score function in torch.abs, torch.relu or torch.exp"
)


def verify_scores(branch: Branch, place: str) -> None:
    """Raises `SpecError`, saying what can be negative, where a normalizer's demand on its scores is not shown."""
    node = branch.normalizer
    for i, each in enumerate(_passes(node)):
        if each.scores == "real":
            continue
        if each.sink is not None and not never_negative(each.sink):
            raise SpecError(f"{_named(node, place)} is for scores that are never negative, but its sink can be")
        if i:
            before = _passes(node)[i - 1]
            if not never_negative(before.phi, {} if before.scores == "real" else {sym("s"): at_least(0)}):
                raise SpecError(
                    f"{_named(node, place)}, pass {i} is for scores that are never negative, but those are the weights "
                    f"of pass {i - 1}, whose phi can be"
                )
            continue
        for j, keyset in enumerate(branch.all_keysets()):
            reason = _negative(keyset)
            if reason is not None:
                where = f" of key set {j}" if branch.keysets else ""
                raise SpecError(
                    f"{_named(node, place)} is for scores that are never negative, but those{where} can be: {reason}; "
                    f"{ADVICE}"
                )


def _named(node: Normalizer, place: str) -> str:
    return f"{place}normalizer {node.name!r}"


def _passes(node: Normalizer) -> tuple[Streaming, ...]:
    match node:
        case Streaming():
            return (node,)
        case Chained(passes=passes):
            return passes
        case _:
            return ()


def _negative(keyset: KeySet) -> str | None:
    """Why a score of the key set may be negative; None: none is."""
    dots: dict[Expr, Span] = {}
    reasons: list[str] = []
    for i, dot in enumerate(keyset.dots):
        reason = _negative_dot(dot)
        dots[sym(f"dot[{i}]")] = at_least(0) if reason is None else LINE
        reasons += [] if reason is None else [reason]
    joined = span_of(keyset.joined(), dots)
    if span_of(keyset.score, {**ABSENT, sym("score"): joined}).nonnegative:
        return None
    if reasons:
        return reasons[0]
    if not joined.nonnegative:
        return "the join of its dots can be negative"
    return "the score function can make them negative"


def _negative_dot(dot: Dot) -> str | None:
    for view in (dot.q, dot.k):
        if not _view_is_nonnegative(view):
            what = "has no feature map" if view.feature is None else "has a feature map that can be negative"
            return f"the view of {view.tensor} {what}"
    return None if never_negative(dot.scale) else "the scale can be negative"


def _view_is_nonnegative(view: View) -> bool:
    return view.feature is not None and never_negative(view.feature)
