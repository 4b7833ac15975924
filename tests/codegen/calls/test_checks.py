"""What a device checks of tensors beside what the host finds: it lets nothing wrong pass, and stops nothing that bounds
prove right."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

import attngen
from attngen import masks
from attngen.codegen.backend import Call
from attngen.codegen.calls.checks import _Checks
from attngen.codegen.calls.elements import later
from attngen.codegen.calls.lanes import KEYS
from attngen.codegen.calls.program import Program
from attngen.codegen.plan import make_plan
from attngen.errors import AttngenError, BoundsError
from tests.codegen.plans import problem_of
from tests.strategies import PATIENT

N = 13
CPU = torch.device("cpu")


class Case:
    """The checks of a call of N queries and keys, with its tensors and run-time numbers by their names in the spec."""

    def __init__(self, spec: attngen.Spec) -> None:
        values = {i.name: spec.bindings[i.name].fetch() for i in spec.ir.inputs}
        self.tensors = {i.name: values[i.name] for i in spec.ir.inputs if i.axes}
        self.numbers = {i.name: values[i.name] for i in spec.ir.inputs if not i.axes}
        types = {name: (str(t.dtype)[6:], t.shape[-1]) for name, t in self.tensors.items()}
        plan = make_plan(spec.ir, problem_of(spec, d=8, dv=8, **types))
        q = torch.zeros(1, 2, N, 8)
        self.checks = _Checks(plan, Call(1, 2, N, N, "bhnd", (q, q, q, *self.tensors.values())), KEYS)

    def on_host(self, tensors: dict[str, Tensor] | None = None) -> bool | None:
        """None where the host refuses the tensors, else whether bounds were enough."""
        try:
            return self.checks.indices(tensors or self.tensors, self.numbers)
        except AttngenError:
            return None

    def on_device(self, tensors: dict[str, Tensor] | None = None) -> list[str]:
        """What the device would stop for, where shapes alone were known before."""
        tensors = tensors or self.tensors
        flags = self.checks.flags({**{name: later(name, t) for name, t in tensors.items()}, **self.numbers})
        program = Program([flag for flag, _ in flags], CPU)
        return [message for flag, (_, message) in zip(program(tensors), flags, strict=True) if bool(flag.any())]


def of_buckets(ids: Tensor, table: Tensor, shift: int) -> attngen.Spec:
    return attngen.Spec(score=lambda score, h, q, kv: score + table[h, ids[q] - ids[kv] + shift])


def of_documents(ids: Tensor, table: Tensor, shift: int) -> attngen.Spec:
    """Only pairs of one document look anything up."""
    return attngen.Spec(mask=masks.document(ids), score=lambda score, h, q, kv: score + table[h, ids[q] + shift])


def nested(ids: Tensor, table: Tensor, shift: int) -> attngen.Spec:
    return attngen.Spec(score=lambda score, h, q, kv: score * table[h, ids[ids[q] % N] + shift])


SPECS: list[Callable[[Tensor, Tensor, int], attngen.Spec]] = [of_buckets, of_documents, nested]


@pytest.mark.parametrize("spec", SPECS, ids=lambda spec: spec.__name__)
@given(data=st.data())
@PATIENT
def test_the_device_is_as_strict_as_bounds_and_misses_nothing(spec: Any, data: st.DataObject) -> None:
    low = data.draw(st.integers(-4, 3))
    ids = torch.tensor(
        data.draw(st.lists(st.integers(low, low + data.draw(st.integers(0, 6))), min_size=N, max_size=N))
    )
    table = torch.zeros(2, data.draw(st.integers(1, 12)))
    shift = data.draw(st.integers(-3, 6))
    try:
        case = Case(spec(ids, table, shift))
        host, device = case.on_host(), case.on_device()
    except BoundsError:
        return  # the shapes alone tell
    if host is None:
        assert device
    elif host:
        assert not device


def test_what_the_device_says() -> None:
    ids = torch.tensor([0, 1, 9] * 5)[:N]
    (said,) = Case(nested(ids, torch.zeros(2, 5), 0)).on_device()
    assert said.endswith("dimension 1, may leave the tensor")


def test_integers_that_do_not_fit_into_a_lane() -> None:
    far = torch.full((N,), 2**30)
    case = Case(attngen.Spec(score=lambda score, q, kv: score + (far[kv] * 4).float()))
    assert case.on_host() is None
    assert any("32-bit" in said for said in case.on_device())
    near = {name: t * 0 + 7 for name, t in case.tensors.items()}
    assert case.on_host(near)
    assert case.on_device(near) == []
