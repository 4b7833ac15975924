"""Prints expressions into Triton kernels of one tile each, and runs them in a process under the interpreter."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from attngen.codegen.printers.triton import PLACES, Printer, library
from attngen.codegen.printers.triton_ops import join
from attngen.codegen.printers.triton_values import Axes, Layout, Value
from attngen.ir.expr import Expr, Load
from attngen.ir.ops import Type

WORKER = Path(__file__).with_name("triton_worker.py")
ROOT = WORKER.parents[3]
SHAPES: dict[str, Axes] = {
    **dict.fromkeys(("b", "h", "n_q", "mass"), Axes.NONE),
    **dict.fromkeys(("q", "m", "acc", "n_visible"), Axes.ROW),
    **dict.fromkeys(("kv", "x"), Axes.KEY),
    **dict.fromkeys(("score", "dim"), Axes.PAIR),
}
"""The blocks that the symbols of a test are."""
TYPES: dict[str, Type] = {
    **dict.fromkeys(("b", "h", "n_q", "q", "n_visible", "kv", "dim"), "int"),
    **dict.fromkeys(("mass", "m", "acc", "x", "score"), "float"),
}
SYMBOLS = {name: Value(name, TYPES[name], shape) for name, shape in SHAPES.items()}
DTYPES = {"bool": torch.int8, "int": torch.int64, "float": torch.float32}
TABLE = 64


def load_table(node: Load, at: tuple[Value, ...]) -> Value:
    """An entry of the one input, a vector of `TABLE` numbers; indices are moved to its nearest entry."""
    index = f"tl.minimum(tl.maximum({at[0].typed(Axes.NONE)}, 0), {TABLE - 1})"
    return Value(f"tl.load(table_ptr + {index})", "float", *join(at))


def kernel(name: str, expr: Expr, layout: Layout) -> str:
    """A kernel that computes the expression over one tile."""
    printer = Printer(SYMBOLS, load_table, layout)
    value = printer.emit(expr)
    # A scalar keeps its 64 bits.
    whole = printer.full(value, Axes.PAIR) if value.shape else f"({value.typed(Axes.NONE)} + tl.zeros_like(cells))"
    stored = f"{whole}.to(out_ptr.dtype.element_ty)"
    cells = f"({layout.spread('rows', Axes.ROW, Axes.PAIR)} * BLOCK_N + {layout.spread('keys', Axes.KEY, Axes.PAIR)})"
    at = {Axes.NONE: "", Axes.ROW: " + rows", Axes.KEY: " + keys", Axes.PAIR: " + cells"}
    lines = [
        "rows = tl.arange(0, BLOCK_M)",
        "keys = tl.arange(0, BLOCK_N)",
        f"cells = {cells}",
        *(f"{s} = tl.load({s}_ptr{at[shape]}).to({SYMBOLS[s].dtype})" for s, shape in SHAPES.items()),
        *(line for place in PLACES for line in printer.lines[place]),
        f"tl.store(out_ptr + cells, {stored})",
    ]
    pointers = ", ".join(f"{s}_ptr" for s in (*SHAPES, "table", "out"))
    body = "\n".join(f"    {line}" for line in lines)
    return f"@triton.jit\ndef {name}({pointers}, BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr):\n{body}\n"


def source(exprs: Sequence[Expr], layout: Layout) -> str:
    """The library and a kernel k0, k1, ... for each expression."""
    return "\n\n".join([library(), *(kernel(f"k{i}", e, layout) for i, e in enumerate(exprs))])


@dataclass(frozen=True)
class Points:
    """The values of every symbol over one tile: `flat` for the evaluator, `blocks` as the kernels read them."""

    blocks: Mapping[str, Tensor]
    table: Tensor
    rows: int
    keys: int

    @property
    def flat(self) -> dict[str, Tensor]:
        views = {Axes.NONE: (1, 1), Axes.ROW: (-1, 1), Axes.KEY: (1, -1), Axes.PAIR: (self.rows, self.keys)}
        shaped = {name: self.blocks[name].reshape(views[shape]) for name, shape in SHAPES.items()}
        return {
            name: t.expand(self.rows, self.keys).reshape(-1).to(torch.int64 if TYPES[name] == "int" else torch.float64)
            for name, t in shaped.items()
        }


def points(rows: int = 8, keys: int = 16, seed: int = 0, **given: Tensor) -> Points:
    """Numbers that float32 holds; `given` replaces those of a symbol."""
    generator = torch.Generator().manual_seed(seed)
    sizes = {Axes.NONE: 1, Axes.ROW: rows, Axes.KEY: keys, Axes.PAIR: rows * keys}

    def numbers(name: str) -> Tensor:
        if TYPES[name] == "int":
            return torch.randint(
                0, 9 if SHAPES[name] is Axes.NONE else 300, (sizes[SHAPES[name]],), generator=generator
            )
        return torch.randn(sizes[SHAPES[name]], generator=generator) * 3

    blocks = {name: given[name] if name in given else numbers(name) for name in SHAPES}
    return Points(blocks, torch.randn(TABLE, generator=generator), rows, keys)


class Interpreter:
    """A process that runs kernels under the interpreter; one for all tests, since importing takes seconds."""

    def __init__(self, directory: Path) -> None:
        self.directory, self.jobs = directory, 0
        environment = os.environ | {"TRITON_INTERPRET": "1", "OMP_NUM_THREADS": "1"}
        command = [sys.executable, str(WORKER)]
        pipe = subprocess.PIPE
        self.process = subprocess.Popen(command, stdin=pipe, stdout=pipe, env=environment, cwd=ROOT, text=True)

    def close(self) -> None:
        self.process.communicate(timeout=60)

    def run(self, exprs: Sequence[Expr], values: Points, layout: Layout) -> list[Tensor]:
        """Each expression at every point, as float64, in the order of `values.flat`."""
        path = self.directory / f"job{self.jobs}.in"
        self.jobs += 1
        path.with_suffix(".py").write_text(source(exprs, layout))
        job = {
            "kernels": [(f"k{i}", DTYPES[e.type]) for i, e in enumerate(exprs)],
            "arguments": [*(values.blocks[name] for name in SHAPES), values.table],
            "shape": (values.rows, values.keys),
            "blocks": (values.rows, values.keys),
        }
        torch.save(job, path)
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(f"{path}\n")
        self.process.stdin.flush()
        answer = self.process.stdout.readline().strip()
        assert answer == "done", answer
        return [t.reshape(-1).double() for t in torch.load(path.with_suffix(".out"))]
