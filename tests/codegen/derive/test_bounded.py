"""Masks that say themselves where the keys of a tile end."""

from __future__ import annotations

import torch
from hypothesis import given
from hypothesis import strategies as st

import attngen
from attngen import masks
from attngen.codegen.derive.bounded import bounded
from attngen.ir.evaluate import Environment, evaluate
from attngen.ir.expr import Expr, op, sym
from tests.codegen.plans import plan_of

N = 12
Q, KV = sym("q"), sym("kv")


def holds(mask: Expr, stop: int) -> torch.Tensor:
    known = {"q": torch.arange(N)[:, None], "kv": torch.arange(N)[None, :], "stop": torch.tensor(stop)}
    known |= {"n_q": torch.tensor(N), "n_k": torch.tensor(N)}
    return evaluate(mask, Environment(known, {})).expand(N, N)


limits = st.sampled_from([Q, op("add", Q, 3), op("sub", op("mul", Q, 2), 5), op("floordiv", Q, 2), KV])
comparisons = st.builds(
    lambda name, limit, turned: op(name, limit, KV) if turned else op(name, KV, limit),
    st.sampled_from(["le", "lt", "ge", "gt", "eq"]),
    limits,
    st.booleans(),
)
conditions = st.recursive(comparisons, lambda e: st.builds(op, st.sampled_from(["and", "or"]), e, e), max_leaves=4)


@given(conditions, st.integers(0, N + 2))
def test_it_holds_where_both_do(mask: Expr, stop: int) -> None:
    found = bounded(mask)
    if found is not None:
        assert torch.equal(holds(found, stop), holds(mask, stop) & (torch.arange(N) < stop))


def test_masks_that_end_with_the_row() -> None:
    for mask in (masks.causal(), masks.causal("bottom_right"), masks.sliding_window(4), masks.sink(2) & masks.causal()):
        assert bounded(plan_of(attngen.Spec(mask=mask)).branches[0].keysets[0].mask) is not None


def test_masks_that_do_not() -> None:
    for mask in (masks.sink(2) | masks.causal(), ~masks.causal()):
        assert bounded(plan_of(attngen.Spec(mask=mask)).branches[0].keysets[0].mask) is None
