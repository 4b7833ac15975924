"""Results and gradients of one call: by the kernel, by dense torch, and by the float64 oracle."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import torch

from attngen.errors import AttngenError
from attngen.ir.walk import views
from attngen.samples.tensors import DTYPES
from attngen.verification.numerics_dense import formula, same_precision

if TYPE_CHECKING:
    from torch import Tensor

    from attngen.kernel import Kernel
    from attngen.samples import Sample
    from attngen.verification.subject import Subject

GRADIENTS = ("dq", "dk", "dv")
Results = dict[str, "Tensor"]
"""By quantity: O, LSE, dq, dk, dv; a log-sum-exp or gradients may be missing."""


@dataclass(frozen=True, slots=True, eq=False)
class Trial:
    """One call of a kernel, and the ways to compute it. Without `gradients` they give O and LSE alone."""

    subject: Subject
    kernel: Kernel
    call: Sample

    def by_kernel(self) -> tuple[Results, str]:
        """What the kernel gives; the text says why there are no gradients, or is empty."""

        def run(q: Tensor, k: Tensor, v: Tensor) -> Any:
            return self.kernel(q, k, v, return_lse=self.subject.has_lse, **self.call.inputs)

        # The result is that of a call without gradients, which a kernel may compute in another way.
        found = self._results(run, self.call.q.dtype, False)
        try:
            return {**self._results(run, self.call.q.dtype, True), **found}, ""
        except AttngenError as problem:
            return found, problem.message

    def exact(self, gradients: bool = True) -> Results:
        """What the oracle gives."""

        def run(q: Tensor, k: Tensor, v: Tensor) -> Any:
            return self.kernel.reference(q, k, v, return_lse=self.subject.has_lse, **self.call.inputs)

        return self._results(run, torch.float64, gradients)

    def by_dense(self, gradients: bool = True) -> Results | None:
        """What dense torch gives in the dtype of the call; None where the spec has no such form."""

        def run(q: Tensor, k: Tensor, v: Tensor) -> Any:
            found = same_precision(self.kernel.spec.ir, self._tensors(q, k, v))
            if found is None:
                raise LookupError
            return found if self.subject.has_lse else found[0]

        try:
            return self._results(run, self.call.q.dtype, gradients)
        except LookupError:
            return None

    def by_formula(self, gradients: bool = True) -> Results:
        """What the formula gives in single precision, whatever the dtype of the call is."""

        def run(q: Tensor, k: Tensor, v: Tensor) -> Any:
            return formula(self.kernel.spec.ir, self._tensors(q, k, v), self.subject.has_lse)

        return self._results(run, torch.float32, gradients)

    def upstream(self, shape: Sequence[int]) -> Tensor:
        """The gradient that arrives at a result: standard normal, the same for every way to compute."""
        made = torch.randn(shape, generator=torch.Generator().manual_seed(99), dtype=torch.float64)
        return made.to(self.call.q.device, self.call.q.dtype)

    def _tensors(self, *qkv: Tensor) -> dict[str, Any]:
        return {**self.subject.tensors(self.call), **dict(zip("qkv", qkv, strict=True))}

    def _results(self, run: Callable[..., Any], dtype: torch.dtype, gradients: bool) -> Results:
        leaves = [t.detach().to(dtype).requires_grad_(gradients) for t in (self.call.q, self.call.k, self.call.v)]
        with torch.set_grad_enabled(gradients):
            given = run(*leaves)
        out, lse = given if self.subject.has_lse else (given, None)
        results = {"O": out.detach()} if lse is None else {"O": out.detach(), "LSE": lse.detach()}
        if not gradients:
            return results
        found: Sequence[Tensor | None] = (None,) * 3  # where no query meets a key
        if out.requires_grad:
            found = torch.autograd.grad(out, leaves, self.upstream(out.shape).to(out.dtype), allow_unused=True)
        for name, leaf, grad in zip(GRADIENTS, leaves, found, strict=True):
            results[name] = torch.zeros_like(leaf) if grad is None else grad
        return results


def in_dtype(subject: Subject, call: Sample, dtype: str) -> Sample:
    """The call with q, k, v, and the inputs that are read like them, in a dtype."""
    wanted = getattr(torch, DTYPES[dtype])
    viewed = {view.tensor for view in views(subject.spec.ir)}
    inputs = {name: value.to(wanted) if name in viewed else value for name, value in call.inputs.items()}
    return replace(call, q=call.q.to(wanted), k=call.k.to(wanted), v=call.v.to(wanted), inputs=inputs)
