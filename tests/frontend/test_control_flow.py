"""Python's control flow on expressions: every path is taken, and the results are merged."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from attngen.errors import TraceError
from attngen.frontend import MASK, SCORE, static, trace

LIMIT = 8


@pytest.mark.parametrize(("function", "expected"), [
    (lambda q, kv: q >= kv and q - kv < 4, "(q >= kv) and (q - kv < 4)"),
    (lambda q, kv: q >= kv or kv == 0, "(q >= kv) or (kv == 0)"),
    (lambda q, kv: not q >= kv, "not (q >= kv)"),
    (lambda q, kv: 0 <= q - kv < 4, "(q - kv >= 0) and (q - kv < 4)"),
    (lambda q, kv: (q >= kv and q - kv < 4) or kv == 0, "((q >= kv) and (q - kv < 4)) or (kv == 0)"),
    (lambda q, kv: (q >= kv or kv == 0) and q != 1, "((q >= kv) or (kv == 0)) and (q != 1)"),
    (lambda q, kv: kv in (0, 1), "(kv == 0) or (kv == 1)"),
    (lambda q, kv: kv not in (0, 1), "(not (kv == 0)) and (not (kv == 1))"),
    (lambda h, q, kv: q >= kv if h < 2 else q <= kv, "where(h < 2, q >= kv, q <= kv)"),
    (lambda q, kv: True if q >= kv else False, "q >= kv"),  # noqa: SIM210
    (lambda q, kv: False if q >= kv else True, "not (q >= kv)"),  # noqa: SIM211
    (lambda q, kv: any(kv == i for i in range(3)), "(kv == 0) or (kv == 1) or (kv == 2)"),
    (lambda q, kv: all((q >= kv, kv > 0, True)), "(q >= kv) and (kv > 0)"),
    (lambda q, kv: any([]), "false"),
    (lambda q, kv: q >= kv if q >= kv else kv == 7, "(q >= kv) or (kv == 7)"),
    (lambda q, kv: q < kv if not q < kv else kv == 7, "(q < kv) and (kv == 7)"),
])  # fmt: skip
def test_masks(text: Callable[..., str], function: Callable[..., object], expected: str) -> None:
    assert text(function, MASK) == expected


def test_statements(text: Callable[..., str]) -> None:
    def score(score, h, q, kv):
        if q < kv:
            return float("-inf")
        if h == 0:
            score = score * 2
        elif h == 1:
            score += 1
        return score

    assert text(score, SCORE) == ("where(q < kv, -inf, where(h == 0, score * 2, where(h == 1, score + 1, score)))")


def test_known_conditions_are_not_asked_again(text: Callable[..., str]) -> None:
    def score(score, q, kv):
        first = 1 if q >= kv else 2
        second = 3 if kv <= q else 4
        third = 5 if not q < kv else 6
        return score * first + second * third

    assert text(score, SCORE) == "where(q >= kv, score * 1 + 15, score * 2 + 24)"


def test_nan_may_fall_on_neither_side(text: Callable[..., str]) -> None:
    def score(score):
        if score < 0:
            return -1.0
        return 1.0 if score >= 0 else 0.0

    assert text(score, SCORE) == "where(score < 0, -1.0, where(score >= 0, 1.0, 0.0))"


def test_truth_of_numbers_and_of_scalar_tensors(text: Callable[..., str]) -> None:
    flag = torch.tensor(1)
    assert text(lambda q, kv: q == kv if q - kv and flag else True, MASK) == (
        "where(to_bool(q - kv), where(to_bool(flag), q == kv, true), true)".replace("where(to_bool(flag), q == kv, "
        "true)",
        "(not to_bool(flag)) or (q == kv)").replace("where(to_bool(q - kv), (", "(not to_bool(q - kv)) or "
        "((").replace(", true)", ")")
    )  # fmt: skip


def test_loops_over_ranges_unroll(text: Callable[..., str]) -> None:
    def mask(q, kv):
        seen = q == kv
        for i in range(1, 3):
            seen = seen | (q - kv == 2**i)
        return seen

    assert text(mask, MASK) == "(q == kv) or (q - kv == 2) or (q - kv == 4)"


def test_bool_of_a_value_does_not_fork(text: Callable[..., str]) -> None:
    assert text(lambda q, kv: bool(q - kv), MASK) == "to_bool(q - kv)"


def message(function: Callable[..., object]) -> str:
    with pytest.raises(TraceError) as caught:
        trace(function, MASK)
    assert caught.value.source is not None
    return caught.value.message


def test_loop_on_a_symbolic_condition() -> None:
    def mask(q, kv):
        while q > kv:
            q = q // 2
        return q == kv

    assert message(mask) == (
        "a loop whose end depends on kv, q cannot be unrolled; loop over a range of constant length and select with "
        "torch.where"
    )


def test_loop_on_a_captured_number() -> None:
    def mask(q, kv):
        n = LIMIT
        while n > 1:
            q, kv, n = q // 2, kv // 2, n // 2
        return q == kv

    assert message(mask) == (
        "a loop whose end depends on the captured 'LIMIT', which may change from call to call cannot be unrolled; "
        "make it a constant with attngen.static(LIMIT)"
    )

    def fixed(q, kv):
        n = static(LIMIT)
        while n > 1:
            q, kv, n = q // 2, kv // 2, n // 2
        return q == kv

    trace(fixed, MASK)


def test_too_many_paths() -> None:
    def mask(q, kv):
        total = 0
        for i in range(7):
            total = total + (kv * 2**i if q == i else q)
        return total > 3

    def deep(q, kv):
        return kv in tuple(range(100))

    def wide(h, q, kv):
        x = 0
        x = x + (q if q % 2 == 0 else kv)
        x = x + (q if q % 3 == 0 else kv)
        x = x + (q if q % 5 == 0 else kv)
        x = x + (q if q % 7 == 0 else kv)
        x = x + (q if kv % 2 == 0 else kv)
        x = x + (q if kv % 3 == 0 else kv)
        x = x + (q if kv % 5 == 0 else kv)
        return x > 3

    assert "has more than 64 paths through its conditions; write some of them as expressions: `&`" in message(wide)
    assert "more than 64 paths" in message(mask)
    assert "cannot be unrolled" in message(deep) or "asks more than 63 conditions" in message(deep)


def test_functions_that_change_from_run_to_run() -> None:
    numbers = iter(range(1000))

    def mask(q, kv):
        return q >= kv and kv > next(numbers.__iter__())

    steps = {"n": 0}

    class Counter:
        def __len__(self) -> int:
            steps["n"] += 1
            return steps["n"]

    counter = Counter()

    def changing(q, kv):
        return q >= kv + len(counter) and q == 3

    assert "takes other steps when it is run again" in message(changing)


def test_an_exception_on_one_path() -> None:
    def mask(q, kv):
        assert q >= kv, "never"
        return True

    with pytest.raises(TraceError, match="raised AssertionError while it was traced where `q >= kv` is False: never"):
        trace(mask, MASK)


def test_recursion_without_end() -> None:
    def mask(q, kv):
        return mask(q - 1, kv)

    assert "calls itself without end" in message(mask)
