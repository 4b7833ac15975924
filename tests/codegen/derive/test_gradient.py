"""Derivatives of expressions: finite differences, torch's autograd, conditions that guard, and linear size."""

from __future__ import annotations

import itertools
import math

import hypothesis
import pytest
import torch
from torch import Tensor

from attngen.codegen.derive.gradient import ONE, derivative, float_loads, gradient
from attngen.ir.evaluate import Environment, evaluate
from attngen.ir.expr import Expr, const, load, op, postorder, sym, symbols
from attngen.ir.ops import OPERATORS
from tests.strategies import exprs

S, M, X = sym("s"), sym("m"), sym("x")
POINTS = torch.tensor([-2.3, -1.2, -0.7, -0.31, 0.21, 0.6, 0.93, 1.4, 2.6], dtype=torch.float64)

FLAT = {"floor", "ceil", "round", "sign", "floordiv"}
"""Constant in pieces: the derivative is 0."""
ELSEWHERE = {"dim_softmax"}
"""Only in feature maps, which are differentiated by rows."""
DIFFERENTIABLE = [
    o.name
    for o in OPERATORS.values()
    if o.rule(("float",) * o.arity) == "float" and o.name not in FLAT | ELSEWHERE | {"where"}
]
"""Found in the table, so that an operator without a rule fails here."""
POSITIVE = {"log", "log2", "sqrt", "rsqrt", "log1p"}


def value(expr: Expr, **at: Tensor) -> Tensor:
    found = evaluate(expr, Environment(at)).double()
    return found.broadcast_to(torch.broadcast_shapes(found.shape, *(t.shape for t in at.values())))


def autograd(expr: Expr, name: str, **at: Tensor) -> Tensor:
    leaf = at[name].clone().requires_grad_()
    out = value(expr, **{**at, name: leaf})
    if not out.requires_grad:
        return torch.zeros_like(leaf)
    return torch.autograd.grad(out.sum(), leaf)[0]


def differences(expr: Expr, name: str, step: float = 1e-6, **at: Tensor) -> Tensor:
    up, down = (value(expr, **{**at, name: at[name] + by}) for by in (step, -step))
    return (up - down) / (2 * step)


def arguments(name: str, place: int) -> tuple[Expr, ...]:
    """s in one place, a positive base or divisor where the operator needs one, another symbol elsewhere."""
    leaf: Expr = op("add", op("abs", S), 0.3) if name in POSITIVE or (name == "pow" and place == 0) else S
    others = [op("add", op("abs", M), 0.4) for _ in range(OPERATORS[name].arity)]
    others[place] = leaf
    return tuple(others)


@pytest.mark.parametrize(
    ("name", "place"), [(n, i) for n in DIFFERENTIABLE for i in range(OPERATORS[n].arity)], ids=lambda x: str(x)
)
def test_every_operator_has_a_rule(name: str, place: int) -> None:
    expr = op(name, *arguments(name, place))
    at = {"s": POINTS, "m": torch.full_like(POINTS, 0.37)}
    found, exact = value(derivative(expr, "s"), **at), differences(expr, "s", **at)
    torch.testing.assert_close(found, exact, rtol=1e-6, atol=1e-7)
    assert found.any(), "the derivative of an operator without a rule is 0"


@pytest.mark.parametrize("name", sorted(FLAT))
def test_what_is_constant_in_pieces_has_no_derivative(name: str) -> None:
    expr = op(name, *([S, const(0.77)][: OPERATORS[name].arity]))
    assert not differences(expr, "s", s=POINTS).any()
    assert derivative(expr, "s") == const(0.0)


def test_operators_are_differentiable_or_known_not_to_be() -> None:
    others = {o.name for o in OPERATORS.values() if o.rule(("float",) * o.arity) != "float"}
    floats = {n for n in others if any(OPERATORS[n].rule(t) == "float" for t in types(OPERATORS[n].arity))}
    assert floats == {"where", "uniform", "uniform_at"}


def types(arity: int) -> list[tuple[str, ...]]:
    return [*itertools.product(("bool", "int", "float"), repeat=arity)]  # type: ignore[list-item]


KINKS = [
    op("relu", S),
    op("abs", S),
    op("sign", S),
    op("maximum", S, 0.0),
    op("minimum", S, 0.0),
    op("maximum", S, op("mul", S, 2.0)),
    op("minimum", op("neg", S), S),
    op("pow", S, 2),
    op("pow", S, 1),
    op("pow", S, 0),
    op("pow", S, 3.0),
    op("pow", op("relu", S), 1.5),
    op("where", op("gt", S, 0.0), S, op("neg", S)),
    op("safe_div", S, op("abs", S)),
]


@pytest.mark.parametrize("expr", KINKS, ids=range(len(KINKS)))
def test_kinks_have_the_derivatives_of_torch(expr: Expr) -> None:
    zero = torch.zeros(1, dtype=torch.float64)
    assert torch.equal(value(derivative(expr, "s"), s=zero), autograd(expr, "s", s=zero))


def guarded(inner: Expr) -> Expr:
    return op("where", op("gt", S, 0.0), inner, 0.0)


LOG = op("log", S)
GUARDS = {
    "log": guarded(LOG),
    "rsqrt": guarded(op("rsqrt", S)),
    "quotient": guarded(op("truediv", M, S)),
    "sqrt": guarded(op("sqrt", S)),
    "power": guarded(op("pow", S, -1.5)),
    "learned-power": guarded(op("pow", S, op("neg", M))),
    "tail": guarded(op("mul", op("log", op("sin", S)), op("exp", op("truediv", 1.0, S)))),
    "otherwise": op("where", op("le", S, 0.0), 0.0, LOG),
    "not": op("where", op("not", op("gt", S, 0.0)), 0.0, LOG),
    "nested": op("where", op("gt", M, 0.0), guarded(LOG), op("mul", guarded(op("rsqrt", S)), S)),
    "twice": op("add", guarded(LOG), op("where", op("gt", S, 0.1), op("mul", LOG, LOG), 0.0)),
    "relu": op("relu", op("where", op("gt", S, 0.0), LOG, -1.0)),
}


@pytest.mark.parametrize("name", GUARDS)
def test_what_a_condition_rules_out_is_ruled_out_of_the_derivative(name: str) -> None:
    expr, zero = GUARDS[name], torch.zeros(2, dtype=torch.float64)
    m = torch.tensor([-0.5, 0.5], dtype=torch.float64)
    assert torch.equal(value(derivative(expr, "s"), s=zero, m=m), zero)
    at = {"s": torch.tensor([0.4, 1.7], dtype=torch.float64), "m": m}
    torch.testing.assert_close(value(derivative(expr, "s"), **at), differences(expr, "s", **at), rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("count", [4, 5, 12])
def test_many_conditions_guard_one_node(count: int) -> None:
    total: Expr = const(0.0)
    for i in range(count):
        condition = op("and", op("gt", S, 0.0), op("ne", sym("kv"), i))
        total = op("add", total, op("where", condition, LOG, 0.0))
    at = {"s": torch.tensor([0.0, 2.0], dtype=torch.float64), "kv": torch.tensor([1, 2])}
    assert value(derivative(total, "s"), **at).tolist() == [0.0, pytest.approx((count - 1) / 2)]


SHARED = {
    "squares": lambda x: op("mul", x, x),
    "sums": lambda x: op("add", x, x),
    "quotients": lambda x: op("truediv", x, op("add", op("mul", x, x), 1.0)),
    "choices": lambda x: op("where", op("gt", x, 0.0), op("tanh", x), op("sin", x)),
    "extremes": lambda x: op("maximum", op("sin", x), op("cos", x)),
    "powers": lambda x: op("pow", op("tanh", x), 2),
    "guards": lambda x: op("where", op("gt", x, sym("m")), op("mul", x, 0.5), x),
}


@pytest.mark.parametrize("name", SHARED)
def test_the_size_of_a_derivative_is_linear(name: str) -> None:
    sizes = []
    for count in (30, 60):
        x: Expr = S
        for _ in range(count):
            x = SHARED[name](x)
        found = derivative(x, "s")
        assert found == derivative(x, "s")
        sizes.append(len(list(postorder(found))))
    assert sizes[1] <= 2.2 * sizes[0] + 50
    assert sizes[1] < 60 * 40


def test_equal_nodes_that_are_not_shared_count_as_one() -> None:
    made = [op("exp", op("mul", S, 2.0)) for _ in range(2)]
    expr = op("mul", *made)
    at = torch.tensor([0.3], dtype=torch.float64)
    torch.testing.assert_close(value(derivative(expr, "s"), s=at), 4 * torch.exp(4 * at))


T = load("t", (sym("q"),))
U = load("t", (sym("kv"),))


def test_each_load_has_a_derivative_of_its_own() -> None:
    expr = op("add", op("mul", T, U), op("mul", op("mul", T, T), S))
    by_t, by_u, by_s = gradient([(expr, sym("dout"))], [T, U, S])
    env = Environment(
        {name: torch.tensor(x, dtype=torch.float64) for name, x in (("s", 3.0), ("dout", 2.0))}
        | {"q": torch.tensor(0), "kv": torch.tensor(1)},
        {"t": torch.tensor([5.0, 7.0], dtype=torch.float64)},
    )
    assert [float(evaluate(e, env)) for e in (by_t, by_u, by_s)] == [2 * (7 + 2 * 5 * 3), 2 * 5, 2 * 25]
    assert float_loads([expr], frozenset({"t"})) == (T, U)
    assert float_loads([expr], frozenset()) == ()


def test_several_outputs_add_up() -> None:
    outputs = [(op("exp", S), sym("dp")), (op("mul", S, M), sym("dmass")), (M, ONE)]
    by_s, by_m = gradient(outputs, [S, M])
    at = {n: torch.tensor(x, dtype=torch.float64) for n, x in (("s", 0.5), ("m", 3.0), ("dp", 2.0), ("dmass", 7.0))}
    assert float(value(by_s, **at)) == pytest.approx(2 * math.exp(0.5) + 7 * 3)
    assert float(value(by_m, **at)) == pytest.approx(7 * 0.5 + 1)


def test_integers_and_conditions_carry_nothing() -> None:
    for expr in (op("floordiv", sym("q"), 2), op("gt", S, 0.0), op("to_float", op("to_int", S)), sym("q")):
        assert gradient([(expr, ONE)], [S]) == (const(0.0),)


def test_what_does_not_depend_has_derivative_zero() -> None:
    assert derivative(op("exp", M), "s") == const(0.0)


SMOOTH = frozenset(
    {"shl", "shr", "bit_and", "bit_or", "bit_xor", "bit_not", "uniform", "uniform_at", "dim_softmax", "to_int"}
)


@hypothesis.settings(max_examples=300, derandomize=True, deadline=None)
@hypothesis.given(exprs("float", ("s", "m", "q"), depth=4, without=SMOOTH))
def test_random_expressions(expr: Expr) -> None:
    """Where torch's autograd is finite, the derivative is the same."""
    generator = torch.Generator().manual_seed(0)
    at = {name: 2 * torch.randn(40, generator=generator, dtype=torch.float64) for name in ("s", "m")}
    at["q"] = torch.randint(0, 9, (40,), generator=generator)
    for name in ("s", "m"):
        exact, found = autograd(expr, name, **at), value(derivative(expr, name), **at)
        # Not where an intermediate value overflows, or its derivative is lost in rounding.
        scale = largest(expr, at)
        sure = exact.isfinite() & (scale < 1e6)
        assert found[sure].isfinite().all()
        gap = (found - exact)[sure].abs()
        assert bool((gap <= 1e-6 * (1 + exact[sure].abs()) * (1 + scale[sure])).all())


def largest(expr: Expr, at: dict[str, Tensor]) -> Tensor:
    """The largest magnitude of a value on the way, or of its inverse."""
    found = torch.zeros(40, dtype=torch.float64)
    for node in postorder(expr):
        if node.type == "float":
            size = value(node, **at).abs().broadcast_to(40)
            found = torch.fmax(found, torch.where(size.isfinite(), size, torch.inf))
            found = torch.fmax(found, torch.where((size > 0) & (size < 1e-3), 1 / size, 0.0))
    return found


@hypothesis.settings(max_examples=200, derandomize=True, deadline=None)
@hypothesis.given(exprs("float", ("s", "m"), depth=3, without=SMOOTH))
def test_random_expressions_by_finite_differences(expr: Expr) -> None:
    if "s" not in symbols(expr):
        return
    at = {"s": torch.linspace(-2.9, 3.1, 40, dtype=torch.float64), "m": torch.full((40,), 0.43, dtype=torch.float64)}
    found, exact = value(derivative(expr, "s"), **at), differences(expr, "s", step=1e-5, **at)
    finer = differences(expr, "s", step=3e-6, **at)
    smooth = (exact - finer).abs() <= 1e-5 * (1 + exact.abs())  # not at a kink, and resolved
    sure = smooth & exact.isfinite() & found.isfinite() & (largest(expr, at) < 1e4)
    assert bool(((found - exact)[sure].abs() <= 1e-3 * (1 + exact[sure].abs())).all())
