from __future__ import annotations

import pytest
import torch

import attngen
from attngen import masks, scores
from attngen.codegen.backends.cpu import compiler
from attngen.samples import Shape
from attngen.verification import Check, Report, verify
from attngen.verification.repeats import compiled
from attngen.verification.subject import Subject

NAMES = {
    "text form", "tile classes", "schedule", "visible pairs", "values fp32", "values bf16", "values fp16",
    "layout bnhd", "strided inputs", "no keys", "no queries", "rows that see nothing", "masked NaN",
    "masked infinity", "same bits again", "same bits by threads", "torch.compile",
}  # fmt: skip


def test_every_property_has_a_check() -> None:
    report = verify(attngen.mechanisms.causal(), quick=True, backend="reference")
    assert {check.name for check in report.checks} == NAMES
    assert report.ok, str(report)
    assert report.backend == "reference"
    assert str(report).splitlines()[-1] == report.summary()


def test_shapes_follow_what_was_captured() -> None:
    ids = torch.arange(30) // 7
    slopes = torch.rand(3)
    spec = attngen.Spec(mask=masks.document(ids), score=scores.alibi(slopes))
    report = verify(spec, quick=True, backend="reference")
    assert report.ok, str(report)
    assert any("2,3,1,30,30,8" in check.detail for check in report.checks)


@pytest.mark.cxx
@pytest.mark.skipif(isinstance(compiler.find(), compiler.NoCompiler), reason="no C++ compiler")
def test_the_cpu_backend() -> None:
    report = verify(attngen.mechanisms.sliding_window(5), quick=True, shape=Shape(1, 2, 1, 23, 37, 8, 8))
    assert report.backend == "cpu"
    assert report.ok, str(report)


def test_a_grid_and_a_router() -> None:
    grid = verify(attngen.mechanisms.neighborhood((3, 5), 3, extra_keys=True), quick=True, backend="reference")
    assert grid.ok, str(grid)
    routed = verify(
        attngen.mechanisms.sparse_linear(0.5, query_block=4, key_block=4),
        quick=True,
        backend="reference",
        shape=Shape(1, 2, 2, 13, 13, 4, 4),
    )
    assert routed.ok, str(routed)
    assert any(check.outcome == "skipped" and "router" in check.detail for check in routed.checks)


def test_torch_compile() -> None:
    subject = Subject.of(attngen.mechanisms.causal(), "reference", "cpu", False, Shape(1, 2, 1, 9, 9, 4, 4))
    (check,) = compiled(subject)
    assert check == Check("torch.compile", "ok", "1,2,1,9,9,4: fullgraph=True")


def test_a_report_fails_with_one_check() -> None:
    checks = (Check("a", "ok"), Check("b", "FAILED", "off by one"), Check("c", "skipped"))
    report = Report("thing", "cpu", checks)
    assert not report.ok
    assert report.failed == (checks[1],)
    assert report.summary() == "thing on cpu: 1 ok, 1 FAILED, 1 skipped"
    assert str(checks[1]) == "FAILED  b                       off by one"
    assert not Report("thing", "cpu", ()).ok
