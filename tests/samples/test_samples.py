from __future__ import annotations

import pytest
import torch

import attngen
from attngen import masks, scores
from attngen.errors import InputError
from attngen.samples import Limits, Shape, limits, sample


def test_shapes_parse_and_print() -> None:
    assert Shape.parse("1,8,2,100,200,64") == Shape(1, 8, 2, 100, 200, 64, 64)
    assert str(Shape.parse("1,8,2,100,200,64,32")) == "1,8,2,100,200,64,32"
    assert str(Shape.parse("1, 8,2,100,200,64,64")) == "1,8,2,100,200,64"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("1,2", "got 2 numbers"),
        ("1,0,1,1,1,1", "got Hq='0'"),
        ("1,1,1,1,1,-4", "got D='-4'"),
    ],
)
def test_bad_shapes(text: str, message: str) -> None:
    with pytest.raises(InputError) as caught:
        Shape.parse(text)
    assert str(caught.value).startswith(f"--shape: {message}")


def test_limits_come_from_captures_and_grids() -> None:
    ids, slopes = torch.zeros(20, dtype=torch.int64), torch.ones(6)
    spec = attngen.Spec(mask=masks.document(ids), score=scores.alibi(slopes))
    found = limits(spec)
    assert found == Limits({"h": 6}, {"q": 20, "kv": 20})
    assert found.fit(Shape(2, 8, 4, 64, 10, 8, 8)) == Shape(2, 6, 3, 20, 10, 8, 8)
    grid = limits(attngen.mechanisms.neighborhood((3, 4), 2))
    assert grid == Limits({"q": 12, "kv": 12}, {})


def test_samples_fit_and_repeat() -> None:
    spec = attngen.mechanisms.linear(mask=masks.causal(), decay=True)
    one, two = (sample(spec, Shape(2, 4, 2, 9, 9, 8, 6), "bf16", seed=3) for _ in range(2))
    assert one.q.shape == (2, 4, 9, 8)
    assert one.v.shape == (2, 2, 9, 6)
    assert one.q.dtype == torch.bfloat16
    assert torch.equal(one.k, two.k)
    assert one.inputs["log_decay"].shape == (2, 4, 9)
    assert bool((one.inputs["log_decay"] <= 0).all())


@pytest.mark.parametrize("mechanism", ["sparse_linear:topk=0.5,query_block=4,key_block=4", "sparse_linear:topk=table"])
def test_samples_run_in_the_reference(mechanism: str) -> None:
    spec = attngen.mechanisms.build(mechanism)
    call = sample(spec, Shape(1, 2, 2, 70, 70, 4, 4))
    kernel = attngen.compile(spec, backend="reference")
    assert kernel.reference(call.q, call.k, call.v, **call.inputs).shape == (1, 2, 70, 4)


def test_free_axes_are_refused() -> None:
    with pytest.raises(InputError, match="table: this spec needs it per call"):
        sample(attngen.Spec(score="score + table[kv % 3]"), Shape(1, 1, 1, 4, 4, 4, 4))
