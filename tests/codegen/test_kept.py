"""Results are kept as long as the values that they come from."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
import torch
from torch import Tensor

from attngen.codegen.kept import Kept


def test_values_decide_not_identities() -> None:
    calls: list[float] = []

    def total(tensors: Sequence[Tensor], numbers: Sequence[float]) -> float:
        calls.append(float(tensors[0].sum()) + sum(numbers))
        return calls[-1]

    kept = Kept(total, [1], [0])
    t = torch.arange(3)
    assert kept([torch.ones(1), t], [2]) == 5
    assert kept([torch.zeros(7), t.clone()], [2]) == 5
    assert len(calls) == 1
    t[0] = 4
    assert kept([torch.ones(1), t], [2]) == 9
    assert kept([torch.ones(1), t], [3]) == 10
    assert len(calls) == 3


def test_copies_are_given_except_of_what_nobody_changes() -> None:
    given = [torch.zeros(2), torch.zeros(2)]
    found = Kept(lambda tensors, _: list(tensors), [0, 1], constant=frozenset({1}))(given)
    assert found[0] is not given[0]
    assert found[1] is given[1]


def test_errors_are_not_kept() -> None:
    def refuse(tensors: Sequence[Tensor], _: Sequence[float]) -> None:
        raise ValueError("no")

    kept = Kept(refuse, [0])
    for _ in range(2):
        with pytest.raises(ValueError, match="no"):
            kept([torch.zeros(1)])
