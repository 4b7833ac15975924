"""Kernels for bundles: what a launch passes is what the machine code declares."""

from __future__ import annotations

import importlib.util
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

import attngen
from attngen import masks, scores
from attngen.codegen.backends.triton import aot
from attngen.codegen.backends.triton.ahead import Binary, build_apart
from attngen.codegen.backends.triton.config import default, default_backward
from attngen.codegen.backends.triton.lint import complaints
from attngen.codegen.bundle.manifest import BundledKernel
from attngen.codegen.devices import built_for
from attngen.errors import BuildError
from tests.aot import pretend
from tests.codegen.plans import plan_of

PLAN = plan_of(attngen.Spec(mask=masks.causal()), dtype="bf16", lse=True)


@pytest.fixture(autouse=True)
def linter(monkeypatch: pytest.MonkeyPatch) -> None:
    pretend.pretend(monkeypatch)


def built(work: Path, build: Any = pretend.build, arch: str = "sm_90") -> BundledKernel:
    (kernel,) = aot.build_kernels(PLAN, arch, work, "here", build, backward=False)
    return kernel


def test_files_and_facts(tmp_path: Path) -> None:
    kernel = built(tmp_path)
    assert sorted(path.name for path in (tmp_path / "here").iterdir()) == [
        "forward.aligned.cubin",
        "forward.generic.cubin",
        "forward.py",
    ]
    assert kernel.source == "here/forward.py"
    aligned, generic = kernel.variants
    assert (aligned.cubin, aligned.symbol, aligned.threads) == ("here/forward.aligned.cubin", "forward", 256)
    dropped = dict.fromkeys(kernel.channels)
    names = [name for name, _ in kernel.signature]
    assert [name for name, _ in generic.passed] == [*names, "global_scratch", "profile_scratch"]
    assert [name for name, _ in aligned.passed] == [n for n, _ in generic.passed if n not in dropped]


def test_the_config_is_that_of_the_architecture() -> None:
    for arch in ("sm_80", "sm_90", "sm_100"):
        major = built_for(arch).capability[0]
        forward, rows, queries, keys = aot.roles(PLAN, arch)
        assert forward.config == default(PLAN, major)
        assert (forward.role, forward.entry, forward.file) == ("forward", "forward", "forward.py")
        both = default_backward(PLAN, major)
        assert [role.config for role in (rows, queries, keys)] == [both.queries, both.queries, both.keys]
        assert {(role.file, role.text) for role in (rows, queries, keys)} == {("backward.py", keys.text)}


@pytest.mark.skipif(importlib.util.find_spec("triton") is None, reason="triton is not installed")
def test_machine_code_of_a_backward_takes_what_is_passed(tmp_path: Path) -> None:
    """Tables seen from the keys, a learned input, a log-sum-exp: building checks the parameters that it declares."""
    ids, table = torch.arange(64) // 9, torch.zeros(2, 127)
    spec = attngen.Spec(mask=masks.document(ids), score=scores.relative_bias(table))
    plan = plan_of(spec, dtype="bf16", lse=True)
    real: list[str] = []

    def some(path: Path, entry: str, signature: Any, constants: Any, divisible: Any, *rest: Any) -> Binary:
        chosen = path.stem == "backward_inputs" and divisible
        real.extend([entry] if chosen else [])
        return (build_apart if chosen else pretend.build)(path, entry, signature, constants, divisible, *rest)

    built = {kernel.role: kernel for kernel in aot.build_kernels(plan, "sm_90", tmp_path, "kernels", some)}
    assert real == ["rows", "queries", "keys"]
    for role in real:
        aligned = built[role].variants[0]
        code = (tmp_path / aligned.cubin).read_bytes()
        assert code.startswith(b"\x7fELF")
        assert aligned.symbol.encode() in code
        assert {"*i64", "*fp32", "*i32"} <= {kind for _, kind in aligned.passed}


def test_complaints_are_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pretend.pretend(monkeypatch, local_stores=3)
    (complaint,) = built(tmp_path).variants[0].complaints
    assert complaint.startswith("Registers spill: 3 stores to local memory")
    binary = pretend.build(tmp_path / "x.py", "forward", {}, {}, (), "sm_90", 4, 2)
    assert [complaint] == complaints(pretend.resources(binary, local_stores=3), built_for("sm_90"))


def test_scratch_is_noted(tmp_path: Path) -> None:
    def build(*arguments: Any) -> Binary:
        binary = pretend.build(*arguments)
        return replace(binary, metadata=binary.metadata | {"global_scratch_size": 384, "global_scratch_align": 128})

    variant = built(tmp_path, build).variants[0]
    assert (variant.global_scratch, variant.profile_scratch) == ((384, 128), (0, 1))


@pytest.mark.parametrize(("what", "taken"), [("shared", 232449), ("tensor_memory", 513)])
def test_what_no_launch_could_start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, what: str, taken: int) -> None:
    pretend.pretend(monkeypatch, **{what: taken})
    with pytest.raises(aot.TooLarge) as caught:
        built(tmp_path, arch="sm_100")
    assert (caught.value.taken, caught.value.allowed) == (taken, taken - 1)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda b: replace(b, ptx=b.ptx.replace(")", ", .param .u64 p)")), r"Triton declares \d+ parameters of"),
        (lambda b: replace(b, ptx=b.ptx.replace("u64", "u32", 1)), "this version of Triton is not known to bundles"),
        (lambda b: replace(b, ptx=""), "Triton declares 0 parameters of"),
        (lambda b: replace(b, metadata=b.metadata | {"num_ctas": 2}), "forward: num_ctas is 2, which bundles do not"),
        (lambda b: replace(b, metadata=b.metadata | {"launch_pdl": True}), "launch_pdl is True"),
        (lambda b: replace(b, metadata=b.metadata | {"global_scratch_align": 1024}), "is to be aligned to 1024 bytes"),
    ],
)
def test_code_that_would_be_launched_wrongly(tmp_path: Path, change: Any, message: str) -> None:
    with pytest.raises(BuildError, match=message):
        built(tmp_path, lambda *arguments: change(pretend.build(*arguments)))
