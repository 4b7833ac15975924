"""Kernels with configs from the database: which calls get them, that they are right, and what is said of them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

import attngen
from attngen import masks
from attngen.autotune import database as db
from attngen.autotune.identity import device_of, versions
from attngen.autotune.key import Key, Sizes
from attngen.codegen.backends.cpu.backend import CpuBackend
from attngen.codegen.plan import make_plan
from attngen.errors import InputError
from attngen.runtime.engine import engine
from tests.autotune.samples import sample
from tests.end_to_end.oracle import check, operands

pytestmark = pytest.mark.cxx
SPEC = attngen.Spec(mask=masks.causal())


@pytest.fixture(autouse=True)
def place(tmp_path: Path, kernel_cache: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Samples of its own beside the kernels of all tests."""
    monkeypatch.delenv("ATTNGEN_AUTOTUNE", raising=False)
    monkeypatch.setattr(db, "FOLDER", str(tmp_path / "tuning"))
    engine.cache_clear()  # what a test before this one has prepared
    db.forget()
    yield tmp_path
    engine.cache_clear()
    db.forget()


def told(q: Any, k: Any, v: Any, backward: bool = False, **changes: Any) -> Any:
    """Notes that another config is faster for calls like this one; returns it."""
    one = attngen.compile(SPEC).engine()
    plan = make_plan(one.spec, one.problem(q, k, v, [], False))
    backend = CpuBackend()
    own = (backend.configs_backward if backward else backend.configs)(plan)[0]
    config = replace(own, group=own.group + 1, query_tile=own.query_tile // 2)
    key = one.situation(q, k, v, []).key(plan, backend, "backward" if backward else "forward")
    device = device_of(backend)
    assert device is not None
    given = {"key": key, "base": str(own), "versions": versions("cpu")} | changes
    db.add(device, [sample(0.8, str(config), **given)])
    return config


def used(kernel: attngen.Kernel, q: Any, k: Any, v: Any) -> Any:
    """The config of the kernel that a call runs."""
    one = kernel.engine()
    return one.compiled(q, k, v, [], False, situation=one.situation(q, k, v, [])).config


def test_a_tuned_config_is_used_for_calls_like_the_one_that_was_measured() -> None:
    q, k, v = operands()
    own = used(attngen.compile(SPEC), q, k, v)
    config = told(q, k, v)
    kernel = attngen.compile(SPEC, layout="bhnd", autotune="cached")
    check(kernel, q, k, v)
    assert used(kernel, q, k, v) == config != own
    assert f"config {config.isa} q{config.query_tile}" in " ".join(str(kernel.explain(q, k, v)).split())
    assert "(tuned 2026-11-29, 1.25 x the built-in one)" in str(kernel.explain(q, k, v))
    assert f", {config}" in kernel.source(q, k, v)
    # Another length of the same size: no look-up of files, no build.
    shorter = [t[:, :, : t.shape[2] - 1] for t in (q, k, v)]
    assert used(kernel, *shorter) is used(kernel, q, k, v)
    longer = [torch.cat([t] * 20, 2) for t in (q, k, v)]
    assert used(kernel, *longer) == own
    check(kernel, *longer)
    off = attngen.compile(SPEC, layout="bnhd", autotune="off")
    assert used(off, *(t.transpose(1, 2) for t in (q, k, v))) == own


def test_a_new_length_in_a_known_bucket_neither_builds_nor_reads(monkeypatch: pytest.MonkeyPatch) -> None:
    q, k, v = operands()
    told(q, k, v)
    kernel = attngen.compile(SPEC, autotune="cached")
    kernel(q, k, v)

    def never(*_: Any) -> Any:
        raise AssertionError("nothing is built")

    monkeypatch.setattr(CpuBackend, "build", never)
    monkeypatch.setattr(db.files, "load", never)
    check(kernel, *(t[:, :, : t.shape[2] - 1] for t in (q, k, v)))


def test_the_backward_has_configs_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    q, k, v = operands()
    config = told(q, k, v, backward=True)
    built = []
    real = CpuBackend.build_backward

    def noted(self: Any, plan: Any, given: Any, wanted: Any) -> Any:
        built.append(given)
        return real(self, plan, given, wanted)

    monkeypatch.setattr(CpuBackend, "build_backward", noted)
    kernel = attngen.compile(SPEC, autotune="cached")
    leaves = [t.clone().requires_grad_() for t in (q, k, v)]
    found = torch.autograd.grad(kernel(*leaves).sum(), leaves)
    wanted = torch.autograd.grad(kernel.reference(*leaves).sum(), leaves)
    assert set(built) == {config}
    for one, other in zip(found, wanted, strict=True):
        assert float((one - other).norm() / other.norm().clamp_min(1)) < 1e-5


def test_a_stale_config_is_a_hint_and_said_to_be_stale() -> None:
    q, k, v = operands()
    config = told(q, k, v, versions={"compiler": "an older one"})
    kernel = attngen.compile(SPEC, autotune="cached")
    assert used(kernel, q, k, v) == config
    assert "stale: measured with other versions" in str(kernel.explain(q, k, v))


@pytest.mark.parametrize("config", ["nonsense", "avx2 q24 k7 g16 qk6x2 pv6x2", "avx2 q32 k256 g8 qk4x2 pv4x2 box4x8"])
def test_a_config_that_does_not_fit_is_not_used(config: str, caplog: pytest.LogCaptureFixture) -> None:
    q, k, v = operands()
    own = used(attngen.compile(SPEC), q, k, v)
    told(q, k, v)
    one = attngen.compile(SPEC).engine()
    plan = make_plan(one.spec, one.problem(q, k, v, [], False))
    key: Key = one.situation(q, k, v, []).key(plan, CpuBackend(), "forward")
    device = device_of(CpuBackend())
    assert device is not None
    db.add(device, [sample(0.1, config, key=key, base=str(own), versions=versions("cpu"))])
    caplog.set_level("INFO", "attngen.autotune")
    assert used(attngen.compile(SPEC, autotune="cached"), q, k, v) == own
    assert f"the tuned config {config!r} is not used for" in caplog.text


def test_a_wrong_mode_is_refused() -> None:
    with pytest.raises(
        InputError, match=r"autotune: got 'of' \(did you mean 'off'\?\); allowed: off, cached, quick, full"
    ):
        attngen.compile(SPEC, autotune="of")  # type: ignore[arg-type]


def test_sizes_are_of_the_call() -> None:
    q, k, v = operands()
    one = attngen.compile(SPEC).engine()
    plan = make_plan(one.spec, one.problem(q, k, v, [], False))
    sizes = one.situation(q, k, v, []).sizes(plan)
    assert isinstance(sizes, Sizes)
    assert sizes.n_q >= q.shape[2] > sizes.n_q // 2
