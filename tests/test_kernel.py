"""The kernel object: what it says of itself, how it is copied, and what it does where a backend is missing."""

from __future__ import annotations

import copy
import logging
import pickle
from dataclasses import replace
from typing import Any

import pytest
import torch

import attngen
from attngen import masks
from attngen.errors import UnsupportedError
from attngen.pipeline import WARNED
from tests.end_to_end.oracle import check, error, operands, random

pytestmark = pytest.mark.cxx
KERNEL = attngen.compile(attngen.Spec(mask=masks.causal(), name="looks_back"))


def test_it_names_itself() -> None:
    assert repr(KERNEL) == "<attngen.Kernel looks_back>"
    assert KERNEL.__name__ == "looks_back"
    assert "looks_back" in str(KERNEL.__doc__)


def test_source_is_that_of_the_call() -> None:
    source = KERNEL.source(*operands())
    assert source.startswith("// attngen: forward, fp32")
    assert "struct Branch0" in source
    assert "bf16" in KERNEL.source(*operands(dtype=torch.bfloat16)).splitlines()[0]
    assert KERNEL.source(*operands()) == source


def test_reference_is_in_float64() -> None:
    q, k, v = operands(dtype=torch.bfloat16)
    out, lse = KERNEL.reference(q, k, v, return_lse=True)
    assert out.dtype == lse.dtype == torch.float64
    expected = torch.nn.functional.scaled_dot_product_attention(
        q.double(), k.double().repeat_interleave(2, 1), v.double().repeat_interleave(2, 1), is_causal=True
    )
    torch.testing.assert_close(out, expected)


def test_explain_prints() -> None:
    text = str(KERNEL.explain(*operands()))
    assert "looks_back" in text
    assert "cpu" in text


def test_deep_copies() -> None:
    class Module(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            slopes = random(4)
            self.kernel = attngen.compile(attngen.Spec(score=lambda score, h: score * slopes[h]))

    module = Module()
    copied = copy.deepcopy(module)
    assert torch.equal(copied.kernel(*operands()), module.kernel(*operands()))


def test_pickles_without_captures() -> None:
    loaded = pickle.loads(pickle.dumps(KERNEL))
    assert torch.equal(loaded(*operands()), KERNEL(*operands()))


def test_parsed_text_makes_the_same_kernel() -> None:
    slopes = random(4)
    spec = attngen.Spec(mask=masks.causal(), score=lambda score, h, q, kv: score - slopes[h] * (q - kv))
    parsed = attngen.compile(attngen.Spec.parse(str(spec)))
    assert torch.equal(parsed(*operands(), slopes=slopes), attngen.compile(spec)(*operands()))


@pytest.mark.parametrize("layout", ["bhnd", "bnhd"])
def test_reference_backend_on_request(layout: Any) -> None:
    kernel = attngen.compile(KERNEL.spec, backend="reference", layout=layout)
    given = [t.transpose(1, 2) if layout == "bnhd" else t for t in operands()]
    check_lse = kernel(*given, return_lse=True)[1]
    out = kernel(*given)
    assert out.dtype == torch.float32
    assert error(out, kernel.reference(*given)) <= 1e-6
    assert check_lse.shape == (2, 4, 70)
    assert kernel(*(t.bfloat16() for t in given)).dtype == torch.bfloat16


def test_reference_backend_by_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ATTNGEN_BACKEND", "reference")
    kernel = attngen.compile(attngen.Spec(score="score * 0.111"))
    kernel(*operands())
    assert kernel.source(*operands()).startswith("spec")


def many_dots() -> attngen.Spec:
    """A spec that no kernel of the CPU takes."""
    (branch,) = attngen.Spec().ir.branches
    return attngen.Spec.from_ir(replace(attngen.Spec().ir, branches=(replace(branch, dots=branch.dots * 5),)))


def test_a_fallback_is_right_and_logged_with_its_reason(caplog: pytest.LogCaptureFixture) -> None:
    q, k, v = operands(n_q=20)
    kernel = attngen.compile(many_dots())
    WARNED.clear()
    with caplog.at_level(logging.WARNING, "attngen"):
        out = kernel(q, k, v)
    assert error(out, kernel.reference(q, k, v)) <= 1e-6
    assert any("the reference backend runs it, because cpu: " in record.getMessage() for record in caplog.records)


def test_a_forced_backend_says_why_it_cannot() -> None:
    kernel = attngen.compile(many_dots(), backend="cpu")
    with pytest.raises(UnsupportedError, match=r"no backend takes it \(cpu: a score of 5 dots is more than the 4"):
        kernel(*operands())


def test_captured_modules_are_followed() -> None:
    check(attngen.compile(attngen.Spec(mask=masks.causal(), scale=random(4))), *operands(), lse=True)
