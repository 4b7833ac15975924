"""Walks over the parts of a Spec: every expression, every view."""

from __future__ import annotations

from collections.abc import Iterator
from typing import assert_never

from attngen.ir.expr import Expr
from attngen.ir.nodes import Affine, KeySet, Spec, View
from attngen.ir.normalizer import Chained, Normalizer, Ordered, Streaming, Threshold


def expressions(spec: Spec) -> Iterator[Expr]:
    """Every expression of the spec, in the order of its text form."""
    for branch in spec.branches:
        for keyset in branch.all_keysets():
            yield from _keyset(keyset)
        if branch.weight is not None:
            yield branch.weight
        yield from _normalizer(branch.normalizer)
    if isinstance(spec.combine, Affine):
        yield from spec.combine.coefficients


def views(spec: Spec) -> Iterator[View]:
    """Every view of the spec, in the order of its text form."""
    for branch in spec.branches:
        for keyset in branch.all_keysets():
            for dot in keyset.dots:
                yield from (dot.q, dot.k)
            yield keyset.v


def _keyset(keyset: KeySet) -> Iterator[Expr]:
    for dot in keyset.dots:
        yield from _view(dot.q)
        yield from _view(dot.k)
        yield dot.scale
    yield from _view(keyset.v)
    yield keyset.mask
    if keyset.join is not None:
        yield keyset.join
    yield keyset.score


def _view(view: View) -> Iterator[Expr]:
    yield from (e for e in (view.head, view.start, view.stop, view.feature) if e is not None)


def _normalizer(node: Normalizer) -> Iterator[Expr]:
    match node:
        case Streaming():
            parts = (node.phi, node.psi, node.anchor, node.sink, node.finalize, node.lse)
            yield from (e for e in parts if e is not None)
        case Chained(passes=passes):
            for each in passes:
                yield from _normalizer(each)
        case Threshold():
            pass
        case Ordered(weight=weight, log_keep=log_keep):
            yield from (weight, log_keep)
        case _:
            assert_never(node)
