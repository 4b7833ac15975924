"""`attngen.compile` in its three forms, and `attngen.attention` with its kept kernels."""

from __future__ import annotations

from typing import Any

import pytest
import torch

import attngen
from attngen import api, masks, normalizers
from attngen.errors import SpecError
from tests.end_to_end.oracle import check, error, operands, random

pytestmark = pytest.mark.cxx


def test_a_spec() -> None:
    kernel = attngen.compile(attngen.Spec(mask=masks.causal()))
    assert isinstance(kernel, attngen.Kernel)
    check(kernel, *operands())


def test_parts_make_a_decorator() -> None:
    @attngen.compile(mask=masks.sliding_window(25))
    def soft_capped(score: Any, b: Any, h: Any, q: Any, kv: Any) -> Any:
        return 30 * torch.tanh(score / 30)

    assert isinstance(soft_capped, attngen.Kernel)
    assert soft_capped.__name__ == "soft_capped"
    check(soft_capped, *operands(), lse=True)


def test_bare_decorator_on_a_mask_and_on_a_score() -> None:
    @attngen.compile
    def looks_back(q: Any, kv: Any) -> Any:
        return q >= kv

    @attngen.compile
    def halved(score: Any) -> Any:
        return score / 2

    assert (looks_back.__name__, halved.__name__) == ("looks_back", "halved")
    causal = attngen.compile(attngen.Spec(mask=masks.causal()))
    assert torch.equal(looks_back(*operands()), causal(*operands()))
    check(halved, *operands())


def test_functions_of_flex_attention_work_by_position() -> None:
    @attngen.compile
    def causal(a: Any, b_: Any, i: Any, j: Any) -> Any:
        return i >= j

    @attngen.compile(mask=masks.causal())
    def alibi(s: Any, a: Any, b_: Any, i: Any, j: Any) -> Any:
        return s - (i - j) * 0.1

    check(causal, *operands())
    check(alibi, *operands())


def test_name_and_layout() -> None:
    kernel = attngen.compile(mask=masks.causal(), name="mine", layout="bnhd")(lambda score: score * 2)
    assert kernel.__name__ == "mine"
    check(kernel, *(t.transpose(1, 2) for t in operands()))


@pytest.mark.parametrize("name", ["mask", "score", "normalizer", "scale"])
def test_nothing_beside_a_finished_spec(name: str) -> None:
    given: dict[str, Any] = {"mask": masks.causal(), "score": "score", "normalizer": "sigmoid", "scale": 1.0}
    with pytest.raises(SpecError, match=f"{name}: not beside a finished Spec; put them into the Spec"):
        attngen.compile(attngen.Spec(), **{name: given[name]})


@pytest.mark.parametrize("value", [3, "causal", torch.ones(2)], ids=["number", "text", "tensor"])
def test_what_is_no_definition(value: Any) -> None:
    with pytest.raises(SpecError, match="a function is needed"):
        attngen.compile(value)


def test_attention_in_one_call() -> None:
    q, k, v = operands()
    out, lse = attngen.attention(q, k, v, mask=lambda q, kv: q >= kv, return_lse=True)
    kernel = attngen.compile(attngen.Spec(mask=masks.causal()))
    expected, expected_lse = kernel(q, k, v, return_lse=True)
    assert torch.equal(out, expected)
    assert torch.equal(lse, expected_lse)
    out = attngen.attention(q, k, v, mask=lambda q, kv: q >= kv, normalizer=normalizers.sigmoid(), scale=0.5)
    assert error(out, attngen.compile(
        attngen.Spec(mask=masks.causal(), normalizer="sigmoid", scale=0.5)).reference(q, k, v)) <= 1e-5  # fmt: skip


def test_attention_keeps_the_kernel_of_a_lambda() -> None:
    q, k, v = operands()
    before = len(api.KEPT)
    slope = 1.0
    found = []
    for slope in (1.0, 2.0, 2.0):
        found.append(attngen.attention(q, k, v, score=lambda score, kv: score - slope * kv))  # noqa: B023
    assert len(api.KEPT) == before + 1
    assert not torch.equal(found[0], found[1])
    assert torch.equal(found[1], found[2])


def test_attention_with_defaults_that_differ() -> None:
    q, k, v = operands()
    found = [attngen.attention(q, k, v, score=lambda score, kv, c=c: score - c * kv) for c in (0.5, 1.5)]
    for out, c in zip(found, (0.5, 1.5), strict=True):
        assert error(out, attngen.compile(lambda score, kv, c=c: score - c * kv).reference(q, k, v)) <= 1e-5


def test_attention_does_not_mix_up_functions_of_one_code() -> None:
    def biased(table: torch.Tensor) -> Any:
        return lambda score, h: score * table[h]

    q, k, v = operands()
    for seed in range(3):
        table = random(4, seed=seed)
        out = attngen.attention(q, k, v, score=biased(table))
        assert error(out, attngen.compile(biased(table)).reference(q, k, v)) <= 1e-5


def test_attention_reads_a_captured_window_anew() -> None:
    q, k, v = operands()
    for window in (1, 5, 70):
        out = attngen.attention(q, k, v, mask=lambda q, kv: (q - kv < window) & (q >= kv))  # noqa: B023
        expected = attngen.compile(attngen.Spec(mask=masks.sliding_window(window)))
        assert error(out, expected.reference(q, k, v)) <= 1e-5


def test_attention_keeps_a_bounded_number(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(api, "MOST_KEPT", 3)
    monkeypatch.setattr(api, "KEPT", type(api.KEPT)())
    q, k, v = operands(n_q=1)
    for scale in (0.1, 0.2, 0.3, 0.4, 0.5):
        attngen.attention(q, k, v, scale=scale, backend="reference")
    assert len(api.KEPT) == 3


def test_attention_gives_inputs_of_the_call() -> None:
    q, k, v = operands()
    gate = random(2, 4, 70)
    out = attngen.attention(q, k, v, score="score * gate[b, h, q]", gate=gate)
    expected = attngen.compile(attngen.Spec(score="score * gate[b, h, q]")).reference(q, k, v, gate=gate)
    assert error(out, expected) <= 1e-5


@pytest.mark.parametrize("option", [{"normalizer": "sigmoid"}, {"scale": 0.5}, {"mask": "kv <= q"}])
def test_options_alone_make_a_kernel(option: dict[str, Any]) -> None:
    kernel = attngen.compile(**option)
    assert kernel(*operands()).shape == operands()[0].shape
    assert isinstance(kernel(lambda score: 2 * score), attngen.Kernel)
