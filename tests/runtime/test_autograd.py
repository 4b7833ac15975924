"""Gradients by autograd: of every tensor of a call, by whichever way it got there, against the float64 reference."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

import attngen
from attngen import masks, mechanisms, normalizers, scores
from attngen.errors import InputError
from tests.end_to_end.oracle import error, operands, random
from tests.kinds import some
from tests.runtime.derivatives import BACKENDS, check_gradients, leaves, weighted

pytestmark = pytest.mark.cxx

SPECS: dict[str, Callable[[], attngen.Spec]] = {
    "full": lambda: attngen.Spec(),
    "causal": lambda: attngen.Spec(mask=masks.causal()),
    "window": lambda: attngen.Spec(mask=masks.sliding_window(5), score=scores.soft_cap(3.0)),
    "empty rows": lambda: attngen.Spec(mask="kv < q - 3"),
    "sigmoid": lambda: attngen.Spec(normalizer=normalizers.sigmoid(bias=-1.0)),
    "relu": lambda: attngen.Spec(mask=masks.causal(), normalizer=normalizers.relu()),
    "entmax": lambda: attngen.Spec(normalizer=normalizers.entmax(1.5)),
    "differential": lambda: mechanisms.differential(0.5),
    "scaled": lambda: attngen.Spec(scale=0.3),
}


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("name", some(SPECS, "sigmoid", "causal", "relu", "scaled", "window"))
def test_queries_keys_values(name: str, backend: str | None) -> None:
    kernel = attngen.compile(SPECS[name](), backend=backend)
    qkv = leaves(*operands(h=4, hk=4 if name == "differential" else 2, n_q=21, n_k=18, dv=8))
    check_gradients(kernel, qkv, qkv)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16])
def test_dtypes(dtype: torch.dtype, backend: str | None) -> None:
    qkv = leaves(*operands(n_q=33, dtype=dtype))
    check_gradients(attngen.compile(SPECS["causal"](), backend=backend), qkv, qkv)


@pytest.mark.parametrize("backend", BACKENDS)
def test_captured_tensors(backend: str | None) -> None:
    slopes, table, rows = leaves(random(4).abs(), random(4, 41), random(2, 4, 21))

    def score(score: Any, b: Any, h: Any, q: Any, kv: Any) -> Any:
        return score - slopes[h] * abs(q - kv) + table[h, q - kv + 20] * rows[b, h, q]

    qkv = leaves(*operands(n_q=21))
    check_gradients(attngen.compile(attngen.Spec(score=score), backend=backend), [*qkv, slopes, table, rows], qkv)


SCALARS: dict[str, Callable[[Tensor], attngen.Spec]] = {
    "scale": lambda tau: attngen.Spec(scale=tau),
    "temperature": lambda tau: attngen.Spec(score=lambda score: score * tau.exp()),
    "sink": lambda tau: attngen.Spec(mask=masks.causal(), normalizer=normalizers.softmax(sink=tau)),
    "bias": lambda tau: attngen.Spec(normalizer=normalizers.sigmoid(bias=tau)),
    "width": lambda tau: attngen.Spec(weight=attngen.weights.gaussian(tau)),
    "factor": lambda tau: mechanisms.differential(tau),
    "limit": lambda tau: attngen.Spec(mask=lambda q, kv: (q - kv) * 0.1 < tau, scale=tau),
}


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("name", some(SCALARS, "bias", "temperature", "width"))
def test_parameters_without_dimensions(name: str, backend: str | None) -> None:
    tau = torch.nn.Parameter(torch.tensor(0.7))
    kernel = attngen.compile(SCALARS[name](tau), backend=backend)
    qkv = leaves(*operands(hk=4, n_q=9, dtype=torch.float64))
    check_gradients(kernel, [*qkv, tau], qkv)
    parsed = attngen.compile(attngen.Spec.parse(str(kernel.spec)), backend=backend)
    assert parsed.spec.ir == kernel.spec.ir
    given = {i.name: tau.reshape(1) for i in parsed.spec.inputs_needed}
    assert torch.equal(parsed(*qkv, **given), kernel(*qkv))


def test_a_number_of_the_call_has_no_gradient() -> None:
    kernel = attngen.compile(attngen.Spec(score="score * c"))
    c = torch.tensor(0.5, requires_grad=True)
    with pytest.raises(InputError) as caught:
        kernel(*operands(n_q=9), c=c)
    assert str(caught.value) == (
        "c: requires grad, but the spec reads it as a number; read it as a tensor of one entry, c[0], or detach it"
    )
    with torch.no_grad():
        assert torch.equal(kernel(*operands(n_q=9), c=c), kernel(*operands(n_q=9), c=0.5))


@pytest.mark.parametrize("backend", BACKENDS)
def test_inputs_of_the_call(backend: str | None) -> None:
    kernel = attngen.compile(attngen.Spec(mask="kv < length[b]", score="score * gate[b, h, q]"), backend=backend)
    q, k, v, gate = leaves(*operands(n_q=21), random(2, 4, 21))
    check_gradients(kernel, [q, k, v, gate], (q, k, v), gate=gate, length=torch.tensor([5, 21]))


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("which", ["q", "k", "v", "gate"])
def test_one_tensor_alone(which: str, backend: str | None) -> None:
    kernel = attngen.compile(attngen.Spec(score="score * gate[h]"), backend=backend)
    given = dict(zip(("q", "k", "v"), operands(n_q=9), strict=True)) | {"gate": random(4)}
    given[which].requires_grad_()
    qkv = [given[name] for name in ("q", "k", "v")]
    check_gradients(kernel, [given[which]], qkv, gate=given["gate"])
    weighted(kernel(*qkv, gate=given["gate"])).backward()
    assert [name for name, tensor in given.items() if tensor.grad is not None] == [which]


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("of", ["out", "lse", "both"])
def test_log_sum_exp(of: str, backend: str | None) -> None:
    slopes = random(4).requires_grad_()
    spec = attngen.Spec(mask="kv < q - 2", score=lambda score, h, q, kv: score + slopes[h] * (q - kv))
    kernel = attngen.compile(spec, backend=backend)
    qkv = leaves(*operands(n_q=13))
    picked = {"out": slice(0, 1), "lse": slice(1, 2), "both": slice(0, 2)}[of]
    by = [*qkv, slopes]
    found = torch.autograd.grad(weighted(kernel(*qkv, return_lse=True)[picked]), by, materialize_grads=True)
    exact = torch.autograd.grad(weighted(kernel.reference(*qkv, return_lse=True)[picked]), by, materialize_grads=True)
    for one, other in zip(found[:3], exact[:3], strict=True):
        torch.testing.assert_close(one, other)
    # The terms of a slope's gradient, (q - kv) dS, are far larger than their sum: dense float32 errs by 1e-5 as well.
    assert error(found[3], exact[3].double()) <= 3e-6


ARRANGED: dict[str, Callable[[Tensor], Tensor]] = {
    "token-major": lambda t: t.transpose(1, 2).contiguous().transpose(1, 2),
    "channel-first": lambda t: t.transpose(2, 3).contiguous().transpose(2, 3),
    "sliced": lambda t: torch.cat([t, t], -1)[..., ::2],
    "expanded": lambda t: t[:1].expand(t.shape),
    "expanded heads": lambda t: t[:, :1].expand(t.shape),
    "negated": lambda t: torch.complex(t, t).conj().imag,
}


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("name", ARRANGED)
def test_strides(name: str, backend: str | None) -> None:
    kernel = attngen.compile(SPECS["causal"](), backend=backend)
    plain = leaves(*operands(n_q=9))
    arranged = [ARRANGED[name](t) for t in plain]
    check_gradients(kernel, plain, arranged)
    check_gradients(kernel, arranged, arranged)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("cotangent", ["of a sum", "transposed", "sliced", "negated"])
def test_strides_of_the_cotangent(cotangent: str, backend: str | None) -> None:
    kernel = attngen.compile(SPECS["causal"](), backend=backend)
    qkv = leaves(*operands(n_q=9))
    dout = {
        "of a sum": torch.ones(()).expand(2, 4, 9, 16),
        "transposed": random(16, 9, 4, 2).permute(3, 2, 1, 0),
        "sliced": random(2, 4, 9, 32)[..., ::2],
        "negated": torch.view_as_complex(random(2, 4, 9, 16, 2)).conj().imag,
    }[cotangent]
    found = torch.autograd.grad(kernel(*qkv), qkv, dout)
    exact = torch.autograd.grad(kernel.reference(*qkv), qkv, dout.double())
    for one, other in zip(found, exact, strict=True):
        torch.testing.assert_close(one, other)


@pytest.mark.parametrize("backend", BACKENDS)
def test_layout_of_tokens_first(backend: str | None) -> None:
    kernel = attngen.compile(SPECS["causal"](), backend=backend, layout="bnhd")
    qkv = leaves(*(t.transpose(1, 2).contiguous() for t in operands(n_q=9)))
    check_gradients(kernel, qkv, qkv, return_lse=True)


@pytest.mark.parametrize("backend", BACKENDS)
def test_sizes_without_entries(backend: str | None) -> None:
    kernel = attngen.compile(SPECS["causal"](), backend=backend)
    for n_q, n_k in ((0, 5), (5, 0), (1, 1)):
        qkv = leaves(*operands(n_q=n_q, n_k=n_k))
        kernel(*qkv).sum().backward()
        for tensor in qkv:
            assert tensor.grad is not None
            assert tensor.grad.isfinite().all()


@pytest.mark.parametrize("backend", BACKENDS)
def test_one_key_head_and_batch_for_all(backend: str | None) -> None:
    qkv = leaves(random(3, 4, 9, 16), random(1, 1, 9, 16), random(1, 1, 9, 16))
    check_gradients(attngen.compile(SPECS["causal"](), backend=backend), qkv, qkv)


@pytest.mark.parametrize("backend", BACKENDS)
def test_one_tensor_in_several_places(backend: str | None) -> None:
    (x,) = leaves(random(2, 4, 9, 16))
    check_gradients(attngen.compile(SPECS["causal"](), backend=backend), [x], (x, x, x))


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_capture_that_only_a_mask_reads_has_a_gradient_of_zeros(backend: str | None) -> None:
    limits = torch.full((4,), 0.5, requires_grad=True)
    kernel = attngen.compile(attngen.Spec(mask=lambda h, q, kv: (q - kv) * 0.1 < limits[h]), backend=backend)
    (found,) = torch.autograd.grad(kernel(*operands(n_q=9)).sum(), limits)
    assert torch.equal(found, torch.zeros(4))
