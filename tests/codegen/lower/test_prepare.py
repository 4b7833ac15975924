"""What is made before the loop: which specs are lowered, to what, and which are refused with a reason."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

import attngen
from attngen import masks, mechanisms, normalizers
from attngen.codegen.lower import prepare
from attngen.codegen.lower.linear import Kind, condition_of, kinds
from attngen.codegen.lower.lowered import lowered
from attngen.codegen.lower.reach import CHUNK
from attngen.codegen.plan import make_plan
from attngen.codegen.problem import Operand, Problem
from attngen.errors import InputError
from attngen.ir.expr import Expr, const, load, op, sym
from attngen.ir.nodes import (
    Affine,
    Branch,
    Concat,
    Dot,
    Given,
    Grid,
    Input,
    Paged,
    PooledTopK,
    Project,
    Router,
    Segments,
    Spec,
    View,
)
from attngen.ir.normalizer import Streaming
from attngen.ir.walk import views
from tests.end_to_end.oracle import error, kernel_of, operands

X, Q, KV = sym("x"), sym("q"), sym("kv")
CAUSAL = op("le", KV, Q)
ROUTER = Router("blocks", 16, 24, Given("table"))
OTHER = Router("others", 8, 24, PooledTopK(0.5))
TABLE = Input("table", ("b", "h", "?", "?"), "int")
DECAY = Input("fade", ("b", "h", "kv"), grad=True)
LINEAR, NONE, SOFTMAX = normalizers.linear().ir, normalizers.none().ir, normalizers.softmax().ir
FEATURED = Dot(View("q", feature=op("relu", X)), View("k", feature=op("relu", X)), const(1.0))
D, DV = 8, 6


def entry(router: Router = ROUTER) -> Expr:
    blocks = (op("floordiv", Q, router.query_block), op("floordiv", KV, router.key_block))
    return load(router.name, (sym("b"), sym("h"), *blocks), "int")


def branch(normalizer: Any = LINEAR, **parts: Any) -> Branch:
    return Branch(normalizer, **{"dots": (FEATURED,), **parts})


def spec(*branches: Branch, **parts: Any) -> Spec:
    parts = {"inputs": (TABLE, DECAY), "routers": (ROUTER, OTHER), **parts}
    combine = parts.pop("combine", Affine((const(1.0),) * len(branches)))
    return Spec(branches, combine=combine, **parts)


def problem_of(one: Spec, **widths: int) -> Problem:
    sizes = {"q": D, "k": D, "v": DV}
    inputs = (
        Operand(i.name, "int8" if i.type == "int" else "float32", len(i.axes), widths.get(i.name, 0))
        for i in one.inputs
    )
    return Problem("fp32", (*(Operand(name, "float32", 4, width) for name, width in sizes.items()), *inputs), False)


@pytest.mark.parametrize(
    "one",
    [
        attngen.Spec(mask=masks.causal()),
        attngen.Spec(mask=masks.sliding_window(3), normalizer=normalizers.sigmoid()),
        mechanisms.dual_triangle("joint"),
        mechanisms.neighborhood((8, 9), 3),
    ],
)
def test_what_needs_nothing_stays_what_it_is(one: attngen.Spec) -> None:
    assert not prepare.needed(one.ir)
    plan = make_plan(one.ir, problem_of(one.ir))
    assert lowered(plan) is plan


@pytest.mark.parametrize(
    "one",
    [
        mechanisms.linear(),
        mechanisms.sparse_linear(0.1),
        attngen.Spec.from_ir(Spec((Branch(SOFTMAX, mask=op("eq", entry(), 1)),), inputs=(TABLE,), routers=(ROUTER,))),
        attngen.Spec.from_ir(Spec((Branch(SOFTMAX, v=View("v", feature=op("tanh", X))),))),
        attngen.Spec.from_ir(Spec((Branch(NONE),))),
    ],
)
def test_what_is_lowered_has_nothing_left_to_make(one: attngen.Spec) -> None:
    assert prepare.needed(one.ir)
    assert prepare.refusal(one.ir) is None
    plan = make_plan(one.ir, problem_of(one.ir, projection=DV))
    target = lowered(plan)
    assert target.written is plan
    assert not target.spec.routers
    assert not isinstance(target.spec.combine, Project)
    assert all(view.feature is None for view in views(target.spec))
    assert all(each.decay is None for each in target.spec.branches)
    assert not prepare.needed(target.spec) or all(k is not None for k in kinds(target.spec))
    assert target.spec.inputs[: len(plan.spec.inputs)] == plan.spec.inputs


KINDS: list[tuple[Branch, Kind | None]] = [
    (branch(), Kind(None)),
    (branch(NONE), Kind(None)),
    (branch(mask=CAUSAL), Kind(CHUNK, causal=True)),
    (branch(mask=op("ge", Q, KV)), Kind(CHUNK, causal=True)),
    (branch(decay="fade"), Kind(CHUNK, causal=True)),
    (branch(decay="fade", mask=CAUSAL), Kind(CHUNK, causal=True)),
    (branch(mask=op("eq", entry(), 0)), Kind(16, ROUTER)),
    (branch(mask=op("not", op("and", op("ge", entry(OTHER), 0), op("ne", entry(OTHER), 1)))), Kind(8, OTHER)),
    # Keys have to be looked at one by one.
    (branch(SOFTMAX), None),
    (branch(normalizers.relu().ir), None),
    (branch(mask=op("lt", KV, Q)), None),
    (branch(mask=op("le", KV, op("add", Q, op("sub", sym("n_k"), sym("n_q"))))), None),
    (branch(mask=op("and", CAUSAL, op("eq", entry(), 0))), None),
    (branch(mask=op("eq", entry(), entry(OTHER))), None),
    (branch(mask=op("eq", op("floordiv", Q, 16), 0)), None),
    (branch(mask=op("eq", const(1), const(1))), None),
    (branch(decay="fade", mask=op("eq", entry(), 0)), None),
    (branch(score=op("add", sym("score"), 1.0)), None),
    (branch(weight=const(2.0)), None),
    (branch(dots=(FEATURED, FEATURED)), None),
    (branch(dots=(replace(FEATURED, scale=op("rsqrt", op("to_float", sym("n_k")))),)), None),
    (branch(dots=(replace(FEATURED, scale=op("rsqrt", op("to_float", sym("n_visible")))),)), None),
]


@pytest.mark.parametrize(("one", "kind"), KINDS, ids=[str(i) for i in range(len(KINDS))])
def test_how_keys_are_summed_up(one: Branch, kind: Kind | None) -> None:
    assert kinds(spec(one)) == (kind,)


def test_coefficients_that_count_keys() -> None:
    """Virtual keys are others than those that a coefficient means."""
    counts = op("rsqrt", op("to_float", sym("n_k")))
    assert kinds(spec(branch(), branch(), combine=Affine((counts, const(2.0))))) == (None, Kind(None))
    assert kinds(spec(branch(), branch(), combine=Concat())) == (Kind(None), Kind(None))


@pytest.mark.cxx
@pytest.mark.parametrize("where", ["scale", "coefficient"])
def test_counts_of_keys(where: str) -> None:
    count = op("rsqrt", op("to_float", sym("n_visible" if where == "scale" else "n_k")))
    dot = replace(FEATURED, scale=count) if where == "scale" else FEATURED
    combine = Affine((count if where == "coefficient" else const(1.0),))
    kernel = kernel_of(Spec((branch(NONE, dots=(dot,)),), combine=combine))
    q, k, v = operands(n_q=30, n_k=50, d=D, dv=DV)
    assert error(kernel(q, k, v), kernel.reference(q, k, v)) <= 1e-5


def test_conditions_of_a_mask() -> None:
    x = sym("x")
    assert condition_of(op("eq", entry(), 0), ROUTER) == op("eq", x, 0)
    assert condition_of(op("not", op("or", op("lt", entry(), 0), op("eq", 1, entry()))), ROUTER) is not None
    for mask in (CAUSAL, const(True), op("eq", entry(), 0), op("eq", op("add", entry(OTHER), 1), 0)):
        assert condition_of(mask, OTHER) is None


PER_CHANNEL = Input("fade", ("b", "h", "kv", "?"), grad=True)
LENGTHS = (Input("cu_seqlens_q", ("?",), "int"), Input("cu_seqlens_k", ("?",), "int"))
PAGES = (Input("page_table", ("b", "?"), "int"), Input("kv_lengths", ("b",), "int"))
NO_DECAY = "a decay has a kernel only for one number a head and token, beside a score that is linear in the dot"
REFUSED = [
    (spec(branch(decay="fade"), inputs=(PER_CHANNEL,), routers=()), NO_DECAY),
    (spec(branch(SOFTMAX, decay="fade"), routers=()), NO_DECAY),
    (spec(branch(decay="fade", mask=op("eq", entry(), 0))), NO_DECAY),
    (
        spec(branch(mask=op("eq", entry(), 0)), space=Segments(), inputs=(TABLE, *LENGTHS)),
        "over segments have no",
    ),
    (spec(branch(), space=Paged(16), inputs=PAGES, routers=()), "over paged have no kernel yet"),
    (
        spec(branch(v=View("v", feature=op("mul", X, load("gain", (const(0),)))))),
        "a feature map that reads elements of gain has no kernel yet",
    ),
    (spec(branch(v=View("v", feature=op("floordiv", X, 2.0)))), "floordiv in a feature map has no kernel yet"),
]


@pytest.mark.parametrize(("one", "reason"), REFUSED, ids=[str(i) for i in range(len(REFUSED))])
def test_reasons(one: Spec, reason: str) -> None:
    found = prepare.refusal(one)
    assert found is not None
    assert reason in found
    plan = make_plan(one, problem_of(one))
    assert lowered(plan) is plan


def test_results_that_are_not_linear_in_the_values() -> None:
    assert isinstance(LINEAR, Streaming)
    squared = replace(LINEAR, finalize=op("mul", sym("acc"), sym("acc")))
    one = spec(branch(squared), combine=Project(("w",)), inputs=(Input("w", ("?", "?")),), routers=())
    assert prepare.refusal(one) == "a projection after 'linear', whose result is not linear in v, has no kernel"
    assert kinds(one) == (None,)


def test_widths_of_projections_that_are_added() -> None:
    one = spec(branch(SOFTMAX), branch(), combine=Project((None, "w")), inputs=(Input("w", ("?", "?")),), routers=())
    assert prepare.prepare(one, problem_of(one, w=DV)).spec.combine == Affine((const(1.0), const(1.0)))
    with pytest.raises(InputError, match=f"w: got {DV + 1} columns; it is added to a result that is {DV} wide"):
        prepare.prepare(one, problem_of(one, w=DV + 1))


def test_equal_features_are_made_once() -> None:
    one = spec(branch(), branch(mask=CAUSAL), branch(SOFTMAX), routers=())
    made = [i.input.name for i in prepare.prepare(one, problem_of(one)).made]
    assert sum("features" in name for name in made) == 2


def test_names_of_what_is_made_are_free() -> None:
    one = spec(branch(), inputs=(Input("made.features0", ("b", "h", "q")),), routers=())
    names = [i.name for i in prepare.prepare(one, problem_of(one)).spec.inputs]
    assert len(names) == len(set(names))
    assert names[1].startswith("made_.")


def test_grids_are_sequences_to_the_states() -> None:
    assert prepare.refusal(spec(branch(mask=CAUSAL), space=Grid((6, 12)), routers=())) is None
