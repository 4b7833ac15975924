"""What a traced function returned, as an expression of the type that its role asks for."""

from __future__ import annotations

from types import CodeType
from typing import Any

from attngen.errors import Source, TraceError
from attngen.frontend import positions
from attngen.frontend.bindings import kind
from attngen.frontend.roles import Role
from attngen.frontend.scalar import Proxy
from attngen.frontend.static import plain
from attngen.frontend.tensor import TensorProxy
from attngen.ir.expr import Const, Expr, const, op
from attngen.ir.ops import Type

SHOULD: dict[str, str] = {
    "bool": "must return a bool (whether the query sees the key)",
    "int": "must return an int",
    "float": "must return a number",
}


def outcome(result: Any, role: Role, wanted: Type, code: CodeType) -> Expr:
    """The result as an expression; raises `TraceError` for None, containers, whole tensors and wrong types."""
    result = plain(result)
    if isinstance(result, Proxy):
        return typed(result.expr, role, wanted, code)
    if hasattr(result, "dtype") and hasattr(result, "item") and getattr(result, "ndim", 1) == 0:
        result = result.item()
    if isinstance(result, bool | int | float):
        return typed(const(result, positions.returns(code)), role, wanted, code)
    should = SHOULD[wanted]
    where = positions.returns(code)
    if result is None:
        raise TraceError(f"this {role.label} returns None and {should}; is a `return` missing?", source=where)
    if isinstance(result, TensorProxy):
        raise TraceError(
            f"this {role.label} returns `{result.text}`, a tensor with {result.ndim} dimensions, and {should}; "
            f"index it: {result.text}[{', '.join(['h', 'q', 'kv'][: result.ndim])}]",
            source=where,
        )
    if hasattr(result, "close") and hasattr(result, "__await__" if hasattr(result, "__await__") else "send"):
        result.close()
        raise TraceError(f"this {role.label} is a generator or a coroutine and {should}", source=where)
    if isinstance(result, tuple | list):
        raise TraceError(f"this {role.label} returns a {type(result).__name__} and {should}", source=where)
    raise TraceError(f"this {role.label} returns {kind(result)} and {should}", source=where)


def typed(expr: Expr, role: Role, wanted: Type, code: CodeType) -> Expr:
    """The expression in the wanted type: integers become floats, bools and numbers do not mix."""
    if expr.type == wanted:
        return expr
    if wanted == "float" and expr.type == "int":
        if isinstance(expr, Const):
            return const(float(expr.value), expr.source)
        return op("to_float", expr, source=expr.source)
    source: Source = expr.source or positions.returns(code)
    given = f"this {role.label} returns {'an int' if expr.type == 'int' else f'a {expr.type}'} and {SHOULD[wanted]}"
    if wanted == "bool":
        advice = "compare it, as in `x != 0` or `x >= 0`"
        if role.label == "mask or score":
            advice += "; a score function takes `score` and returns the new score"
        elif role.label == "mask":
            advice += "; what is added to a score goes into score="
    elif wanted == "int":
        advice = "use // and int()"
    elif role.result == "bool or float" or role.label == "score":
        advice = "what hides keys goes into mask=, or write torch.where(condition, score, float('-inf'))"
    else:
        advice = "write torch.where(condition, 1.0, 0.0), or float(...)"
    raise TraceError(f"{given}; {advice}", source=source)
