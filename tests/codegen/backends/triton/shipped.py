"""Builds the kernels of specs with the configs that are shipped, ahead of time, and lints them.

As a program it does so for every line of JSON that comes in (the arguments of `linted`), one line for each: so another
version of Triton, first on PYTHONPATH, builds in a process of its own.
"""

from __future__ import annotations

import json
import sys
import tempfile
import traceback
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

import attngen
from attngen import masks, normalizers, scores, weights
from attngen.codegen.backends.triton.abi import backward_parameters, parameters
from attngen.codegen.backends.triton.ahead import Binary, build_ahead
from attngen.codegen.backends.triton.config import TritonConfig, default, default_backward
from attngen.codegen.backends.triton.emit import emit
from attngen.codegen.backends.triton.emit_backward import emit_backward
from attngen.codegen.backends.triton.lint import complaints, lint
from attngen.codegen.devices import built_for
from attngen.codegen.lower.lowered import lowered
from tests.codegen.plans import plan_of

IDS = torch.arange(9)
SPECS: dict[str, Callable[[], attngen.Spec]] = {
    # Mask classes: none, a prefix, an interval, several, a table, boxes of a grid.
    "full": attngen.Spec,
    "causal": lambda: attngen.Spec(mask=masks.causal()),
    "window": lambda: attngen.Spec(mask=masks.sliding_window(256)),
    "sinks": lambda: attngen.Spec(mask=(masks.sink(4) | masks.sliding_window(256)) & masks.causal()),
    "documents": lambda: attngen.Spec(mask=masks.document(IDS) & masks.causal()),
    "neighborhood": lambda: attngen.mechanisms.neighborhood((32, 32), (7, 7)),
    # Index classes: per head, relative, full pair.
    "alibi": lambda: attngen.Spec(mask=masks.causal(), score=scores.alibi(torch.ones(4))),
    "relative": lambda: attngen.Spec(score=scores.relative_bias(torch.ones(4, 9))),
    "soft_cap": lambda: attngen.Spec(mask=masks.causal(), score=scores.soft_cap(30.0)),
    # Normalizers and weights.
    "sigmoid": lambda: attngen.Spec(mask=masks.causal(), normalizer=normalizers.sigmoid()),
    "entmax": lambda: attngen.Spec(normalizer=normalizers.entmax(1.5)),
    "dropout": lambda: attngen.Spec(weight=weights.dropout(0.1, seed=3)),
    "dual_triangle": lambda: attngen.mechanisms.dual_triangle(),
}
ELEMENTS: dict[str, Any] = {"documents": {"ids": ("int64", 1)}}
WANTED: dict[str, frozenset[str]] = {"alibi": frozenset({"slopes"}), "relative": frozenset({"table"})}
"""The tensors whose gradients are built."""


def built(
    folder: Path,
    name: str,
    arch: str,
    d: int,
    *,
    kernel: str = "forward",
    aligned: bool = True,
    dtype: str = "bf16",
    config: Any = None,
) -> Binary:
    """A kernel of a spec; `config` is that of the kernel itself, the shipped one if None."""
    plan = lowered(plan_of(SPECS[name](), dtype=dtype, d=d, dv=d, **ELEMENTS.get(name, {})))
    major, wanted = int(arch[3:]) // 10, WANTED.get(name, frozenset())
    path = folder / "kernels.py"
    if kernel == "forward":
        own: TritonConfig = config or default(plan, major)
        given, text = parameters(plan), emit(plan, own).text
    else:
        both = default_backward(plan, major)
        own = both.of(kernel)
        given, text = backward_parameters(plan, wanted), emit_backward(plan, both, wanted).text
    path.write_text(text)
    return build_ahead(
        path,
        kernel,
        given.signature,
        given.constants(aligned),
        given.divisible(aligned),
        arch,
        own.num_warps,
        own.num_stages,
    )


def linted(name: str, arch: str, d: int, **how: Any) -> dict[str, Any]:
    """What the kernel takes, and what is wrong with it."""
    with tempfile.TemporaryDirectory() as folder:
        found = lint(built(Path(folder), name, arch, d, **how))
    return asdict(found) | {"complaints": complaints(found, built_for(arch))}


def main() -> None:
    import triton

    for line in sys.stdin:
        try:
            found = linted(**json.loads(line)) | {"triton": triton.__version__}
        except Exception:
            found = {"failed": traceback.format_exc()}
        print(json.dumps(found), flush=True)


if __name__ == "__main__":
    main()
