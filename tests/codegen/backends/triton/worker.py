"""Runs cases under Triton's interpreter, which has to be chosen before Triton is imported: its own process.

Arguments: names of cases. One line of JSON for each: its name, and the relative errors against float64, or a message.
"""

from __future__ import annotations

import json
import sys
import traceback
import warnings

import torch

import attngen
from tests.codegen.backends.triton.cases import CASES, Case
from tests.end_to_end.oracle import error


def run(case: Case) -> dict[str, object]:
    generator = torch.Generator().manual_seed(0)

    def random(*shape: int) -> torch.Tensor:
        return torch.randn(shape, generator=generator).to(case.dtype)

    shapes = [
        (case.b, heads, tokens, width)
        for heads, tokens, width in (
            (case.h, case.n_q, case.d),
            (case.hk, case.n_k, case.d),
            (case.hk, case.n_k, case.dv),
        )
    ]
    q, k, v = (random(*shape) for shape in shapes)
    if case.kernel.get("layout") == "bnhd":
        q, k, v = (t.transpose(1, 2).contiguous() for t in (q, k, v))
    kernel = attngen.compile(case.spec(), backend="triton", **case.kernel)
    out = kernel(q, k, v, return_lse=case.lse)
    exact = kernel.reference(q, k, v, return_lse=case.lse)
    found: dict[str, object] = {}
    if case.lse:
        (out, lse), (exact, exact_lse) = out, exact
        same = torch.equal(lse.isneginf(), exact_lse.isneginf())
        finite = exact_lse.isfinite()
        gap = (lse.double() - exact_lse)[finite].abs() / (1 + exact_lse[finite].abs())
        found["lse"] = float(gap.max()) if same and gap.numel() else 0.0 if same else float("inf")
    return found | {"out": error(out, exact), "dtype": str(out.dtype), "finite": bool(out.isfinite().all())}


def main(names: list[str]) -> None:
    warnings.simplefilter("error")
    for name in names:
        try:
            found = run(CASES[name])
        except Exception:
            found = {"failed": traceback.format_exc()}
        print(json.dumps({"name": name, **found}), flush=True)


main(sys.argv[1:])
