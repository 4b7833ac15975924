"""The verifier: legal specs pass, and every illegal one is refused with the place, the reason and the user's line."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given, settings

from attngen.errors import Source, SpecError
from attngen.ir.expr import Expr, const, load, op, sym
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
    Spec,
    View,
)
from attngen.ir.normalizer import Chained, Normalizer, Ordered, Streaming, Threshold
from attngen.ir.verify import verify
from attngen.ir.verify_expr import class_indices
from tests.ir.test_text import EXP, KV, SOFTMAX, M, Q, S
from tests.strategies import PATIENT, specs

SCORE, ACC, MASS = sym("score"), sym("acc"), sym("mass")
NAN, INF = const(float("nan")), const(float("inf"))
ROUTER = Router("route", 2, 4, PooledTopK(0.5))
CLASS = load("route", class_indices(ROUTER), "int")


@given(specs())
@settings(PATIENT, max_examples=60)
def test_legal_specs_pass(spec: Spec) -> None:
    verify(spec)


def branch(**parts: object) -> Spec:
    return Spec((replace(Branch(SOFTMAX), **parts),))  # type: ignore[arg-type]


def normalizer(**parts: object) -> Spec:
    return branch(normalizer=replace(SOFTMAX, **parts))  # type: ignore[arg-type]


def using(given: Input, score: Expr) -> Spec:
    return Spec((Branch(SOFTMAX, score=score),), inputs=(given,))


CRITICAL = op("eq", CLASS, 1)


def routed(router: Router, mask: Expr = CRITICAL, **parts: object) -> Spec:
    return Spec((Branch(SOFTMAX, mask=mask),), routers=(router,), **parts)  # type: ignore[arg-type]


SYMBOLS = [
    (
        branch(mask=op("gt", SCORE, 0.0)),
        "mask: 'score' is not known here; allowed: b, h, kv, n_b, n_h, n_k, n_q, q",
    ),
    (
        branch(mask=op("lt", KV, sym("n_visible"))),
        "mask: 'n_visible' counts what the mask lets through, so the mask cannot use it",
    ),
    (
        branch(score=op("to_float", sym("q[0]"))),
        "score: 'q[0]' is a coordinate on a grid, and these positions have none; use 'q', or space=Grid(...)",
    ),
    (
        replace(branch(score=op("to_float", sym("kv[2]"))), space=Grid((2, 2))),
        "score: 'kv[2]': the coordinates of this grid end at kv[1]",
    ),
    (
        branch(dots=(Dot(scale=op("to_float", KV)),)),
        "scale: 'kv' is not known here; allowed: b, d, h, n_b, n_h, n_k, n_q, n_visible, q",
    ),
    (
        normalizer(anchor=None),
        "normalizer 'softmax', phi: 'm' is known only with an anchor; declare one",
    ),
    (
        normalizer(psi=None, lse=None),
        "normalizer 'softmax', finalize: 'mass' is known only with a psi; declare one",
    ),
    (
        normalizer(finalize=S),
        "normalizer 'softmax', finalize: 's' is not known here; "
        "allowed: acc, b, count, dim, h, m, mass, n_b, n_h, n_k, n_q, n_visible, q, vsum",
    ),
    (branch(join=sym("dot[1]")), "join: 'dot[1]' is not known here; "),
    (branch(v=View("v", head=Q)), "v, head: 'q' is not known here; allowed: h, heads, n_h"),
    (branch(v=View("v", stop=sym("n_h"))), "v, stop: 'n_h' is not known here; allowed: d"),
    (branch(dots=(Dot(View("q", feature=S)),)), "q, feature: 's' is not known here; allowed: x"),
    (replace(branch(), combine=Affine((sym("x"),))), "combine, coefficient 0: 'x' is not known here; "),
    (branch(score=op("dim_softmax", SCORE)), "score: dim_softmax stands only in the feature map of a view"),
    (
        branch(dots=(Dot(scale=op("uniform", 3)),)),
        "scale: uniform needs b, h, q and kv, which are not all known here",
    ),
]
TYPES = [
    (
        branch(mask=SCORE),
        "mask: 'score' is not known here",
    ),
    (
        branch(mask=op("sub", Q, KV)),
        "mask: `q - kv` is a number (int), but a condition (bool) is needed here; "
        "a mask is a condition that says which keys are visible: compare, or use attngen.where",
    ),
    (
        branch(score=op("ge", Q, KV)),
        "score: `q >= kv` is a condition (bool), but a number (float) is needed here; "
        "a score is a number: write where(condition, score, -inf), or move the condition to the mask",
    ),
    (
        branch(score=op("sub", Q, KV)),
        "score: `q - kv` is a number (int), but a number (float) is needed here; write to_float(...)",
    ),
    (branch(v=View("v", stop=op("truediv", sym("d"), 2))), "v, stop: `d / 2` is a number (float), but a number (int)"),
    (branch(dots=(Dot(scale=NAN),)), "scale: a NaN literal makes every result NaN; remove it"),
    (branch(dots=(Dot(scale=op("mul", INF, 2.0)),)), "scale: a scale is finite, got the literal inf"),
    (branch(score=op("add", SCORE, const(2**63))), f"score: the literal {2**63} does not fit into 64 bits"),
    (branch(mask=True), "mask: True is not an expression; wrap a literal in attngen.ir.expr.const"),
]
LOADS = [
    (
        using(Input("slopes", ("h",)), load("slops", (sym("h"),))),
        "score: unknown input 'slops'; did you mean 'slopes'?",
    ),
    (branch(score=load("slopes")), "score: unknown input 'slopes'; there are none"),
    (branch(score=load("k", (Q,))), "score: 'k' is read through views, not by index; declare an input instead"),
    (using(Input("slopes", ("h",)), load("slopes")), "score: input 'slopes' takes 1 index (h), got 0"),
    (using(Input("cap"), load("cap", (Q,))), "score: input 'cap' takes no index: it is a number, got 1"),
    (
        using(Input("ids", ("q",), "int"), load("ids", (Q,))),
        "score: input 'ids' holds int, but is read as float",
    ),
    (Spec((Branch(SOFTMAX),), inputs=(Input("gate"),)), "input 'gate' is not used; remove it"),
    (
        Spec((Branch(SOFTMAX),), inputs=(Input("a"), Input("a"))),
        "the name 'a' is given to two inputs or routers; rename one",
    ),
    (
        Spec((Branch(SOFTMAX),), inputs=(Input("k"),)),
        "input 'k': the names q, k and v are taken by the operands; rename it",
    ),
    (using(Input("a", ("head",)), load("a", (Q,))), "input 'a': unknown axis 'head'; allowed: b, h, q, kv, ?"),
    (using(Input("a", (), "int", True), load("a")), "input 'a': a gradient needs type float, not int"),
    (
        Spec((Branch(SOFTMAX, v=View("vv")),), inputs=(Input("v2", ("b", "h", "kv", "?")),)),
        "v: unknown tensor 'vv'; did you mean 'v'?",
    ),
    (
        Spec((Branch(SOFTMAX, v=View("w")),), inputs=(Input("w", ("kv", "?")),)),
        "v: input 'w' has 2 axes; 4 are needed",
    ),
    (branch(decay="g"), "decay: unknown input 'g'; there are none"),
    (
        branch(v=View("v", head=load("map", (), "int"))),
        "v, head: `map`: heads and extents are fixed at compile time; no input here",
    ),
]
SPACES = [
    (replace(branch(), space=Grid(())), "space: a grid has 1 to 3 dimensions, got 0"),
    (replace(branch(), space=Grid((4, 0))), "space: dimension 1 of the grid is 0; it must be at least 1"),
    (replace(branch(), space=Segments()), "space: unknown input 'cu_seqlens_q'; there are none"),
    (replace(branch(), space=Paged(0)), "space: the page size is 0; it must be at least 1"),
    (
        replace(branch(), space=Paged(2), inputs=(Input("page_table", ("b",), "int"),)),
        "space: input 'page_table' has 1 axes; 2 are needed",
    ),
]
ROUTERS = [
    (routed(replace(ROUTER, query_block=0)), "router 'route': the query block is 0; it must be at least 1"),
    (routed(replace(ROUTER, rule=PooledTopK(0.0))), "router 'route': the top share is 0.0; it must be in (0, 1]"),
    (
        routed(replace(ROUTER, rule=PooledTopK(0.5, 0.75))),
        "router 'route': top and bottom shares add up to 1.25; at most 1 is allowed",
    ),
    (routed(replace(ROUTER, rule=Given("classes"))), "router 'route': unknown input 'classes'; there are none"),
    (routed(ROUTER, mask=const(True)), "router 'route' is not used; remove it"),
    (
        routed(ROUTER, op("eq", load("route", (sym("b"), sym("h"), Q, KV), "int"), 1)),
        "mask: `route[b, h, q, kv]`: the class of a router is read as route[b, h, q // 2, kv // 4], an int",
    ),
    (routed(ROUTER, space=Paged(2)), "space: unknown input 'page_table'; there are none"),
    (
        Spec((Branch(SOFTMAX, keysets=(KeySet(mask=op("eq", CLASS, 1)),)),), routers=(ROUTER,)),
        "key set 1, mask: router 'route' classes the main keys; read it in their mask or score",
    ),
]


def declared(node: Normalizer) -> Spec:
    return branch(normalizer=node)


NORMALIZERS = [
    (normalizer(offset=0.75), "normalizer 'softmax': offset is 0.75; it must be in [0, 1/2]"),
    (
        declared(Streaming("relu", op("relu", S), ACC, offset=0.25)),
        "normalizer 'relu': an offset shifts the anchor, but none is declared",
    ),
    (
        declared(Streaming("relu", op("relu", S), ACC, sink=const(0.0))),
        "normalizer 'relu': a sink adds to the mass, but no psi is declared",
    ),
    (
        declared(Streaming("relu", op("relu", S), ACC, lse=const(0.0))),
        "normalizer 'relu': an lse is made of the mass, but no psi is declared",
    ),
    (
        declared(Threshold("entmax", 1.0)),
        "normalizer 'entmax': alpha is 1.0; it must be above 1 (1.5 entmax, 2 sparsemax)",
    ),
    (declared(Threshold("entmax", float("nan"))), "normalizer 'entmax': alpha is nan; it must be above 1"),
    (declared(Chained("two", ())), "normalizer 'two': it has no pass; give at least one"),
    (
        declared(Chained("two", (Streaming("one", S, ACC), SOFTMAX))),
        "normalizer 'two', pass 0: a pass before the last needs a psi, to give the next weights",
    ),
    (
        declared(Ordered("stick", "sideways", S, S)),  # type: ignore[arg-type]
        "normalizer 'stick': direction is 'sideways'; allowed: backward, forward",
    ),
    (
        declared(Ordered("stick", "backward", EXP, S)),
        "normalizer 'stick', weight: 'm' is not known here; ",
    ),
]
COUNTS = [
    (Spec(()), "the spec has no branch; give at least one"),
    (branch(dots=()), "dots: a key set has 1 to 8 dots, got 0"),
    (Spec((Branch(SOFTMAX), Branch(SOFTMAX))), "combine: 1 coefficient for 2 branches; give one each"),
    (replace(branch(), combine=Project(("w", None))), "combine: 2 weights for 1 branch; give one each, or None"),
    (replace(branch(), combine=Project(("w",))), "combine, weight 0: unknown input 'w'; there are none"),
    (
        Spec((Branch(SOFTMAX), Branch(SOFTMAX, keysets=(KeySet(dots=(Dot(), Dot(scale=NAN))),))), combine=Concat()),
        "branch 1, key set 1, dot 1, scale: a NaN literal makes every result NaN; remove it",
    ),
]
ALL = [*SYMBOLS, *TYPES, *LOADS, *SPACES, *ROUTERS, *NORMALIZERS, *COUNTS]


@pytest.mark.parametrize(("spec", "message"), ALL, ids=[message for _, message in ALL])
def test_illegal_specs_are_refused(spec: Spec, message: str) -> None:
    with pytest.raises(SpecError) as error:
        verify(spec)
    assert error.value.message.startswith(message)


def test_the_users_line_is_shown() -> None:
    source = Source("mine.py", 12, 12, 18, "    return q - kv")
    with pytest.raises(SpecError) as error:
        verify(branch(mask=op("sub", Q, KV, source=source)))
    assert str(error.value).endswith('  File "mine.py", line 12\n        return q - kv\n               ^^^^^^')


def test_a_selection_in_the_join_may_look_at_positions() -> None:
    select = op("where", op("gt", KV, Q), sym("dot[0]"), sym("dot[1]"))
    verify(branch(dots=(Dot(), Dot()), join=select))


def test_m_and_mass_are_known_where_they_are_declared() -> None:
    verify(branch())
    verify(declared(Streaming("relu", op("relu", S), op("truediv", ACC, op("to_float", sym("n_k"))))))
    assert M in (SOFTMAX.phi.children[0].children)
    assert MASS in SOFTMAX.finalize.children
