"""Runs cases under Triton's interpreter, which has to be chosen before Triton is imported: its own process.

For every name of a case that comes in, a line of JSON goes out: relative errors against float64, or a message. Choices
of a config may follow the name: `causal|loads=descriptor,loops=one`.
"""

from __future__ import annotations

import contextlib
import json
import sys
import traceback
import warnings
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

import attngen
from attngen.codegen.backends.triton.backend import TritonBackend
from attngen.codegen.backends.triton.config import GradientConfig
from attngen.codegen.plan import Plan
from tests.codegen.backends.triton.cases import CASES, Case
from tests.end_to_end.oracle import error


def run(case: Case) -> dict[str, object]:
    generator = torch.Generator().manual_seed(0)

    def random(*shape: int) -> Tensor:
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
    given = {name: random(*shape) for name, shape in case.inputs.items()}
    kernel = attngen.compile(case.spec(), backend="triton", **case.kernel)
    pairs = []
    if case.learned is None or case.lse:
        with torch.no_grad():
            pairs.append(tuple(results(f, case, given, q, k, v) for f in (kernel, kernel.reference)))
    found: dict[str, object] = {}
    if case.learned is not None:
        # The forward that saves rows for the backward is another kernel.
        (saving, ours), (exact, theirs) = (gradients(f, case, given, q, k, v) for f in (kernel, kernel.reference))
        pairs.append((saving, exact))
        found["gradients"] = [error(a, b) for a, b in zip(ours, theirs, strict=True)]
        found["shapes"] = all(a.shape == b.shape and a.dtype == b.dtype for a, b in zip(ours, theirs, strict=True))
        if case.learned:
            # Where atomics or sums of the host have a part.
            _, again = gradients(kernel, case, given, q, k, v)
            found["same again"] = all(torch.equal(a, b) for a, b in zip(ours, again, strict=True))
    outs = [ours[0] for ours, _ in pairs]
    found |= {
        "out": max(error(ours[0], exact[0]) for ours, exact in pairs),
        "dtype": str(outs[0].dtype),
        "finite": all(bool(out.isfinite().all()) for out in outs),
    }
    if case.lse:
        found["lse"] = max(lse_error(ours[1], exact[1]) for ours, exact in pairs)
    return found


def results(call: Callable[..., Any], case: Case, inputs: dict[str, Tensor], *qkv: Tensor) -> list[Tensor]:
    """The result, and the log-sum-exp if the case has one."""
    found = call(*qkv, return_lse=case.lse, **inputs)
    return list(found) if case.lse else [found]


def lse_error(lse: Tensor, exact: Tensor) -> float:
    """The greatest gap, relative to numbers beyond 1; infinite where only one is -inf."""
    if not torch.equal(lse.isneginf(), exact.isneginf()):
        return float("inf")
    finite = exact.isfinite()
    gap = (lse.double() - exact)[finite].abs() / (1 + exact[finite].abs())
    return float(gap.max()) if gap.numel() else 0.0


@contextlib.contextmanager
def chosen(choices: dict[str, str]) -> Iterator[None]:
    """Has the backend take configs with these choices."""
    configs, both = TritonBackend.configs, TritonBackend.configs_backward

    def forward(self: TritonBackend, plan: Plan) -> Any:
        return tuple(replace(config, **choices) for config in configs(self, plan))  # type: ignore[arg-type]

    def backward(self: TritonBackend, plan: Plan) -> Any:
        return tuple(
            GradientConfig(replace(c.queries, **choices), replace(c.keys, **choices))  # type: ignore[arg-type]
            for c in both(self, plan)
        )

    TritonBackend.configs, TritonBackend.configs_backward = forward, backward  # type: ignore[method-assign]
    try:
        yield
    finally:
        TritonBackend.configs, TritonBackend.configs_backward = configs, both  # type: ignore[method-assign]


def gradients(
    call: Callable[..., Any], case: Case, inputs: dict[str, Tensor], *qkv: Tensor
) -> tuple[list[Tensor], list[Tensor]]:
    """The results, and gradients by q, k, v, the inputs and what is learned, for random cotangents of the results."""
    leaves = [t.detach().requires_grad_() for t in qkv]
    named = {name: t.detach().requires_grad_() for name, t in inputs.items()}
    found = results(call, case, named, *leaves)
    generator = torch.Generator().manual_seed(7)
    given = [torch.randn(t.shape, generator=generator).to(case.dtype).to(t.dtype) for t in found]
    given = [torch.where(t.isneginf(), 0.0, g) for t, g in zip(found, given, strict=True)]
    wanted = [*leaves, *named.values(), *(case.learned or ())]
    return [t.detach() for t in found], list(torch.autograd.grad(found, wanted, given))


def main() -> None:
    warnings.simplefilter("error")
    for line in sys.stdin:
        name, _, choices = line.strip().partition("|")
        try:
            with chosen(dict(choice.split("=") for choice in choices.split(",") if choice)):
                found = run(CASES[name])
        except Exception:
            found = {"failed": traceback.format_exc()}
        print(json.dumps({"name": line.strip(), **found}), flush=True)


main()
