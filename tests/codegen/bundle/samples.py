"""A small manifest."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from attngen.codegen.bundle.files import MANIFEST, measure
from attngen.codegen.bundle.manifest import BundledKernel, BundledProblem, Manifest, Variant, dump
from attngen.codegen.problem import Operand, Problem

VARIANT = Variant(
    name="aligned",
    cubin="forward.aligned.cubin",
    symbol="forward",
    threads=128,
    shared=1024,
    passed=(("q_data", "*bf16"), ("n", "i64")),
    global_scratch=(0, 1),
    profile_scratch=(0, 1),
    resources={"registers": 64},
    complaints=("It spills.",),
    metadata={"target": {"arch": 90}},
)
KERNELS = tuple(
    BundledKernel(
        role=role,
        arch="sm_90",
        entry=role,
        source="forward.py",
        config={"block_m": 128},
        options=options,
        signature=(("q_data", "*bf16"), ("n", "i64"), ("q_stride3", "i64")),
        pointers=("q_data",),
        strides=(),
        channels=("q_stride3",),
        variants=(VARIANT,),
    )
    # What a backward would bring: roles of its own, told apart by options.
    for role, options in (("forward", {}), ("queries", {"wanted": ["slopes"]}), ("queries", {"wanted": []}))
)
PROBLEM = Problem("bf16", (Operand("q", "bfloat16", 4, 64), Operand("v", "bfloat16", 4, 32)), True)


def manifest(**changes: Any) -> Manifest:
    given: dict[str, Any] = {
        "attngen": "1.2",
        "backend": "triton",
        "compilers": {"triton": "3"},
        "name": "causal",
        "spec": "spec causal",
        "layout": "bhnd",
        "numbers": {"window": 5, "cap": 0.5, "far": float("inf"), "on": True},
        "problems": (BundledProblem(PROBLEM, "plan\n  branch", KERNELS),),
    }
    return Manifest(**given | changes)


def written(directory: Path) -> Path:
    """A directory with two files and their manifest."""
    (directory / "sm_90").mkdir(parents=True)
    (directory / "sm_90" / "a.cubin").write_bytes(bytes(range(256)))
    (directory / "forward.py").write_text("x = 1\n")
    (directory / MANIFEST).write_text(dump(manifest(files=measure(directory))))
    return directory
