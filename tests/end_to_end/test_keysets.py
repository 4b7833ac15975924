"""Several pairs of keys and values under one normalizer, several dots in one score, views of parts and heads."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch

from attngen import normalizers
from attngen.ir.expr import const, load, op, sym
from attngen.ir.nodes import Branch, Dot, Input, KeySet, Spec, View
from attngen.ir.normalizer import Streaming
from tests.end_to_end.oracle import BACKEND, check, kernel_of, operands, random

pytestmark = pytest.mark.cxx

SOFTMAX = normalizers.softmax().ir
SIGMOID = Streaming("sigmoid", phi=op("sigmoid", sym("s")), finalize=sym("acc"))
RULES = {"softmax": SOFTMAX, "sigmoid": SIGMOID, "sink": replace(normalizers.softmax().ir, sink=const(0.5))}
EXTRA = (Input("text_k", ("b", "h", "?", "?")), Input("text_v", ("b", "h", "?", "?")))
CAUSAL = op("le", sym("kv"), sym("q"))


def extra(**parts: Any) -> KeySet:
    return KeySet((Dot(k=View("text_k"), **parts.pop("dot", {})),), View("text_v"), **parts)


def two_sets(normalizer: Any, *, mask: Any = CAUSAL, **parts: Any) -> Spec:
    return Spec((Branch(normalizer, mask=mask, keysets=(extra(**parts),)),), inputs=EXTRA)


def text(n: int = 7, heads: int = 4, d: int = 16, b: int = 2) -> dict[str, Any]:
    return {"text_k": random(b, heads, n, d), "text_v": random(b, heads, n, d, seed=2)}


@pytest.mark.parametrize("rule", ["softmax", "sigmoid"])
def test_extra_keys(rule: str) -> None:
    kernel = kernel_of(two_sets(RULES[rule]))
    for n in (1, 7, 130):
        check(kernel, *operands(n_q=130), lse=rule == "softmax", **text(n))


def test_extra_keys_of_one_batch_and_few_heads() -> None:
    kernel = kernel_of(two_sets(SOFTMAX))
    check(kernel, *operands(), lse=True, **text(b=1))
    check(kernel, *operands(), lse=True, **text(heads=1))
    check(kernel, *operands(), lse=True, **text(heads=2))


@pytest.mark.parametrize(("n_k", "n_text"), [(0, 7), (70, 0), (0, 0)])
def test_empty_key_sets(n_k: int, n_text: int) -> None:
    check(kernel_of(two_sets(SOFTMAX)), *operands(n_k=n_k), lse=True, **text(n_text))


def test_extra_keys_in_both_layouts() -> None:
    import attngen
    from attngen.ir import nodes

    spec: nodes.Spec = two_sets(SOFTMAX)
    q, k, v = operands()
    kernel = attngen.compile(attngen.Spec.from_ir(spec), layout="bnhd", backend=BACKEND)
    given = {name: t.transpose(1, 2) for name, t in text().items()}
    out = check(kernel, *(t.transpose(1, 2) for t in (q, k, v)), lse=True, **given)
    torch.testing.assert_close(out.transpose(1, 2), check(spec, q, k, v, lse=True, **text()))


def test_key_sets_with_masks_of_their_own() -> None:
    mask = op("lt", op("mod", op("add", sym("kv"), sym("q")), 3), 2)
    check(two_sets(SOFTMAX, mask=mask), *operands(n_q=130), lse=True, **text(60))


def test_key_sets_with_scales_of_their_own() -> None:
    check(two_sets(SOFTMAX, dot={"scale": const(0.9)}), *operands(n_q=130), lse=True, **text(60))


def test_three_key_sets_and_a_sink() -> None:
    spec = two_sets(RULES["sink"], mask=op("lt", sym("kv"), 3))
    branch = replace(spec.branches[0], keysets=(*spec.branches[0].keysets, extra(score=op("neg", sym("score")))))
    check(replace(spec, branches=(branch,)), *operands(), lse=True, **text(40))


def part(tensor: str, start: Any = None, stop: Any = None, head: Any = None) -> View:
    return View(tensor, head, start, stop)


HALF = op("floordiv", sym("d"), 2)


def test_join_selects_between_dots() -> None:
    # test_gradients_shapes has it in float32, sums of dots, other tensors, maps of heads, and scores of extra keys.
    dots = (Dot(part("q", None, HALF), part("k", None, HALF)), Dot(part("q", HALF), part("k", HALF)))
    join = op("where", op("gt", sym("kv"), sym("q")), sym("dot[1]"), op("mul", sym("dot[0]"), sym("dot[1]")))
    check(Spec((Branch(SOFTMAX, dots=dots, join=join),)), *operands(d=18, dtype=torch.bfloat16), lse=True)


def test_one_channel_of_the_values() -> None:
    view = part("v", const(3), const(4))
    out = check(Spec((Branch(SOFTMAX, v=view, mask=CAUSAL),)), *operands(dv=10))
    assert out.shape[-1] == 1


def test_a_score_that_reads_a_tensor_at_extra_keys() -> None:
    score = op("add", sym("score"), load("bias", (sym("kv"),)))
    spec = two_sets(SOFTMAX, score=score)
    check(replace(spec, inputs=(*EXTRA, Input("bias", ("?",)))), *operands(), bias=random(9), **text(9))
