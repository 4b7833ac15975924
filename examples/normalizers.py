"""Three normalizers of one's own. Each is a declaration of a few lines; kernels and gradients are derived from it.

    python examples/normalizers.py

A declaration says what a score is worth (phi), what it adds to the sum that divides (psi), and which maximum is kept at
hand so that nothing overflows (anchor). What has to hold for that to be right is proven when it is declared, or the
declaration is refused: the third one is.
"""

from __future__ import annotations

import torch

import attngen
from attngen import masks, normalizers
from attngen.errors import SpecError

# (a) Squared ReLU over its sum: sparse weights that add up to 1. A row without a positive score gives 0. --------------


def squared_relu(s):
    return torch.relu(s) ** 2


relu_share = normalizers.streaming("relu_share", phi=squared_relu, psi=squared_relu)

# (b) A softmax that cannot become one-hot: scores are bent to stay between -CAP and CAP. The anchor is the maximum of
#     the bent scores, and the log-sum-exp is theirs. ------------------------------------------------------------------

CAP = 5.0


def bent(s):
    return CAP * torch.tanh(s / CAP)


def weight(s, m):
    return torch.exp(bent(s) - m)


bounded_softmax = normalizers.streaming(
    "bounded_softmax", phi=weight, psi=weight, anchor=bent, lse=lambda m, mass: m + torch.log(mass)
)

# (c) "No key gets less than a hundredth of what the best one gets." The floor lies relative to the maximum of the row,
#     which is only known in the end: sums that were taken before it rose cannot be corrected. -------------------------


def floored_softmax():
    def floored(s, m):
        return torch.clamp(torch.exp(s - m), min=0.01)

    return normalizers.streaming("floored_softmax", phi=floored, psi=floored, anchor=lambda s: s)


def compare(normalizer) -> None:
    """The kernel and its gradients next to the float64 reference."""
    spec = attngen.Spec(mask=masks.causal(), normalizer=normalizer, name=normalizer.ir.name)
    kernel = attngen.compile(spec)
    torch.manual_seed(0)
    q, k, v = (torch.randn(2, 4, 100, 32, requires_grad=True) for _ in range(3))
    out, expected = kernel(q, k, v), kernel.reference(q, k, v)
    seed = torch.randn_like(out)
    found = torch.autograd.grad(out, (q, k, v), seed)
    wanted = torch.autograd.grad(expected, (q, k, v), seed.double())
    pairs = zip(("out", "dq", "dk", "dv"), (out.detach(), *found), (expected.detach(), *wanted), strict=True)
    errors = {name: float((a.double() - b).norm() / b.norm()) for name, a, b in pairs}
    print(f"{spec.ir.name}: " + ", ".join(f"{name} {error:.1e}" for name, error in errors.items()))
    assert max(errors.values()) < 1e-5


def main() -> None:
    print("relative error against the float64 reference")
    compare(relu_share)
    compare(bounded_softmax)
    print()
    try:
        floored_softmax()
    except SpecError as error:
        print(f"refused, as it should be:\n{error}")
    else:
        raise SystemExit("floored_softmax is no normalizer that can run, but it was not refused")


if __name__ == "__main__":
    main()
