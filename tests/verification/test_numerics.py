from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

import attngen
from attngen import masks, normalizers, scores
from attngen.codegen.backends import reference
from attngen.errors import InputError
from attngen.ir.reference import reference as oracle
from attngen.samples import Shape
from attngen.spec import Segments
from attngen.verification import Check, Report, numerics_cases
from attngen.verification.numerics import numerics
from attngen.verification.numerics_cases import cases, chosen_shape
from attngen.verification.numerics_dense import Single, formula, same_precision
from attngen.verification.numerics_empty import empty_rows
from attngen.verification.numerics_errors import Trial
from attngen.verification.numerics_inputs import FAMILIES, Family
from attngen.verification.numerics_judge import Deviation, judge
from attngen.verification.numerics_page import Section
from attngen.verification.subject import Subject

SMALL = Shape(1, 2, 1, 13, 13, 8, 8)
BY_NAME = {family.name: family for family in FAMILIES}


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Most tensors here are small: more threads would only wait for one another."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def subject(spec: attngen.Spec, backend: str | None = "reference", quick: bool = True) -> Subject:
    return Subject.of(spec, backend, "cpu", quick, SMALL)


def ordinary(shape: Shape = SMALL) -> tuple[Tensor, Tensor, Tensor]:
    call = Subject.of(attngen.mechanisms.full(), None, "cpu", True, shape).sample(shape, "fp32")
    return call.q, call.k, call.v


def scores_of(family: Family, dtype: torch.dtype = torch.float32) -> Tensor:
    name = {torch.float32: "fp32", torch.bfloat16: "bf16", torch.float16: "fp16"}[dtype]
    q, k, _ = family.change(*ordinary(replace(SMALL, hkv=2, d=64)), family.strengths[name][0])
    q, k = (t.to(dtype).double() for t in (q, k))
    return (q @ k.mT) / 8


# --- families ---------------------------------------------------------------------------------------------------------


def test_every_family_is_the_trouble_that_it_names() -> None:
    weights = {name: torch.softmax(scores_of(family), -1) for name, family in BY_NAME.items()}
    tied = scores_of(BY_NAME["ties at maximum"])
    at_maximum = (tied > tied.amax(-1, keepdim=True) - 1e-12).sum(-1)
    assert int(at_maximum.min()) >= 2
    assert float(weights["one-hot rows"].amax(-1).min()) > 1 - 1e-9
    assert float(scores_of(BY_NAME["tiny scores"]).abs().max()) < 1e-30
    assert 20 < float(scores_of(BY_NAME["large scores"]).std()) < 40
    common = scores_of(BY_NAME["common offset"])
    assert float(common.min()) > 2000
    assert float(common.std()) < 3


@pytest.mark.parametrize(
    ("dtype", "least"), [(torch.float32, 1e33), (torch.bfloat16, 1e33), (torch.float16, 1e9)], ids=str
)
def test_huge_scores_are_exact_in_every_dtype(dtype: torch.dtype, least: float) -> None:
    family = BY_NAME["huge scores"]
    exact = scores_of(family, dtype)
    assert least < float(exact.abs().max()) < torch.finfo(torch.float32).max
    q, k, _ = family.change(*ordinary(replace(SMALL, hkv=2, d=64)), family.strengths["fp32"][0])
    assert torch.equal((q @ k.mT).double() / 8, scores_of(family))


def test_the_strength_follows_the_formula() -> None:
    # relu(s) ** 2 of the largest scores is infinite in float32, so weaker ones are taken; softmax takes the strongest.
    squared = subject(attngen.Spec(normalizer=normalizers.relu(power=2)))
    softmax = subject(attngen.mechanisms.full())
    for one, strongest in ((squared, False), (softmax, True)):
        trial = numerics_cases._trial(one, BY_NAME["huge scores"], SMALL, "fp32")
        assert (float(trial.call.q.abs().max()) == 2.0**56) is strongest
        assert all(bool(t.isfinite().all()) for t in trial.by_formula().values())


# --- dense torch ------------------------------------------------------------------------------------------------------


def test_single_precision_is_the_oracle_in_float32() -> None:
    q, k, v = ordinary()
    spec = attngen.Spec(mask=masks.causal(), score=scores.soft_cap(5.0), normalizer=normalizers.softplus_l1()).ir
    tensors = {"q": q, "k": k, "v": v}
    tensors |= {i.name: 5.0 for i in spec.inputs}
    exact, found = oracle(spec, tensors), formula(spec, tensors, False)
    assert (exact.dtype, found.dtype) == (torch.float64, torch.float32)
    assert 0 < float((found - exact).norm() / exact.norm()) < 1e-6
    with Single():
        assert torch.zeros(1, dtype=torch.float64).dtype == torch.float32
        assert torch.zeros(1).double().dtype == torch.float32
    assert torch.zeros(1).double().dtype == torch.float64


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16], ids=str)
def test_dense_torch_is_what_one_would_write(dtype: torch.dtype) -> None:
    q, k, v = (t.to(dtype) for t in ordinary(replace(SMALL, hkv=2)))
    score = ((q @ k.mT) * 8**-0.5).float().masked_fill(torch.ones(13, 13).triu(1).bool(), -torch.inf)
    found = same_precision(attngen.mechanisms.causal().ir, {"q": q, "k": k, "v": v})
    assert found is not None
    assert found[0].dtype == dtype
    torch.testing.assert_close(found[0], torch.softmax(score, -1).to(dtype) @ v, rtol=2e-2, atol=1e-6)
    assert found[1] is not None
    torch.testing.assert_close(found[1], torch.logsumexp(score, -1), rtol=1e-6, atol=1e-6)


# --- the verdict ------------------------------------------------------------------------------------------------------


def trial(dtype: torch.dtype = torch.float32) -> Trial:
    made = subject(attngen.mechanisms.causal())
    call = made.sample(SMALL, "fp32")
    call = replace(call, q=call.q.to(dtype), k=call.k.to(dtype), v=call.v.to(dtype))
    return Trial(made, made.kernel(), call)


def judged(found: dict[str, Tensor], one: Trial, dtype: str = "fp32", hard: bool = False) -> dict[str, Deviation]:
    return {d.quantity: d for d in judge(one, found, one.by_dense(), one.exact(), dtype, not hard)}


def test_what_is_as_good_as_dense_torch_passes() -> None:
    one = trial()
    dense = one.by_dense()
    assert dense is not None
    assert set(dense) == {"O", "LSE", "dq", "dk", "dv"}
    for d in judged(dense, one).values():
        assert d.ok
        assert d.error == d.dense
        assert d.largest == d.largest_dense
        assert d.share < 1


@pytest.mark.parametrize("name", ["O", "LSE", "dq", "dk", "dv"])
def test_an_error_and_a_nan_are_found(name: str) -> None:
    one = trial()
    exact = one.exact()
    wrong = {**exact, name: exact[name] * (1 + 2e-5)}
    assert [d.quantity for d in judged(wrong, one).values() if not d.ok] == [name]
    torn = {**exact, name: exact[name].clone()}
    torn[name][0, 0, 0] = torch.nan
    (bad,) = (d for d in judged(torn, one, hard=True).values() if not d.ok)
    assert (bad.quantity, bad.has_nan, bad.share) == (name, True, float("inf"))


def test_an_absolute_bound_holds_for_ordinary_inputs_alone() -> None:
    one = trial(torch.bfloat16)
    exact = one.exact()
    off = {**exact, "O": exact["O"] * 1.02}
    dense = {**exact, "O": exact["O"] * 1.04}
    verdicts = [judge(one, off, dense, exact, "bf16", ordinary)[0].ok for ordinary in (True, False)]
    assert verdicts == [False, True]


def test_where_dense_torch_overflows_the_formula_stands_in() -> None:
    made = subject(attngen.mechanisms.full())
    one = numerics_cases._trial(made, BY_NAME["huge scores"], SMALL, "fp16")
    dense = one.by_dense()
    assert dense is not None
    assert bool(dense["O"].isnan().any())
    out = judge(one, one.by_kernel()[0], dense, one.exact(), "fp16", False)[0]
    assert out.dense != out.dense
    assert out.ok
    assert out.allowed < 1e-2


def test_what_a_dtype_cannot_hold_is_not_counted() -> None:
    one = trial(torch.float16)
    exact = one.exact()
    exact["dk"] = exact["dk"] * 1e6
    rounded = {name: t.half() if name != "LSE" else t for name, t in exact.items()}
    assert bool(rounded["dk"].isinf().any())
    assert judged(rounded, one, "fp16")["O"].ok
    (dk,) = (d for d in judge(one, rounded, rounded, exact, "fp16", False) if d.quantity == "dk")
    assert dk.ok
    assert dk.error < 1e-3


# --- whole specs ------------------------------------------------------------------------------------------------------


def outcomes(report: Report) -> dict[str, str]:
    return {check.name: check.outcome for check in report.checks}


def test_a_report_has_every_family_and_the_experiment() -> None:
    sections: list[Section] = []
    report = numerics(
        attngen.mechanisms.causal(),
        shape=SMALL,
        dtypes=("bf16",),
        quick=True,
        backend="reference",
        each=sections.append,
    )
    assert report.ok, str(report)
    names = [f"bf16 {family.name}" for family in FAMILIES]
    names += ["bf16 some rows masked", "bf16 no keys", "bias of P V", "bias of O", "bias of delta"]
    names += ["plain kernel", "adjusted kernel"]
    assert list(outcomes(report)) == names
    deviations, rounding = sections
    assert deviations.title.startswith("causal on reference, bf16")
    assert [row[0] for row in deviations.rows if row[0]] == [family.name for family in FAMILIES]
    assert [row[1] for row in deviations.rows[:5]] == ["O", "LSE", "dq", "dk", "dv"]
    assert len(rounding.rows) == 2 * (4 + 4 + 2)
    assert rounding.table().row_count == len(rounding.rows)


SPECS: dict[str, Callable[[], attngen.Spec]] = {
    "no log-sum-exp": lambda: attngen.Spec(normalizer=normalizers.sigmoid()),
    "two branches": lambda: attngen.mechanisms.differential(0.5),
    "captured": lambda: attngen.Spec(mask=masks.document(torch.arange(30) // 7), score=scores.alibi(torch.rand(3))),
    "given per call": lambda: attngen.Spec(mask="kv < lengths[b]"),
    "a grid": lambda: attngen.mechanisms.neighborhood((3, 5), 3),
    "a router and a projection": lambda: attngen.mechanisms.sparse_linear(0.5, query_block=4, key_block=4),
    "packed": lambda: attngen.Spec(space=Segments()),
}


@pytest.mark.parametrize("name", SPECS)
def test_any_spec(name: str) -> None:
    spec = SPECS[name]()
    fitting = Subject.of(spec, "reference", "cpu", True, None).limits.fit(SMALL)
    report = numerics(spec, shape=fitting, dtypes=("fp32",), quick=True, backend="reference")
    assert report.ok, str(report)
    assert "FAILED" not in outcomes(report).values()


def test_long_rows_have_as_many_queries_as_they_need(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: dict[str, tuple[int, int, str]] = {}

    def noted(subject: Subject, family: Family, shape: Shape, dtype: str, remark: str = "") -> Any:
        if family.name == "long rows":
            seen[subject.spec.ir.name] = (shape.nq, shape.nk, remark)
        return numerics_cases.Case(family.name, (), Check(family.name, "ok"))

    monkeypatch.setattr(numerics_cases, "_case", noted)
    for spec in (attngen.mechanisms.full(), attngen.mechanisms.causal()):
        list(cases(subject(spec, quick=False), SMALL, "fp32"))
    assert seen == {
        "full": (16, 8192, ", up to 8192 keys a row"),
        "causal": (2048, 2048, ", up to 2048 keys a row"),
    }
    fixed = attngen.mechanisms.neighborhood((3, 5), 3)
    last = list(cases(subject(fixed, quick=False), SMALL, "fp32"))[-1].check
    assert (last.outcome, last.detail) == ("skipped", "the spec takes 15 queries and 15 keys, not 16 and 8192")


def test_a_shape_is_found_or_refused() -> None:
    free = Subject.of(attngen.mechanisms.full(), "reference", "cpu", True, None)
    assert chosen_shape(free) == numerics_cases.SHAPE
    grid = Subject.of(attngen.mechanisms.neighborhood((36, 36), 3), "reference", "cpu", True, None)
    assert chosen_shape(grid) == Shape(1, 2, 2, 1296, 1296, 64, 64)  # half of the heads, for the sake of the oracle
    never = attngen.Spec(score="score + table[h, kv % 3]")
    with pytest.raises(InputError):
        numerics(never, backend="reference")


def test_rows_that_see_nothing_must_be_zero(monkeypatch: pytest.MonkeyPatch) -> None:
    spec = attngen.Spec(mask=masks.causal(), normalizer=normalizers.softmax(sink=0.5), name="empty_rows_test")
    sound = list(empty_rows(subject(spec, quick=False), SMALL, "fp16"))
    assert [check.outcome for check in sound] == ["ok", "ok", "ok"], sound
    assert "LSE 0.5" in sound[1].detail

    broken(monkeypatch, lambda out: out + 1e-6)
    for check in empty_rows(subject(spec.named("empty_rows_broken"), quick=False), SMALL, "fp32"):
        assert check.outcome == "FAILED", check


def broken(monkeypatch: pytest.MonkeyPatch, change: Callable[[Tensor], Tensor]) -> None:
    """Makes the results of the reference backend wrong, for specs that no other test has called."""
    right = reference.ReferenceBackend.prepare

    def wrong(self: Any, *arguments: Any) -> Any:
        launch = right(self, *arguments)

        def off(*given: Any) -> Any:
            out, *rest = launch(*given)
            return (change(out), *rest)

        return off

    monkeypatch.setattr(reference.ReferenceBackend, "prepare", wrong)


def test_a_kernel_without_gradients_is_checked_forward(monkeypatch: pytest.MonkeyPatch) -> None:
    reason = "there is none"
    monkeypatch.setattr(reference.ReferenceBackend, "supports_backward", lambda *_: reason)
    spec = attngen.Spec(mask=masks.sliding_window(4), name="forward_only_test")
    case = next(iter(cases(subject(spec), SMALL, "fp32")))
    assert [d.quantity for d in case.deviations] == ["O", "LSE"]
    assert case.check.outcome == "ok"
    assert "forward only" in case.check.detail
    assert reason in case.check.detail


@pytest.mark.cxx
@pytest.mark.parametrize("dtype", ["bf16", *(pytest.param(name, marks=pytest.mark.slow) for name in ("fp32", "fp16"))])
def test_the_cpu_backend(dtype: str) -> None:
    spec = attngen.Spec(mask=masks.causal(), normalizer=normalizers.softmax(numerics="adjusted"))
    report = numerics(spec, shape=Shape(1, 4, 2, 67, 67, 32, 32), dtypes=(dtype,), quick=True, backend="cpu")
    assert report.ok, str(report)
    assert report.backend == "cpu"
