"""`attngen.static`: numbers that are compiled in."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch

from attngen.errors import InputError, SpecError
from attngen.frontend import MASK, SCORE, static, trace


def test_outside_of_the_function(text: Callable[..., str]) -> None:
    window, gain, causal = static(4), static(0.5), static(True)
    assert text(lambda q, kv: (q - kv < window) & causal, MASK) == "q - kv < 4"
    assert text(lambda score: score * gain + window, SCORE) == "score * 0.5 + 4"


def test_inside_of_the_function(text: Callable[..., str]) -> None:
    window = 4
    assert text(lambda q, kv: q - kv < static(window), MASK) == "q - kv < 4"
    assert text(lambda q, kv: q - kv < static(window * 2 + 1), MASK) == "q - kv < 9"


def test_a_changed_constant_is_noticed() -> None:
    window = 4
    traced = trace(lambda q, kv: q - kv < static(window), MASK)
    assert traced.inputs == ()
    window = 5
    with pytest.raises(
        InputError, match=r"^window: has changed since the function was traced, when it had the value 4; compile again$"
    ):
        traced.bindings.check()  # type: ignore[attr-defined]


def test_behaves_as_the_number() -> None:
    assert static(4) + 1 == 5
    assert list(range(static(2))) == [0, 1]
    assert static(0.5) * 2 == 1.0
    assert not static(False)
    assert repr(static(4)) == "attngen.static(4)"
    assert repr(static(True)) == "attngen.static(True)"
    assert static(np.int32(3)) == 3
    assert static(torch.tensor(0.5)) == 0.5
    assert static("causal") == "causal"


def test_tensors_are_refused() -> None:
    with pytest.raises(
        SpecError, match=r"attngen.static: got a tensor; only numbers can be compiled in, tensors are inputs"
    ):
        static(torch.ones(3))
    with pytest.raises(
        SpecError, match=r"attngen.static: a plain Python number is needed here, and this value depends on q"
    ):
        trace(lambda q, kv: static(q) > kv, MASK)
