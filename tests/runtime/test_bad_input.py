"""Bad input gets one line that names the argument, what was given and what is allowed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch

import attngen
from attngen import masks, scores
from attngen.errors import BoundsError, InputError
from tests.end_to_end.oracle import operands, random

Q, K, V = operands(n_q=7, n_k=9)
CAUSAL = attngen.compile(attngen.Spec(mask=masks.causal()))
GATED = attngen.compile(attngen.Spec(score="score * gate[h]"))
COUNTED = attngen.compile(attngen.Spec(mask="kv < n"))
SCALED = attngen.compile(attngen.Spec(score="score * c"))


def captured(tensor: torch.Tensor) -> attngen.Kernel:
    slopes = tensor
    return attngen.compile(attngen.Spec(score=lambda score, h: score * slopes[h]))


def relative(n: int) -> attngen.Kernel:
    return attngen.compile(attngen.Spec(score=scores.relative_bias(random(4, 2 * n - 1))))


CASES: dict[str, tuple[Callable[[], Any], str]] = {
    "rank": (
        lambda: CAUSAL(Q[0], K, V),
        "q: got shape (4, 7, 16) of rank 3; layout 'bhnd' needs 4 dimensions (B, H, N, D)",
    ),
    "no tensor": (lambda: CAUSAL(Q, K.tolist(), V), "k: got list; a torch.Tensor is needed"),
    "no value": (lambda: CAUSAL(Q, K, None), "v: got NoneType; a torch.Tensor is needed"),
    "dtype": (
        lambda: CAUSAL(Q.int(), K, V),
        "q: got dtype torch.int32; allowed: float32, bfloat16, float16, float64",
    ),
    "complex": (
        lambda: CAUSAL(Q * 1j, K, V),
        "q: got dtype torch.complex64; allowed: float32, bfloat16, float16, float64",
    ),
    "mixed dtypes": (lambda: CAUSAL(Q, K.bfloat16(), V), "k: got dtype torch.bfloat16, but q is torch.float32"),
    "mixed devices": (lambda: CAUSAL(Q, K.to("meta"), V), "k: is on meta, but q is on cpu; move it there"),
    "query elsewhere": (lambda: CAUSAL(Q.to("meta"), K, V), "k: is on cpu, but q is on meta; move it there"),
    "key heads": (lambda: CAUSAL(Q, random(2, 3, 9, 16), V), "k: got 3 heads, which do not divide the 4 heads of"),
    "value heads": (lambda: CAUSAL(Q, K, random(2, 3, 9, 16)), "v: got 3 heads, which do not divide the 4 heads of"),
    "no key heads": (lambda: CAUSAL(Q, K[:, :0], V[:, :0]), "k: got 0 heads, which do not divide the 4 heads of"),
    "head dimension": (lambda: CAUSAL(Q, K[..., :8], V), "k: got head dimension 8, but q has 16; they must be equal"),
    "no head dimension": (lambda: CAUSAL(Q, K, V[..., :0]), "v: got head dimension 0; give at least 1"),
    "keys": (lambda: CAUSAL(Q, K, V[:, :, :5]), "v: got 5 keys, but k has 9; k and v have one length"),
    "batch": (
        lambda: CAUSAL(Q, K.repeat(2, 1, 1, 1)[:3], V),
        "q, k, v: got batch sizes 2, 3, 2; each must be equal or 1",
    ),
    "sparse": (lambda: CAUSAL(Q.to_sparse(), K, V), "q: got a sparse_coo tensor; a dense (strided) one is needed"),
    "unknown name": (lambda: CAUSAL(Q, K, V, scale=2), "scale: not an input of this kernel; inputs: this spec has no"),
    "near name": (lambda: GATED(Q, K, V, gates=random(4)), "gates: not an input of this kernel (did you mean 'gate'?)"),
    "missing": (
        lambda: GATED(Q, K, V),
        "gate: this spec needs it as a keyword argument: kernel(q, k, v, gate=...)",
    ),
    "input rank": (
        lambda: GATED(Q, K, V, gate=random(1, 4)),
        "gate: got shape (1, 4) of rank 2; the spec reads it with 1 ind",
    ),
    "input size": (
        lambda: GATED(Q, K, V, gate=random(3)),
        "gate: dimension 0 has 3 entries; the call has 4 there (h)",
    ),
    "input dtype": (
        lambda: GATED(Q, K, V, gate=torch.ones(4, dtype=torch.int32)),
        "gate: got dtype torch.int32; the spec reads it as float",
    ),
    "input kind": (lambda: GATED(Q, K, V, gate=[1.0] * 4), "gate: got list; a torch.Tensor is needed"),
    "input device": (
        lambda: GATED(Q, K, V, gate=random(4).to("meta")),
        "gate: is on meta, but q is on cpu; move it there",
    ),
    "capture device": (lambda: captured(random(4).to("meta"))(Q, K, V), "slopes: is on meta, but q is on cpu"),
    "integer as text": (lambda: COUNTED(Q, K, V, n="x"), "n: got "),
    "integer as float": (lambda: COUNTED(Q, K, V, n=2.5), "n: got 2.5"),
    "integer missing": (lambda: COUNTED(Q, K, V, n=None), "n: got None"),
    "integer too large": (
        lambda: COUNTED(Q, K, V, n=2**64),
        "n: got 18446744073709551616; run-time integers have 64 bits",
    ),
    "number as text": (lambda: SCALED(Q, K, V, c="a"), "c: got "),
    "number as vector": (lambda: SCALED(Q, K, V, c=random(2)), "c: got "),
    "log-sum-exp": (
        lambda: attngen.compile(attngen.Spec(normalizer="sigmoid"))(Q, K, V, return_lse=True),
        "return_lse: the normalizer 'sigmoid' has no log-sum-exp; leave it out",
    ),
    "log-sum-exp of branches": (
        lambda: attngen.compile(attngen.mechanisms.differential(0.5))(Q, K, V, return_lse=True),
        "return_lse: a spec of several branches has no single log-sum-exp",
    ),
    "layout": (lambda: CAUSAL(Q, K, V, layout="nhd"), "layout: got 'nhd'; allowed: 'bhnd', 'bnhd'"),
    "layout of a kernel": (
        lambda: attngen.compile(attngen.Spec(), layout="nhd"),  # type: ignore[arg-type]
        "layout: got 'nhd'; allowed: 'bhnd', 'bnhd'",
    ),
    "backend": (
        lambda: attngen.compile(attngen.Spec(), backend="gpu")(Q, K, V),
        "backend: got 'gpu' (did you mean 'cpu'?); allowed: cpu, triton, cuda, reference",
    ),
    "backend of another device": (
        lambda: attngen.compile(attngen.Spec(), backend="cuda")(Q, K, V),
        "backend: 'cuda' does not run on device 'cpu'; allowed there: cpu, reference, triton",
    ),
    "grid": (
        lambda: attngen.compile(attngen.mechanisms.neighborhood((3, 4), 2))(Q, K, V),
        "q: got 7 tokens, but the grid 3 x 4 has 12",
    ),
}


@pytest.mark.cxx
@pytest.mark.parametrize("name", CASES)
def test_message(name: str) -> None:
    call, message = CASES[name]
    with pytest.raises(InputError) as caught:
        call()
    assert str(caught.value).startswith(message)
    assert "\n" not in str(caught.value)


BOUNDS: dict[str, tuple[Callable[[], Any], str]] = {
    "short table": (lambda: relative(5)(Q, K, V), "takes values -4 to 10; that dimension has 9 entries, 0 to 8"),
    "few ids": (
        lambda: attngen.compile(attngen.Spec(mask=masks.document(torch.zeros(2, 5, dtype=torch.int64))))(Q, K, V),
        "index 1 of 'ids', `q`, takes values 0 to 6; that dimension has 5 entries, 0 to 4",
    ),
}


@pytest.mark.cxx
@pytest.mark.parametrize("name", BOUNDS)
def test_an_index_that_leaves_a_capture(name: str) -> None:
    call, message = BOUNDS[name]
    with pytest.raises(BoundsError) as caught:
        call()
    assert message in caught.value.message
    assert "^" in str(caught.value)


@pytest.mark.cxx
@pytest.mark.parametrize("size", [3, 5])
def test_a_capture_of_the_wrong_size(size: int) -> None:
    with pytest.raises(InputError, match=rf"slopes: dimension 0 has {size} entries; the call has 4 there \(h\)"):
        captured(random(size))(Q, K, V)
    lengths = torch.full((size,), 4)
    with pytest.raises(InputError, match=rf"lengths: dimension 0 has {size} entries; the call has 2 there \(b\)"):
        attngen.compile(attngen.Spec(mask=masks.lengths(lengths)))(Q, K, V)


def test_nan_where_a_number_is_needed() -> None:
    with pytest.raises(attngen.AttngenError, match="scale: got nan; allowed: a finite number"):
        attngen.Spec(scale=float("nan"))
    with pytest.raises(attngen.AttngenError, match="scale: got inf; allowed: a finite number"):
        attngen.Spec(scale=float("inf"))


@pytest.mark.cxx
def test_nan_in_a_number_of_the_call() -> None:
    with pytest.raises(InputError, match="c: got nan"):
        SCALED(Q, K, V, c=float("nan"))


@pytest.mark.cxx
def test_scalars_of_other_libraries() -> None:
    import numpy

    expected = COUNTED(Q, K, V, n=3)
    assert torch.equal(COUNTED(Q, K, V, n=numpy.int64(3)), expected)
    assert torch.equal(SCALED(Q, K, V, c=numpy.float32(0.5)), SCALED(Q, K, V, c=0.5))
    assert torch.equal(SCALED(Q, K, V, c=2), SCALED(Q, K, V, c=2.0))


@pytest.mark.cxx
def test_nested_tensors() -> None:
    with pytest.warns(UserWarning, match="nested tensors"):
        nested = torch.nested.nested_tensor([random(4, 5, 16), random(4, 7, 16)])
    with pytest.raises(InputError, match="q: got a nested tensor; a dense"):
        CAUSAL(nested, nested, nested)


@pytest.mark.cxx
def test_after_an_error_the_kernel_still_works() -> None:
    expected = CAUSAL(Q, K, V)
    for call, _ in CASES.values():
        with pytest.raises(InputError):
            call()
    assert torch.equal(CAUSAL(Q, K, V), expected)
