"""Refuses a Spec that has no meaning, early: every symbol, type, name and parameter, with the place that is wrong.

What depends on a call (shapes, dtypes, lengths) is checked at the call.
"""

from __future__ import annotations

import math
from typing import assert_never, get_args

from attngen.errors import SpecError
from attngen.ir.expr import Expr, loads
from attngen.ir.nodes import (
    Affine,
    Branch,
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
    Spec,
    View,
)
from attngen.ir.normalizer import Chained, Normalizer, Ordered, Scores, Streaming, Threshold
from attngen.ir.ops import RANK
from attngen.ir.roles import Role, Scope, coordinates
from attngen.ir.verify_expr import check_expr, plural, suggest
from attngen.ir.verify_scores import verify_scores
from attngen.ir.walk import expressions

AXES = ("b", "h", "q", "kv", "?")
OPERANDS = ("q", "k", "v")
MOST_DOTS = 8
SCORES = get_args(Scores)


def verify(spec: Spec) -> None:
    """Raises `SpecError`, naming the place and where it has one the user's line, if the spec is not a legal one."""
    _Verifier(spec).spec_()


class _Verifier:
    def __init__(self, spec: Spec) -> None:
        self.spec = spec
        self.inputs = {i.name: i for i in spec.inputs}
        self.routers = {r.name: r for r in spec.routers}
        self.used: set[str] = set()

    def spec_(self) -> None:
        spec = self.spec
        self.names()
        self.space()
        for router in spec.routers:
            self.router(router)
        if not spec.branches:
            raise SpecError("the spec has no branch; give at least one")
        for i, branch in enumerate(spec.branches):
            self.branch(branch, f"branch {i}, " if len(spec.branches) > 1 else "")
        self.combine()
        self.used |= {load.tensor for load in loads(*expressions(spec))}
        for name in [*self.inputs, *self.routers]:
            if name not in self.used:
                kind = "input" if name in self.inputs else "router"
                raise SpecError(f"{kind} {name!r} is not used; remove it")

    # --- names --------------------------------------------------------------------------------------------------------

    def names(self) -> None:
        seen: set[str] = set()
        for name in [*(i.name for i in self.spec.inputs), *(r.name for r in self.spec.routers)]:
            if name in OPERANDS:
                raise SpecError(f"input {name!r}: the names q, k and v are taken by the operands; rename it")
            if name in seen:
                raise SpecError(f"the name {name!r} is given to two inputs or routers; rename one")
            seen.add(name)
        for given in self.spec.inputs:
            for axis in given.axes:
                if axis not in AXES:
                    raise SpecError(f"input {given.name!r}: unknown axis {axis!r}; allowed: {', '.join(AXES)}")
            if given.type not in RANK:
                raise SpecError(f"input {given.name!r}: unknown type {given.type!r}; allowed: {', '.join(RANK)}")
            if given.grad and given.type != "float":
                raise SpecError(f"input {given.name!r}: a gradient needs type float, not {given.type}")

    def input(self, name: str, place: str, type: str, *ranks: int) -> Input:
        """The declared input of that name, which must have this type and one of these ranks."""
        given = self.inputs.get(name)
        if given is None:
            raise SpecError(f"{place}: unknown input {name!r}; {suggest(name, self.inputs)}")
        if given.type != type:
            raise SpecError(f"{place}: input {name!r} holds {given.type}; {type} is needed")
        if len(given.axes) not in ranks:
            wanted = " or ".join(map(str, ranks))
            raise SpecError(f"{place}: input {name!r} has {len(given.axes)} axes; {wanted} are needed")
        self.used.add(name)
        return given

    # --- spaces and routers -------------------------------------------------------------------------------------------

    def space(self) -> None:
        space = self.spec.space
        match space:
            case Sequence():
                pass
            case Grid(dims=dims):
                if not 1 <= len(dims) <= 3:
                    raise SpecError(f"space: a grid has 1 to 3 dimensions, got {len(dims)}")
                for i, size in enumerate(dims):
                    if size < 1:
                        raise SpecError(f"space: dimension {i} of the grid is {size}; it must be at least 1")
            case Segments(q_offsets=q, k_offsets=k):
                self.input(q, "space", "int", 1)
                self.input(k, "space", "int", 1)
            case Paged(page=page, table=table, lengths=lengths):
                if page < 1:
                    raise SpecError(f"space: the page size is {page}; it must be at least 1")
                self.input(table, "space", "int", 2)
                self.input(lengths, "space", "int", 1)
            case _:
                assert_never(space)

    def router(self, router: Router) -> None:
        place = f"router {router.name!r}"
        if isinstance(self.spec.space, Segments | Paged):
            raise SpecError(
                f"{place}: routers need space sequence or grid; blocks of packed or paged keys are not defined"
            )
        for what, size in (("query", router.query_block), ("key", router.key_block)):
            if size < 1:
                raise SpecError(f"{place}: the {what} block is {size}; it must be at least 1")
        match router.rule:
            case PooledTopK(top=top, bottom=bottom):
                if not 0 < top <= 1:
                    raise SpecError(f"{place}: the top share is {top!r}; it must be in (0, 1]")
                if not 0 <= bottom < 1:
                    raise SpecError(f"{place}: the bottom share is {bottom!r}; it must be in [0, 1)")
                if top + bottom > 1:
                    raise SpecError(f"{place}: top and bottom shares add up to {top + bottom!r}; at most 1 is allowed")
            case Given(table=table):
                self.input(table, place, "int", 4)
            case _:
                assert_never(router.rule)

    # --- branches -----------------------------------------------------------------------------------------------------

    def expr(self, expr: Expr | None, role: Role, place: str, scope: Scope | None = None) -> None:
        if expr is not None:
            scope = scope or Scope(coordinates=coordinates(self.spec.space), main=True)
            check_expr(expr, role, scope, place, self.inputs, self.routers)

    def branch(self, branch: Branch, place: str) -> None:
        for i, keyset in enumerate(branch.all_keysets()):
            self.keyset(keyset, f"{place}key set {i}, " if i else place, main=i == 0)
        # A weight stands for all key sets, so coordinates and classes of the main keys are known only without others.
        shared = Scope(coordinates(self.spec.space), main=not branch.keysets)
        self.expr(branch.weight, "weight", f"{place}weight", shared)
        if branch.decay is not None:
            self.input(branch.decay, f"{place}decay", "float", 3, 4)
        self.normalizer(branch.normalizer, place)
        verify_scores(branch, place)

    def keyset(self, keyset: KeySet, place: str, main: bool) -> None:
        dots = len(keyset.dots)
        if not 1 <= dots <= MOST_DOTS:
            raise SpecError(f"{place}dots: a key set has 1 to {MOST_DOTS} dots, got {dots}")
        scope = Scope(coordinates(self.spec.space), dots, main)
        for i, dot in enumerate(keyset.dots):
            self.dot(dot, f"{place}dot {i}, " if dots > 1 else place, scope)
        self.view(keyset.v, f"{place}v")
        self.expr(keyset.mask, "mask", f"{place}mask", scope)
        self.expr(keyset.join, "join", f"{place}join", scope)
        self.expr(keyset.score, "score", f"{place}score", scope)

    def dot(self, dot: Dot, place: str, scope: Scope) -> None:
        self.view(dot.q, f"{place}q")
        self.view(dot.k, f"{place}k")
        self.expr(dot.scale, "scale", f"{place}scale", scope)

    def view(self, view: View, place: str) -> None:
        if view.tensor not in OPERANDS:
            if view.tensor not in self.inputs:
                known = [*OPERANDS, *self.inputs]
                raise SpecError(f"{place}: unknown tensor {view.tensor!r}; {suggest(view.tensor, known)}")
            self.input(view.tensor, place, "float", 4)
        self.expr(view.head, "head", f"{place}, head")
        self.expr(view.start, "extent", f"{place}, start")
        self.expr(view.stop, "extent", f"{place}, stop")
        self.expr(view.feature, "feature", f"{place}, feature")

    # --- normalizers --------------------------------------------------------------------------------------------------

    def normalizer(self, node: Normalizer, place: str) -> None:
        place = f"{place}normalizer {node.name!r}"
        match node:
            case Streaming():
                self.streaming(node, place)
            case Chained(passes=passes):
                if not passes:
                    raise SpecError(f"{place}: it has no pass; give at least one")
                for i, each in enumerate(passes):
                    self.streaming(each, f"{place}, pass {i}")
                    if each.psi is None and i < len(passes) - 1:
                        raise SpecError(
                            f"{place}, pass {i}: a pass before the last needs a psi, to give the next weights"
                        )
            case Threshold(alpha=alpha):
                if not (alpha > 1 and math.isfinite(alpha)):
                    raise SpecError(
                        f"{place}: alpha is {alpha!r}; it must be above 1 (1.5 entmax, 2 sparsemax): only then does "
                        "the sum of the weights fall as tau rises, so that it is 1 once"
                    )
            case Ordered(direction=direction, weight=weight, log_keep=log_keep):
                if direction not in ("backward", "forward"):
                    raise SpecError(f"{place}: direction is {direction!r}; allowed: backward, forward")
                self.expr(weight, "ordered", f"{place}, weight")
                self.expr(log_keep, "ordered", f"{place}, log_keep")
            case _:
                assert_never(node)

    def streaming(self, node: Streaming, place: str) -> None:
        if node.scores not in SCORES:
            raise SpecError(f"{place}: scores is {node.scores!r}; allowed: {', '.join(SCORES)}")
        if not 0 <= node.offset <= 0.5:
            raise SpecError(f"{place}: offset is {node.offset!r}; it must be in [0, 1/2]")
        if node.offset and node.anchor is None:
            raise SpecError(f"{place}: an offset shifts the anchor, but none is declared")
        if node.sink is not None and node.psi is None:
            raise SpecError(f"{place}: a sink adds to the mass, but no psi is declared")
        if node.lse is not None and node.psi is None:
            raise SpecError(f"{place}: an lse is made of the mass, but no psi is declared")
        scope = Scope(coordinates(self.spec.space), anchor=node.anchor is not None, mass=node.psi is not None)
        self.expr(node.phi, "phi", f"{place}, phi", scope)
        self.expr(node.psi, "psi", f"{place}, psi", scope)
        self.expr(node.anchor, "anchor", f"{place}, anchor", scope)
        self.expr(node.sink, "sink", f"{place}, sink", scope)
        self.expr(node.finalize, "finalize", f"{place}, finalize", scope)
        self.expr(node.lse, "lse", f"{place}, lse", scope)

    # --- combination --------------------------------------------------------------------------------------------------

    def combine(self) -> None:
        combine, branches = self.spec.combine, len(self.spec.branches)
        counted = plural(branches, "branch", "branches")
        match combine:
            case Affine(coefficients=coefficients):
                if len(coefficients) != branches:
                    raise SpecError(f"combine: {plural(len(coefficients), 'coefficient')} for {counted}; give one each")
                for i, each in enumerate(coefficients):
                    self.expr(each, "coefficient", f"combine, coefficient {i}")
            case Concat():
                pass
            case Project(weights=weights):
                if len(weights) != branches:
                    raise SpecError(f"combine: {plural(len(weights), 'weight')} for {counted}; give one each, or None")
                for i, name in enumerate(weights):
                    if name is not None:
                        self.input(name, f"combine, weight {i}", "float", 2)
            case _:
                assert_never(combine)
