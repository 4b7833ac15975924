"""Printed Triton values: their type, the block that they are, and where in the loops they change."""

from __future__ import annotations

import struct
from dataclasses import dataclass, replace
from enum import Flag

from attngen.ir.expr import Number
from attngen.ir.ops import Type


class Axes(Flag):
    """The axes of a tile. As a shape: which axes a block has. As a place: along which axes a value changes."""

    NONE = 0
    ROW = 1
    KEY = 2
    PAIR = 3


@dataclass(frozen=True, slots=True)
class Layout:
    """A tile: which of its two axes holds the rows (0: queries x keys, 1: keys x queries), and its sizes by name."""

    row_axis: int = 0
    rows: str = "BLOCK_M"
    keys: str = "BLOCK_N"

    def spread(self, text: str, shape: Axes, wanted: Axes) -> str:
        """The text of a block in a form that meets blocks of the wanted shape: vectors get their missing axis."""
        if wanted is not Axes.PAIR or shape in (Axes.NONE, Axes.PAIR):
            return text
        return f"{text}[:, None]" if (shape is Axes.ROW) == (self.row_axis == 0) else f"{text}[None, :]"

    def size(self, shape: Axes) -> str:
        """The shape as a tuple of Triton's."""
        match shape:
            case Axes.NONE:
                return "()"
            case Axes.ROW:
                return f"({self.rows},)"
            case Axes.KEY:
                return f"({self.keys},)"
            case _:
                return f"({self.rows}, {self.keys})" if self.row_axis == 0 else f"({self.keys}, {self.rows})"


@dataclass(frozen=True, slots=True)
class Value:
    """A Triton expression. Floats are float32, integers int32 in blocks and int64 in scalars, bools int1.

    `shape`: the axes that its block has. `moves`: further axes along which it changes, such as the keys for a running
    row maximum. `literal`: its value, if it is a constant; then the text is unused.
    """

    text: str
    type: Type
    shape: Axes = Axes.NONE
    moves: Axes = Axes.NONE
    literal: Number | None = None

    @property
    def place(self) -> Axes:
        """Along which axes it changes: where its statement belongs."""
        return self.shape | self.moves

    @property
    def dtype(self) -> str:
        return dtype_of(self.type, self.shape)

    def cast(self, type: Type) -> Value:
        """The value as another type."""
        if type == self.type:
            return self
        if self.literal is not None:
            return replace(self, type=type, literal=_converted(self.literal, type))
        match self.type, type:
            case "int", "bool":
                text = f"({self.text} != 0)"
            case "float", "bool":
                text = f"({self.text} != 0.0)"
            case "float", "int":
                text = f"{'saturated_int' if self.shape else 'saturated_long'}({self.text})"
            case _:
                text = f"{self.text}.to({dtype_of(type, self.shape)})"
        return replace(self, type=type, text=text)

    def narrowed(self, shape: Axes, *, saturate: bool) -> Value:
        """The value as the partner of a block of the shape: an int64 scalar becomes an int32."""
        if self.shape or not shape or self.type == "float":
            return self
        if self.literal is not None:
            return self if self.type == "bool" else replace(self, literal=_narrow(int(self.literal), saturate))
        if self.type == "bool":
            # Triton's interpreter makes a block of a scalar comparison in the type of what is compared.
            return replace(self, text=f"tl.where({self.text}, True, False)")
        return replace(self, text=f"saturated({self.text})" if saturate else f"{self.text}.to(tl.int32)")

    def plain(self, shape: Axes) -> str:
        """The text beside a tensor: constants as Python literals, which take the type of their partner."""
        if self.literal is None:
            return self.text
        match self.literal:
            case bool():
                return self.typed(shape)
            case int():
                return str(self.literal) if abs(self.literal) < 2**31 else self.typed(shape)
            case float() if self.literal != self.literal:
                return 'float("nan")'
            case float():
                rounded = _float32(self.literal)
                if abs(rounded) == float("inf"):
                    return f'float("{rounded}")'
                # Triton takes numbers below float32's normal ones for float64, and -0.0 for 0.
                ordinary = abs(rounded) >= 2.0**-126 or repr(rounded) == "0.0"
                return repr(self.literal) if ordinary else self.typed(shape)

    def typed(self, shape: Axes) -> str:
        """The text where nothing else tells the type: constants as scalar tensors."""
        match self.literal:
            case None:
                return self.text
            case float() if repr(self.literal) == "-0.0":
                return "tl.full((), -2147483648, tl.int32).to(tl.float32, bitcast=True)"
            case float() if self.literal != self.literal or abs(_float32(self.literal)) == float("inf"):
                return f'tl.full((), float("{_float32(self.literal)}"), tl.float32)'
            case _:
                return f"tl.full((), {self.literal!r}, {dtype_of(self.type, shape)})"


def dtype_of(type: Type, shape: Axes) -> str:
    """Triton's name of the type of a value."""
    return {"bool": "tl.int1", "int": "tl.int32" if shape else "tl.int64", "float": "tl.float32"}[type]


def _float32(value: float) -> float:
    try:
        return float(struct.unpack("f", struct.pack("f", value))[0])
    except OverflowError:
        return float("inf") if value > 0 else -float("inf")


def _narrow(value: int, saturate: bool) -> int:
    if saturate:
        return min(max(value, -(2**31)), 2**31 - 1)
    return (value + 2**31) % 2**32 - 2**31


def _converted(value: Number, type: Type) -> Number:
    match type:
        case "bool":
            return value != 0
        case "float":
            return float(value)
        case "int":
            inside = value if abs(value) < 2.0**62 else 2**62 if value > 0 else -(2**62)
            return int(inside)
