"""The text form: what it looks like, that it depends on structure alone, and the content hash."""

from __future__ import annotations

import pytest
from hypothesis import given, settings

from attngen.ir.expr import Expr, const, load, op, sym
from attngen.ir.nodes import Branch, Input, Spec, View
from attngen.ir.normalizer import Streaming
from attngen.ir.text import fingerprint, text
from attngen.ir.text_expr import expr_text
from tests.strategies import PATIENT, exprs, specs

S, M, Q, KV = sym("s"), sym("m"), sym("q"), sym("kv")
EXP = op("exp", op("sub", S, M))
SOFTMAX = Streaming(
    "softmax", EXP, op("safe_div", sym("acc"), sym("mass")), EXP, S, lse=op("add", M, op("log", sym("mass")))
)

CASES = [
    (op("add", op("add", Q, KV), sym("h")), "q + kv + h"),
    (op("add", Q, op("add", KV, sym("h"))), "q + (kv + h)"),
    (op("mul", op("add", Q, 1), KV), "(q + 1) * kv"),
    (op("and", op("ge", Q, KV), op("lt", op("sub", Q, KV), 256)), "(q >= kv) and (q - kv < 256)"),
    (op("or", op("and", const(True), const(False)), op("not", op("eq", Q, KV))), "(true and false) or (not (q == kv))"),
    (op("pow", op("pow", S, 2), 3), "(s ** 2) ** 3"),
    (op("pow", S, op("pow", 2, const(-3))), "s ** 2 ** -3"),
    (op("neg", const(1)), "-(1)"),
    (const(-1), "-1"),
    (op("pow", const(-1.0), 2), "(-1.0) ** 2"),
    (op("neg", op("pow", 2, S)), "-(2 ** s)"),
    (op("neg", op("pow", S, 2)), "-s ** 2"),
    (op("sub", S, op("neg", M)), "s - -m"),
    (op("lt", op("lt", Q, KV), True), "(q < kv) < true"),
    (op("where", op("gt", S, 0.0), S, const(float("-inf"))), "where(s > 0.0, s, -inf)"),
    (load("bias", (sym("h"), op("sub", Q, KV))), "bias[h, q - kv]"),
    (load("self.bias", ()), '"self.bias"'),
    (load("q", (Q,)), '"q"[q]'),
    (sym("q[0]"), "q[0]"),
    (op("mul", const(1e-05), const(0.1)), "1e-05 * 0.1"),
]


@pytest.mark.parametrize(("expr", "expected"), CASES, ids=[case[1] for case in CASES])
def test_expressions_read_as_python(expr: Expr, expected: str) -> None:
    assert expr_text(expr) == expected


def test_a_whole_spec() -> None:
    slopes = op("mul", load("slopes", (sym("h"),)), op("to_float", op("sub", Q, KV)))
    branch = Branch(
        SOFTMAX,
        v=View("v", stop=op("floordiv", sym("d"), 2)),
        mask=op("ge", Q, KV),
        score=op("sub", sym("score"), slopes),
    )
    spec = Spec((branch,), inputs=(Input("slopes", ("h",), grad=True),), name="alibi")
    assert (
        text(spec)
        == """\
spec alibi over sequence {
  input slopes[h]: float grad
  branch {
    q: q
    k: k
    scale: rsqrt(to_float(d))
    v: v(stop: d // 2)
    mask: q >= kv
    score: score - slopes[h] * to_float(q - kv)
    normalizer: streaming softmax {
      phi: exp(s - m)
      psi: exp(s - m)
      anchor: s
      finalize: safe_div(acc, mass)
      lse: m + log(mass)
    }
  }
  combine: affine(1.0)
}
"""
    )


def doubling(depth: int) -> Expr:
    node: Expr = sym("score")
    for _ in range(depth):
        node = op("add", node, node)
    return node


def test_a_shared_graph_prints_in_linear_space() -> None:
    short, long = expr_text(doubling(30)), expr_text(doubling(60))
    assert len(long) < 3 * len(short) < 6000
    assert long.startswith("let t0 = score + score")


def test_sharing_does_not_change_the_text() -> None:
    def cube(a: Expr, b: Expr) -> Expr:
        return op("mul", a, b)

    def big() -> Expr:
        return op("tanh", op("add", op("mul", sym("score"), 2.0), op("exp", op("sub", sym("score"), 1.0))))

    once = big()
    assert expr_text(cube(once, once)) == expr_text(cube(big(), big()))


def test_a_binding_avoids_the_names_of_inputs() -> None:
    big = op("tanh", op("add", op("mul", load("t0"), 2.0), op("exp", op("sub", sym("score"), 1.0))))
    assert expr_text(op("mul", big, big)).startswith("let t1 = ")


def test_the_fingerprint_leaves_out_the_name() -> None:
    spec = Spec((Branch(SOFTMAX),), name="a")
    other = Spec((Branch(SOFTMAX),), name="b")
    assert fingerprint(spec) == fingerprint(other)
    assert len(fingerprint(spec)) == 64
    assert text(spec) != text(other)
    assert fingerprint(spec) != fingerprint(Spec((Branch(SOFTMAX, mask=op("ge", Q, KV)),)))


@given(specs(), specs())
@settings(PATIENT, max_examples=20)
def test_the_fingerprint_tells_specs_apart(one: Spec, other: Spec) -> None:
    assert (fingerprint(one) == fingerprint(other)) == (one == other)


@given(exprs("float", ["q", "kv", "score"]), exprs("float", ["q", "kv", "score"]))
@settings(PATIENT, max_examples=20)
def test_the_text_tells_expressions_apart(one: Expr, other: Expr) -> None:
    assert (expr_text(one) == expr_text(other)) == (one == other)
