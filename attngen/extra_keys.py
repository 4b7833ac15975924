"""A second set of keys and values, given per call, under the normalizer of the first."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from attngen.errors import SpecError
from attngen.frontend import Binding, Bindings, Traced, combine
from attngen.ir import nodes
from attngen.ir.expr import Expr, const, symbols
from attngen.ir.nodes import VISIBLE, Branch, Dot, Input, KeySet, View
from attngen.masks.mask import Mask
from attngen.scores.score import Score

KEYS, VALUES = "extra_k", "extra_v"
NAMES = {"k": KEYS, "v": VALUES}


def with_extra_keys(
    ir: nodes.Spec, bindings: Bindings[Binding], mask: Any, score: Any
) -> tuple[nodes.Spec, Bindings[Binding]]:
    """The spec with the key set (extra_k, extra_v) behind those of its branch, and what is bound to its inputs."""
    if len(ir.branches) != 1:
        raise SpecError(f"{ir.name}: has {len(ir.branches)} branches; extra keys join the one branch of a spec")
    (branch,) = ir.branches
    if branch.join is not None and _reads_keys(branch.join):
        raise SpecError(f"{ir.name}: the place of a key decides between its dots, and extra keys have no such place")
    dims = ir.space.dims if isinstance(ir.space, nodes.Grid) else ()
    seen = Traced(VISIBLE, (), Bindings()) if mask is None else Mask.of(mask, grid=dims).traced
    scored = Traced(_own(branch), (), Bindings()) if score is None else Score.of(score, grid=dims).traced
    # The inputs that are there come first, so they keep their names.
    (_, mask, score), inputs, found = combine(Traced(const(True), ir.inputs, bindings), seen, scored)
    extra = KeySet(tuple(map(_dot, branch.dots)), _view(branch.v), mask, score, branch.join)
    named = (*inputs, *(Input(name, ("b", "h", "?", "?"), grad=True) for name in (KEYS, VALUES)))
    branches = (replace(branch, keysets=(*branch.keysets, extra)),)
    return replace(ir, branches=branches, inputs=named), found


def _own(branch: Branch) -> Expr:
    """The score of the main keys, for keys that have other positions."""
    if _reads_keys(branch.score):
        raise SpecError(
            "score: reads the position of a key, kv, and extra keys have others; "
            'give with_extra_keys a score of their own, or score="score" for the dot product alone'
        )
    return branch.score


def _reads_keys(expr: Expr) -> bool:
    return any(name.startswith("kv") for name in symbols(expr))


def _dot(dot: Dot) -> Dot:
    return replace(dot, k=_view(dot.k))


def _view(view: View) -> View:
    if view.tensor not in NAMES:
        raise SpecError(f"{view.tensor}: is read beside k and v, and extra keys have no such tensor")
    return replace(view, tensor=NAMES[view.tensor])
