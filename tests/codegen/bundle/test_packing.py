"""Parameters in memory."""

from __future__ import annotations

import ctypes
import threading

import pytest

from attngen.codegen.bundle.packing import Packing

KINDS = ["*bf16", "i32", "i64", "fp32", "i8", "*fp32", "fp64", "u16"]
VALUES = [2**47 + 8, -7, -(2**63), 0.5, -1, 16, 1e300, 65535]


def test_each_value_has_its_type_and_its_place() -> None:
    packing = Packing(KINDS)
    assert [each.__name__ for each in packing.ctypes] == [
        ctypes.c_uint64.__name__,
        ctypes.c_int32.__name__,
        ctypes.c_int64.__name__,
        "c_float",
        ctypes.c_int8.__name__,
        ctypes.c_uint64.__name__,
        "c_double",
        ctypes.c_uint16.__name__,
    ]
    addresses = packing(VALUES)
    found = [each.from_address(at).value for each, at in zip(packing.ctypes, addresses, strict=True)]
    assert found == VALUES
    assert all(at % ctypes.sizeof(each) == 0 for each, at in zip(packing.ctypes, addresses, strict=True))


def test_threads_do_not_share_memory() -> None:
    packing, found = Packing(["i64"]), []

    def other() -> None:
        found.append(packing([2])[0])

    mine = packing([1])
    thread = threading.Thread(target=other)
    thread.start()
    thread.join()
    assert found[0] != mine[0]
    assert ctypes.c_int64.from_address(mine[0]).value == 1
    assert packing([3])[0] == mine[0]


def test_types_that_no_launch_passes() -> None:
    with pytest.raises(KeyError):
        Packing(["bf16"])
