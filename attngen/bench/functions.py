"""An expression of a spec as a plain Python function on torch tensors, as other libraries want masks and scores."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from attngen.errors import UnsupportedError
from attngen.ir.expr import Const, Expr, Load, Op, Sym
from attngen.ir.nodes import Grid, Space

INFIX = {"add": "+", "sub": "-", "mul": "*", "truediv": "/", "floordiv": "//", "mod": "%", "lt": "<", "le": "<=",
         "gt": ">", "ge": ">=", "eq": "==", "ne": "!=", "and": "&", "or": "|", "xor": "^"}  # fmt: skip
TORCH = ("abs", "exp", "exp2", "log", "sqrt", "rsqrt", "tanh", "sigmoid", "sin", "cos", "where", "neg", "sign", "relu",
         "erf", "log1p", "expm1")  # fmt: skip
METHODS = {"to_float": "float()", "to_int": "long()", "to_bool": "bool()"}


def function(
    expr: Expr, parameters: tuple[str, ...], values: Mapping[str, Any], space: Space, dtype: Any = None
) -> Callable[..., Any]:
    """The function of an expression of these symbols; `values` are sizes by symbol, and inputs by name.

    Tensors of floating point are read in `dtype`. Raises `UnsupportedError` for what has no such form.
    """
    import torch

    known: dict[str, Any] = {"torch": torch}
    text = _Writer(space, values, known, dtype).text(expr)
    made = f"def made({', '.join(parameters)}):\n    return {text}\n"
    exec(compile(made, "<attngen.bench>", "exec"), known)  # our own text, of a checked expression
    found: Callable[..., Any] = known["made"]
    return found


class _Writer:
    def __init__(self, space: Space, values: Mapping[str, Any], known: dict[str, Any], dtype: Any) -> None:
        self._space, self._values, self._known, self._dtype = space, values, known, dtype

    def text(self, expr: Expr) -> str:
        match expr:
            case Const(value=value):
                return f"({value!r})"
            case Sym(name=name):
                return self._symbol(name)
            case Load(tensor=name, indices=indices):
                return self._load(name, indices)
            case Op(name="not", args=(one,)):
                return f"(~{self.text(one)})"
            case Op(name=name, args=(one, other)) if name in INFIX:
                return f"({self.text(one)} {INFIX[name]} {self.text(other)})"
            case Op(name=name, args=args) if name in TORCH:
                return f"torch.{name}({', '.join(self.text(a) for a in args)})"
            case Op(name=name, args=(one,)) if name in METHODS:
                return f"({self.text(one)}).{METHODS[name]}"
            case Op(name="minimum" | "maximum" as name, args=(one, other)):
                bound = "<" if name == "minimum" else ">"
                a, b = self.text(one), self.text(other)
                return f"torch.where({a} {bound} {b}, {a}, {b})"
        raise UnsupportedError(f"{getattr(expr, 'name', expr)!r} has no form there", source=expr.source)

    def _symbol(self, name: str) -> str:
        if name in self._values:
            return f"({self._values[name]!r})"
        axis, bracket, rest = name.partition("[")
        if not bracket or not isinstance(self._space, Grid):
            return name
        at, stride = int(rest.rstrip("]")), 1
        for dim in self._space.dims[at + 1 :]:
            stride *= dim
        return f"({axis} // {stride} % {self._space.dims[at]})"

    def _load(self, name: str, indices: tuple[Expr, ...]) -> str:
        if name not in self._values:
            raise UnsupportedError(f"the input {name!r} has no form there")
        value = self._values[name]
        if not indices:
            return f"({value!r})"
        if value.is_floating_point() and self._dtype is not None:
            value = value.to(self._dtype)
        self._known[f"input_{name}"] = value
        return f"input_{name}[{', '.join(self.text(index) for index in indices)}]"
