"""Packed sequences as one sequence: the mask keeps every query to the keys of its own sequence, and positions count
from its start.

    b -> number[q]      q -> q - q_begin[q]      kv -> kv - k_begin[q]      n_q, n_k -> lengths
    mask -> k_begin[q] <= kv < k_end[q], and the user's
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields, replace
from typing import Any, TypeVar

from attngen.codegen.lower.coordinates import Coordinates, names_for
from attngen.ir.expr import Expr, const, op, sym
from attngen.ir.nodes import Affine, Branch, Dot, KeySet, Sequence, Spec
from attngen.ir.normalizer import Chained, Normalizer

Change = Callable[[Expr], Expr]


def refusal(spec: Spec) -> str | None:
    """None, or the reason why these packed sequences are not one sequence with a mask."""
    for branch in spec.branches:
        if branch.decay is not None:
            return "a decay over packed sequences has no kernel yet"
        keysets = branch.all_keysets()
        for keyset in keysets:
            for dot in keyset.dots:
                if _axis(spec, dot.q.tensor) != "q":
                    return f"{dot.q.tensor} is read as queries, but its tokens are not packed along an axis 'q'"
            if len({keys_are_packed(spec, keyset, tensor) for tensor in _keys(keyset)}) > 1:
                return f"the keys and values {', '.join(_keys(keyset))} are not all packed along an axis 'kv'"
        mixed = {keys_are_packed(spec, keyset) for keyset in keysets}
        if len(mixed) > 1 and branch.weight is not None:
            return "a weight over keys of which some are packed and some are not has no kernel yet"
    return None


def keys_are_packed(spec: Spec, keyset: KeySet, tensor: str | None = None) -> bool:
    """Whether the keys lie side by side as the sequences do, or are the same for all sequences."""
    return _axis(spec, tensor or keyset.v.tensor) == "kv"


def _keys(keyset: KeySet) -> tuple[str, ...]:
    return tuple(dict.fromkeys((*(dot.k.tensor for dot in keyset.dots), keyset.v.tensor)))


def _axis(spec: Spec, tensor: str) -> str:
    """The label of the tokens of an operand."""
    given = spec.input(tensor)
    return given.axes[2] if given is not None else "q" if tensor == "q" else "kv"


def coordinates(spec: Spec, at: Expr) -> Coordinates:
    """The coordinates of the sequence that holds the query token `at`."""
    return Coordinates(names_for(spec), {i.name: i.axes for i in spec.inputs}, at)


def lower(spec: Spec) -> Spec:
    """The spec over one sequence. The added inputs come last."""
    here = coordinates(spec, sym("q"))
    branches = tuple(_branch(branch, spec, here) for branch in spec.branches)
    combine = spec.combine
    if isinstance(combine, Affine):
        row = here.pair(True)
        combine = Affine(tuple(here.written(each, row) for each in combine.coefficients))
    inputs = (*spec.inputs, *here.names.inputs())
    return replace(spec, branches=branches, space=Sequence(), inputs=inputs, combine=combine)


def _branch(branch: Branch, spec: Spec, here: Coordinates) -> Branch:
    main, *others = (_keyset(keyset, spec, here) for keyset in branch.all_keysets())
    pair = here.pair(keys_are_packed(spec, branch.all_keysets()[0]))

    def written(expr: Expr) -> Expr:
        return here.written(expr, pair)

    return replace(
        branch,
        normalizer=_normalizer(branch.normalizer, written),
        dots=main.dots,
        mask=main.mask,
        score=main.score,
        join=main.join,
        keysets=tuple(others),
        weight=None if branch.weight is None else written(branch.weight),
    )


def _keyset(keyset: KeySet, spec: Spec, here: Coordinates) -> KeySet:
    packed = keys_are_packed(spec, keyset)
    pair = here.pair(packed)
    mask = here.written(keyset.mask, pair)
    if packed:
        own = op(
            "and",
            op("ge", sym("kv"), here.k_begin),
            op("lt", sym("kv"), here.look_up(here.names.k_end)),
        )
        mask = own if mask == const(True) else op("and", own, mask)
    return replace(
        keyset,
        dots=tuple(Dot(dot.q, dot.k, here.written(dot.scale, pair)) for dot in keyset.dots),
        mask=mask,
        score=here.written(keyset.score, pair),
        join=None if keyset.join is None else here.written(keyset.join, pair),
    )


N = TypeVar("N", bound=Normalizer)


def _normalizer(node: N, written: Change) -> N:
    """The declaration with every expression changed."""
    changed: dict[str, Any] = {}
    for each in fields(node):
        value = getattr(node, each.name)
        if isinstance(value, Expr):
            changed[each.name] = written(value)
    if isinstance(node, Chained):
        changed["passes"] = tuple(_normalizer(each, written) for each in node.passes)
    return replace(node, **changed)
