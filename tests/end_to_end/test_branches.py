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


def test_sum_with_numbers() -> None:
    # test_gradients_scores and test_gradients_shapes have gates, mechanisms of several parts and different widths.
    check(both(Affine((const(0.5), const(-2.0)))), *operands(n_q=130, dtype=torch.bfloat16))


def test_gate_of_each_channel() -> None:
    gate = op("sigmoid", load("gate", (*ROW, sym("dim"))))
    spec = both(Affine((gate, const(1.0))), Input("gate", ("b", "h", "q", "?")))
    q, k, v = operands(n_q=70)
    check(spec, q, k, v, gate=random(2, 4, 70, 16))
    check(spec, q, k, v, gate=random(2, 4, 70, 32)[..., ::2])


def test_coefficient_of_rows_and_channels() -> None:
    coefficient = op("truediv", op("add", sym("q"), sym("dim")), op("add", sym("n_q"), sym("h")))
    check(both(Affine((coefficient, op("neg", coefficient)))), *operands(n_q=70))


def test_side_by_side() -> None:
    out = check(both(Concat()), *operands(n_q=70, dv=13, dtype=torch.float16))
    assert out.shape[-1] == 26


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


def test_differential_with_a_factor_for_each_call() -> None:
    check(mechanisms.differential("lam[h]"), *operands(n_q=130, d=20, dv=30), lam=random(4))
