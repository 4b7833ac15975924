"""Linear attention beside the reference and beside dense formulas: all keys, causal by chunks, and with a decay."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

import attngen
from attngen import masks, mechanisms
from attngen.codegen.lower.reach import CHUNK
from attngen.ir.expr import op, sym
from tests.end_to_end.gradients import check_gradients, compare, leaf, run
from tests.end_to_end.oracle import BACKEND, BOUND, check, error, kernel_of, operands, random

pytestmark = pytest.mark.cxx
D, DV, H = 8, 13, 4
X = sym("x")
FEATURES: dict[str, tuple[Any, Any]] = {
    "elu": ("elu", lambda x: torch.nn.functional.elu(x) + 1),
    "softmax": ("softmax", lambda x: x.softmax(-1)),
    "relu": ("relu", torch.relu),
    "expression": (op("mul", op("maximum", X, 0), op("abs", op("tanh", X))), lambda x: x.clamp_min(0) * x.tanh().abs()),
}
"""The map as mechanisms take it, and in torch."""


def spec_of(kind: str, feature: str = "elu", normalizer: str = "linear") -> attngen.Spec:
    """`kind`: all keys, causal, or with a decay, which is causal too."""
    mask = masks.causal() if kind == "causal" else None
    return mechanisms.linear(FEATURES[feature][0], mask=mask, decay=kind == "decay", normalizer=normalizer)


def dense(
    q: Tensor, k: Tensor, v: Tensor, kind: str, feature: str, normalizer: str, log_decay: Tensor | None = None
) -> Any:
    """The pairs of tokens one by one, in float64."""
    q, k, v = (t.double() for t in (q, k, v))
    k, v = (t.repeat_interleave(q.shape[1] // t.shape[1], 1) for t in (k, v))
    phi = FEATURES[feature][1]
    weights = phi(q) @ phi(k).mT
    if kind != "all":
        weights = weights.tril()
    if log_decay is not None:
        total = log_decay.double().cumsum(2)
        gap = (total[..., :, None] - total[..., None, :]).tril()
        weights = weights * gap.exp()
    if normalizer == "none":
        return weights @ v
    mass = weights.sum(-1, keepdim=True)
    return weights @ v / torch.where(mass == 0, 1.0, mass)


def beside_the_formula(kind: str, feature: str, normalizer: str, qkv: Any, **inputs: Any) -> None:
    """The kernel, the reference and the formula agree in results and in every gradient."""
    spec = spec_of(kind, feature, normalizer)
    found = check_gradients(spec, *qkv, **inputs)
    by = {name: leaf(t) for name, t in (*zip("qkv", qkv, strict=True), *inputs.items())}

    def formula(q: Tensor, k: Tensor, v: Tensor, return_lse: bool) -> Any:
        return dense(q, k, v, kind, feature, normalizer, by.get("log_decay"))

    (exact,), gradients = run(formula, [by[name] for name in "qkv"], [*by.values()])
    assert error(kernel_of(spec)(*qkv, **inputs), exact) <= 1e-5
    for name, gradient in zip(by, gradients, strict=True):
        compare(name, found[name], gradient, 1e-5)


def decays(n: int, size: float = 1.0, h: int = H) -> Tensor:
    """Log decays (2, h, n) from -size to 0."""
    return -size * torch.rand(2, h, n, generator=torch.Generator().manual_seed(n))


LENGTHS = (1, CHUNK - 1, CHUNK, CHUNK + 1, 2 * CHUNK + 2)


@pytest.mark.parametrize("normalizer", ["linear", "none"])
@pytest.mark.parametrize("feature", FEATURES)
@pytest.mark.parametrize("kind", ["all", "causal"])
def test_lengths(kind: str, feature: str, normalizer: str) -> None:
    """Shorter than a chunk, whole chunks, and a query or two more; fewer and more keys than queries."""
    for n in LENGTHS if feature == "elu" else LENGTHS[-1:]:
        beside_the_formula(kind, feature, normalizer, operands(n_q=n, d=D, dv=DV))
    for n_q, n_k in ((5, 300), (300, 5), (CHUNK, CHUNK + 1), (CHUNK + 1, CHUNK)) if feature == "elu" else ():
        beside_the_formula(kind, feature, normalizer, operands(n_q=n_q, n_k=n_k, d=D, dv=DV))


@pytest.mark.parametrize("normalizer", ["linear", "none"])
@pytest.mark.parametrize("size", [0.0, 0.01, 1.0, 8.0])
def test_decays(size: float, normalizer: str) -> None:
    for n in LENGTHS[1:]:
        beside_the_formula("decay", "elu", normalizer, operands(n_q=n, d=D, dv=DV), log_decay=decays(n, size))


@pytest.mark.parametrize("feature", FEATURES)
def test_decays_of_every_map(feature: str) -> None:
    beside_the_formula("decay", feature, "linear", operands(n_q=130, d=D, dv=DV), log_decay=decays(130))


def test_growth() -> None:
    """Nothing says that a decay is below 0."""
    beside_the_formula("decay", "elu", "none", operands(n_q=200, d=D, dv=DV), log_decay=-decays(200, 0.1))


@pytest.mark.parametrize("at", [0, 1, CHUNK - 1, CHUNK, CHUNK + 1, 129])
def test_a_decay_of_minus_infinity_shuts(at: int) -> None:
    """What comes before is forgotten, whichever place of a chunk it is in."""
    q, k, v = operands(n_q=130, d=D, dv=DV)
    shut = decays(130)
    shut[..., at] = -torch.inf
    spec = spec_of("decay", normalizer="none")
    out = check(spec, q, k, v, log_decay=shut)
    alone = check(spec, *(t[:, :, at:] for t in (q, k, v)), log_decay=shut[:, :, at:])
    assert error(out[:, :, at:], alone.double()) <= 1e-5
    found = check_gradients(spec, q, k, v, log_decay=shut)
    assert not found["log_decay"][..., at].any()


def test_what_is_shut_off_from_all_mass_is_zero() -> None:
    """The token itself has no feature, and what came before it has no weight, however small."""
    for at in (CHUNK // 2, CHUNK, CHUNK + 5):
        q, k, v = operands(n_q=130, d=D, dv=DV)
        k[:, :, at] = -1.0
        shut = decays(130)
        shut[..., at] = -torch.inf
        out = check(spec_of("decay", "relu"), q, k, v, log_decay=shut)
        assert not out[:, :, at].any()


@pytest.mark.parametrize("low", [-30.0, -1000.0, -torch.inf])
def test_decays_that_leave_the_token_itself(low: float) -> None:
    q, k, v = operands(n_q=130, d=D, dv=DV)
    leaves = [leaf(t) for t in (q, k, v, torch.full((2, H, 130), low))]
    out = check(spec_of("decay"), *leaves[:3], log_decay=leaves[3])
    assert error(out, v.repeat_interleave(2, 1).double()) <= 1e-5
    found = torch.autograd.grad(out, leaves, random(2, H, 130, DV))
    assert all(t.isfinite().all() for t in found)
    assert all(float(t.abs().max()) <= 1e-5 for t in found[:2])


@pytest.mark.parametrize(("h", "hk"), [(4, 4), (6, 2), (5, 1)])
def test_heads(h: int, hk: int) -> None:
    for kind in ("all", "causal", "decay"):
        inputs: dict[str, Any] = {"log_decay": decays(70, h=h)} if kind == "decay" else {}
        beside_the_formula(kind, "elu", "linear", operands(h=h, hk=hk, n_q=70, d=D, dv=DV), **inputs)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision(dtype: torch.dtype) -> None:
    # A gradient passes three roundings: of what is made, of its own gradient, and its own.
    bounds = dict.fromkeys("qk", 2 * BOUND[dtype])
    spec = spec_of("causal" if dtype == torch.bfloat16 else "all")
    for n in (1, CHUNK + 1, 200):
        check_gradients(spec, *operands(n_q=n, d=D, dv=DV, dtype=dtype), bounds=bounds)


def test_sums_beyond_half_precision() -> None:
    """The mass of 70000 keys is no number of float16; that of the kernel is one of float32."""
    q, k, v = operands(1, 1, 1, n_q=3, n_k=70_000, d=D, dv=DV, dtype=torch.float16)
    check(spec_of("all"), q, k, v)


def test_layouts_and_strides() -> None:
    q, k, v = operands(n_q=130, d=D, dv=DV)
    turned = [t.transpose(1, 2).contiguous() for t in (q, k, v)]
    gate = decays(130).transpose(1, 2).contiguous().transpose(1, 2)
    for kind in ("all", "causal", "decay"):
        inputs: dict[str, Any] = {"log_decay": gate} if kind == "decay" else {}
        check_gradients(spec_of(kind), *(t.transpose(1, 2) for t in turned), **inputs)
        check_gradients(attngen.compile(spec_of(kind), layout="bnhd", backend=BACKEND), *turned, **inputs)


EMPTY = [*((kind, *n) for kind in ("all", "causal") for n in ((0, 0), (5, 0), (0, 5))), ("decay", 0, 0)]


@pytest.mark.parametrize(("kind", "n_q", "n_k"), EMPTY)
def test_empty_sequences(kind: str, n_q: int, n_k: int) -> None:
    inputs: dict[str, Any] = {"log_decay": decays(0)} if kind == "decay" else {}
    found = check_gradients(spec_of(kind), *operands(n_q=n_q, n_k=n_k, d=D, dv=DV), **inputs)
    assert not any(t.any() for t in found.values())


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_later_keys_leak_nothing(value: float) -> None:
    """Neither within a chunk nor from one that nobody sees."""
    q, k, v = operands(n_q=70, n_k=200, d=D, dv=DV)
    cotangent = random(2, H, 70, DV, seed=5)

    def step(k: Tensor, v: Tensor, at: int) -> list[Tensor]:
        leaves = [leaf(t) for t in (q, k, v)]
        out = kernel_of(spec_of("causal"))(*leaves)
        seen = cotangent.clone()
        seen[:, :, at:] = 0.0
        return [out.detach()[:, :, :at], *torch.autograd.grad(out, leaves, seen)]

    for at in (50, CHUNK, 69, 130):
        bad = [t.clone() for t in (k, v)]
        for t in bad:
            t[:, :, at:] = value
        clean, found = step(k, v, at), step(bad[0], bad[1], at)
        assert error(found[0], clean[0].double()) <= 1e-6
        if at >= 70:
            assert all(error(one, other.double()) <= 1e-6 for one, other in zip(found, clean, strict=True))


def test_same_bits_at_any_number_of_threads() -> None:
    before, found = torch.get_num_threads(), []
    by = [leaf(t) for t in (*operands(n_q=1000, d=D, dv=DV), decays(1000, 0.1))]
    for count in (1, 2, 3, 1):
        torch.set_num_threads(count)
        out = kernel_of(spec_of("decay"))(*by[:3], log_decay=by[3])
        found.append([out.detach(), *torch.autograd.grad(out, by, random(2, H, 1000, DV))])
    torch.set_num_threads(before)
    assert all(torch.equal(a, b) for one in found for a, b in zip(one, found[0], strict=True))
