"""Bundles whose launches run the bundled source under Triton's interpreter, from nothing but what a driver is given.

Triton has to be told before it is imported: a process of its own. One line of JSON for each case: its name and the
relative errors against float64, or a message. Results come first from the forward alone; then once more, with
gradients, from the forward that saves rows and the three kernels of the backward.
"""

from __future__ import annotations

import ctypes
import json
import tempfile
import traceback
import warnings
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

import attngen
from attngen import masks, normalizers, scores
from attngen.codegen.backends.triton import module
from attngen.codegen.bundle.files import Bundle, open_bundle
from attngen.codegen.bundle.manifest import BundledKernel, Variant
from attngen.codegen.bundle.packing import ctype
from attngen.ir.nodes import Layout
from tests.aot import pretend
from tests.end_to_end.oracle import error

ELEMENTS = {"*bf16": "bfloat16", "*fp16": "float16", "*fp32": "float32", "*i32": "int32", "*i64": "int64"}
Spec = attngen.Spec


@dataclass
class Interpreting(pretend.Recorder):
    """Reads the parameters where a driver would, and calls the source with them."""

    bundle: Bundle | None = None
    used: set[tuple[str, str]] = field(default_factory=set)

    def launch(self, kernel: int, grid: Any, threads: int, shared: int, device: torch.device, parameters: Any) -> None:
        assert self.bundle is not None
        found, variant = self._of(self.loaded[kernel][0])
        self.used.add((found.title, variant.name))
        values: dict[str, Any] = dict.fromkeys(found.channels, 1)
        for (name, kind), at in zip(variant.passed, parameters, strict=True):
            value = ctype(kind).from_address(at).value
            values[name] = memory(value, kind) if kind in ELEMENTS else value
        function = getattr(module.load(self.bundle.directory / found.source), found.entry)
        # What is a constant of the machine code is an argument of the source.
        constants = {name: variant.name == "aligned" for name in function.arg_names if name not in values}
        with np.errstate(all="ignore"):
            function[grid](*(values[name] for name, _ in found.signature), **constants)

    def _of(self, image: bytes) -> tuple[BundledKernel, Variant]:
        assert self.bundle is not None
        for kernel in (kernel for problem in self.bundle.manifest.problems for kernel in problem.kernels):
            for variant in kernel.variants:
                if self.bundle.read(variant.cubin) == image:
                    return kernel, variant
        raise AssertionError(image)


def memory(address: int, kind: str) -> Tensor:
    """A tensor that begins at an address; kernels take no more of it. The interpreter wants one size for an address."""
    there = (ctypes.c_char * 8).from_address(address)
    return torch.frombuffer(there, dtype=getattr(torch, ELEMENTS[kind]))


@dataclass(frozen=True)
class Case:
    """A spec and a call of it."""

    spec: Callable[[], Spec]
    heads: tuple[int, int] = (2, 2)
    n: tuple[int, int] = (37, 37)
    d: tuple[int, int] = (16, 16)
    dtype: str = "fp32"
    lse: bool = False
    layout: Layout = "bhnd"
    learned: bool = False


IDS, SLOPES = torch.arange(37) // 7, torch.tensor([0.5, 0.25])
CASES = {
    "window, GQA, wide values": Case(
        lambda: Spec(mask=masks.sliding_window(9)), heads=(4, 2), n=(33, 65), d=(32, 16), lse=True
    ),
    "causal, GQA": Case(lambda: Spec(mask=masks.causal()), heads=(4, 2)),
    "alibi, bf16, tokens before heads": Case(
        lambda: Spec(mask=masks.causal(), score=scores.alibi(SLOPES)), dtype="bf16", layout="bnhd"
    ),
    "learned slopes": Case(lambda: Spec(mask=masks.causal(), score=scores.alibi(SLOPES)), learned=True),
    "learned bias": Case(lambda: Spec(score=scores.relative_bias(torch.randn(2, 73))), learned=True),
    "documents, odd width": Case(lambda: Spec(mask=masks.document(IDS)), d=(17, 17), lse=True),
    "sigmoid": Case(lambda: Spec(mask=masks.causal(), normalizer=normalizers.sigmoid(-1.0))),
    "three passes": Case(lambda: Spec(mask=masks.causal(), normalizer=normalizers.lssar(3, 0.5))),
    "dual triangle": Case(attngen.mechanisms.dual_triangle),
}


def run(case: Case, folder: Path) -> dict[str, Any]:
    spec = case.spec()
    options: dict[str, Any] = {"archs": ["sm_90"], "dtypes": [case.dtype], "head_dims": [case.d[0]]}
    attngen.build_bundle(
        spec, folder / "bundle", value_dim=case.d[1], layout=case.layout, build=pretend.build, **options
    )
    bundle = open_bundle(folder / "bundle")
    driver = Interpreting(pretend.passed_of(bundle), bundle=bundle)
    captured: dict[str, Any] = {i.name: spec.bindings[i.name].fetch() for i in spec.ir.inputs if i.axes}
    kernel = attngen.load_bundle(folder / "bundle", captured, driver=driver)
    dtype = {"fp32": torch.float32, "bf16": torch.bfloat16}[case.dtype]
    sizes = zip((case.heads[0], case.heads[1], case.heads[1]), (case.n[0], *[case.n[1]] * 2), strict=True)
    widths = (case.d[0], case.d[0], case.d[1])
    q, k, v = (torch.randn(2, h, n, w).to(dtype) for (h, n), w in zip(sizes, widths, strict=True))
    if case.layout == "bnhd":
        q, k, v = (t.transpose(1, 2).contiguous() for t in (q, k, v))
    found: dict[str, Any] = {"dtype": case.dtype}
    learned = [t.requires_grad_() for t in captured.values() if case.learned]
    with torch.no_grad():
        out = kernel(q, k, v, return_lse=case.lse)
        exact = kernel.reference(q, k, v, return_lse=case.lse)
    if case.lse:
        (out, lse), (exact, exact_lse) = out, exact
        found["lse"] = error(lse, exact_lse)
    ours, theirs = (gradients(call, case, learned, q, k, v) for call in (kernel, kernel.reference))
    found["gradients"] = [error(a, b) for a, b in zip(ours, theirs, strict=True)]
    found["used"] = sorted(driver.used)
    return found | {"out": error(out, exact)}


def gradients(call: Callable[..., Any], case: Case, learned: list[Tensor], *qkv: Tensor) -> list[Tensor]:
    """By q, k, v and what is learned, for random cotangents of the result and of the log-sum-exp."""
    leaves = [t.detach().requires_grad_() for t in qkv]
    results = call(*leaves, return_lse=case.lse)
    results = list(results) if case.lse else [results]
    generator = torch.Generator().manual_seed(7)
    given = [torch.randn(t.shape, generator=generator).to(t.dtype) for t in results]
    return list(torch.autograd.grad(results, [*leaves, *learned], given))


def main() -> None:
    warnings.simplefilter("error")
    torch.manual_seed(0)
    patch = pytest.MonkeyPatch()
    pretend.pretend(patch)
    for name, case in CASES.items():
        try:
            with tempfile.TemporaryDirectory() as folder:
                found = run(case, Path(folder))
        except Exception:
            found = {"failed": traceback.format_exc()}
        print(json.dumps({"name": name, **found}), flush=True)
    patch.undo()


main()
