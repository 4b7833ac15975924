"""The value that stands for one number while a function is traced: a symbol, a captured number, or made of them."""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterator
from typing import Any, NoReturn

from attngen.frontend import positions
from attngen.frontend.bindings import kind
from attngen.frontend.paths import Call, Node, text_of
from attngen.frontend.static import plain
from attngen.frontend.tracer import TraceAttributeError, Tracer
from attngen.ir.expr import Const, Expr, Op, Sym, const, op, sym, symbols

INFIX = {
    "add": "+", "sub": "-", "mul": "*", "truediv": "/", "floordiv": "//", "mod": "%", "pow": "**", "lt": "<",
    "le": "<=", "gt": ">", "ge": ">=", "eq": "==", "ne": "!=", "and": "&", "or": "|", "xor": "^", "lshift": "<<",
    "rshift": ">>",
}  # fmt: skip
PYTHON = {name: getattr(operator, f"{name}_" if name in ("and", "or") else name) for name in INFIX}


class Proxy:
    """One number. `host` is how the same number is had in Python, where it depends on captured numbers alone."""

    __slots__ = ("expr", "host", "tracer")

    def __init__(self, tracer: Tracer, expr: Expr, host: Node | None = None) -> None:
        self.tracer = tracer
        self.expr = expr
        self.host = host

    # --- operators ---

    def _binary(self, name: str, other: Any, reflected: bool = False) -> Any:
        right = self.lift(other)
        if right is None:
            return NotImplemented
        pair = (right, self) if reflected else (self, right)
        expr = arithmetic(self.tracer, name, pair[0].expr, pair[1].expr)
        return Proxy(self.tracer, expr, recorded(self.tracer, name, *pair))

    def lift(self, other: Any) -> Proxy | None:
        """Another operand as a proxy; None where it is no number."""
        if isinstance(other, Proxy):
            return other
        other = plain(other)
        if hasattr(other, "dtype") and not hasattr(other, "requires_grad") and hasattr(other, "item"):
            other = other.item() if getattr(other, "ndim", 0) == 0 else other
        if isinstance(other, bool | int | float):
            return Proxy(self.tracer, const(other + 0 if type(other) not in (bool, int, float) else other,
                                            positions.current()))  # fmt: skip
        if getattr(other, "is_attngen_tensor", False):
            if self.host is not None:
                return None
            raise other.refuse_operand()
        if hasattr(other, "requires_grad"):
            raise self.tracer.error(
                "a tensor that attngen cannot follow to where it comes from; capture it as a variable, "
                "an attribute or a default of the function"
            )
        return None

    def __add__(self, other: Any) -> Any:
        return self._binary("add", other)

    def __radd__(self, other: Any) -> Any:
        return self._binary("add", other, True)

    def __sub__(self, other: Any) -> Any:
        return self._binary("sub", other)

    def __rsub__(self, other: Any) -> Any:
        return self._binary("sub", other, True)

    def __mul__(self, other: Any) -> Any:
        return self._binary("mul", other)

    def __rmul__(self, other: Any) -> Any:
        return self._binary("mul", other, True)

    def __truediv__(self, other: Any) -> Any:
        return self._binary("truediv", other)

    def __rtruediv__(self, other: Any) -> Any:
        return self._binary("truediv", other, True)

    def __floordiv__(self, other: Any) -> Any:
        return self._binary("floordiv", other)

    def __rfloordiv__(self, other: Any) -> Any:
        return self._binary("floordiv", other, True)

    def __mod__(self, other: Any) -> Any:
        return self._binary("mod", other)

    def __rmod__(self, other: Any) -> Any:
        return self._binary("mod", other, True)

    def __divmod__(self, other: Any) -> Any:
        return (self // other, self % other)

    def __rdivmod__(self, other: Any) -> Any:
        return (other // self, other % self)

    def __pow__(self, other: Any) -> Any:
        return self._binary("pow", other)

    def __rpow__(self, other: Any) -> Any:
        return self._binary("pow", other, True)

    def __and__(self, other: Any) -> Any:
        return self._binary("and", other)

    def __rand__(self, other: Any) -> Any:
        return self._binary("and", other, True)

    def __or__(self, other: Any) -> Any:
        return self._binary("or", other)

    def __ror__(self, other: Any) -> Any:
        return self._binary("or", other, True)

    def __xor__(self, other: Any) -> Any:
        return self._binary("xor", other)

    def __rxor__(self, other: Any) -> Any:
        return self._binary("xor", other, True)

    def __lshift__(self, other: Any) -> Any:
        return self._binary("lshift", other)

    def __rlshift__(self, other: Any) -> Any:
        return self._binary("lshift", other, True)

    def __rshift__(self, other: Any) -> Any:
        return self._binary("rshift", other)

    def __rrshift__(self, other: Any) -> Any:
        return self._binary("rshift", other, True)

    def __lt__(self, other: Any) -> Any:
        return self._binary("lt", other)

    def __le__(self, other: Any) -> Any:
        return self._binary("le", other)

    def __gt__(self, other: Any) -> Any:
        return self._binary("gt", other)

    def __ge__(self, other: Any) -> Any:
        return self._binary("ge", other)

    def __eq__(self, other: Any) -> Any:
        return self._binary("eq", other)

    def __ne__(self, other: Any) -> Any:
        return self._binary("ne", other)

    def unary(self, name: str, function: Callable[[Any], Any] | None = None) -> Any:
        host = None
        # math.exp of a tensor would cut its gradient.
        if self.host is not None and function is not None and (name == "neg" or self.tracer.is_plain(self.host)):
            host = call(f"{function.__name__}({{}})", function, self.host)
        return Proxy(self.tracer, self.tracer.op(name, self.expr), host)

    def __neg__(self) -> Any:
        return self.unary("neg", operator.neg)

    def __pos__(self) -> Any:
        return self

    def __abs__(self) -> Any:
        return self.unary("abs", abs)

    def __invert__(self) -> Any:
        return self.unary("not" if self.expr.type == "bool" else "bit_not", operator.invert)

    def __round__(self, digits: int | None = None) -> Any:
        if digits is not None:
            raise self.tracer.error("round(x, digits) is not available; write round(x * 10**digits) / 10**digits")
        return self if self.expr.type == "int" else self.unary("round", round).cast("int", int)

    def __floor__(self) -> Any:
        return self.unary("floor", float.__floor__).cast("int", int) if self.expr.type == "float" else self

    def __ceil__(self) -> Any:
        return self.unary("ceil", float.__ceil__).cast("int", int) if self.expr.type == "float" else self

    def __trunc__(self) -> Any:
        return self.cast("int", int)

    def cast(self, type: str, function: Callable[[Any], Any] | None = None) -> Any:
        """The number as another type; itself where it is of that type."""
        if self.expr.type == type:
            return self
        if isinstance(self.expr, Const) and self.host is None:
            value = {"bool": bool, "int": int, "float": float}[type](self.expr.value)
            return Proxy(self.tracer, const(value, positions.current()))
        host = call(f"{type}({{}})", function, self.host) if function is not None and self.host is not None else None
        return Proxy(self.tracer, self.tracer.op(f"to_{type}", self.expr), host)

    # --- Python wants a plain value ---

    def __bool__(self) -> bool:
        if isinstance(self.expr, Const):
            return bool(self.expr.value)
        if self.host is not None and self.tracer.settled(self.host):
            return bool(self.tracer.settle(self.host, "this condition"))
        condition = self.expr if self.expr.type == "bool" else op("to_bool", self.expr, source=positions.current())
        return self.tracer.oracle.ask(condition, positions.current())

    def concrete(self, why: str) -> Any:
        """The number as plain Python: a constant, or a captured number (a guard remembers it)."""
        if isinstance(self.expr, Const):
            return self.expr.value
        if self.host is not None:
            return plain(self.tracer.settle(self.host, why))
        names = ", ".join(sorted(symbols(self.expr))) or "inputs"
        raise self.tracer.error(
            f"{why}: a plain Python number is needed here, and this value depends on {names}: it is another one for "
            "each pair of query and key; loop over constants and select with torch.where"
        )

    def __index__(self) -> int:
        value = self.concrete("an index, a range or a length")
        if not isinstance(value, int):
            raise self.tracer.error(f"an index, a range or a length: an int is needed, got {kind(value)}")
        return value

    def __int__(self) -> int:
        return int(self.concrete("int()"))

    def __float__(self) -> float:
        return float(self.concrete("float()"))

    def __hash__(self) -> int:
        return hash(self.concrete("a set, a dict or a cache (for a few values write `x in (0, 1)`)"))

    # --- what a number is not ---

    def __getitem__(self, index: Any) -> Any:
        if index is Ellipsis or index == ():
            return self
        if isinstance(self.expr, Sym) and self.expr.name in ("q", "kv"):
            number = index.concrete("a coordinate") if isinstance(index, Proxy) else index
            dims = self.tracer.dims
            number = number + dims if isinstance(number, int) and number < 0 and dims else number
            if type(number) is int and 0 <= number < (dims or 3):
                return Proxy(self.tracer, sym(f"{self.expr.name}[{number}]", positions.current()))
            raise self.tracer.error(f"{self.expr.name}[{index}]: coordinates go from 0 to {(dims or 3) - 1}")
        raise self.tracer.error(
            f"`{show(self)}` is one number (one query, one key); it cannot be indexed. Only `q` and `kv` have "
            "coordinates, on a Grid"
        )

    def __iter__(self) -> Iterator[Any]:
        if isinstance(self.expr, Sym) and self.expr.name in ("q", "kv"):
            if self.tracer.dims:
                return iter([self[i] for i in range(self.tracer.dims)])
            raise self.tracer.error(f"write the coordinates as {self.expr.name}[0], {self.expr.name}[1]")
        raise self.tracer.error(f"`{show(self)}` is one number (one query, one key), it cannot be iterated over")

    def __len__(self) -> int:
        raise self.tracer.error(f"`{show(self)}` is one number (one query, one key), it has no length")

    def __contains__(self, item: Any) -> bool:
        raise self.tracer.error(f"`in {show(self)}`: it is one number (one query, one key), it holds nothing")

    def __setitem__(self, index: Any, value: Any) -> NoReturn:
        raise self.tracer.error("assigning to an element is not possible here; write torch.where(condition, new, old)")

    def __matmul__(self, other: Any) -> NoReturn:
        raise self.tracer.error("a matrix product inside of a score; values here are single numbers")

    __rmatmul__ = __matmul__

    def __array__(self, *args: Any, **kwargs: Any) -> NoReturn:
        raise self.tracer.error("a NumPy array cannot be made of this value; use torch or math functions")

    # --- torch and NumPy functions that were not reached through a module ---

    @classmethod
    def __torch_function__(cls, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        from attngen.frontend.dispatch import dispatch, tracer_of

        return dispatch(tracer_of((args, kwargs)), function, args, kwargs or {})

    def __array_ufunc__(self, function: Any, method: str, *args: Any, **kwargs: Any) -> Any:
        from attngen.frontend.dispatch import dispatch

        return dispatch(self.tracer, function, args, kwargs)

    def __getattr__(self, name: str) -> Any:
        from attngen.frontend.dispatch import attribute

        return attribute(self, name)

    def __setattr__(self, name: str, value: Any) -> None:
        if name not in Proxy.__slots__:
            raise self.tracer.error(f"attribute {name!r}: nothing can be stored on a value under trace")
        object.__setattr__(self, name, value)

    def __copy__(self) -> Proxy:
        return self

    def __deepcopy__(self, memo: Any) -> Proxy:
        return self

    def __reduce__(self) -> NoReturn:
        raise TraceAttributeError("a value under trace cannot be pickled")

    def __format__(self, spec: str) -> str:
        return repr(self)

    def __repr__(self) -> str:
        return f"<{show(self)}: {self.expr.type}>"


def show(value: Proxy) -> str:
    """What a value is called in errors."""
    if isinstance(value.expr, Sym):
        return value.expr.name
    if value.host is not None:
        return value.host.text
    source = value.expr.source
    return source.text[source.column - 1 : source.end_column - 1] if source and source.text else "this value"


def arithmetic(tracer: Tracer, name: str, left: Expr, right: Expr) -> Expr:
    """A Python operator on expressions."""
    both_bool = left.type == right.type == "bool"
    match name:
        case "and" | "or" if both_bool:
            for side, other in ((left, right), (right, left)):
                # FlexAttention starts a chain of masks with new_ones.
                if isinstance(side, Const):
                    return other if side.value is (name == "and") else side
            return tracer.op(name, left, right)
        case "xor" if both_bool:
            return tracer.op("xor", left, right)
        case "and" | "or" | "xor":
            return tracer.op(f"bit_{name}", left, right)
        case "lshift" | "rshift":
            return tracer.op("shl" if name == "lshift" else "shr", left, right)
        case "pow" if left.type != "float" and right.type == "int" and _negative(right):
            # Python: 2 ** -1 is a float; the integer power has no such value.
            return tracer.op("pow", tracer.op("to_float", left), right)
    return tracer.op(name, left, right)


def _negative(expr: Expr) -> bool:
    return (isinstance(expr, Const) and expr.value < 0) or (isinstance(expr, Op) and expr.name == "neg")


def recorded(tracer: Tracer, name: str, left: Proxy, right: Proxy) -> Node | None:
    """The same operator on the Python numbers behind both, where they depend on captured numbers alone."""
    parts: list[Any] = []
    for side in (left, right):
        if side.host is None and not isinstance(side.expr, Const):
            return None
        parts.append(side.host if side.host is not None else side.expr.value)  # type: ignore[attr-defined]
    if not any(isinstance(part, Node) for part in parts):
        return None
    return call(f"{{}} {INFIX[name]} {{}}", PYTHON[name], *parts)


def call(text: str, function: Callable[..., Any], *args: Any, **kwargs: Any) -> Call:
    """Recorded work; `text` holds a brace for every argument."""
    from attngen.frontend.paths import nodes

    base = next((node.name for node in nodes((args, kwargs))), "made")
    label = getattr(function, "__name__", "value").strip("_")
    return Call(text.format(*(text_of(a) for a in args)), f"{base}_{label}", function, args, kwargs)
