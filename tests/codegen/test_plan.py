"""What a plan decides: the running state, the split of the scale, the ranges, the widths."""

from __future__ import annotations

from typing import Any

import pytest
import torch

import attngen
from attngen import masks, normalizers, scores
from attngen.codegen.plan import make_plan, shift_rate
from attngen.errors import SpecError
from attngen.ir.expr import Const, const, op, sym
from attngen.ir.nodes import Affine, Branch, Concat, Dot, Input, KeySet, Spec, View
from attngen.ir.normalizer import Streaming
from tests.codegen.plans import plan_of, problem_of

SOFTMAX = normalizers.softmax().ir
HALF = op("floordiv", sym("d"), 2)


def nodes(*branches: Branch, **rest: Any) -> attngen.Spec:
    return attngen.Spec.from_ir(Spec(branches, **rest))


def test_softmax_works_in_powers_of_two_with_the_scale_split_off() -> None:
    branch = plan_of(attngen.Spec(mask=masks.causal())).branches[0]
    keyset = branch.keysets[0]
    assert branch.exponential
    assert branch.decay_rate == 1.0
    assert keyset.core == sym("dot[0]")
    assert keyset.alpha == op("rsqrt", op("to_float", const(64)))
    assert keyset.masked


@pytest.mark.parametrize("scale", [0.0, -1.0, torch.ones(4)], ids=["zero", "negative", "captured"])
def test_a_scale_that_may_not_be_positive_stays_inside(scale: Any) -> None:
    keyset = plan_of(attngen.Spec(scale=scale)).branches[0].keysets[0]
    assert keyset.alpha == const(1.0)
    assert keyset.core != sym("dot[0]")


def test_a_score_program_keeps_the_scale_inside() -> None:
    keyset = plan_of(attngen.Spec(score=scores.soft_cap(3.0))).branches[0].keysets[0]
    assert keyset.alpha == const(1.0)


def test_the_scale_stays_inside_without_an_exponential() -> None:
    branch = plan_of(attngen.Spec(normalizer="sigmoid")).branches[0]
    assert not branch.exponential
    assert branch.keysets[0].alpha == const(1.0)
    assert branch.decay_rate == 0.0


def test_key_sets_with_different_scales_share_none() -> None:
    extra = KeySet((Dot(k=View("xk"), scale=const(0.5)),), View("xv"))
    inputs = (Input("xk", ("b", "h", "?", "?")), Input("xv", ("b", "h", "?", "?")))
    spec = nodes(Branch(SOFTMAX, keysets=(extra,)), inputs=inputs)
    plan = plan_of(spec, xk=("float32", 64), xv=("float32", 64))
    assert {keyset.alpha for keyset in plan.branches[0].keysets} == {const(1.0)}


@pytest.mark.parametrize(
    ("mask", "closed"),
    [
        (masks.full(), True),
        (masks.causal(), True),
        (masks.sliding_window(4), True),
        (masks.lengths(torch.tensor([3, 4])), True),
        (masks.document(torch.tensor([[0, 0, 1]])), False),
    ],
    ids=["full", "causal", "window", "lengths", "documents"],
)
def test_ranges(mask: Any, closed: bool) -> None:
    spec = attngen.Spec(mask=mask)
    plan = plan_of(spec, **{i.name: ("int64", 3) for i in spec.ir.inputs})
    keyset = plan.branches[0].keysets[0]
    assert (keyset.ranges is not None) == closed
    assert keyset.masked == (mask.name != "full")


def test_n_visible_is_replaced_by_its_closed_form() -> None:
    spec = attngen.Spec(mask=masks.causal(), scale=lambda n_visible: torch.log(n_visible * 1.0))
    keyset = plan_of(spec).branches[0].keysets[0]
    from attngen.ir.expr import symbols

    assert "n_visible" not in symbols(keyset.core, keyset.alpha)


def test_what_finalize_reads_is_summed() -> None:
    branch = plan_of(attngen.Spec(normalizer=normalizers.affine(1.0, 0.1))).branches[0]
    assert branch.needs_vsum
    assert not branch.needs_count
    assert not plan_of(attngen.Spec()).branches[0].needs_vsum


def test_widths_of_views() -> None:
    spec = attngen.mechanisms.dual_triangle()
    plan = plan_of(spec, d=20, dv=14)
    assert [b.width for b in plan.branches] == [7, 7]
    assert plan.width == 14
    dots = [b.keysets[0].dots[0] for b in plan.branches]
    assert [(d.q_start, d.k_start, d.width) for d in dots] == [(0, 0, 10), (10, 10, 10)]
    assert [b.keysets[0].v_start for b in plan.branches] == [0, 7]


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        (nodes(Branch(SOFTMAX, dots=(Dot(View("q", stop=HALF)),))), "different head dimensions in one dot: 32 and 64"),
        (nodes(Branch(SOFTMAX, v=View("v", stop=const(65)))), "the view of v reads 0:65 of a head dimension of 64"),
        (nodes(Branch(SOFTMAX, v=View("v", start=const(-1)))), "the view of v reads -1:64 of a head dimension of 64"),
        (
            nodes(Branch(SOFTMAX, v=View("v", stop=HALF)), Branch(SOFTMAX), combine=Affine((const(1.0), const(1.0)))),
            "the branches have widths",
        ),
    ],
    ids=["dot", "too-far", "negative", "sum"],
)
def test_widths_that_do_not_fit(spec: attngen.Spec, message: str) -> None:
    with pytest.raises(SpecError, match=message):
        plan_of(spec)


def test_side_by_side_may_differ_in_width() -> None:
    spec = nodes(Branch(SOFTMAX, v=View("v", stop=HALF)), Branch(SOFTMAX), combine=Concat())
    assert plan_of(spec, dv=9).width == 4 + 9


def test_a_plan_is_a_value() -> None:
    spec = attngen.Spec(mask=masks.causal())
    assert plan_of(spec) == plan_of(spec)
    assert hash(problem_of(spec)) == hash(problem_of(spec))
    assert make_plan(spec.ir, problem_of(spec)) != make_plan(spec.ir, problem_of(spec, dv=8))
    assert isinstance(plan_of(attngen.Spec()).branches[0].keysets[0].mask, Const)


def test_normalizers_whose_anchor_may_not_run_are_refused() -> None:
    bad = Streaming("bad", phi=op("exp", op("sub", sym("s"), op("mul", sym("m"), sym("m")))), anchor=sym("s"),
                    finalize=sym("acc"))  # fmt: skip
    with pytest.raises(SpecError, match="normalizer 'bad': phi and psi do not follow one shift law"):
        shift_rate(bad)
    exp = op("exp", op("sub", sym("s"), sym("m")))
    twice = op("mul", exp, exp)
    mixed = Streaming("mixed", phi=exp, psi=twice, anchor=sym("s"), finalize=sym("acc"))
    with pytest.raises(SpecError, match="one shift law"):
        shift_rate(mixed)
