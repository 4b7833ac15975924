"""Gradients of a kernel beside float64 autograd of its reference."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import pytest
import torch
from torch import Tensor

from attngen.codegen.backends.cpu.backend import CpuBackend
from attngen.codegen.backends.triton.backend import TritonBackend
from tests.end_to_end.oracle import BACKEND, BOUND, LSE_BOUND, error, kernel_of

Change = Callable[[Tensor], Tensor]


def leaf(tensor: Tensor) -> Tensor:
    """The same memory, as a tensor that requires grad."""
    return tensor.detach().requires_grad_()


def cotangents(results: Sequence[Tensor], seed: int = 11) -> list[Tensor]:
    """A random cotangent for every result, 0 where it is -inf: a log-sum-exp of nothing."""
    generator = torch.Generator().manual_seed(seed)
    drawn = [torch.randn(t.shape, generator=generator, dtype=torch.float64) for t in results]
    return [torch.where(t.isneginf(), 0.0, d).to(t.dtype) for t, d in zip(results, drawn, strict=True)]


class Count:
    """How many backward kernels the backend prepared and ran."""

    def __init__(self) -> None:
        self.launches = 0


def on_backend(patch: pytest.MonkeyPatch) -> Count:
    """Counts the launches of the backwards of the backend: nothing else may stand in for them."""
    kind: Any = TritonBackend if BACKEND == "triton" else CpuBackend
    count, prepare = Count(), kind.prepare_backward

    def counted(self: Any, *given: Any) -> Any:
        launch = prepare(self, *given)

        def run(*arguments: Any) -> Any:
            count.launches += 1
            return launch(*arguments)

        return run

    patch.setattr(kind, "prepare_backward", counted)
    return count


def run(
    call: Callable[..., Any],
    qkv: Sequence[Tensor],
    by: Sequence[Tensor],
    *,
    lse: bool = False,
    dout: Change | None = None,
    seed: int = 11,
    **inputs: Any,
) -> tuple[list[Tensor], list[Tensor]]:
    """Results (out, and the log-sum-exp with `lse`), and the gradients by `by`; zeros where there is none."""
    results = call(*qkv, return_lse=lse, **inputs)
    results = list(results) if lse else [results]
    given = cotangents(results, seed)
    if dout is not None:
        given[0] = dout(given[0])
    found = torch.autograd.grad(results, by, given, allow_unused=True, retain_graph=True)
    return [t.detach() for t in results], [
        torch.zeros_like(t) if g is None else g for t, g in zip(by, found, strict=True)
    ]


def check_gradients(
    kernel: Any,
    q: Tensor,
    k: Tensor,
    v: Tensor,
    *,
    by: Mapping[str, Tensor] | None = None,
    lse: bool = False,
    bound: float | None = None,
    bounds: Mapping[str, float] | None = None,
    dout: Change | None = None,
    qkv: bool = True,
    **inputs: Any,
) -> dict[str, Tensor]:
    """Compares result, log-sum-exp and the gradients by q, k, v, the inputs and the captured tensors `by`.

    Gives the gradients of the kernel by name. `bounds`: of single gradients. `qkv`: whether q, k and v require grad.
    """
    kernel = kernel_of(kernel)
    given = dict(zip("qkv", [leaf(t) if qkv else t for t in (q, k, v)], strict=True))
    inputs = {name: leaf(t) if t.is_floating_point() else t for name, t in inputs.items()}
    named = {**given, **inputs, **(by or {})}
    named = {name: t for name, t in named.items() if t.requires_grad}
    with pytest.MonkeyPatch.context() as patch:
        kernel.engine()._backward_launches.clear()
        count = on_backend(patch)
        results, found = run(kernel, [*given.values()], [*named.values()], lse=lse, dout=dout, **inputs)
        assert count.launches == 1, "the backward did not run on the backend"
        kernel.engine()._backward_launches.clear()
    exact_results, exact = run(kernel.reference, [*given.values()], [*named.values()], lse=lse, dout=dout, **inputs)
    allowed = BOUND[q.dtype] if bound is None else bound
    assert error(results[0], exact_results[0]) <= allowed, f"result: {error(results[0], exact_results[0])}"
    if lse:
        assert error(results[1], exact_results[1]) <= LSE_BOUND[q.dtype]
    for (name, tensor), one, other in zip(named.items(), found, exact, strict=True):
        assert (one.dtype, one.shape) == (tensor.dtype, tensor.shape), name
        compare(name, one, other, (bounds or {}).get(name, allowed))
    return dict(zip(named, found, strict=True))


TINY = 1e-5
"""What a gradient may be whose exact value is 0, for cotangents and operands of the size of 1."""


def compare(name: str, found: Tensor, exact: Tensor, allowed: float) -> None:
    """Fails unless the gradient is near, or tiny where the exact one is nothing but rounding."""
    if found.numel() == 0:
        return
    if float(exact.double().norm()) <= 1e-12:
        assert float(found.double().abs().max()) <= TINY, f"{name}: {float(found.abs().max())} instead of 0"
        return
    assert error(found, exact) <= allowed, f"gradient of {name}: {error(found, exact)}"
