"""Compiles every kernel of a source ahead of time: a process of its own, without the interpreter.

Arguments: the source, the capability of the device, then the kernels. Prints one line for each: its name, the size of
its binary, and how many bytes of stack it takes.
"""

from __future__ import annotations

import importlib.util
import re
import subprocess
import sys
import tempfile
from pathlib import Path

import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

from tests.codegen.printers.triton_harness import SHAPES, TYPES

CUOBJDUMP = Path(triton.__file__).parent / "backends/nvidia/bin/cuobjdump"
POINTERS = {"int": "*i64", "float": "*fp32"}


def stack(cubin: bytes) -> int:
    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        file.write(cubin)
        file.flush()
        shown = subprocess.run([CUOBJDUMP, "--dump-resource-usage", file.name], capture_output=True, text=True)
    found = re.search(r"STACK:(\d+)", shown.stdout)
    assert found is not None, shown.stderr
    return int(found.group(1))


def main(path: str, capability: str, *names: str) -> None:
    given = importlib.util.spec_from_file_location("kernels", path)
    assert given is not None
    assert given.loader is not None
    module = importlib.util.module_from_spec(given)
    given.loader.exec_module(module)
    signature = {f"{s}_ptr": POINTERS[TYPES[s]] for s in SHAPES} | {"table_ptr": "*fp32", "out_ptr": "*fp32"}
    signature |= {"BLOCK_M": "constexpr", "BLOCK_N": "constexpr"}
    for name in names:
        kernel = ASTSource(getattr(module, name), signature, {"BLOCK_M": 8, "BLOCK_N": 16})
        built = triton.compile(kernel, target=GPUTarget("cuda", int(capability), 32))
        print(name, len(built.asm["cubin"]), stack(built.asm["cubin"]), flush=True)


main(*sys.argv[1:])
