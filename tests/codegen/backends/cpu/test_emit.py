"""Generated C++: golden text of what is generated, and properties of the whole."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch

import attngen
from attngen import masks, normalizers, scores, weights
from attngen.codegen.backends.cpu.config import default
from attngen.codegen.backends.cpu.emit import emit
from tests.codegen.plans import plan_of

SLOPES, TABLE = torch.ones(4), torch.ones(4, 9)

SPECS: dict[str, Callable[[], attngen.Spec]] = {
    "causal": lambda: attngen.Spec(mask=masks.causal()),
    "window_alibi": lambda: attngen.Spec(mask=masks.sliding_window(256), score=scores.alibi(SLOPES)),
    "documents": lambda: attngen.Spec(mask=masks.document(torch.zeros(1, 3, dtype=torch.int64)) & masks.causal()),
    "sigmoid_dropout": lambda: attngen.Spec(normalizer=normalizers.sigmoid(-1.0), weight=weights.dropout(0.1, seed=3)),
    "sink_relative": lambda: attngen.Spec(
        score=scores.relative_bias(TABLE), normalizer=normalizers.softmax(sink=SLOPES)
    ),
    "neighborhood": lambda: attngen.mechanisms.neighborhood((8, 9), (3, 4), stride=(1, 2)),
    "lssar": lambda: attngen.Spec(mask=masks.causal(), normalizer=normalizers.lssar(3, 0.5)),
    "entmax": lambda: attngen.Spec(mask=masks.causal(), normalizer=normalizers.entmax(1.2)),
    "stick_breaking": lambda: attngen.Spec(mask=masks.causal(), normalizer=normalizers.stick_breaking()),
    "dual_triangle": lambda: attngen.mechanisms.dual_triangle(),
}
ELEMENTS: dict[str, Any] = {"documents": {"ids": ("int64", 3)}}


def generated(name: str, isa: str = "avx2", **problem: Any) -> str:
    plan = plan_of(SPECS[name](), lse=len(SPECS[name]().ir.branches) == 1, **ELEMENTS.get(name, {}), **problem)
    return emit(plan, default(isa, plan)).text


@pytest.mark.parametrize("name", SPECS)
def test_golden(name: str, golden: Callable[[str, str], None]) -> None:
    text = generated(name)
    golden(text[text.index("struct Args") :], f"{name}.cpp")


@pytest.mark.parametrize("name", SPECS)
def test_the_same_plan_gives_the_same_text(name: str) -> None:
    assert generated(name) == generated(name)


def test_lengths_and_numbers_are_not_in_the_text() -> None:
    def windowed(window: int) -> str:
        plan = plan_of(attngen.Spec(mask=masks.sliding_window(window)))
        return emit(plan, default("avx2", plan)).text

    assert windowed(123457) == windowed(7)
    assert "123457" not in windowed(123457)


def test_dtype_and_instruction_set_are_in_the_title() -> None:
    assert generated("causal", dtype="bf16", isa="avx512_bf16").startswith("// attngen: forward, bf16, avx512_bf16")
    assert "#define ATTNGEN_DOUBLE 1" in generated("causal", dtype="fp64")
    assert "#define ATTNGEN_DOUBLE 1\n" not in generated("causal").replace("defined", "")


def test_it_stands_alone() -> None:
    text = generated("causal")
    assert '#include "' not in text.replace("#include ATTNGEN", "")
    assert text.isascii()
