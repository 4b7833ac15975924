"""The evaluator: Python's semantics where Python defines them, exact random numbers, linear sharing, bounds."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from attngen.errors import BoundsError, Source, SpecError
from attngen.ir.evaluate import Environment, evaluate
from attngen.ir.expr import Expr, const, load, op, sym
from attngen.ir.philox import philox
from tests.ir.test_text import doubling
from tests.strategies import PATIENT

NOTHING = Environment({})
ALL_ONES = 0xFFFFFFFF
SMALL = st.integers(-9, 9)


def value(expr: Expr) -> bool | int | float:
    return evaluate(expr, NOTHING).item()


@given(SMALL, SMALL.filter(bool))
@settings(PATIENT, max_examples=100)
def test_integer_division_follows_python(a: int, b: int) -> None:
    assert value(op("floordiv", a, b)) == a // b
    assert value(op("mod", a, b)) == a % b
    assert value(op("truediv", a, b)) == a / b


@given(st.floats(-50, 50), st.floats(-50, 50).filter(lambda x: abs(x) > 1e-6))
@settings(PATIENT, max_examples=100)
def test_float_division_follows_python(a: float, b: float) -> None:
    assert value(op("floordiv", a, b)) == a // b
    assert value(op("mod", a, b)) == pytest.approx(a % b, abs=1e-12)


@given(SMALL, SMALL, st.integers(0, 5))
@settings(PATIENT, max_examples=100)
def test_integer_operators_follow_python(a: int, b: int, n: int) -> None:
    for name, expected in [
        ("bit_and", a & b),
        ("bit_or", a | b),
        ("bit_xor", a ^ b),
        ("maximum", max(a, b)),
        ("sub", a - b),
        ("lt", a < b),
        ("eq", a == b),
    ]:
        assert value(op(name, a, b)) == expected
    assert value(op("shl", a, n)) == a << n
    assert value(op("shr", a, n)) == a >> n
    assert value(op("pow", a, n)) == a**n
    assert value(op("bit_not", a)) == ~a


def test_types_of_results() -> None:
    assert evaluate(op("add", const(True), const(True)), NOTHING).item() == 2
    assert evaluate(op("add", 1, 2), NOTHING).dtype == torch.int64
    assert evaluate(op("mul", 1, 2.0), NOTHING).dtype == torch.float64
    assert evaluate(op("where", const(True), 1, 2.5), NOTHING).dtype == torch.float64
    assert evaluate(op("not", const(True)), NOTHING).dtype == torch.bool


@pytest.mark.parametrize(
    ("expr", "expected"),
    [
        (op("round", 2.5), 2.0),
        (op("round", -1.5), -2.0),
        (op("to_int", -2.7), -2),
        (op("safe_div", 3.0, 0.0), 0.0),
        (op("safe_div", 3.0, 2.0), 1.5),
        (op("floordiv", 5, 0), 0),
        (op("mod", 5, 0), 0),
        (op("sign", -3), -1),
        (op("relu", -3.0), 0.0),
        (op("to_bool", 0.5), True),
        (op("softplus", 40.0), 40.0 + math.exp(-40)),
        (op("softplus", -40.0), math.log1p(math.exp(-40))),
        (op("maximum", 1.0, const(float("inf"))), math.inf),
        (op("floor", -1.5), -2.0),
        (op("xor", const(True), const(False)), True),
    ],
)
def test_values(expr: Expr, expected: bool | int | float) -> None:
    assert value(expr) == expected


@pytest.mark.parametrize("name", ["maximum", "minimum", "add", "where", "relu", "abs"])
def test_nan_passes_through(name: str) -> None:
    nan = const(float("nan"))
    args = {"where": (const(True), nan, const(1.0)), "relu": (nan,), "abs": (nan,)}.get(name, (nan, const(1.0)))
    assert math.isnan(value(op(name, *args)))


def test_softplus_has_an_exact_gradient() -> None:
    s = torch.tensor([-30.0, 0.0, 25.0], dtype=torch.float64, requires_grad=True)
    evaluate(op("softplus", sym("s")), Environment({"s": s})).sum().backward()
    torch.testing.assert_close(s.grad, torch.sigmoid(s.detach()), rtol=1e-14, atol=0)


def test_known_answers_of_philox() -> None:
    def run(counter: list[int], key: list[int]) -> list[str]:
        words = philox(tuple(map(torch.tensor, counter)), tuple(map(torch.tensor, key)))  # type: ignore[arg-type]
        return [f"{int(w):08x}" for w in words]

    assert run([0] * 4, [0] * 2) == ["6627e8d5", "e169c58d", "bc57ac4c", "9b00dbd8"]
    assert run([ALL_ONES] * 4, [ALL_ONES] * 2) == ["408f276d", "41c83b0e", "a20bc7c6", "6d5451fd"]
    pi = [0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344]
    assert run(pi, [0xA4093822, 0x299F31D0]) == ["d16cfe09", "94fdcceb", "5001e420", "24126ea1"]


def test_uniform_depends_on_the_indices_alone() -> None:
    def at(b: int, h: int, q: torch.Tensor, kv: torch.Tensor) -> torch.Tensor:
        symbols = {"b": torch.tensor(b), "h": torch.tensor(h), "q": q, "kv": kv}
        return evaluate(op("uniform", 2**40 + 7), Environment(symbols))

    q, kv = torch.arange(64)[:, None], torch.arange(96)
    whole = at(1, 2, q, kv)
    assert whole.shape == (64, 96)
    assert torch.equal(at(1, 2, q[8:24], kv[5:]), whole[8:24, 5:])
    assert not torch.equal(at(0, 2, q, kv), whole)
    assert float(whole.min()) >= 0
    assert float(whole.max()) < 1
    assert abs(float(whole.mean()) - 0.5) < 0.02
    zero = evaluate(op("uniform", 0), Environment({name: torch.tensor(0) for name in ("b", "h", "q", "kv")}))
    assert zero.item() == (0x6627E8D5 >> 8) / 2**24


def test_loads_broadcast() -> None:
    bias = torch.arange(12.0).reshape(3, 4)
    env = Environment({"q": torch.arange(3)[:, None], "kv": torch.arange(4)}, {"bias": bias})
    assert torch.equal(evaluate(load("bias", (sym("q"), sym("kv"))), env), bias.double())
    assert torch.equal(evaluate(load("bias", (sym("q"), const(1))), env), bias[:, 1:2].double())


def test_a_stray_index_is_an_error_where_it_counts() -> None:
    source = Source("mine.py", 4, 1, 2, "table[q - kv]")
    index = op("sub", sym("q"), sym("kv"), source=source)
    expr = load("table", (index,))
    q, kv = torch.arange(4)[:, None], torch.arange(4)
    inputs = {"table": torch.arange(4.0)}
    with pytest.raises(BoundsError) as error:
        evaluate(expr, Environment({"q": q, "kv": kv}, inputs))
    assert error.value.message == (
        "index 0 of 'table', `q - kv`, takes values -3 to 3; that dimension has 4 entries, 0 to 3"
    )
    assert error.value.source == source
    evaluate(expr, Environment({"q": q, "kv": kv}, inputs, guard=q >= kv))
    evaluate(op("where", op("ge", sym("q"), sym("kv")), expr, 0.0), Environment({"q": q, "kv": kv}, inputs))
    evaluate(op("and", op("ge", sym("q"), sym("kv")), op("gt", expr, 1.0)), Environment({"q": q, "kv": kv}, inputs))
    with pytest.raises(BoundsError):
        evaluate(op("where", op("le", sym("q"), sym("kv")), expr, 0.0), Environment({"q": q, "kv": kv}, inputs))


def test_the_guard_keeps_nan_out_of_gradients() -> None:
    s = torch.tensor([2.0, 0.0], dtype=torch.float64, requires_grad=True)
    guard = torch.tensor([True, False])
    out = evaluate(op("log", op("sqrt", sym("s"))), Environment({"s": s}, guard=guard))
    torch.where(guard, out, 0.0).sum().backward()
    assert s.grad is not None
    assert s.grad.tolist() == [pytest.approx(0.25), 0.0]


def test_shared_graphs_are_evaluated_once() -> None:
    out = evaluate(doubling(60), Environment({"score": torch.tensor(1.0)}))
    assert out.item() == 2.0**60


def test_missing_names() -> None:
    with pytest.raises(SpecError, match="symbol 's' has no value here"):
        evaluate(sym("s"), NOTHING)
    with pytest.raises(SpecError, match="input 'bias' has no value here"):
        evaluate(load("bias"), NOTHING)
