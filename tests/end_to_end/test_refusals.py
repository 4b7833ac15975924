"""What a kernel could get silently wrong is right, refused by name, or left to the reference."""

from __future__ import annotations

import pytest
import torch

import attngen
import attngen.ir.normalizer
from attngen.errors import BoundsError, InputError, UnsupportedError
from attngen.ir.expr import load, op, sym
from attngen.ir.nodes import Branch, Dot, Input, KeySet, Spec, View
from tests.end_to_end.oracle import check, error, kernel_of, operands, random

pytestmark = pytest.mark.cxx
SOFTMAX = attngen.normalizers.softmax().ir
AXES = ("b", "h", "?", "?")


def two_key_sets(**branch: object) -> attngen.Spec:
    extra = KeySet((Dot(k=View("k2")),), View("v2"))
    spec = Spec((Branch(SOFTMAX, keysets=(extra,), **branch),), inputs=(Input("k2", AXES), Input("v2", AXES)))  # type: ignore[arg-type]
    return attngen.Spec.from_ir(spec)


def test_lengths_of_every_key_set_are_compared() -> None:
    q, k, v = operands()
    with pytest.raises(InputError, match="k2: got 7 keys, but v2 has 9"):
        kernel_of(two_key_sets())(q, k, v, k2=random(2, 4, 7, q.shape[3]), v2=random(2, 4, 9, 16))


@pytest.mark.parametrize("wide", [2**31 - 1, 2**31, 2**40])
def test_row_integers_wider_than_a_lane(wide: int) -> None:
    check(attngen.Spec(score=lambda score, q, kv: score + 0.05 * torch.clamp(kv - q, -wide, wide)), *operands())
    check(attngen.Spec(mask=lambda q, kv: torch.minimum(kv, torch.tensor(wide)) <= q), *operands())


def test_products_beyond_a_lane_are_refused_in_masks() -> None:
    with pytest.raises(UnsupportedError, match="32-bit integers"):
        kernel_of(attngen.Spec(mask=lambda q, kv: (kv % 256) * 100_000_000 <= q))(*operands())


def test_a_decay_is_left_to_the_reference() -> None:
    spec = Spec((Branch(SOFTMAX, decay="g"),), inputs=(Input("g", ("b", "h", "kv")),))
    q, k, v = operands(n_q=33, n_k=33)
    kernel = attngen.compile(attngen.Spec.from_ir(spec))
    gate = -torch.rand(2, 4, 33)
    torch.testing.assert_close(
        kernel(q, k, v, g=gate).double(), kernel.reference(q, k, v, g=gate), rtol=1e-5, atol=1e-5
    )


def test_visible_keys_of_several_key_sets() -> None:
    scale = op("rsqrt", op("to_float", sym("n_visible")))
    spec = two_key_sets(mask=op("le", sym("kv"), sym("q")), dots=(Dot(scale=scale),))
    q, k, v = operands()
    kernel, extra = attngen.compile(spec, backend="cpu"), {"k2": random(2, 4, 7, q.shape[3]), "v2": random(2, 4, 7, 16)}
    torch.testing.assert_close(
        kernel(q, k, v, **extra).double(), kernel.reference(q, k, v, **extra), rtol=1e-5, atol=1e-5
    )


def test_indices_of_row_expressions() -> None:
    table = torch.rand(3)
    with pytest.raises(BoundsError, match="table"):
        kernel_of(attngen.Spec(scale=lambda h: torch.exp(table[h * 7])))(*operands())


def test_indices_from_float_tensors_are_watched() -> None:
    q, k, v = operands()
    position, table = torch.arange(q.shape[2]).float(), torch.rand(q.shape[2])
    kernel = kernel_of(attngen.Spec(score=lambda score, q: score + table[position[q].int()]))
    check(kernel, q, k, v)
    position += 50
    with pytest.raises(BoundsError, match="table"):
        kernel(q, k, v)


def test_empty_captures_without_keys() -> None:
    bias = torch.rand(0)
    q, k, v = operands()
    kernel = kernel_of(attngen.Spec(score=lambda score, kv: score + bias[kv]))
    assert not kernel(q, k[:, :, :0], v[:, :, :0]).any()


def test_an_axis_that_nobody_sees() -> None:
    spec = attngen.Spec(mask=lambda q, kv: (kv[0] < 0) & (kv[1] <= q[1]), space=attngen.Grid(8, 8))
    assert not kernel_of(spec)(*operands(n_q=64, n_k=64)).any()


def test_an_anchor_of_the_row() -> None:
    shift = load("t", (sym("h"),))
    score = op("add", sym("s"), shift)
    phi = op("exp", op("sub", score, sym("m")))
    normalizer = attngen.ir.normalizer.Streaming(
        "shifted", phi, op("safe_div", sym("acc"), sym("mass")), psi=phi, anchor=score
    )
    spec = attngen.Spec.from_ir(Spec((Branch(normalizer),), inputs=(Input("t", ("h",)),)))
    q, k, v = operands()
    kernel, t = kernel_of(spec), torch.rand(4)
    assert error(kernel(q, k, v, t=t), kernel.reference(q, k, v, t=t)) < 1e-5
