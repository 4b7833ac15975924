"""Random expressions and specs for hypothesis. Every spec passes `verify`; `tests.calls` makes tensors to run it on."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Collection, Sequence
from functools import cache

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st

from attngen.ir.expr import SYMBOLS, Expr, const, load, loads, op, sym
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
    Space,
    Spec,
    View,
)
from attngen.ir.nodes import Sequence as Positions
from attngen.ir.normalizer import Chained, Normalizer, Ordered, Streaming, Threshold
from attngen.ir.ops import OPERATORS, Type
from attngen.ir.roles import Role, Scope, coordinates, visible
from attngen.ir.verify_expr import class_indices
from attngen.ir.walk import expressions

PATIENT = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
"""For every property over these strategies: the clock of a shared machine says nothing about the code."""

FREE = 4
"""The size of every axis labelled "?" that expressions index."""
EXTRA_KEYS = 3
NAMES = ("bias", "slopes", "gate", "table", "h", "d", "tanh", "t0", "self.scale", "none", "in", "ü", "q[0]")
UNORDINARY = frozenset({"uniform", "uniform_at", "dim_softmax"})


@cache
def signatures(result: Type, without: frozenset[str]) -> tuple[tuple[str, tuple[Type, ...]], ...]:
    """Every operator and types of arguments that give the type."""
    types: tuple[Type, ...] = ("bool", "int", "float")
    return tuple(
        (operator.name, given)
        for operator in OPERATORS.values()
        if operator.name not in without
        for given in itertools.product(types, repeat=operator.arity)
        if operator.rule(given) == result
    )


def literals(type: Type, special: bool = False) -> st.SearchStrategy[Expr]:
    """Constants; `special` admits infinities and NaN."""
    match type:
        case "bool":
            return st.booleans().map(const)
        case "int":
            return st.one_of(st.integers(-4, 9), st.integers(-(2**63), 2**63 - 1)).map(const)
        case "float":
            wide = st.floats(allow_nan=special, allow_infinity=special)
            return st.one_of(st.sampled_from([0.0, -0.0, 0.5, 1.0, -2.0, 1e-5]), wide).map(const)


@st.composite
def exprs(
    draw: st.DrawFn,
    type: Type,
    symbols: Collection[str],
    inputs: Sequence[Input] = (),
    depth: int = 3,
    without: frozenset[str] = UNORDINARY,
    special: bool = False,
) -> Expr:
    """An expression of the type over the symbols and inputs. Sub-expressions are sometimes shared.

    Loads stay inside: an axis labelled "q" is indexed by q where that is a symbol, a free one modulo `FREE`.
    """
    shared: dict[Type, list[Expr]] = {"bool": [], "int": [], "float": []}

    def leaf(kind: Type) -> Expr:
        names = [name for name in sorted(symbols) if SYMBOLS[name] == kind]
        given = [i for i in inputs if i.type == kind]
        choice = draw(st.integers(0, 3))
        if choice == 1 and given:
            chosen = draw(st.sampled_from(given))
            return load(chosen.name, tuple(index(axis) for axis in chosen.axes), chosen.type)
        if choice >= 2 and names:
            return sym(draw(st.sampled_from(names)))
        return draw(literals(kind, special))

    def index(axis: str) -> Expr:
        if axis == "?":
            return op("mod", tree("int", 0), FREE)
        return sym(axis) if axis in symbols else const(0)

    def tree(kind: Type, levels: int) -> Expr:
        if levels <= 0 or draw(st.integers(0, 5)) == 0:
            return leaf(kind)
        if shared[kind] and draw(st.integers(0, 4)) == 0:
            return draw(st.sampled_from(shared[kind]))
        name, types = draw(st.sampled_from(signatures(kind, without)))
        made = op(name, *(tree(t, levels - 1) for t in types))
        shared[kind].append(made)
        return made

    return tree(type, draw(st.integers(0, depth)))


def spaces() -> st.SearchStrategy[Space]:
    """All index spaces, small."""
    grids = st.sampled_from([(3,), (2, 3), (2, 2, 2)]).map(Grid)
    return st.one_of(st.just(Positions()), grids, st.just(Segments()), st.just(Paged(2)))


SPACE_INPUTS = {
    Segments: (Input("cu_seqlens_q", ("?",), "int"), Input("cu_seqlens_k", ("?",), "int")),
    Paged: (Input("page_table", ("b", "?"), "int"), Input("kv_lengths", ("b",), "int")),
}
AXES: tuple[tuple[str, ...], ...] = ((), ("h",), ("b", "h", "q"), ("h", "kv"), ("q", "kv"), ("?",), ("h", "?"), ("b",))


def inputs() -> st.SearchStrategy[list[Input]]:
    """Inputs that expressions may load, with awkward names."""
    types: st.SearchStrategy[Type] = st.sampled_from(["bool", "int", "float", "float"])
    one = st.builds(
        lambda name, axes, type, grad: Input(name, axes, type, grad and type == "float"),
        st.sampled_from(NAMES),
        st.sampled_from(AXES),
        types,
        st.booleans(),
    )
    return st.lists(one, max_size=3, unique_by=lambda i: i.name)


class _Builder:
    """Draws the parts of one spec; what they use is declared in the end."""

    def __init__(self, draw: st.DrawFn, depth: int) -> None:
        self.draw = draw
        self.depth = depth
        self.space = draw(spaces())
        self.inputs = draw(inputs())
        self.extra: dict[str, Input] = {i.name: i for i in SPACE_INPUTS.get(type(self.space), ())}
        self.halves = draw(st.booleans())

    def need(self, name: str, axes: tuple[str, ...], type: Type = "float") -> str:
        self.extra[name] = Input(name, axes, type)
        return name

    def expr(self, role: Role, scope: Scope, kind: Type = "float", depth: int | None = None) -> Expr:
        allowed = visible(role, scope)
        banned = UNORDINARY - {"uniform"} if "kv" in allowed else UNORDINARY
        # Keys of other sets do not index what belongs to the main ones.
        given = [i for i in self.inputs if scope.main or "kv" not in i.axes]
        return self.draw(exprs(kind, allowed, given, self.depth if depth is None else depth, banned))

    def maybe(self, part: Callable[[], Expr]) -> Expr | None:
        return part() if self.draw(st.booleans()) else None

    def view(self, tensor: str, halves: bool) -> View:
        grouped = op("floordiv", op("mul", sym("h"), sym("heads")), sym("n_h"))
        heads = [None, grouped, op("sub", op("sub", sym("heads"), 1), grouped)]
        features = [None, None, op("relu", sym("x")), op("dim_softmax", sym("x"))]
        half = op("floordiv", sym("d"), 2)
        extents = [(None, half), (half, sym("d")), (const(0), half)] if halves else [(None, None)]
        start, stop = self.draw(st.sampled_from(extents))
        return View(tensor, self.draw(st.sampled_from(heads)), start, stop, self.draw(st.sampled_from(features)))

    def keyset(self, k: str, v: str, main: bool) -> KeySet:
        count = self.draw(st.integers(1, 2))
        scope = Scope(coordinates(self.space), count, main)
        halves = self.draw(st.booleans())
        dots = []
        for _ in range(count):
            scale = Dot().scale if self.draw(st.booleans()) else self.expr("scale", scope, depth=1)
            dots.append(Dot(self.view("q", halves), self.view(k, halves), scale))
        score = sym("score") if self.draw(st.booleans()) else self.expr("score", scope)
        return KeySet(
            tuple(dots),
            self.view(v, self.halves),
            self.expr("mask", scope, "bool"),
            score,
            self.maybe(lambda: self.expr("join", scope)),
        )

    def branch(self, routers: Sequence[Router]) -> Branch:
        main = self.keyset("k", "v", main=True)
        mask = main.mask
        for router in routers:
            chosen = op("eq", load(router.name, class_indices(router), "int"), self.draw(st.integers(-1, 1)))
            mask = op("or", mask, chosen)
        more: tuple[KeySet, ...] = ()
        if self.draw(st.integers(0, 3)) == 0:
            names = self.need("extra_k", ("b", "h", "?", "?")), self.need("extra_v", ("b", "h", "?", "?"))
            more = (self.keyset(*names, main=False),)
        weight = self.maybe(lambda: self.expr("weight", Scope(coordinates(self.space), main=not more), depth=2))
        decay = None
        if self.draw(st.integers(0, 5)) == 0 and isinstance(self.space, Positions | Grid):
            decay = self.need("decay", ("b", "h", "kv"))
        return Branch(self.normalizer(), main.dots, main.v, mask, main.score, main.join, more, weight, decay)

    def normalizer(self) -> Normalizer:
        kind = self.draw(st.sampled_from(["streaming", "streaming", "chained", "threshold", "ordered"]))
        name = self.draw(st.sampled_from(["softmax", "my own", "none"]))
        row = Scope(coordinates(self.space))
        match kind:
            case "chained":
                count = self.draw(st.integers(1, 2))
                return Chained(name, tuple(self.streaming(f"pass {i}", mass=True) for i in range(count)))
            case "threshold":
                return Threshold(name, self.draw(st.sampled_from([1.5, 2.0, 2.5])))
            case "ordered":
                direction = self.draw(st.sampled_from(["backward", "forward"]))
                return Ordered(name, direction, self.expr("ordered", row), self.expr("ordered", row))
        return self.streaming(name, self.draw(st.booleans()))

    def streaming(self, name: str, mass: bool) -> Streaming:
        anchor = self.maybe(lambda: self.draw(st.sampled_from([sym("s"), op("abs", sym("s"))])))
        scope = Scope(coordinates(self.space), anchor=anchor is not None, mass=mass)
        exp = op("exp", op("sub", sym("s"), sym("m"))) if anchor is not None else op("sigmoid", sym("s"))
        simple = self.draw(st.booleans())
        return Streaming(
            name,
            phi=exp if simple else self.expr("phi", scope, depth=2),
            psi=None if not mass else exp if simple else self.expr("psi", scope, depth=2),
            anchor=anchor,
            offset=0.25 if anchor is not None and self.draw(st.booleans()) else 0.0,
            sink=self.expr("sink", scope, depth=1) if mass and self.draw(st.booleans()) else None,
            finalize=op("safe_div", sym("acc"), sym("mass")) if simple and mass else self.expr("finalize", scope),
            lse=self.expr("lse", scope, depth=2) if mass and self.draw(st.booleans()) else None,
        )

    def router(self) -> Router:
        blocks = self.draw(st.sampled_from([(1, 2), (2, 2), (3, 1)]))
        rules = [PooledTopK(0.5, 0.25), PooledTopK(1.0, smooth_k=True), Given("classes")]
        rule = self.draw(st.sampled_from(rules))
        if isinstance(rule, Given):
            self.need(rule.table, ("?", "?", "?", "?"), "int")
        return Router("route", *blocks, rule)

    def combine(self, count: int) -> Combine:
        match self.draw(st.sampled_from(["affine", "concat", "project"])):
            case "concat":
                return Concat()
            case "project":
                weights = [self.need(f"w{i}", ("?", "?")) if self.draw(st.booleans()) else None for i in range(count)]
                return Project(tuple(weights))
        scope = Scope(coordinates(self.space))
        return Affine(tuple(self.expr("coefficient", scope, depth=2) for _ in range(count)))

    def spec(self) -> Spec:
        dense = isinstance(self.space, Positions | Grid)
        routers = (self.router(),) if dense and self.draw(st.integers(0, 3)) == 0 else ()
        branches = tuple(self.branch(routers) for _ in range(self.draw(st.integers(1, 2))))
        name = self.draw(st.sampled_from(["attention", "over", "two words", ""]))
        spec = Spec(branches, self.space, (), routers, self.combine(len(branches)), name)
        used = {node.tensor for node in loads(*expressions(spec))}
        declared = [*(i for i in self.inputs if i.name in used), *self.extra.values()]
        return Spec(branches, self.space, tuple(declared), routers, spec.combine, name)


@st.composite
def specs(draw: st.DrawFn, depth: int = 2) -> Spec:
    """A legal spec with any of the nodes of the IR."""
    return _Builder(draw, depth).spec()
