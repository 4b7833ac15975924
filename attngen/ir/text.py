"""The text form of a Spec: readable, and parsed back to an equal Spec by `attngen.ir.parse`.

spec soft_capped over sequence {
  input slopes[h]: float grad
  branch {
    q: q
    k: k
    scale: rsqrt(to_float(d))
    v: v
    mask: (q >= kv) and (q - kv < 256)
    score: score - slopes[h] * to_float(q - kv)
    normalizer: streaming softmax {
      phi: exp(s - m)
      ...
    }
  }
  combine: affine(1.0)
}
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from textwrap import indent
from typing import assert_never

from attngen.ir.expr import Expr
from attngen.ir.nodes import (
    Affine,
    Branch,
    Combine,
    Concat,
    Dot,
    Given,
    Grid,
    Input,
    KeySet,
    Paged,
    PooledTopK,
    Project,
    Router,
    Segments,
    Sequence,
    Space,
    Spec,
    View,
)
from attngen.ir.normalizer import Chained, Normalizer, Ordered, Streaming, Threshold
from attngen.ir.ops import Type
from attngen.ir.text_expr import expr_text, name_text

Types = Mapping[str, Type]


def text(spec: Spec) -> str:
    """The text form: `parse(text(spec)) == spec`, the name included."""
    return f"spec {name_text(spec.name)} over {_body(spec)}"


def fingerprint(spec: Spec) -> str:
    """The content hash: sha256 of the text form without the name, in hexadecimal. Equal specs have equal ones."""
    return hashlib.sha256(_body(spec).encode()).hexdigest()


def load_types(spec: Spec) -> dict[str, Type]:
    """The type of every name that an expression can load: inputs as declared, class tables of routers are int."""
    return {**{i.name: i.type for i in spec.inputs}, **{r.name: "int" for r in spec.routers}}


def _body(spec: Spec) -> str:
    types = load_types(spec)
    lines = [
        *map(_input, spec.inputs),
        *map(_router, spec.routers),
        *(_block("branch", _branch(branch, types)) for branch in spec.branches),
        f"combine: {_combine(spec.combine, types)}",
    ]
    return f"{_block(_space(spec.space), lines)}\n"


def _block(head: str, lines: Iterator[str] | list[str]) -> str:
    return f"{head} {{\n{indent(chr(10).join(lines), '  ')}\n}}"


def _number(value: float) -> str:
    # Adding zero makes -0.0 and 0.0, which are equal, print alike.
    return repr(float(value) + 0.0)


def _space(space: Space) -> str:
    match space:
        case Sequence():
            return "sequence"
        case Grid(dims=dims):
            return f"grid({', '.join(str(int(n)) for n in dims)})"
        case Segments(q_offsets=q, k_offsets=k):
            return f"segments({name_text(q)}, {name_text(k)})"
        case Paged(page=page, table=table, lengths=lengths):
            return f"paged({int(page)}, {name_text(table)}, {name_text(lengths)})"
        case _:
            assert_never(space)


def _input(node: Input) -> str:
    axes = ", ".join(a if a == "?" else name_text(a) for a in node.axes)
    return f"input {name_text(node.name)}{f'[{axes}]' if axes else ''}: {node.type}{' grad' if node.grad else ''}"


def _router(node: Router) -> str:
    head = f"router {name_text(node.name)}({int(node.query_block)}, {int(node.key_block)}) ="
    match node.rule:
        case PooledTopK(top=top, bottom=bottom, smooth_k=smooth):
            return f"{head} pooled_topk({_number(top)}, {_number(bottom)}{', smooth_k' if smooth else ''})"
        case Given(table=table):
            return f"{head} given({name_text(table)})"
        case _:
            assert_never(node.rule)


def _field(name: str, expr: Expr | None, types: Types) -> Iterator[str]:
    if expr is not None:
        yield f"{name}: {expr_text(expr, types)}"


def _branch(branch: Branch, types: Types) -> Iterator[str]:
    yield from _keyset(branch.all_keysets()[0], types)
    for keyset in branch.keysets:
        yield _block("keys", _keyset(keyset, types))
    yield from _field("weight", branch.weight, types)
    if branch.decay is not None:
        yield f"decay: {name_text(branch.decay)}"
    yield f"normalizer: {_normalizer(branch.normalizer, types)}"


def _keyset(keyset: KeySet, types: Types) -> Iterator[str]:
    match keyset.dots:
        case ():
            yield "dots: none"
        case (dot,):
            yield from _dot(dot, types)
        case dots:
            yield from (_block("dot", _dot(dot, types)) for dot in dots)
    yield f"v: {_view(keyset.v, types)}"
    yield from _field("mask", keyset.mask, types)
    yield from _field("join", keyset.join, types)
    yield from _field("score", keyset.score, types)


def _dot(dot: Dot, types: Types) -> Iterator[str]:
    yield f"q: {_view(dot.q, types)}"
    yield f"k: {_view(dot.k, types)}"
    yield from _field("scale", dot.scale, types)


def _view(view: View, types: Types) -> str:
    parts = {"head": view.head, "start": view.start, "stop": view.stop, "feature": view.feature}
    given = [line for name, expr in parts.items() for line in _field(name, expr, types)]
    return name_text(view.tensor) + (f"({', '.join(given)})" if given else "")


def _normalizer(node: Normalizer, types: Types) -> str:
    match node:
        case Streaming(name=name):
            return _block(f"streaming {name_text(name)}", _streaming(node, types))
        case Chained(name=name, passes=passes):
            return _block(f"chained {name_text(name)}", [_normalizer(each, types) for each in passes])
        case Threshold(name=name, alpha=alpha):
            return f"threshold {name_text(name)}({_number(alpha)})"
        case Ordered(name=name, direction=direction, weight=weight, log_keep=log_keep):
            fields = (*_field("weight", weight, types), *_field("log_keep", log_keep, types))
            return _block(f"ordered {name_text(name)}", [f"direction: {direction}", *fields])
        case _:
            assert_never(node)


def _streaming(node: Streaming, types: Types) -> Iterator[str]:
    if node.scores != "real":
        yield f"scores: {node.scores}"
    yield from _field("phi", node.phi, types)
    yield from _field("psi", node.psi, types)
    yield from _field("anchor", node.anchor, types)
    if node.offset:
        yield f"offset: {_number(node.offset)}"
    yield from _field("sink", node.sink, types)
    yield from _field("finalize", node.finalize, types)
    yield from _field("lse", node.lse, types)


def _weight(name: str | None) -> str:
    # A bare `none` is the identity.
    return "none" if name is None else '"none"' if name == "none" else name_text(name)


def _combine(node: Combine, types: Types) -> str:
    match node:
        case Affine(coefficients=coefficients):
            return f"affine({', '.join(expr_text(c, types) for c in coefficients)})"
        case Concat():
            return "concat"
        case Project(weights=weights):
            return f"project({', '.join(map(_weight, weights))})"
        case _:
            assert_never(node)


__all__ = ["expr_text", "fingerprint", "load_types", "text"]
