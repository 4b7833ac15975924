"""What is filed under one key, and what is not."""

from __future__ import annotations

from typing import Any

import pytest
import torch

import attngen
from attngen import masks, scores
from attngen.autotune.key import UNKNOWN, bucket, structure
from attngen.autotune.situation import Situation
from attngen.codegen.backend import Call
from attngen.codegen.plan import make_plan
from attngen.ir.text import text
from tests.codegen.plans import problem_of

SLOPES = torch.ones(4)


def named(spec: attngen.Spec) -> str:
    return structure(text(spec.ir))


def renamed() -> attngen.Spec:
    gradients = SLOPES
    return attngen.Spec(score=lambda score, b, h, q, kv: score - gradients[h] * (q - kv), name="another")


def test_numbers_count_by_size_and_names_not_at_all() -> None:
    slopes = SLOPES
    spec = attngen.Spec(score=lambda score, b, h, q, kv: score - slopes[h] * (q - kv))
    assert named(spec) == named(renamed())
    assert named(attngen.Spec(mask=lambda q, kv: kv < 250)) == named(attngen.Spec(mask=lambda q, kv: kv < 256))
    assert named(attngen.Spec(mask=masks.neighborhood((30, 40), 7))) == named(
        attngen.Spec(mask=masks.neighborhood((32, 48), 7))
    )


def test_structure_counts() -> None:
    specs = [
        attngen.Spec(), attngen.Spec(mask=masks.causal()), attngen.Spec(mask=masks.prefix(4)), renamed(),
        attngen.Spec(mask=lambda q, kv: kv < 256), attngen.Spec(mask=lambda q, kv: kv < 700),
        attngen.Spec(mask=lambda q, kv: (q - kv) % 2 == 0), attngen.Spec(mask=lambda q, kv: (q - kv) % 3 == 0),
        attngen.Spec(score=scores.soft_cap(3.0)), attngen.Spec(normalizer="sigmoid"),
    ]  # fmt: skip
    assert len({named(spec) for spec in specs}) == len(specs)


@pytest.mark.parametrize(("size", "power"), [(0, 1), (1, 1), (2, 2), (3, 4), (4096, 4096), (4097, 8192)])
def test_a_bucket_holds_its_size(size: int, power: int) -> None:
    assert bucket(size) == power


def share(spec: attngen.Spec, n: int, n_k: int | None = None) -> int:
    plan = make_plan(spec.ir, problem_of(spec, ids=("int64", 8)))
    numbers = tuple(spec.bindings[i.name].fetch() for i in spec.ir.inputs if not i.axes)
    operand: Any = torch.empty(1, 4, 1, 64)
    return Situation("s", Call(1, 4, n, n_k or n, "bhnd", (operand,) * 3), numbers).sizes(plan).share


def test_the_share_that_is_visited() -> None:
    assert share(attngen.Spec(), 4096) == 0
    assert share(attngen.Spec(mask=masks.causal()), 4096) == 1
    assert share(attngen.Spec(mask=masks.sliding_window(256)), 4096) == 4
    assert share(attngen.Spec(mask=masks.sliding_window(256)), 8192) == 5
    assert share(attngen.Spec(mask=masks.sliding_window(64)), 4096) == 6
    # 7 x 7 of 64 x 64 keys.
    assert share(attngen.Spec(mask=masks.neighborhood((64, 64), 7)), 4096) == 6
    assert share(attngen.Spec(mask=masks.document(torch.zeros(1, 64, dtype=torch.long))), 64) == UNKNOWN


def test_the_key_of_a_call() -> None:
    spec = attngen.Spec(mask=masks.causal())
    plan = make_plan(spec.ir, problem_of(spec, "bf16", 64, 32))
    q, k, v = torch.empty(2, 100, 8, 64), torch.empty(2, 300, 2, 64), torch.empty(2, 300, 2, 32)
    backend: Any = type("B", (), {"name": "cpu"})
    key = Situation("s", Call(2, 8, 100, 300, "bnhd", (q, k, v))).key(plan, backend, "backward")
    assert key.head == ("s", "cpu", "backward", "bf16", 64, 32, 4)
    assert key.sizes[:2] == (128, 512)
    assert str(key).startswith("s cpu backward bf16, D 64, Dv 32, GQA 4, to 128 x 512, visits 1/")
