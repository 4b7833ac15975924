"""Random masks, calls and tensors for property tests of the analysis."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Any

import numpy as np
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st

from attngen.codegen.analysis import Sizes
from attngen.ir.expr import Expr, const, load, op, sym
from attngen.ir.nodes import Grid, Sequence, Space

ORDERS = st.sampled_from(["lt", "le", "gt", "ge", "eq", "ne"])
SMALL = st.integers(-6, 24)
INT_KINDS = (
    *("add", "sub", "sub", "sub", "div", "mod", "mul", "pair", "extreme", "abs", "where", "shift", "bit", "bool"),
    *("unary", "scalar"),
)
FLOAT_BINARY = ("add", "sub", "mul", "truediv", "minimum", "maximum", "floordiv", "mod")
FLOAT_UNARY = (
    *("exp", "sqrt", "log", "tanh", "floor", "ceil", "round", "neg", "abs", "relu", "sign", "rsqrt", "sin", "sigmoid"),
)
DIVISORS = st.sampled_from([1, 2, 3, 4, 5, 8, 16, -1, -3, -4])


def thorough(examples: int) -> settings:
    """Many examples, no time limit for one of them; ATTNGEN_TEST_FACTOR=20 tries twenty times as many."""
    factor = int(os.environ.get("ATTNGEN_TEST_FACTOR", "1"))
    return settings(max_examples=examples * factor, deadline=None, suppress_health_check=list(HealthCheck))


@dataclass(frozen=True)
class Case:
    """A mask with a call to try it on."""

    mask: Expr
    space: Space
    sizes: Sizes
    arrays: dict[str, Any]


def leaves(space: Space, data: bool) -> st.SearchStrategy[Expr]:
    """Ints without operators. `data`: also elements of tensors indexed by query or key."""
    q, kv = sym("q"), sym("kv")
    found = [q, kv, q, kv, q, kv, sym("n_q"), sym("n_k"), sym("h"), sym("b")]
    found += [load("w", (), "int"), load("c", (), "int"), load("per_head", (sym("h"),), "int")]
    found += [load("lengths", (sym("b"),), "int")]
    if isinstance(space, Grid):
        found += [sym(f"{name}[{i}]") for name in ("q", "kv") for i in range(len(space.dims))] * 2
    if data:
        found += [load("ids", (sym("b"), q), "int"), load("ids", (sym("b"), kv), "int"), load("flat", (kv,), "int")]
    return st.one_of(st.sampled_from(found), st.builds(const, SMALL))


@st.composite
def ints(draw: st.DrawFn, space: Space, data: bool, depth: int) -> Expr:
    """An int expression."""
    if depth <= 0 or draw(st.integers(0, 4)) == 0:
        return draw(leaves(space, data))
    inner = ints(space, data, depth - 1)
    match draw(st.sampled_from(INT_KINDS)):
        case "add" | "sub" as name:
            return op(name, draw(inner), draw(inner))
        case "div":
            return op("floordiv", draw(inner), draw(DIVISORS))
        case "mod":
            return op("mod", draw(inner), draw(DIVISORS))
        case "mul":
            return op("mul", draw(inner), draw(st.integers(-4, 5)))
        case "pair":
            return op("mul", draw(inner), draw(inner))
        case "extreme":
            return op(draw(st.sampled_from(["minimum", "maximum"])), draw(inner), draw(inner))
        case "abs":
            return op("abs", op("sub", draw(inner), draw(inner)))
        case "where":
            return op("where", draw(bools(space, data, depth - 2)), draw(inner), draw(inner))
        case "shift":
            return op(draw(st.sampled_from(["shl", "shr"])), draw(inner), draw(st.integers(0, 5)))
        case "bit":
            name = draw(st.sampled_from(["bit_and", "bit_or", "bit_xor"]))
            return op(name, draw(inner), draw(st.sampled_from([0, 1, 3, 7, 15, -4, -8, 5, 6])))
        case "bool":
            return op("to_int", draw(bools(space, data, depth - 2)))
        case "unary":
            return op(draw(st.sampled_from(["neg", "sign", "relu", "bit_not"])), draw(inner))
        case _:
            name = draw(st.sampled_from(["floordiv", "mod", "mul"]))
            return op(name, draw(inner), load("c", (), "int"))


@st.composite
def floats(draw: st.DrawFn, space: Space, data: bool, depth: int) -> Expr:
    """A float expression."""
    if depth <= 0:
        return draw(
            st.one_of(
                st.builds(const, st.sampled_from([0.0, 0.5, 0.1, -3.7, 10.0, 1e9])),
                st.just(load("slopes", (sym("h"),))),
                st.just(load("noise", (sym("kv"),)) if data else load("slope", ())),
            )
        )
    inner = floats(space, data, depth - 1)
    match draw(st.sampled_from(["cast", "cast", "cast", "binary", "binary", "unary", "where"])):
        case "cast":
            return op("to_float", draw(ints(space, data, depth - 1)))
        case "binary":
            return op(draw(st.sampled_from(FLOAT_BINARY)), draw(inner), draw(inner))
        case "unary":
            return op(draw(st.sampled_from(FLOAT_UNARY)), draw(inner))
        case _:
            return op("where", draw(bools(space, data, depth - 2)), draw(inner), draw(inner))


@st.composite
def bools(draw: st.DrawFn, space: Space, data: bool, depth: int) -> Expr:
    """A bool expression."""
    kinds = ["order"] * 6 + ["window", "chunk", "residue", "guard"] * 2
    kinds += ["and", "or", "not", "where", "xor", "same"] * 2 if depth > 0 else []
    kinds += ["float", "truth", "loaded", "constant"]
    inner = bools(space, data, depth - 1)
    number = ints(space, data, min(depth, 2))
    q, kv = sym("q"), sym("kv")
    match draw(st.sampled_from(kinds)):
        case "order":
            return op(draw(ORDERS), draw(number), draw(number))
        case "window":
            return op(draw(ORDERS), op("sub", q, kv), draw(leaves(space, data)))
        case "guard":
            return op(
                draw(ORDERS), q, draw(st.sampled_from([op("sub", sym("n_q"), 5), const(7), load("w", (), "int")]))
            )
        case "chunk":
            by = draw(st.one_of(st.integers(1, 9).map(const), st.just(load("c", (), "int"))))
            return op(draw(ORDERS), op("floordiv", q, by), op("floordiv", kv, by))
        case "residue":
            shape = draw(st.sampled_from([op("sub", q, kv), kv, op("floordiv", kv, 4), op("mul", kv, 4)]))
            return op("eq", op("mod", shape, draw(st.integers(1, 6))), draw(st.integers(0, 3)))
        case "and" | "or" | "xor" as name:
            return op(name, draw(inner), draw(inner))
        case "not":
            return op("not", draw(inner))
        case "where":
            return op("where", draw(inner), draw(inner), draw(inner))
        case "same":
            return op(draw(st.sampled_from(["eq", "ne"])), draw(inner), draw(inner))
        case "float":
            return op(draw(ORDERS), draw(floats(space, data, 2)), draw(st.one_of(floats(space, data, 1), number)))
        case "truth":
            return op("to_bool", draw(number))
        case "loaded":
            return load("valid", (sym("b"), kv), "bool") if data else load("global", (sym("h"),), "bool")
        case _:
            return const(draw(st.booleans()))


@st.composite
def split_by_query(draw: st.DrawFn) -> Expr:
    """Different key intervals on the two sides of a bound on the query, written in one of the usual ways."""
    q, kv = sym("q"), sym("kv")
    bound = draw(
        st.sampled_from([const(9), op("sub", sym("n_q"), 11), op("floordiv", sym("n_k"), 2), load("w", (), "int")])
    )
    side = op(
        draw(st.sampled_from(["lt", "le", "gt", "ge"])), op("mul", q, draw(st.sampled_from([1, 1, 2, -1]))), bound
    )
    parts = []
    for _ in range(2):
        age = op(draw(st.sampled_from(["lt", "ge"])), op("sub", q, kv), draw(SMALL))
        other = draw(st.sampled_from([op("le", kv, q), op("lt", kv, 5), op("ge", kv, 17), const(True)]))
        parts.append(op(draw(st.sampled_from(["and", "or"])), age, other))
    a, b = parts
    match draw(st.integers(0, 3)):
        case 0:
            return op("where", side, a, b)
        case 1:
            return op("or", a, op("and", side, b))
        case 2:
            return op("and", op("or", side, a), b)
        case _:
            return op("or", op("or", a, side), b)


@st.composite
def cases(draw: st.DrawFn, data: bool = True, grids: bool = True, depth: int = 3) -> Case:
    """A random mask with sizes, run-time scalars and tensors."""
    space: Space = Sequence()
    if grids and draw(st.integers(0, 3)) == 0:
        space = Grid(tuple(draw(st.lists(st.integers(1, 5), min_size=1, max_size=3))))
    n_q, n_k = draw(st.integers(1, 40)), draw(st.integers(1, 40))
    if isinstance(space, Grid):
        n_q = n_k = int(np.prod(space.dims))
    elif draw(st.booleans()):
        n_k = n_q
    sizes = Sizes(n_q, n_k, draw(st.integers(1, 2)), draw(st.integers(1, 2)))
    rng = np.random.default_rng(draw(st.integers(0, 2**16)))
    table = rng.integers(0, 4, (sizes.n_b, max(n_q, n_k)))
    if draw(st.booleans()):
        table = np.sort(table, 1)
    arrays = {
        "w": draw(SMALL),
        "c": draw(st.sampled_from([1, 2, 3, 5, 8, 8, 4, -1, -3])),
        "per_head": rng.integers(-6, 25, sizes.n_h).astype(np.int32),
        "lengths": rng.integers(0, n_k + 3, sizes.n_b),
        "ids": table,
        "flat": table[0] * 7,
        "valid": table % 2 == 0,
        "global": np.arange(sizes.n_h) % 2 == draw(st.integers(0, 1)),
        "slopes": np.array([0.3, -1.7][: sizes.n_h], np.float32),
        "slope": np.float32(0.37),
        "noise": np.where(table[0] == 3, np.nan, table[0] * 0.6).astype(np.float32),
    }
    mask = split_by_query() if draw(st.integers(0, 3)) == 0 else bools(space, data, draw(st.integers(0, depth)))
    return Case(draw(mask), space, sizes, arrays)
