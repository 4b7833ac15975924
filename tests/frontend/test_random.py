"""Properties: functions built from random expressions trace back to them; control flow means what Python means."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from attngen.frontend import MASK, SCORE, trace
from attngen.ir.expr import Expr, const, load, op, sym
from attngen.ir.ops import Type

Pair = tuple[str, Expr]
"""Python source, and the expression that it must become."""

NAMESPACE = {
    "torch": torch,
    "table": torch.rand(4, 4),
    "ids": torch.arange(4),
    "flags": torch.ones(4, dtype=torch.bool),
    "gain": 0.5,
    "shift": 3,
    "switch": True,
}
INFIX = {"add": "+", "sub": "-", "mul": "*", "floordiv": "//", "mod": "%", "truediv": "/", "pow": "**"}
COMPARE = {"lt": "<", "le": "<=", "gt": ">", "ge": ">=", "eq": "==", "ne": "!="}
UNARY = ("exp", "tanh", "sigmoid", "sqrt", "log1p", "sin", "floor", "rsqrt", "exp2")


def leaves(type: Type) -> st.SearchStrategy[Pair]:
    match type:
        case "int":
            fixed: list[Pair] = [(name, sym(name)) for name in ("b", "h", "q", "kv", "n_q")]
            fixed += [("shift", load("shift", (), "int")), ("ids[h]", load("ids", (sym("h"),), "int"))]
        case "float":
            fixed = [
                ("score", sym("score")),
                ("gain", load("gain")),
                ("table[h][q]", load("table", (sym("h"), sym("q")))),
            ]
        case "bool":
            fixed = [("switch", load("switch", (), "bool")), ("flags[kv]", load("flags", (sym("kv"),), "bool"))]
    return st.sampled_from(fixed)


def literals(type: Type) -> st.SearchStrategy[Pair]:
    values = st.integers(1, 9) if type == "int" else st.floats(0.25, 8, width=16)
    return values.map(lambda value: (repr(value), const(value)))


def tree(type: Type, depth: int) -> st.SearchStrategy[Pair]:
    if depth == 0:
        return leaves(type)
    return st.one_of(leaves(type), _deeper(type, depth - 1))


@st.composite
def _deeper(draw: st.DrawFn, type: Type, depth: int) -> Pair:
    def one(kind: Type) -> Pair:
        return draw(tree(kind, depth))

    def other(kind: Type) -> Pair:
        return draw(st.one_of(tree(kind, depth), literals(kind)))

    if type == "bool":
        form = draw(st.sampled_from(["compare", "and", "or", "not", "where", "cast"]))
        if form == "compare":
            name = draw(st.sampled_from(sorted(COMPARE)))
            kind: Type = draw(st.sampled_from(["int", "float"]))
            (a, x), (b, y) = one(kind), other(kind)
            return f"({a} {COMPARE[name]} {b})", op(name, x, y)
        if form == "not":
            a, x = one("bool")
            return f"~{a}", op("not", x)
        if form == "cast":
            a, x = one("int")
            return f"{a}.bool()", op("to_bool", x)
        (a, x), (b, y) = one("bool"), one("bool")
        if form == "where":
            c, z = one("bool")
            return f"torch.where({c}, {a}, {b})", op("where", z, x, y)
        return f"({a} {'&' if form == 'and' else '|'} {b})", op(form, x, y)
    form = draw(st.sampled_from(["infix", "infix", "where", "neg", "abs", "minmax", "cast", "function", "load"]))
    if form == "infix":
        names = sorted(INFIX) if type == "float" else ["add", "sub", "mul", "floordiv", "mod"]
        name = draw(st.sampled_from(names))
        (a, x), (b, y) = one(type), other(type)
        return f"({a} {INFIX[name]} {b})", op(name, x, y)
    if form == "where":
        (c, z), (a, x), (b, y) = one("bool"), one(type), other(type)
        return f"torch.where({c}, {a}, {b})", op("where", z, x, y)
    if form == "minmax":
        name = draw(st.sampled_from(["minimum", "maximum"]))
        (a, x), (b, y) = one(type), other(type)
        spelled = draw(st.sampled_from([f"torch.{name}", name[:3]]))
        return f"{spelled}({a}, {b})", op(name, x, y)
    if form == "load" and type == "float":
        a, x = one("int")
        return f"table[h, {a}]", load("table", (sym("h"), x))
    if form == "function" and type == "float":
        name = draw(st.sampled_from(UNARY))
        a, x = one("float")
        return draw(st.sampled_from([f"torch.{name}({a})", f"({a}).{name}()"])), op(name, x)
    if form == "cast":
        a, x = one("int" if type == "float" else "float")
        return f"({a}).{'float' if type == 'float' else 'long'}()", op(f"to_{type}", x)
    a, x = one(type)
    return (f"abs({a})", op("abs", x)) if form == "abs" else (f"(-{a})", op("neg", x))


def compiled(source: str, parameters: str) -> Callable[..., Any]:
    namespace = dict(NAMESPACE)
    exec(f"def function({parameters}):\n    return {source}\n", namespace)
    function: Callable[..., Any] = namespace["function"]  # type: ignore[assignment]
    return function


@settings(max_examples=150, deadline=None)
@given(tree("float", 4))
def test_scores_trace_back(pair: Pair) -> None:
    source, expr = pair
    assert trace(compiled(source, "score, b, h, q, kv, n_q"), SCORE).expr == expr


@settings(max_examples=100, deadline=None)
@given(tree("bool", 3).filter(lambda pair: "score" not in pair[0]))
def test_masks_trace_back(pair: Pair) -> None:
    source, expr = pair
    assert trace(compiled(source, "b, h, q, kv, n_q"), MASK).expr == expr


atoms = st.sampled_from(
    ["q < kv", "q == 2", "kv % 2 == 0", "h == q", "0 <= q - kv < 2", "kv in (0, 3)", "True", "False"]
)
conditions = st.recursive(
    atoms,
    lambda inner: st.one_of(
        st.tuples(inner, st.sampled_from(["and", "or"]), inner).map(lambda t: f"({t[0]} {t[1]} {t[2]})"),
        inner.map(lambda c: f"(not {c})"),
        st.tuples(inner, inner, inner).map(lambda t: f"({t[0]} if {t[1]} else {t[2]})"),
    ),
    max_leaves=4,
)


@settings(max_examples=80, deadline=None)
@given(conditions)
def test_control_flow_means_what_python_means(evaluate: Callable[..., Any], source: str) -> None:
    function = compiled(source, "h, q, kv")
    expr = trace(function, MASK).expr
    for h, q, kv in itertools.product(range(2), range(4), range(4)):
        assert evaluate(expr, {"h": h, "q": q, "kv": kv}, {}) is function(h, q, kv), source
