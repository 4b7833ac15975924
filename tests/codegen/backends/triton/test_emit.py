"""Generated Triton: golden text of kernels, and properties of the whole."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch

import attngen
from attngen import masks, normalizers, scores
from attngen.codegen.backends.triton.config import GradientConfig, TritonConfig
from attngen.codegen.backends.triton.emit import emit, prefixes
from attngen.codegen.backends.triton.emit_backward import emit_backward
from attngen.codegen.lower.lowered import lowered
from attngen.errors import InputError
from tests.codegen.plans import plan_of

CONFIG = TritonConfig(64, 32, 4, 2, "tf32x3")
SPECS: dict[str, Callable[[], attngen.Spec]] = {
    "window_alibi": lambda: attngen.Spec(mask=masks.sliding_window(256), score=scores.alibi(torch.ones(4))),
    "documents": lambda: attngen.Spec(mask=masks.document(torch.zeros(1, 3, dtype=torch.int64)) & masks.causal()),
    "neighborhood": lambda: attngen.mechanisms.neighborhood((8, 9), (3, 4)),
    "entmax": lambda: attngen.Spec(mask=masks.causal(), normalizer=normalizers.entmax(1.2)),
    "stick_breaking": lambda: attngen.Spec(mask=masks.causal(), normalizer=normalizers.stick_breaking()),
    "dual_triangle": attngen.mechanisms.dual_triangle,
}
ELEMENTS: dict[str, Any] = {"documents": {"ids": ("int64", 3)}}


def generated(name: str, **problem: Any) -> str:
    return emit(lowered(plan_of(SPECS[name](), **ELEMENTS.get(name, {}), **problem)), CONFIG).text


def backward(name: str) -> str:
    plan = lowered(plan_of(SPECS[name](), **ELEMENTS.get(name, {})))
    tiles = GradientConfig(CONFIG, replace(CONFIG, loops="one"))
    return emit_backward(plan, tiles, frozenset({"slopes"} if name == "window_alibi" else ())).text


@pytest.mark.parametrize("name", SPECS)
def test_golden(name: str, golden: Callable[[str, str], None]) -> None:
    text = generated(name)
    golden(text[text.index("def forward") :], f"{name}.triton")


@pytest.mark.parametrize("name", ["window_alibi", "stick_breaking"])
def test_golden_backward(name: str, golden: Callable[[str, str], None]) -> None:
    text = backward(name)
    golden(text[text.index("@triton.jit\ndef rows(") :], f"{name}_backward.triton")


def test_a_scan_needs_equal_tiles_of_keys() -> None:
    plan = lowered(plan_of(SPECS["stick_breaking"]()))
    with pytest.raises(InputError, match="got tiles of 32 and 64 keys"):
        emit_backward(plan, GradientConfig(CONFIG, replace(CONFIG, block_n=64)), frozenset())


def test_no_result_of_a_product_is_transposed() -> None:
    """Some versions of Triton get that wrong on Hopper: only what was loaded is."""
    for name in SPECS:
        text = backward(name)
        turned = set(re.findall(r"tl\.trans\((\w+)\)", text))
        assert turned
        assert all(re.search(rf"\b{value} = load_(rows|tile)\(", text) for value in turned)


@pytest.mark.parametrize("name", SPECS)
def test_it_is_python_and_the_same_every_time(name: str) -> None:
    text = generated(name)
    compile(text, "forward.py", "exec")
    assert text == generated(name)


def test_a_weight_is_one_multiply_add() -> None:
    """Of a plain softmax nothing is left in the loop but the product, its maximum and the weights."""
    plain = emit(lowered(plan_of(attngen.Spec())), CONFIG).text
    full = plain[plain.rindex("key_live = None") :]
    assert "s = dot_0\n" in full
    assert "p = tl.exp2(fma(s, rise[:, None], shift[:, None]))\n" in full
    assert "slope = tl.maximum(" in plain


def test_full_tiles_have_no_mask() -> None:
    text = generated("window_alibi")
    masked, full = text[text.index("key_live = keys < stop") :].split("key_live = None")
    # Where the keys end is part of where the row does.
    assert " s = tl.where(key_live" not in masked
    assert " s = tl.where(" in masked
    assert " s = tl.where(" not in full


def test_channels_are_padded_inside() -> None:
    text = generated("window_alibi", d=40, dv=24)
    assert "q_stride3, 40, 64)" in text
    assert "v_stride3, 24, 32)" in text


def test_prefixes_differ() -> None:
    made = [name for name, _ in zip(prefixes(), range(1000), strict=False)]
    assert made[:2] == ["t0_", "t1_"]
    assert len(set(made)) == 1000


def test_sides_of_a_box_make_its_tile() -> None:
    assert TritonConfig(64, 32, 4, 2, "tf32x3", box_m=[8, 8], box_n=[4, 8]).box_n == (4, 8)  # type: ignore[arg-type]
    with pytest.raises(InputError, match=r"box_m: got sides \(4, 8\); their product is that of a tile, 64 tokens"):
        TritonConfig(64, 32, 4, 2, "tf32x3", box_m=(4, 8))
