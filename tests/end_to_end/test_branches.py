"""Several branches: added with coefficients and gates, or side by side."""

from __future__ import annotations

from typing import Any

import pytest
import torch

import attngen
from attngen import mechanisms, normalizers
from attngen.ir.expr import const, load, op, sym
from attngen.ir.nodes import Affine, Branch, Combine, Concat, Input, Spec, View
from attngen.ir.normalizer import Streaming
from tests.end_to_end.oracle import check, kernel_of, operands, random

pytestmark = pytest.mark.cxx

SOFTMAX = normalizers.softmax().ir
SIGMOID = Streaming("sigmoid", phi=op("sigmoid", op("sub", sym("s"), 2.0)), finalize=sym("acc"))
CAUSAL, ANTI = op("le", sym("kv"), sym("q")), op("ge", sym("kv"), sym("q"))
ROW = (sym("b"), sym("h"), sym("q"))


def both(combine: Combine, *inputs: Input, second: Any = SIGMOID) -> Spec:
    return Spec((Branch(SOFTMAX, mask=CAUSAL), Branch(second, mask=ANTI)), inputs=inputs, combine=combine)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=["fp32", "bf16"])
def test_sum_with_numbers(dtype: torch.dtype) -> None:
    check(both(Affine((const(0.5), const(-2.0)))), *operands(n_q=130, dtype=dtype))


def test_gate_of_each_row() -> None:
    gate = load("gate", ROW)
    spec = both(Affine((gate, op("sub", 1.0, gate))), Input("gate", ("b", "h", "q")))
    kernel = kernel_of(spec)
    check(kernel, *operands(n_q=130), gate=random(2, 4, 130))
    check(kernel, *operands(n_q=70), gate=random(1, 1, 70))


@pytest.mark.parametrize("dv", [16, 13, 3])
def test_gate_of_each_channel(dv: int) -> None:
    gate = op("sigmoid", load("gate", (*ROW, sym("dim"))))
    spec = both(Affine((gate, const(1.0))), Input("gate", ("b", "h", "q", "?")))
    q, k, v = operands(n_q=70, dv=dv)
    check(spec, q, k, v, gate=random(2, 4, 70, dv))
    check(spec, q, k, v, gate=random(2, 4, 70, 2 * dv)[..., ::2])


def test_coefficient_of_rows_and_channels() -> None:
    coefficient = op("truediv", op("add", sym("q"), sym("dim")), op("add", sym("n_q"), sym("h")))
    check(both(Affine((coefficient, op("neg", coefficient)))), *operands(n_q=70))


def test_a_single_branch_with_a_gate() -> None:
    gate = load("gate", ROW)
    spec = Spec((Branch(SOFTMAX, mask=CAUSAL),), inputs=(Input("gate", ("b", "h", "q")),), combine=Affine((gate,)))
    check(spec, *operands(), gate=random(2, 4, 70))


def test_side_by_side() -> None:
    for dtype in (torch.float32, torch.float16):
        out = check(both(Concat()), *operands(n_q=70, dv=13, dtype=dtype))
        assert out.shape[-1] == 26


def test_side_by_side_with_different_widths() -> None:
    half = op("floordiv", sym("d"), 2)
    narrow = Branch(SOFTMAX, v=View("v", stop=half), mask=CAUSAL)
    spec = Spec((narrow, Branch(SIGMOID), Branch(SOFTMAX, v=View("v", start=const(1)))), combine=Concat())
    out = check(spec, *operands(n_q=130, dv=7))
    assert out.shape[-1] == 3 + 7 + 6


def test_branches_of_different_widths_are_not_added() -> None:
    narrow = Branch(SOFTMAX, v=View("v", stop=op("floordiv", sym("d"), 2)))
    spec = Spec((narrow, Branch(SOFTMAX)), combine=Affine((const(1.0), const(1.0))))
    with pytest.raises(attngen.AttngenError, match="widths"):
        kernel_of(spec)(*operands())


def test_branches_with_values_of_their_own() -> None:
    spec = Spec(
        (Branch(SOFTMAX), Branch(SOFTMAX, v=View("w"))), inputs=(Input("w", ("b", "?", "kv", "?")),), combine=Concat()
    )
    out = check(spec, *operands(), w=random(2, 2, 70, 9))
    assert out.shape[-1] == 25


def test_rows_that_only_one_branch_sees() -> None:
    spec = Spec(
        (
            Branch(SOFTMAX, mask=op("lt", sym("q"), 30)),
            Branch(SOFTMAX, mask=op("lt", sym("kv"), op("sub", sym("q"), 40))),
        ),
        combine=Affine((const(1.0), const(1.0))),
    )
    check(spec, *operands(n_q=130))


@pytest.mark.parametrize("layout", ["within_head", "across_heads", "joint"])
def test_dual_triangle(layout: Any) -> None:
    spec = mechanisms.dual_triangle(layout=layout)
    check(spec, *operands(hk=4, n_q=130, d=20), lse=layout == "joint")


@pytest.mark.parametrize("lam", [0.4, random(4), random(2, 4, 130), "lam[h]"], ids=["number", "heads", "rows", "given"])
def test_differential(lam: Any) -> None:
    given = {"lam": random(4)} if isinstance(lam, str) else {}
    check(mechanisms.differential(lam), *operands(n_q=130, d=20, dv=30), **given)
