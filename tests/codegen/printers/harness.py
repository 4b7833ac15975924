"""Prints many expressions into one library, runs it over lanes, and says where the true value is well defined."""

from __future__ import annotations

import ctypes
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from torch import Tensor

from attngen.codegen.backends.cpu import compiler
from attngen.codegen.printers.cpp import Printer, Value
from attngen.ir.evaluate import Environment, evaluate
from attngen.ir.expr import Expr, Op, const, postorder
from attngen.ir.text_expr import expr_text
from attngen.templates import bundle

VALUES = {
    "q": Value("q", "int"),
    "h": Value("h", "int"),
    "m": Value("m", "float"),
    "kv": Value("kv", "int", True),
    "score": Value("score", "float", True),
}
HEAD = """
#include "types.h"
#include "forward.h"
#include "glue.h"
#include "random.h"
namespace attngen {
namespace {
"""
FUNCTION = """
static %(ctype)s f%(i)d(int64_t q, int64_t h, real m, vi kv, vf score) {
%(body)s
}
static void run%(i)d(
    long count, const int64_t* q, const int64_t* h, const double* m, const int64_t* kv, const double* score,
    double* out) {
  for (long at = 0; at < count; at += W) {
    vi keys;
    vf scores;
    for (int i = 0; i < W; i++) keys[i] = (integer)kv[at + i], scores[i] = (real)score[at + i];
    %(ctype)s y = f%(i)d(q[at], h[at], (real)m[at], keys, scores);
    for (int i = 0; i < W; i++) out[at + i] = %(result)s;
  }
}
"""
MOST_LANES = 16


def build(exprs: Sequence[Expr], isa: str, directory: Path, *, double: bool) -> ctypes.CDLL:
    """One function for each expression, in one library."""
    parts = ["#define ATTNGEN_DOUBLE 1" if double else "", HEAD]
    for i, expr in enumerate(exprs):
        body = Printer(VALUES, load=lambda node, at: Value("", "float")).body(expr, expr.type, vector=True)
        ctype = {"bool": "vb", "int": "vi", "float": "vf"}[expr.type]
        result = "y[i] ? 1 : 0" if expr.type == "bool" else "(double)y[i]"
        parts.append(FUNCTION % {"i": i, "ctype": ctype, "body": body, "result": result})
    arguments = (
        "long count, const int64_t* q, const int64_t* h, const double* m, const int64_t* kv, const double* score"
    )
    names = "".join(f"    case {i}: return run{i}(count, q, h, m, kv, score, out);\n" for i in range(len(exprs)))
    parts.append(
        f'}}\n}}\nextern "C" __attribute__((visibility("default"))) void run(int which, {arguments}, double* out) {{\n'
    )
    parts.append(f"  using namespace attngen;\n  switch (which) {{\n{names}  }}\n}}\n")
    return ctypes.CDLL(str(compiler.compile_shared(bundle("cpp", "\n".join(parts)), isa, directory)))


def run(library: ctypes.CDLL, which: int, values: Mapping[str, Tensor]) -> Tensor:
    """The printed function at every point; q, h and m are the same for `MOST_LANES` neighbours."""
    order = ("q", "h", "m", "kv", "score")
    arrays = [values[n].to(torch.float64 if n in ("m", "score") else torch.int64).contiguous() for n in order]
    out = torch.empty(len(arrays[0]), dtype=torch.float64)
    library.run(which, ctypes.c_long(len(out)), *(ctypes.c_void_p(t.data_ptr()) for t in (*arrays, out)))
    return out


def points(rows: int, seed: int = 0) -> dict[str, Tensor]:
    """Rows of lanes, with numbers that float32 holds."""
    generator = torch.Generator().manual_seed(seed)

    def whole(low: int, high: int, count: int) -> Tensor:
        return torch.randint(low, high, (count,), generator=generator)

    def real(count: int) -> Tensor:
        return (torch.randn(count, generator=generator) * 3).double()

    lanes = rows * MOST_LANES
    found = {"q": whole(0, 300, rows), "h": whole(0, 9, rows), "m": real(rows)}
    found = {name: t.repeat_interleave(MOST_LANES) for name, t in found.items()}
    return found | {"kv": whole(0, 300, lanes), "score": real(lanes)}


def truth(expr: Expr, values: Mapping[str, Tensor]) -> Tensor:
    """The value by the evaluator, as float64."""
    size = len(values["q"])
    return evaluate(expr, Environment(dict(values))).to(torch.float64).expand(size)


def defined(expr: Expr, values: Mapping[str, Tensor], *, bits: int) -> Tensor:
    """Where the operators have one meaning in every language: no overflow of integers, no odd shifts and powers."""
    fine = torch.ones(len(values["q"]), dtype=torch.bool)
    limit = 2.0 ** (bits - 1) if bits < 64 else 2.0**62
    for node in postorder(expr):
        if node.type == "int":
            approximate = _as_float(node, values)
            fine &= (truth(node, values).abs() < limit) & (approximate.abs() < limit)
        if not isinstance(node, Op):
            continue
        if node.name in ("shl", "shr"):
            by = truth(node.args[1], values)
            fine &= (by >= 0) & (by < 31) & (truth(node.args[0], values) >= 0)
        if node.name == "pow":
            base, power = (truth(a, values) for a in node.args)
            fine &= (power >= 0) & (power < 20) & (base > 0 if node.type == "float" else power == power)
        if node.name == "to_int":
            inner = truth(node.args[0], values)
            fine &= inner.isfinite() & (inner.abs() < limit)
    return fine


def _as_float(node: Expr, values: Mapping[str, Tensor]) -> Tensor:
    """The node in float64 arithmetic, to notice integers that wrapped around."""
    if not isinstance(node, Op) or node.name not in ("add", "sub", "mul", "pow", "shl", "neg"):
        return torch.zeros(len(values["q"]), dtype=torch.float64)
    args = [truth(a, values) for a in node.args]
    match node.name:
        case "add":
            return args[0] + args[1]
        case "sub":
            return args[0] - args[1]
        case "mul":
            return args[0] * args[1]
        case "pow":
            return args[0] ** args[1].clamp(0, 40)
        case "shl":
            return args[0] * 2 ** args[1].clamp(0, 70)
        case _:
            return args[0]


def largest(expr: Expr, values: Mapping[str, Tensor]) -> Tensor:
    """The largest magnitude on the way: what rounding errors are relative to."""
    found = torch.zeros(len(values["q"]), dtype=torch.float64)
    for node in postorder(expr):
        if node.type == "float":
            found = torch.fmax(found, truth(node, values).abs())
    return found


def nudged(values: Mapping[str, Tensor], by: float) -> dict[str, Tensor]:
    """The points with every float a little larger, to find where a value jumps."""
    return {n: t * (1 + by) if t.is_floating_point() else t for n, t in values.items()}


__all__ = ["build", "const", "defined", "largest", "nudged", "points", "run", "truth"]


def on_an_edge(expr: Expr, values: dict[str, torch.Tensor]) -> torch.Tensor:
    """Where rounding decides: a comparison or a rounding of numbers that are nearly equal or nearly whole."""
    found = torch.zeros(len(values["q"]), dtype=torch.bool)
    for node in postorder(expr):
        if not isinstance(node, Op):
            continue
        args = [truth(a, values) for a in node.args if a.type == "float"]
        if node.name in ("floor", "ceil", "round", "to_int") and args:
            found |= ((args[0] * 2).round() - args[0] * 2).abs() < 1e-4 * (1 + args[0].abs())
        if node.name in ("floordiv", "mod") and node.type == "float":
            a, b = (truth(arg, values) for arg in node.args)
            found |= ((a / b).round() - a / b).abs() < 1e-4 * (1 + (a / b).abs())
            found |= b.abs() < 1e-4
        if node.name in ("truediv", "safe_div", "sign", "to_bool", "log", "log2", "rsqrt"):
            found |= truth(node.args[-1], values).abs() < 1e-4
        if node.name in ("lt", "le", "gt", "ge", "eq", "ne") and args:
            a, b = (truth(arg, values) for arg in node.args)
            found |= (a - b).abs() < 1e-4 * (1 + a.abs())
        if node.name in ("sqrt", "log1p", "pow", "tan"):
            found |= truth(node.args[0], values).abs() < 1e-4
            found |= (truth(node.args[0], values) + 1).abs() < 1e-4
    return found


def difference(
    expr: Expr, values: dict[str, torch.Tensor], bad: torch.Tensor, found: torch.Tensor, expected: torch.Tensor
) -> str:
    at = int(bad.nonzero()[0])
    given = ", ".join(f"{name}={t[at].item()}" for name, t in values.items())
    return f"{expr_text(expr)} at {given}: printed {found[at].item()}, evaluated {expected[at].item()}"
