"""What a kernel of a bundle is launched with: grid, block, shared memory, parameters in their order."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

import attngen
from attngen import masks
from attngen.codegen.backend import Call
from attngen.codegen.backends.triton import aot
from attngen.codegen.backends.triton.config import TritonConfig
from attngen.codegen.backends.triton.cubins import Cubins
from attngen.codegen.backends.triton.launch import prepare
from attngen.codegen.bundle.manifest import BundledKernel
from tests.aot import pretend
from tests.codegen.plans import plan_of

SPEC = attngen.Spec(mask=masks.causal(), score="score * factor")
PLAN = plan_of(SPEC, dtype="bf16", d=32, dv=16)
Q, K, V = (torch.zeros(2, 3, n, d, dtype=torch.bfloat16) for n, d in ((130, 32), (7, 32), (7, 16)))


@pytest.fixture
def kernel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> BundledKernel:
    pretend.pretend(monkeypatch)
    (kernel,) = aot.build_kernels(PLAN, "sm_90", tmp_path, "", pretend.build, backward=False)
    return kernel


def run(kernel: BundledKernel, folder: Path, *tensors: torch.Tensor) -> tuple[pretend.Recorder, Any]:
    driver = pretend.Recorder({(folder / v.cubin).read_bytes(): [k for _, k in v.passed] for v in kernel.variants})
    runner: Any = Cubins(kernel, lambda name: (folder / name).read_bytes(), driver)
    launch = prepare(runner, TritonConfig(**kernel.config), PLAN, Call(2, 3, 130, 7, "bhnd", tensors))
    return driver, launch(*tensors, (), (0.5,))


def test_the_whole_launch(kernel: BundledKernel, tmp_path: Path) -> None:
    driver, (out, lse, _) = run(kernel, tmp_path, Q, K, V)
    (launch,) = driver.launched
    aligned = kernel.variants[0]
    assert (launch.image, launch.symbol) == ((tmp_path / aligned.cubin).read_bytes(), "forward")
    assert launch.grid == (2 * 3 * 2, 1, 1)
    assert (launch.threads, launch.shared, launch.allowed) == (256, 70000, 70000)
    assert lse is None
    values = dict(zip((name for name, _ in aligned.passed), launch.values, strict=True))
    addresses = {name: tensor.data_ptr() for name, tensor in (("q", Q), ("k", K), ("v", V), ("out", out))}
    assert {name: values[f"{name}_data"] for name in addresses} == addresses
    assert values["x3_factor"] == 0.5
    assert [values[name] for name in ("n_b", "n_h", "n_q")] == [2, 3, 130]
    for name, tensor in (("q", Q), ("k", K), ("v", V), ("out", out)):
        assert [values[f"{name}_stride{i}"] for i in range(3)] == list(tensor.stride()[:3])
    assert (values["global_scratch"], values["profile_scratch"]) == (0, 0)


def test_strides_of_channels_are_passed_where_they_are_not_1(kernel: BundledKernel, tmp_path: Path) -> None:
    wide = torch.zeros(2, 3, 7, 64, dtype=torch.bfloat16)[..., ::2]
    driver, _ = run(kernel, tmp_path, Q, wide, V)
    (launch,) = driver.launched
    generic = kernel.variants[1]
    assert launch.image == (tmp_path / generic.cubin).read_bytes()
    values = dict(zip((name for name, _ in generic.passed), launch.values, strict=True))
    assert [values[f"{name}_stride3"] for name in ("q", "k", "v", "out")] == [1, 2, 1, 1]


def test_scratch_is_there_for_every_block(
    kernel: BundledKernel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[int] = []
    empty = torch.empty

    def counted(*size: Any, **options: Any) -> torch.Tensor:
        if options.get("dtype") is torch.uint8:
            asked.append(size[0])
        return empty(*size, **options)

    monkeypatch.setattr(torch, "empty", counted)
    variants = tuple(replace(v, global_scratch=(384, 128)) for v in kernel.variants)
    driver, _ = run(replace(kernel, variants=variants), tmp_path, Q, K, V)
    assert asked == [12 * 384]
    assert driver.launched[0].values[-2] != 0
    assert driver.launched[0].values[-1] == 0


def test_each_device_has_its_own_copy(kernel: BundledKernel, tmp_path: Path) -> None:
    driver = pretend.Recorder({(tmp_path / v.cubin).read_bytes(): [k for _, k in v.passed] for v in kernel.variants})
    runner = Cubins(kernel, lambda name: (tmp_path / name).read_bytes(), driver)
    for device in ("cpu", "cpu:0", "cpu"):
        arguments: list[Any] = []
        for name, kind in kernel.signature:
            number = 1 if name in kernel.channels else 16
            arguments.append(Placed(torch.device(device)) if kind.startswith("*") else number)
        runner.run((1, 1, 1), arguments)
    assert len(driver.loaded) == 2
    assert len(driver.launched) == 3


class Placed:
    """An address on a device."""

    def __init__(self, device: torch.device) -> None:
        self.device = device

    def data_ptr(self) -> int:
        return 4096
