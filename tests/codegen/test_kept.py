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


def test_a_tensor_of_a_device_is_known_by_its_version(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its values are not waited for while it is the same; what was written to it in place is seen."""
    monkeypatch.setattr("attngen.codegen.kept._version", lambda tensor: tensor._version)
    compared: list[Tensor] = []
    equal = torch.equal
    monkeypatch.setattr(torch, "equal", lambda a, b: compared.append(a) or equal(a, b))
    kept = Kept(lambda tensors, _: float(tensors[0].sum()), [0])
    t = torch.arange(3)
    assert [kept([t]), kept([t])] == [3, 3]
    assert compared == []
    t[0] = 4
    assert kept([t]) == 7
    other = t.clone()
    other[0] = 5
    assert [kept([other]), kept([t])] == [8, 7]
