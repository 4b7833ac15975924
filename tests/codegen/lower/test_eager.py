"""Feature maps and conditions on tables beside the evaluator of the reference; what half precision rounds; refusals."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from attngen.codegen.lower.eager import NAMED, featured, holds, refusal
from attngen.ir.evaluate import Environment, evaluate
from attngen.ir.expr import Expr, const, load, op, sym
from attngen.ir.ops import OPERATORS
from attngen.ir.text_expr import expr_text
from attngen.mechanisms.features import FEATURES
from tests.strategies import PATIENT

X = sym("x")
POSITIVE = op("gt", X, 0.0)
HALVES = [torch.bfloat16, torch.float16]


def exact(x: Tensor, feature: Expr, **numbers: float) -> Tensor:
    """What the reference makes of it, in float64."""
    inputs = {name: torch.tensor(value, dtype=torch.float64) for name, value in numbers.items()}
    return evaluate(feature, Environment({"x": x.double()}, inputs)).double().expand(x.shape)


def sample(dtype: torch.dtype = torch.float32) -> Tensor:
    """Both signs, and zeros."""
    x = 2 * torch.randn(3, 5, 8, generator=torch.Generator().manual_seed(0))
    x[0, 0, :3] = 0.0
    return x.to(dtype)


def agree(feature: Expr, x: Tensor, **numbers: float) -> None:
    found = featured(x, feature, numbers)
    assert (found.dtype, found.shape) == (x.dtype, x.shape)
    torch.testing.assert_close(found.double(), exact(x, feature, **numbers), rtol=1e-5, atol=1e-6, equal_nan=True)


@pytest.mark.parametrize("name", FEATURES)
def test_maps_of_the_library(name: str) -> None:
    agree(FEATURES[name], sample())


def arguments(name: str) -> list[list[Any]]:
    """Of an operator: x beside whole and real numbers, on either side, and other vectors."""
    match OPERATORS[name].arity:
        case 1:
            return [[POSITIVE]] if name == "not" else [[X], [op("mul", X, X)]]
        case 2 if name in ("and", "or"):
            return [[POSITIVE, op("lt", X, 1.0)]]
        case 2:
            return [[X, X], [X, 2], [3, X], [X, 0.5], [op("abs", X), op("sub", X, 1)]]
        case _:
            return [[POSITIVE, X, 0], [POSITIVE, 1, 2], [const(True), X, 0.5]]


SUPPORTED = [name.removeprefix("logical_") for name in NAMED] + ["truediv", "safe_div", "softplus", "dim_softmax"]


@pytest.mark.parametrize("name", SUPPORTED)
def test_operators(name: str) -> None:
    for given_ in arguments(name):
        made = op(name, *given_)
        agree(made if made.type != "bool" else op("where", made, X, -1.0), sample())


@pytest.mark.parametrize(
    "feature",
    [
        op("add", op("to_float", POSITIVE), op("to_float", op("gt", X, 0.5))),
        op("add", POSITIVE, op("lt", X, 0.5)),
        op("mul", op("neg", POSITIVE), X),
        op("truediv", op("add", POSITIVE, op("gt", X, 1.0)), 3),
        op("where", POSITIVE, op("lt", X, 1.0), X),
        op("maximum", X, 0),
        op("mul", X, op("truediv", 1, 3)),
        op("exp", op("to_float", const(1))),
        const(2.5),
    ],
    ids=expr_text,
)
def test_bools_and_whole_numbers_count_as_numbers(feature: Expr) -> None:
    agree(feature, sample())
    x = sample(torch.float64)
    torch.testing.assert_close(featured(x, feature, {}), exact(x, feature), rtol=1e-15, atol=0)


def test_run_time_numbers() -> None:
    agree(op("mul", op("add", X, load("shift", ())), load("size", ())), sample(), shift=0.25, size=3.0)


@pytest.mark.parametrize("dtype", HALVES)
def test_half_precision_is_rounded_once(dtype: torch.dtype) -> None:
    """As float32 would be, beside a map whose steps would each be rounded."""
    x = sample(dtype)
    for feature in (*FEATURES.values(), op("sub", op("exp", op("mul", X, 0.1)), 1.0), op("tanh", X), op("mul", X, X)):
        assert torch.equal(featured(x, feature, {}), featured(x.float(), feature, {}).to(dtype))


@pytest.mark.parametrize(
    "feature", [*FEATURES.values(), op("mul", X, op("sigmoid", X)), op("softplus", X)], ids=expr_text
)
def test_gradients(feature: Expr) -> None:
    x = sample(torch.float64).requires_grad_()
    weights = torch.randn(x.shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    found, expected = (
        torch.autograd.grad((made * weights).sum(), x)[0] for made in (featured(x, feature, {}), exact(x, feature))
    )
    torch.testing.assert_close(found, expected)


@pytest.mark.parametrize(
    ("feature", "message"),
    [
        (op("mul", X, load("table", (const(0),))), "a feature map that reads elements of table"),
        (op("floordiv", X, 2.0), "floordiv in a feature map"),
        (op("add", X, op("mod", X, 2.0)), "mod in a feature map"),
        (op("to_float", op("to_int", X)), "to_int in a feature map"),
    ],
)
def test_refusals(feature: Expr, message: str) -> None:
    assert refusal(feature) == message


NUMBERS = st.sampled_from([-300, -1, 0, 1, 2, 127, 128, 255, 300])
CONDITIONS: st.SearchStrategy[Expr] = st.recursive(
    st.builds(lambda name, n, turned: op(name, n, X) if turned else op(name, X, n),
              st.sampled_from(["eq", "ne", "lt", "le", "gt", "ge"]), NUMBERS, st.booleans()),
    lambda inner: st.builds(lambda name, a, b: op(name, a, b), st.sampled_from(["and", "or"]), inner, inner)
    | st.builds(lambda a: op("not", a), inner),
    max_leaves=4,
)  # fmt: skip


@given(CONDITIONS, st.sampled_from([torch.int8, torch.uint8, torch.int32, torch.int64]))
@PATIENT
def test_conditions_on_tables(condition: Expr, dtype: torch.dtype) -> None:
    """Numbers that the table's type does not hold are compared as numbers."""
    bounds = torch.iinfo(dtype)
    entries = [n for n in (-128, -2, -1, 0, 1, 2, 44, 127, 128, 255) if bounds.min <= n <= bounds.max]
    table = torch.tensor(entries, dtype=dtype)
    expected = evaluate(condition, Environment({"x": table.long()}, {}))
    assert torch.equal(holds(table, condition), expected)
