"""n_visible, the number of keys that a row sees: from its closed form, or counted before the first pass."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch

import attngen
from attngen import masks, normalizers
from attngen.errors import BoundsError, UnsupportedError
from attngen.ir.expr import Expr, load, op, sym, symbols
from attngen.ir.nodes import Branch, Dot, Input, KeySet, Spec, View
from tests.codegen.plans import plan_of
from tests.end_to_end.oracle import check, kernel_of, operands, random

pytestmark = pytest.mark.cxx
IDS = (torch.arange(130) * 7 % 130 // 31).sort().values
MASKS: dict[str, Callable[[], Any]] = {
    "causal": masks.causal,
    "late": lambda: masks.Mask.of(lambda q, kv: (q > 5) & (kv <= q)),
    "documents": lambda: masks.document(IDS) & masks.causal(),
    "scattered": lambda: masks.Mask.of(lambda q, kv: (q * 5 + kv * 3) % 7 < 2),
    "two-windows": lambda: masks.Mask.of(lambda q, kv: (torch.abs(q - kv) < 9) | ((kv % 8 == 0) & (kv < q))),
}
CLOSED = ("causal", "late")


@pytest.mark.parametrize("mask", MASKS)
def test_scales_scores_and_normalizers(mask: str) -> None:
    rule = normalizers.streaming(
        "own",
        phi=lambda s, n_visible: torch.sigmoid(s - torch.log(1.0 + n_visible)),
        finalize=lambda acc, n_visible: acc * torch.sqrt(1.0 * n_visible),
    )
    spec = attngen.Spec(
        mask=MASKS[mask](),
        scale=lambda n_visible: torch.log(1.0 + n_visible) / 4,
        score=lambda score, n_visible: score + 8 / (1 + n_visible),
        normalizer=rule,
    )
    check(spec, *operands(n_q=130))


@pytest.mark.parametrize("mask", ["documents", "scattered"])
def test_passes(mask: str) -> None:
    # test_passes has masks whose count is in closed form.
    check(attngen.Spec(mask=MASKS[mask](), normalizer=normalizers.lssar(2, 0.5, "n_visible")), *operands(n_q=130))


@pytest.mark.parametrize("mask", MASKS)
def test_whether_it_is_counted(mask: str) -> None:
    spec = attngen.Spec(mask=MASKS[mask](), score=lambda score, n_visible: score * n_visible)
    branch = plan_of(spec, **{i.name: ("int64", 130) for i in spec.ir.inputs}).branches[0]
    assert branch.needs_visible == (mask not in CLOSED)
    assert ("n_visible" in symbols(branch.keysets[0].core)) == branch.needs_visible


def test_weights() -> None:
    spec = attngen.Spec(mask=MASKS["scattered"](), weight=lambda q, kv, n_visible: 1.0 / (n_visible + kv))
    check(spec, *operands(n_q=130), lse=True)


def test_on_a_grid() -> None:
    mask = masks.Mask.of(lambda q, kv: (q[0] + kv[1]) % 3 != q[1] % 2)
    spec = attngen.Spec(mask=mask, space=attngen.Grid(7, 11), score=lambda score, n_visible: score / n_visible)
    check(spec, *operands(n_q=77), lse=True)


@pytest.mark.parametrize("n", [0, 1, 77])
def test_over_key_sets(n: int) -> None:
    inputs = (Input("text_k", ("b", "h", "?", "?")), Input("text_v", ("b", "h", "?", "?")))
    scale: Expr = op("rsqrt", op("to_float", op("add", sym("n_visible"), 1)))
    extra = KeySet((Dot(k=View("text_k"), scale=scale),), View("text_v"), op("lt", sym("kv"), sym("q")))
    branch = Branch(
        normalizers.softmax().ir, dots=(Dot(scale=scale),), mask=op("le", sym("kv"), sym("q")), keysets=(extra,)
    )
    given = {"text_k": random(2, 4, n, 16), "text_v": random(2, 4, n, 16, seed=2)}
    check(Spec((branch,), inputs=inputs), *operands(n_q=130), lse=True, **given)


def test_indices_made_of_the_count() -> None:
    table = torch.rand(71)
    check(attngen.Spec(mask=MASKS["scattered"](), score=lambda score, n_visible: score + table[n_visible]), *operands())
    beyond = attngen.Spec(mask=MASKS["scattered"](), score=lambda score, n_visible: score + table[n_visible + 1])
    with pytest.raises(BoundsError, match="table"):
        kernel_of(beyond)(*operands())
    inputs = (Input("k2", ("b", "h", "?", "?")), Input("v2", ("b", "h", "?", "?")), Input("table", ("?",)))
    score = op("add", sym("score"), load("table", (sym("n_visible"),)))
    extra = KeySet((Dot(k=View("k2")),), View("v2"))
    spec = Spec((Branch(normalizers.softmax().ir, score=score, keysets=(extra,)),), inputs=inputs)
    with pytest.raises(UnsupportedError, match="an index made of the number of visible keys of several key sets"):
        kernel_of(spec)(*operands(), k2=random(2, 4, 7, 16), v2=random(2, 4, 7, 16), table=table)


def test_every_key_is_counted_once_at_every_length() -> None:
    mask = masks.Mask.of(lambda q, kv: (kv * 3 + q) % 5 != 1)
    rule = normalizers.streaming("count", phi=lambda s: s * 0 + 1, finalize=lambda acc, n_visible: acc / n_visible)
    kernel = kernel_of(attngen.Spec(mask=mask, normalizer=rule))
    for n_k in (5, 191, 192, 193, 1000):
        q, k, _ = operands(b=1, n_q=70, n_k=n_k)
        torch.testing.assert_close(kernel(q, k, torch.ones(1, 2, n_k, 16)), torch.ones(1, 4, 70, 16))
