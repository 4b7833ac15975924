"""What a forward leaves of each row for the backward, against plain torch."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

import attngen
from attngen import masks, normalizers
from attngen.codegen.backend import Call
from attngen.codegen.backends.cpu.backend import CpuBackend
from attngen.codegen.saved import saved_columns, saved_offset, saved_rows
from attngen.ir.expr import op, sym
from attngen.ir.nodes import Branch, Concat, Spec
from tests.codegen.plans import plan_of
from tests.end_to_end.oracle import error, operands

pytestmark = pytest.mark.cxx
LATE = masks.Mask.of(lambda q, kv: (q > 5) & (kv <= q))
DTYPES = {torch.float32: "fp32", torch.bfloat16: "bf16", torch.float64: "fp64"}


def run(spec: attngen.Spec, q: Tensor, k: Tensor, v: Tensor, *scalars: float) -> tuple[Any, Tensor, Tensor]:
    """The plan, the rows and the scores in float64, -inf where absent."""
    plan = plan_of(spec, dtype=DTYPES[q.dtype], d=q.shape[3], dv=v.shape[3])
    backend = CpuBackend()
    config = backend.configs(plan)[0]
    call = Call(q.shape[0], q.shape[1], q.shape[2], k.shape[2], "bhnd", (q, k, v))
    launch = backend.prepare(backend.build(plan, config), plan, call)
    out, _, nothing = launch(q, k, v, (), scalars)
    again, _, rows = launch(q, k, v, (), scalars, save=True)
    assert nothing is None
    assert torch.equal(out, again)
    assert rows is not None
    assert rows.shape == (*q.shape[:3], saved_columns(plan))
    assert rows.dtype == (torch.float64 if q.dtype == torch.float64 else torch.float32)
    keys = k.double().repeat_interleave(q.shape[1] // k.shape[1], 1)
    score = q.double() @ keys.mT / q.shape[3] ** 0.5
    i, j = torch.arange(q.shape[2])[:, None], torch.arange(k.shape[2])
    return plan, rows, score.masked_fill(~((i > 5) & (j <= i)), -torch.inf)


@pytest.mark.parametrize("dtype", DTYPES, ids=DTYPES.values())
def test_softmax(dtype: torch.dtype) -> None:
    q, k, v = operands(n_q=70, dv=5, dtype=dtype)
    plan, rows, score = run(attngen.Spec(mask=LATE), q, k, v)
    (place,) = saved_rows(plan)
    assert (place.start, place.passes, place.before, place.acc, place.vsum, place.stop) == (0, (), None, 4, None, 9)
    anchor, offset, mass, count = rows[..., :4].unbind(-1)
    assert anchor[:, :, :6].isneginf().all()
    assert not rows[:, :, :6, 1:].any()
    seen = slice(6, None)
    top = score[:, :, seen].amax(-1)
    assert error(anchor[:, :, seen] / 4, top) < 1e-6  # of the core score, the dot
    assert error(offset[:, :, seen] * 0.6931471805599453, top) < 1e-6
    weights = torch.exp(score[:, :, seen] - top[..., None])
    assert error(mass[:, :, seen], weights.sum(-1)) < 1e-6
    assert error(rows[:, :, seen, 4:], weights @ v.double().repeat_interleave(2, 1)) < (
        3e-3 if dtype.itemsize == 2 else 1e-6
    )
    assert not count.any()


def test_sums_of_values_and_counts() -> None:
    rule = normalizers.streaming(
        "both", phi=lambda s: torch.sigmoid(s), finalize=lambda acc, vsum, count: acc * vsum / torch.clamp(count, min=1)
    )
    q, k, v = operands(n_q=70, dv=5)
    plan, rows, score = run(attngen.Spec(mask=LATE, normalizer=rule), q, k, v)
    (place,) = saved_rows(plan)
    assert (place.acc, place.vsum, place.stop) == (4, 9, 14)
    seen, values = score > -torch.inf, v.double().repeat_interleave(2, 1)
    assert torch.equal(rows[..., 3].double(), seen.sum(-1).double())
    assert error(rows[..., 4:9], torch.sigmoid(score) @ values) < 1e-6
    assert error(rows[..., 9:14], seen.double() @ values) < 1e-6


def test_linear_rules_save_numbers_alone() -> None:
    for rule in (normalizers.sigmoid(), normalizers.none(), normalizers.sparsemax(), normalizers.relu()):
        plan = plan_of(attngen.Spec(normalizer=rule))
        assert not plan.branches[0].saves
        assert saved_columns(plan) == 4 + 2 * len(plan.branches[0].passes)


def test_passes() -> None:
    q, k, v = operands(n_q=70, dv=5)
    plan, rows, score = run(attngen.Spec(mask=LATE, normalizer=normalizers.lssar(2, 0.5)), q, k, v, 0.5)
    (place,) = saved_rows(plan)
    assert (place.passes, place.acc) == (((4, 5),), 6)
    assert not rows[..., 4].any()
    assert error(rows[..., 5], torch.nn.functional.softplus(score).sum(-1)) < 1e-6
    share = torch.nn.functional.softplus(score[:, :, 6:])
    top = torch.log((70 * share / share.sum(-1, keepdim=True) - 0.5).clamp(min=1e-30)).amax(-1)
    assert error(rows[:, :, 6:, 0], top) < 1e-5


def test_thresholds() -> None:
    q, k, v = operands(n_q=70, dv=5)
    plan, rows, score = run(attngen.Spec(mask=LATE, normalizer=normalizers.entmax(1.5)), q, k, v)
    (place,) = saved_rows(plan)
    assert (place.passes, place.stop) == (((4, 5), (6, 7)), 8)
    score = score[:, :, 6:]
    top, tau = rows[:, :, 6:, 4].double(), rows[:, :, 6:, 7].double()
    assert error(top, score.amax(-1)) < 1e-6
    total = (0.5 * (score - top[..., None]) - tau[..., None]).clamp(min=0).square().sum(-1)
    assert (total - 1).abs().max() < 3e-6
    assert not rows[:, :, :6, 4:].any()


@pytest.mark.parametrize("direction", ["forward", "backward"])
def test_scans(direction: Any) -> None:
    rule = normalizers.ordered("o", direction, weight=lambda s: torch.sigmoid(s), log_keep=lambda s: -torch.sigmoid(s))
    q, k, v = operands(n_q=200, dv=5)
    plan, rows, score = run(attngen.Spec(mask=LATE, normalizer=rule), q, k, v)
    (place,) = saved_rows(plan)
    assert (place.before, place.acc, place.stop) == (4, None, 5)
    assert error(rows[..., 4], -torch.sigmoid(score).sum(-1)) < 1e-6


def test_branches_lie_one_after_the_other() -> None:
    rules = [normalizers.entmax(1.5), normalizers.softmax()]
    mask = op("and", op("gt", sym("q"), 5), op("le", sym("kv"), sym("q")))
    both = attngen.Spec.from_ir(Spec(tuple(Branch(rule.ir, mask=mask) for rule in rules), combine=Concat()))
    q, k, v = operands(n_q=70, dv=5)
    plan, rows, _ = run(both, q, k, v)
    assert [saved_offset(plan, i) for i in range(2)] == [0, 8]
    assert saved_columns(plan) == 8 + 9
    for rule, start, stop in zip(rules, (0, 8), (8, 17), strict=True):
        alone = run(attngen.Spec(mask=LATE, normalizer=rule), q, k, v)[1]
        assert torch.equal(rows[..., start:stop], alone)
