"""How indexed tensors are read in C++: one element per row, or one per lane."""

from __future__ import annotations

from attngen.codegen.printers.cpp import Printer, Value
from attngen.ir.expr import Expr, Load, Op, Sym, const, substitute, symbols

CTYPES = {
    "float64": "double",
    "float32": "float",
    "bfloat16": "bf16",
    "float16": "f16",
    "int64": "int64_t",
    "int32": "int32_t",
    "int16": "int16_t",
    "int8": "int8_t",
    "uint8": "uint8_t",
    "bool": "bool",
}
"""Element types that a kernel reads, by torch's name."""


def unit_step(index: Expr, lane: str) -> int | None:
    """1 or -1 where the index is +-lane plus something that does not depend on it, else None."""
    if lane not in symbols(index):
        return 0
    match index:
        case Sym():
            return 1
        case Op(name="add", args=(a, b)):
            steps = (unit_step(a, lane), unit_step(b, lane))
            return sum(s for s in steps if s) if None not in steps and 0 in steps else None
        case Op(name="sub", args=(a, b)):
            first, second = unit_step(a, lane), unit_step(b, lane)
            return None if first is None or second is None or (first and second) else first - second
        case Op(name="neg", args=(a,)):
            step = unit_step(a, lane)
            return None if step is None else -step
        case _:
            return None


def print_load(
    printer: Printer, node: Load, indices: tuple[Value, ...], ctype: str | None, name: str, lane: str, lanes: str
) -> Value:
    """Prints a load. `name` is how its members of the argument block begin, `lane` the symbol that varies over lanes,
    `lanes` its Keys variable. Without an element type the load is a run-time scalar.
    """
    if ctype is None:
        cast = {"float": "real({})", "int": "{}", "bool": "({} != 0)"}[node.type]
        return Value(cast.format(f"{name}_value"), node.type)
    data = f"((const {ctype}*){name}_data)"
    size, stride = f"{name}_size", f"{name}_stride"
    uniform = [
        f"inside({index.text}, {size}[{n}]) * {stride}[{n}]" for n, index in enumerate(indices) if not index.vector
    ]
    varying = [n for n, index in enumerate(indices) if index.vector]
    offset = " + ".join(uniform) or "0"
    if not varying:
        return Value(f"number({data}[{offset}])", node.type)
    if len(varying) == 1:
        n = varying[0]
        step = unit_step(node.indices[n], lane)
        if step in (1, -1):
            start = printer.emit(substitute(node.indices[n], {lane: const(0)}))
            text = f"lookup_along_keys({data} + {offset}, {start.text}, {step}, {size}[{n}], {stride}[{n}], {lanes})"
            return as_lanes(text, node)
    items = ", ".join(
        f"Index{{0, {index.text}, true, {size}[{n}], {stride}[{n}]}}"
        if index.vector
        else f"Index{{{index.text}, vi{{}}, false, {size}[{n}], {stride}[{n}]}}"
        for n, index in enumerate(indices)
    )
    at = f"at{len(printer.lines)}"
    printer.lines.append(f"{printer.indent}const Index {at}[] = {{{items}}};")
    return as_lanes(f"gather_at({data}, {at}, {lanes}.live)", node)


def as_lanes(text: str, node: Load) -> Value:
    """Lanes of a boolean tensor hold 0 and 1: a mask needs 0 and -1."""
    return Value(f"vb({text} != vi{{}})" if node.type == "bool" else text, node.type, True)
