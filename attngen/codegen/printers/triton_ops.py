"""How each operator is spelt in Triton: the functions are those of templates/triton."""

from __future__ import annotations

from collections.abc import Mapping
from functools import reduce
from operator import or_

from attngen.codegen.printers.common import COMPARISON, INFIX
from attngen.codegen.printers.triton_values import Axes, Layout, Value
from attngen.ir.ops import Type, promote

OWN = ("exp2", "log", "log2", "rsqrt", "sin", "cos", "erf", "floor", "ceil", "abs")
FUNCTION = {**{name: f"tl.{name}" for name in OWN}, "sqrt": "tl.sqrt_rn", "round": "round_even"}
INTEGER = {"floordiv": "floor_div", "mod": "modulo", "pow": "int_power", "shl": "shift_left", "shr": "shift_right"}
FLOAT = {"floordiv": "floor_div_float", "mod": "modulo_float", "pow": "power"}
"""Operators whose function in Triton has another name."""
LOGIC = {"and": "&", "or": "|", "xor": "^"}
SATURATED = dict.fromkeys((*COMPARISON, "minimum", "maximum", "floordiv", "mod"), (True, True))
SATURATED |= dict.fromkeys(("shl", "shr", "pow"), (False, True))
"""Operands that come out the same, or nearer the truth, at the int32 nearest to an int64 than modulo 2**32."""
LOG2E = 1.4426950408889634


def join(values: tuple[Value, ...]) -> tuple[Axes, Axes]:
    """The shape of a block made of the values, and the further axes along which it changes."""
    return reduce(or_, (v.shape for v in values), Axes.NONE), reduce(or_, (v.moves for v in values), Axes.NONE)


def apply(name: str, args: tuple[Value, ...], result: Type, scope: Mapping[str, Value], layout: Layout) -> Value:
    """One operator on printed arguments, brought to a common type and to shapes that meet."""
    if name in ("to_float", "to_int", "to_bool"):
        return args[0].cast(result)
    if name == "uniform":
        args = (args[0], *(scope[s] for s in ("b", "h", "q", "kv")))
    shape, moves = join(args)
    if name in ("uniform", "uniform_at"):
        # The seed keeps its 64 bits.
        texts = [layout.spread(v.typed(Axes.NONE), v.shape, shape) for v in (a.cast("int") for a in args)]
        return Value(f"uniform({', '.join(texts)})", "float", shape, moves)
    common = promote((*(a.type for a in args), "int")) if name in COMPARISON else result
    operands = [a.cast(common) for a in args]
    if name == "where":
        operands[0] = args[0]
    first, second = SATURATED.get(name, (False, False))
    operands = [o.narrowed(shape, saturate=second if i else first) for i, o in enumerate(operands)]
    constant = all(o.literal is not None for o in operands[name == "where" :])
    plain = [layout.spread(o.typed(shape) if constant else o.plain(shape), o.shape, shape) for o in operands]
    typed = [layout.spread(o.typed(shape), o.shape, shape) for o in operands]
    return Value(_text(name, common, operands, plain, typed), result, shape, moves)


def _text(name: str, type: Type, operands: list[Value], plain: list[str], typed: list[str]) -> str:
    """`plain` texts stand where an operator or function of Triton sees the partner's type, `typed` elsewhere."""
    sign = COMPARISON.get(name) or INFIX.get(name) or LOGIC.get(name)
    if sign is not None:
        return f"({plain[0]} {sign} {plain[1]})"
    last = operands[-1].literal
    match name:
        case "not" | "bit_not":
            return f"(~{typed[0]})"
        case "neg":
            return f"negated({typed[0]})" if type == "float" else f"(-{typed[0]})"
        case "where":
            return f"tl.where({typed[0]}, {plain[1]}, {plain[2]})"
        case "relu":
            zero = "0.0" if type == "float" else "0"
            return f"tl.where({typed[0]} < {zero}, {zero}, {typed[0]})"
        case "maximum" | "minimum" if type == "float":
            return f"tl.{name}({plain[0]}, {plain[1]}, propagate_nan=tl.PropagateNan.ALL)"
        case "maximum" | "minimum":
            return f"tl.{name}({plain[0]}, {plain[1]})"
        case "floordiv" | "mod" if type == "int" and isinstance(last, int) and last > 0 and last & (last - 1) == 0:
            # A shift rounds down, and a mask keeps what lies above: no division.
            return f"({typed[0]} >> {last.bit_length() - 1})" if name == "floordiv" else f"({typed[0]} & {last - 1})"
        case "pow" if last in (1, 2, 3) and operands[0].literal is None:
            return f"({' * '.join([typed[0]] * int(last))})"
        case _:
            names = FLOAT if type == "float" else INTEGER
            return f"{FUNCTION.get(name) or names.get(name, name)}({', '.join(typed)})"
