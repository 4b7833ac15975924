"""Normalizers written out as declarations, and a way to run a text form: helpers for the tests of the reference."""

from __future__ import annotations

import torch
from torch import Tensor

from attngen.ir.parse import parse
from attngen.ir.reference import reference

SOFTMAX = """streaming softmax {
  phi: exp(s - m)  psi: exp(s - m)  anchor: s  finalize: safe_div(acc, mass)  lse: m + log(mass)
}"""
SIGMOID = "streaming sigmoid { phi: sigmoid(s) finalize: acc }"
SQUARED_RELU = "streaming relu2 { phi: relu(s) ** 2 finalize: acc / to_float(n_k) }"
SOFTPLUS = "streaming softplus_l1 { phi: softplus(s) psi: softplus(s) finalize: acc / mass }"
LINEAR = "streaming linear { phi: s psi: s finalize: safe_div(acc, mass) }"
PLAIN = "streaming none { phi: s finalize: acc }"
COG = """streaming cog {
  phi: sign(s) * exp(abs(s) - m)  psi: exp(abs(s) - m)  anchor: abs(s)  finalize: acc / mass  lse: m + log(mass)
}"""
SOFTPICK = """streaming softpick {
  phi: relu(exp(s - m) - exp(-m))  psi: abs(exp(s - m) - exp(-m))  anchor: relu(s)  finalize: safe_div(acc, mass)
}"""
LSSAR = """chained lssar {
  streaming first { phi: softplus(s) psi: softplus(s) finalize: acc }
  streaming second {
    phi: relu(4.0 * s - 0.25) ** 3  psi: relu(4.0 * s - 0.25) ** 3  finalize: safe_div(acc, mass)
  }
}"""
STICK = "ordered stick { direction: backward weight: sigmoid(s) log_keep: -softplus(s) }"


def with_sink(sink: str) -> str:
    """Softmax with the score of a virtual key."""
    return SOFTMAX.replace("anchor: s", f"anchor: s  sink: {sink}")


def run(
    body: str, tensors: dict[str, Tensor], space: str = "sequence", lse: bool = False
) -> Tensor | tuple[Tensor, ...]:
    """The reference on the body of a spec."""
    spec = parse(f"spec test over {space} {{ {body} }}")
    return reference(spec, tensors, return_lse=True) if lse else reference(spec, tensors)


def one(body: str, tensors: dict[str, Tensor], space: str = "sequence") -> Tensor:
    """The result alone."""
    out = run(body, tensors, space)
    assert isinstance(out, Tensor)
    return out


def branch(normalizer: str = SOFTMAX, rest: str = "") -> str:
    """A branch with this normalizer."""
    return f"branch {{ {rest} normalizer: {normalizer} }}"


def qkv(n_q: int = 5, n_k: int = 5, heads: int = 2, kv_heads: int = 2, d: int = 4, dv: int = 3) -> dict[str, Tensor]:
    """Random operands, the same every time."""
    generator = torch.Generator().manual_seed(n_q * 100 + n_k)

    def random(*shape: int) -> Tensor:
        return torch.randn(*shape, dtype=torch.float64, generator=generator)

    return {
        "q": random(2, heads, n_q, d),
        "k": random(2, kv_heads, n_k, d),
        "v": random(2, kv_heads, n_k, dv),
    }


def scores(t: dict[str, Tensor]) -> Tensor:
    """Scaled dot products."""
    return t["q"] @ t["k"].mT / t["q"].shape[-1] ** 0.5


def close(a: Tensor, b: Tensor, tolerance: float = 1e-12) -> None:
    """Equal up to rounding in float64."""
    torch.testing.assert_close(a, b, rtol=tolerance, atol=tolerance)
