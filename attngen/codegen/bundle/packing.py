"""The parameters of a launch in memory, as the driver wants them: an array of addresses, one of each value."""

from __future__ import annotations

import ctypes
import struct
import threading
from collections.abc import Sequence
from typing import Any

CTYPES: dict[str, Any] = {
    "i1": ctypes.c_int8,
    "i8": ctypes.c_int8,
    "i16": ctypes.c_int16,
    "i32": ctypes.c_int32,
    "i64": ctypes.c_int64,
    "u8": ctypes.c_uint8,
    "u16": ctypes.c_uint16,
    "u32": ctypes.c_uint32,
    "u64": ctypes.c_uint64,
    "fp32": ctypes.c_float,
    "fp64": ctypes.c_double,
}
"""What a number of Triton's types is in C."""
CODES: dict[Any, str] = {
    ctypes.c_int8: "b",
    ctypes.c_int16: "h",
    ctypes.c_int32: "i",
    ctypes.c_int64: "q",
    ctypes.c_uint8: "B",
    ctypes.c_uint16: "H",
    ctypes.c_uint32: "I",
    ctypes.c_uint64: "Q",
    ctypes.c_float: "f",
    ctypes.c_double: "d",
}
"""The same for `struct`."""


def ctype(kind: str) -> Any:
    """The C type of a parameter; every pointer is an address. Raises KeyError for a type that no launch passes."""
    return ctypes.c_uint64 if kind.startswith("*") else CTYPES[kind]


class Packing:
    """Lays out the values of one list of parameter types. Each thread has memory of its own."""

    def __init__(self, kinds: Sequence[str]) -> None:
        self.ctypes = [ctype(kind) for kind in kinds]
        self._layout = struct.Struct("@" + "".join(CODES[each] for each in self.ctypes))
        self._offsets: list[int] = []
        end = 0
        for each in self.ctypes:
            size = ctypes.sizeof(each)
            start = -(-end // size) * size
            self._offsets.append(start)
            end = start + size
        self._mine = threading.local()

    def __call__(self, values: Sequence[Any]) -> Any:
        """The array of addresses for these values, of ints and floats; they stay as they are until the next call of
        this thread. The driver copies them while it launches."""
        try:
            memory, addresses = self._mine.parts
        except AttributeError:
            memory, addresses = self._mine.parts = self._new()
        self._layout.pack_into(memory, 0, *values)
        return addresses

    def _new(self) -> tuple[Any, Any]:
        memory = ctypes.create_string_buffer(max(1, self._layout.size))
        begin = ctypes.addressof(memory)
        count = len(self._offsets)
        return memory, (ctypes.c_void_p * count)(*(begin + offset for offset in self._offsets))
