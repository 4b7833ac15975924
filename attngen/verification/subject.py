"""The spec under verification: its kernels, its shapes, and how a call of it is compared with the oracle."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from attngen.errors import BoundsError, InputError
from attngen.ir import nodes
from attngen.ir.expr import Expr, op
from attngen.kernel import Kernel
from attngen.samples import Limits, Sample, Shape, limits, sample
from attngen.spec import Spec

if TYPE_CHECKING:
    from torch import Tensor

AWKWARD = (
    Shape(1, 2, 2, 17, 17, 8, 8),
    Shape(1, 2, 2, 1, 1, 8, 8),
    Shape(2, 4, 2, 33, 33, 8, 8),
    Shape(1, 2, 1, 19, 40, 8, 8),
    Shape(1, 2, 2, 40, 19, 8, 8),
    Shape(1, 2, 2, 37, 37, 20, 12),
    Shape(1, 2, 2, 131, 131, 8, 8),
)
"""One token, odd lengths, Nq != Nk both ways, shared key heads, Dv != D, several tiles."""

QUICK = 4
MOST_PAIRS = 1 << 24
"""The oracle is dense: larger calls are made smaller in batches and heads, or refused."""


@dataclass(frozen=True, slots=True)
class Subject:
    """The spec and where it runs. `given` replaces the awkward shapes."""

    spec: Spec
    backend: str | None
    device: str
    quick: bool
    given: Shape | None
    limits: Limits

    @classmethod
    def of(cls, spec: Spec, backend: str | None, device: str, quick: bool, given: Shape | None) -> Subject:
        return cls(spec, backend, device, quick, given, limits(spec))

    def shapes(self) -> tuple[Shape, ...]:
        """The shapes to try, as far as the captured tensors of the spec allow them."""
        if self.given is not None:
            return (self.given,)
        chosen = AWKWARD[:QUICK] if self.quick else AWKWARD
        return tuple(dict.fromkeys(self._small(self.limits.fit(shape)) for shape in chosen))

    def _small(self, shape: Shape) -> Shape:
        pairs = shape.nq * shape.nk
        while shape.b * shape.hq * pairs > MOST_PAIRS and shape.b * shape.hq > 1:
            b = 1 if "b" not in self.limits.exact else shape.b
            fewer = replace(shape, b=b, hq=max(1, shape.hq // 2), hkv=1)
            if "h" in self.limits.exact or fewer == shape:
                break
            shape = fewer
        return shape

    def shape(self) -> Shape:
        """The shape for everything that is checked once: the first one that the oracle takes."""
        for shape in self.shapes():
            try:
                self.oracle(self.sample(shape, "fp32"))
            except (InputError, BoundsError):
                continue
            return shape
        raise InputError("no shape was found that the spec takes; give one with --shape")

    def sample(self, shape: Shape, dtype: str, seed: int = 0) -> Sample:
        """Random tensors for a call."""
        if shape.b * shape.hq * shape.nq * shape.nk > 4 * MOST_PAIRS:
            raise InputError(f"--shape: {shape} is too large for the dense oracle")
        return sample(self.spec, shape, dtype, device=self.device, seed=seed)

    def kernel(self, spec: Spec | None = None, layout: nodes.Layout = "bhnd") -> Kernel:
        """The kernel of the spec, or of a variant of it."""
        return Kernel(spec or self.spec, layout=layout, backend=self.backend)

    @property
    def has_lse(self) -> bool:
        """Whether calls give a log-sum-exp."""
        first = self.spec.ir.branches[0].normalizer
        return len(self.spec.ir.branches) == 1 and getattr(first, "lse", None) is not None

    def run(self, call: Sample, kernel: Kernel | None = None) -> tuple[Tensor, Tensor | None]:
        """The result and, if there is one, the log-sum-exp."""
        import torch

        kernel = kernel or self.kernel()
        with torch.no_grad():
            out = kernel(call.q, call.k, call.v, return_lse=self.has_lse, **call.inputs)
        return out if self.has_lse else (out, None)

    def oracle(self, call: Sample, kernel: Kernel | None = None) -> tuple[Tensor, Tensor | None]:
        """The same from the reference."""
        import torch

        kernel = kernel or self.kernel()
        with torch.no_grad():
            out = kernel.reference(call.q, call.k, call.v, return_lse=self.has_lse, **call.inputs)
        return out if self.has_lse else (out, None)

    def tensors(self, call: Sample) -> dict[str, Any]:
        """All tensors and numbers of a call by name."""
        captured = {name: binding.fetch() for name, binding in self.spec.bindings.items()}
        return {"q": call.q, "k": call.k, "v": call.v, **captured, **call.inputs}

    def hiding(self, condition: Expr) -> Spec:
        """The spec with a further condition on every mask."""

        def narrowed(branch: nodes.Branch) -> nodes.Branch:
            extra = tuple(replace(k, mask=op("and", k.mask, condition)) for k in branch.keysets)
            return replace(branch, mask=op("and", branch.mask, condition), keysets=extra)

        branches = tuple(narrowed(branch) for branch in self.spec.ir.branches)
        return Spec.from_ir(replace(self.spec.ir, branches=branches), self.spec.bindings)


def distance(found: Tensor, wanted: Tensor) -> float:
    """Relative Frobenius distance; entries that are equal, infinities included, count as no distance."""
    import torch

    found, wanted = found.double(), wanted.double()
    finite = torch.isfinite(wanted)
    if not bool((found[~finite] == wanted[~finite]).all()):
        return float("inf")
    gap = torch.where(finite, found - wanted, 0.0).norm()
    size = torch.where(finite, wanted, 0.0).norm()
    return float(gap / size) if float(size) else float(gap)
