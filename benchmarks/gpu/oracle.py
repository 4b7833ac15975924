"""One case against the float64 reference on the device: result, log-sum-exp, gradients, and the same bits twice."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

import attngen
from attngen import masks
from attngen.errors import UnsupportedError
from benchmarks.gpu.session import Result, reason_of
from tests.codegen.backends.triton.cases import CASES, Case
from tests.end_to_end.oracle import BOUND, LSE_BOUND, error

TINY = 1e-5
"""What a gradient may be whose exact value is 0."""
DRY = ("batches, GQA, wide values", "documents", "entmax")


def cases(dry: bool) -> dict[str, Case]:
    """The cases of the interpreter's tests, and larger ones in bf16."""
    if dry:
        return {name: CASES[name] for name in DRY} | {"larger, causal": _larger(attngen.Spec, 40, 16)}
    return CASES | larger()


def larger() -> dict[str, Case]:
    """bf16, lengths of whole tiles and not."""
    ids = torch.arange(4096) // 300
    specs = {
        "full": attngen.Spec,
        "causal": lambda: attngen.Spec(mask=masks.causal()),
        "window": lambda: attngen.Spec(mask=masks.sliding_window(257)),
        "documents": lambda: attngen.Spec(mask=masks.document(ids) & masks.causal()),
    }
    found = {}
    for name, spec in specs.items():
        for d, n in ((64, 1024), (128, 1024), (64, 4096), (128, 4096), (128, 2999)):
            found[f"{name}, N {n}, D {d}"] = _larger(spec, n, d)
    return found


def _larger(spec: Any, n: int, d: int) -> Case:
    return Case(spec, h=4, hk=2, n_q=n, n_k=n, d=d, dv=d, dtype=torch.bfloat16, lse=True)


def run(case: Case, device: str) -> Result:
    """Errors by name, and whether all are within the bounds of their dtype."""
    q, k, v = operands(case, device)
    spec = case.spec()
    kernel = attngen.compile(spec, backend="triton", **case.kernel)
    # What the cases capture lies on the CPU.
    captured: dict[str, Any] = {i.name: spec.bindings[i.name].fetch() for i in spec.ir.inputs if i.axes}
    inputs = {name: tensor.to(device) for name, tensor in captured.items()}
    allowed = BOUND[case.dtype]
    with torch.no_grad():
        out = _pair(kernel(q, k, v, return_lse=case.lse, **inputs))
        again = _pair(kernel(q, k, v, return_lse=case.lse, **inputs))
        exact = _pair(kernel.reference(q, k, v, return_lse=case.lse, **inputs))
    found: Result = {"out": error(out[0], exact[0]), "bound": allowed, "same_bits": _same(out, again)}
    good = found["out"] <= allowed and found["same_bits"] and bool(out[0].isfinite().all())
    if case.lse:
        found["lse"] = lse_error(out[1], exact[1])
        good = good and found["lse"] <= LSE_BOUND[torch.float32]
    try:
        found["gradients"] = gradients(kernel, case, q, k, v, inputs)
        good = good and all(each <= allowed for each in found["gradients"].values())
    except UnsupportedError as problem:
        found["gradients"] = {"refused": str(problem)}
    except Exception as problem:
        # What the forward found stays; the session looks whether the device still answers.
        found["gradients"] = {"failed": reason_of(problem)}
        good = False
    return found | {"good": good}


def gradients(kernel: Any, case: Case, q: Tensor, k: Tensor, v: Tensor, inputs: dict[str, Tensor]) -> dict[str, float]:
    """Errors of the gradients of q, k and v; the cotangent of a log-sum-exp of nothing is 0."""
    found = _gradients(kernel, case, (q, k, v), inputs)
    exact = _gradients(kernel.reference, case, (q, k, v), inputs)
    return {name: _error(one, other) for name, one, other in zip("qkv", found, exact, strict=True)}


def _gradients(call: Any, case: Case, given: tuple[Tensor, ...], inputs: dict[str, Tensor]) -> tuple[Tensor, ...]:
    leaves = [t.detach().requires_grad_() for t in given]
    results = _pair(call(*leaves, return_lse=case.lse, **inputs))
    generator = torch.Generator().manual_seed(11)
    drawn = [torch.randn(t.shape, generator=generator, dtype=torch.float64).to(t.device) for t in results]
    cotangents = [torch.where(t.isneginf(), 0.0, d).to(t.dtype) for t, d in zip(results, drawn, strict=True)]
    got = torch.autograd.grad(results, leaves, cotangents, allow_unused=True)
    return tuple(torch.zeros_like(t) if g is None else g for t, g in zip(leaves, got, strict=True))


def _error(found: Tensor, exact: Tensor) -> float:
    if float(exact.double().norm()) <= 1e-12:
        return 0.0 if float(found.double().abs().max()) <= TINY else float("inf")
    return error(found, exact)


def lse_error(found: Tensor, exact: Tensor) -> float:
    """The largest difference, relative to 1 + |exact|; infinite where not the same rows are empty."""
    if not torch.equal(found.isneginf(), exact.isneginf()):
        return float("inf")
    finite = exact.isfinite()
    gap = (found.double() - exact)[finite].abs() / (1 + exact[finite].abs())
    return float(gap.max()) if gap.numel() else 0.0


def operands(case: Case, device: str) -> tuple[Tensor, ...]:
    """q, k and v of a case, the same on every device."""
    generator = torch.Generator().manual_seed(0)
    shapes = ((case.h, case.n_q, case.d), (case.hk, case.n_k, case.d), (case.hk, case.n_k, case.dv))
    made = [torch.randn((case.b, *shape), generator=generator).to(case.dtype) for shape in shapes]
    if case.kernel.get("layout") == "bnhd":
        made = [t.transpose(1, 2).contiguous() for t in made]
    return tuple(t.to(device) for t in made)


def _pair(results: Any) -> list[Tensor]:
    return list(results) if isinstance(results, tuple) else [results]


def _same(one: list[Tensor], other: list[Tensor]) -> bool:
    return all(torch.equal(a, b) for a, b in zip(one, other, strict=True))
