"""Several traced functions over one set of inputs."""

from __future__ import annotations

import torch

from attngen.frontend import MASK, SCORE, Bindings, Traced, combine, rename, trace
from attngen.ir.expr import const, load, op, sym
from attngen.ir.nodes import Input
from attngen.ir.text_expr import expr_text

SLOPES = torch.rand(4)
WINDOW = 3


def window(size: int) -> Traced:
    return trace(lambda q, kv: q - kv < size, MASK)


def test_same_path_is_one_input() -> None:
    one = trace(lambda q, kv: q - kv < WINDOW, MASK)
    two = trace(lambda score, h, q: score + SLOPES[h] * (q - WINDOW), SCORE)
    (mask, score), inputs, bindings = combine(one, two)
    assert [i.name for i in inputs] == ["WINDOW", "SLOPES"]
    assert list(bindings) == ["WINDOW", "SLOPES"]
    assert (expr_text(mask), expr_text(score)) == ("q - kv < WINDOW", "score + SLOPES[h] * (q - WINDOW)")


def test_same_name_of_different_values_is_told_apart() -> None:
    exprs, inputs, bindings = combine(window(2), window(5), window(7))
    assert [expr_text(expr) for expr in exprs] == ["q - kv < size", "q - kv < size_2", "q - kv < size_3"]
    assert [i.name for i in inputs] == ["size", "size_2", "size_3"]
    assert {name: b.fetch() for name, b in bindings.items()} == {"size": 2, "size_2": 5, "size_3": 7}


def test_same_function_twice_is_the_same() -> None:
    mask = window(2)
    (one, two), inputs, _ = combine(mask, mask)
    assert one == two
    assert len(inputs) == 1


def test_combining_again_keeps_what_is_shared() -> None:
    one, two = window(2), window(5)
    (a, b), inputs, bindings = combine(one, two)
    both = Traced(op("and", a, b), inputs, bindings)
    (first, second), inputs, bindings = combine(two, both)
    assert expr_text(first) == "q - kv < size"
    assert expr_text(second) == "(q - kv < size_2) and (q - kv < size)"
    assert {name: b.fetch() for name, b in bindings.items()} == {"size": 5, "size_2": 2}


def test_inputs_without_bindings_are_shared_by_name() -> None:
    free = Traced(load("gate", (sym("h"),)), (Input("gate", ("h",)),))
    captured = 3
    bound = trace(lambda q, kv, gate=captured: q - kv < gate, MASK)
    (one, two, three), inputs, bindings = combine(free, bound, free)
    assert [i.name for i in inputs] == ["gate", "gate_2"]
    assert list(bindings) == ["gate_2"]
    assert one == three
    assert expr_text(two) == "q - kv < gate_2"


def test_guards_are_kept_once() -> None:
    mode = "causal"
    mask = trace(lambda q, kv: q >= kv if mode == "causal" else True, MASK)
    _, _, bindings = combine(mask, mask)
    assert isinstance(bindings, Bindings)
    assert [guard.path for guard in bindings.guards] == ["mode"]
    mode = "full"
    assert bindings.stale() is not None


def test_rename_swaps() -> None:
    expr = op("sub", load("a", ()), load("b", (const(0),)))
    assert rename(expr, {"a": "b", "b": "a"}) == op("sub", load("b", ()), load("a", (const(0),)))
