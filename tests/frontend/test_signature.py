"""Which parameter is which symbol."""

from __future__ import annotations

import functools
import re
from collections.abc import Callable
from typing import Any

import pytest
import torch

from attngen.errors import SpecError, TraceError
from attngen.frontend import (
    COEFFICIENT,
    FINALIZE,
    HEAD,
    LSE,
    MASK,
    MASK_OR_SCORE,
    PHI,
    SCALE,
    SCORE,
    WEIGHT,
    Role,
    role,
    trace,
)
from attngen.ir.expr import symbols


def wrapped(function: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(function)
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        return ~function(*args, **kwargs)

    return wrapper


@pytest.mark.parametrize(("function", "role", "expected"), [
    (lambda kv, q: q >= kv, MASK, "q >= kv"),
    (lambda q_idx, kv_idx: q_idx >= kv_idx, MASK, "q >= kv"),
    (lambda h, kv, b, q: h + q > b + kv, MASK_OR_SCORE, "h + q > b + kv"),
    (lambda kv, n_k, n_q, q: q + n_k - n_q >= kv, MASK, "q + n_k - n_q >= kv"),
    (lambda kv, n_visible: kv < n_visible, MASK, "kv < n_visible"),
    (lambda h, n_h, b, n_b: h * n_b < n_h + b, MASK, "h * n_b < n_h + b"),
    (lambda batch, head, i, j: i >= j + head - batch, MASK_OR_SCORE, "q >= kv + h - b"),
    (lambda s, b, h, i, j: s + i - j, MASK_OR_SCORE, "score + q - kv"),
    (lambda score, batch, head, q_idx, k_idx: score + k_idx, MASK_OR_SCORE, "score + kv"),
    (lambda q, score: score * q, MASK_OR_SCORE, "score * q"),
    (lambda *args: args[2] >= args[3], MASK, "q >= kv"),
    (lambda *, q, kv: q >= kv, MASK, "q >= kv"),
    (lambda q, kv=None: q >= kv, MASK, "q >= kv"),
    (lambda q, /, kv: q >= kv, MASK, "q >= kv"),
    (wrapped(lambda q, kv: q >= kv), MASK, "not (q >= kv)"),
    (functools.partial(lambda w, q, kv: q - kv < w, 4), MASK, "q - kv < w"),
    (lambda b, h, q, kv: 0.5, WEIGHT, "0.5"),
    (lambda s, m: torch.exp(s - m), PHI, "exp(s - m)"),
    (lambda x: torch.relu(x), PHI, "relu(s)"),
    (lambda acc, mass, count: acc / (mass + count), FINALIZE, "acc / (mass + count)"),
    (lambda m, mass: m + torch.log(mass), LSE, "m + log(mass)"),
    (lambda h, n_h, heads: h * heads // n_h, HEAD, "h * heads // n_h"),
    (lambda d: d**-0.5, SCALE, "d ** -0.5"),
    (lambda b, h, q: 1.0 - h, COEFFICIENT, "1.0 - h"),
    (lambda q, kv: q[0] - kv[0] < 3, MASK, "q[0] - kv[0] < 3"),
    (lambda b, h, q_idx, kv_idx: (q_idx[1] == kv_idx[1]) & (q_idx >= kv_idx), MASK, "(q[1] == kv[1]) and (q >= kv)"),
])  # fmt: skip
def test_binding(text: Callable[..., str], function: Callable[..., Any], role: Role, expected: str) -> None:
    assert text(function, role) == expected


def test_own_role(text: Callable[..., str]) -> None:
    gate = role("gate", "h", "q", positional=(("q",),))
    assert text(lambda h: 2 * h, gate) == "to_float(2 * h)"
    assert text(lambda row: row / 2, gate) == "q / 2"


def test_coordinates_of_a_known_grid(text: Callable[..., str]) -> None:
    def mask(q, kv):
        (y, x), (v, u) = q, kv
        return (abs(y - v) < 2) & (abs(x - u) < 3) & (q[-1] >= 0)

    assert text(mask, MASK.on_grid(2)) == "(abs(q[0] - kv[0]) < 2) and (abs(q[1] - kv[1]) < 3) and (q[1] >= 0)"
    with pytest.raises(TraceError, match=re.escape("q[2]: coordinates go from 0 to 1")):
        trace(lambda q, kv: q[2] > kv, MASK.on_grid(2))
    with pytest.raises(TraceError, match=re.escape("write the coordinates as q[0], q[1]")):
        trace(mask, MASK)


def test_captured_default_is_not_a_symbol() -> None:
    def mask(q, kv, window=4):
        return q - kv < window

    traced = trace(mask, MASK)
    assert symbols(traced.expr) == {"q", "kv"}
    assert list(traced.bindings) == ["window"]


def test_bound_by_partial_is_not_a_symbol(text: Callable[..., str]) -> None:
    assert text(functools.partial(lambda h, q, kv: q - kv < h, h=3), MASK) == "q - kv < h_"


@pytest.mark.parametrize(("function", "role", "message"), [
    (lambda qq, kv: qq >= kv, MASK, "mask: unknown parameter 'qq' (did you mean 'q'?); known names, in any order: "
     "b, h, q, kv, "
     "n_q, n_k, n_h, n_b, n_visible, q_idx, kv_idx; or 4 parameters of any name, which are (b, h, q, kv). A "
     "captured value is a "
     "parameter with a default"),
    (lambda scores, q: scores, SCORE, "score: unknown parameter 'scores' (did you mean 'score'?); "),
    (lambda b, h, q, kv, window: q - kv < window, MASK_OR_SCORE, "mask or score: unknown parameter 'window'"),
    (lambda batch, h, kv, q: q >= kv, MASK_OR_SCORE, "mask or score: unknown parameter 'batch'"),
    (lambda batch, head, q, kv: q >= kv, SCORE, "score: unknown parameter 'batch'"),
    (lambda s, b, h, q, kv: s, MASK, "mask: unknown parameter 's'"),
    (lambda score: score, MASK, "mask: unknown parameter 'score'"),
    (lambda *args: args[0], MASK_OR_SCORE, "mask or score: *args do not tell which parameters are meant"),
    (lambda b, h, i, *, j: i >= j, MASK, "mask: unknown parameter 'i'"),
])  # fmt: skip
def test_unknown_parameters(function: Callable[..., Any], role: Role, message: str) -> None:
    with pytest.raises(SpecError) as caught:
        trace(function, role)
    assert caught.value.message.startswith(message)
    assert caught.value.source is not None
    assert "lambda" in caught.value.source.text


@pytest.mark.parametrize(("value", "message"), [
    (3, "mask: a function is needed, got int 3"),
    (None, "mask: a function is needed, got NoneType None"),
    (torch.ones(2), "mask: a function is needed, got a float32 tensor with 1 dimensions"),
    (dict, "mask: a function is needed, got the class <class 'dict'>"),
    (max, "a builtin_function_or_method cannot be traced; a Python function, a lambda, a method"),
])  # fmt: skip
def test_what_is_no_function(value: Any, message: str) -> None:
    with pytest.raises(SpecError) as caught:
        trace(value, MASK)
    assert message in caught.value.message
