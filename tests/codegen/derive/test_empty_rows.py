"""Which results vanish for empty sums, and what becomes of the others."""

from __future__ import annotations

import pytest
import torch

import attngen
from attngen.codegen.derive.empty_rows import vanishes, with_empty_rows
from attngen.ir.expr import Expr, const, load, op, sym
from attngen.ir.nodes import Branch, Paged, Segments, Sequence, Spec
from attngen.ir.normalizer import Streaming
from tests.end_to_end.oracle import check, operands

ACC, COUNT, N_K = sym("acc"), sym("count"), sym("n_k")
SIZES = frozenset({"n_k"})


@pytest.mark.parametrize(
    ("finalize", "expected"),
    [
        (ACC, True),
        (op("neg", ACC), True),
        (op("mul", ACC, load("gate", (sym("h"),))), True),
        (op("truediv", ACC, N_K), True),
        (op("truediv", ACC, op("maximum", COUNT, 1.0)), True),
        (op("safe_div", ACC, COUNT), True),
        (op("sub", ACC, op("mul", sym("vsum"), 0.5)), True),
        (op("truediv", ACC, COUNT), False),
        (op("mul", ACC, op("truediv", 1.0, COUNT)), False),
        (op("mul", ACC, op("log", COUNT)), False),
        (op("add", ACC, 1.0), False),
        (op("exp", ACC), False),
    ],
)
def test_what_vanishes(finalize: Expr, expected: bool) -> None:
    assert vanishes(finalize, SIZES) is expected


def test_spaces_where_a_sequence_may_be_empty() -> None:
    last = Streaming("mean", phi=sym("s"), finalize=op("truediv", ACC, N_K))
    assert with_empty_rows(last, Sequence()) == (last, False)
    for space in (Segments(), Paged(16)):
        guarded, _ = with_empty_rows(last, space)
        assert guarded.finalize == op("where", op("gt", COUNT, const(0.0)), last.finalize, const(0.0))


SHARE, MASS = op("safe_div", ACC, sym("mass")), sym("mass")
EXP = op("exp", op("sub", sym("s"), sym("m")))
LSE = op("add", sym("m"), op("log", MASS))


@pytest.mark.parametrize(
    ("finalize", "lse", "sink", "expected"),
    [
        (SHARE, LSE, None, (True, False)),
        (SHARE, LSE, const(0.0), (True, False)),
        (op("truediv", ACC, MASS), None, None, (True, False)),
        (op("add", SHARE, 1.0), None, None, (True, False)),
        # Divided by the mass, a row without any would be NaN: the laws let only rows without keys be such.
        (op("add", op("truediv", ACC, MASS), 1.0), None, None, (True, False)),
        (op("add", op("truediv", ACC, MASS), 1.0), None, const(0.0), (True, True)),
    ],
)
def test_rows_without_mass(finalize: Expr, lse: Expr | None, sink: Expr | None, expected: tuple[bool, bool]) -> None:
    last = Streaming("own", phi=EXP, psi=EXP, anchor=sym("s"), finalize=finalize, lse=lse, sink=sink)
    guarded, drops = with_empty_rows(last, Sequence())
    assert (drops, guarded != last) == expected


@pytest.mark.parametrize(
    ("finalize", "lse", "expected"),
    [
        (SHARE, None, (True, False)),
        (op("truediv", ACC, MASS), None, (True, False)),
        (op("add", SHARE, 1.0), None, (False, True)),
        (op("truediv", ACC, op("add", MASS, 1.0)), None, (False, True)),
        (SHARE, op("log", op("add", MASS, 1.0)), (False, True)),
    ],
)
def test_rows_whose_keys_may_have_no_mass(finalize: Expr, lse: Expr | None, expected: tuple[bool, bool]) -> None:
    last = Streaming("own", phi=op("relu", sym("s")), psi=op("relu", sym("s")), finalize=finalize, lse=lse)
    guarded, drops = with_empty_rows(last, Sequence())
    assert (drops, guarded != last) == expected


@pytest.mark.cxx
@pytest.mark.parametrize("finalize", [op("truediv", ACC, COUNT), op("add", ACC, 1.0)], ids=["mean", "plus"])
def test_rows_without_keys(finalize: Expr) -> None:
    normalizer = Streaming("user", phi=op("relu", sym("s")), finalize=finalize)
    spec = Spec((Branch(normalizer, mask=op("lt", sym("kv"), op("sub", sym("q"), 5))),))
    out = check(attngen.Spec.from_ir(spec), *operands())
    assert not torch.any(out[:, :, :6])
