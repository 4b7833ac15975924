"""What NVIDIA's driver is asked, with a library in its place that writes it down."""

from __future__ import annotations

import ctypes
import subprocess
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from attngen.codegen.bundle import driver
from attngen.codegen.bundle.packing import Packing
from attngen.errors import BundleError

DEVICE = torch.device("cuda", 1)
KERNEL = 0x7FFF00000003


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> str:
    from attngen.codegen.backends.cpu import compiler

    found = compiler.find()
    assert not isinstance(found, compiler.NoCompiler)
    path = tmp_path_factory.mktemp("driver") / "libcuda.so.1"
    source = Path(__file__).with_name("libcuda.cpp")
    subprocess.run([*found.command, "-shared", "-fPIC", "-o", str(path), str(source)], check=True)
    return str(path)


@pytest.fixture
def cuda(library: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    # A library is loaded once for each path; each test begins with an empty one.
    mine = tmp_path / "libcuda.so.1"
    mine.write_bytes(Path(library).read_bytes())
    monkeypatch.setattr(driver, "LIBRARY", str(mine))
    monkeypatch.setattr(torch.cuda, "current_stream", lambda device: SimpleNamespace(cuda_stream=2**46 + device.index))
    made = driver.Cuda()
    made._library.calls.restype = ctypes.c_char_p
    return made


def said(cuda: Any) -> list[str]:
    return str(cuda._library.calls().decode()).splitlines()


@pytest.mark.cxx
def test_code_is_loaded_with_the_memory_that_it_takes(cuda: Any) -> None:
    assert cuda.load(b"\x7fELF and more", "forward", 70000, DEVICE) == KERNEL
    assert said(cuda) == [
        "retain 101",
        "set 0x7fff00000001",
        "attribute 97 of 101",
        "image \x7fELF",
        "function forward of 0x7fff00000002",
        "0x7fff00000003: attribute 8 = 70000",
    ]


@pytest.mark.cxx
def test_a_context_is_made_once_and_little_memory_is_not_asked_for(cuda: Any) -> None:
    cuda.load(b"\x7fELF", "forward", 49152, DEVICE)
    cuda.load(b"\x7fELF", "forward", 49152, DEVICE)
    assert [line for line in said(cuda) if line.startswith(("retain", "0x"))] == ["retain 101"]


@pytest.mark.cxx
def test_a_launch(cuda: Any) -> None:
    pack = Packing(["*bf16", "i64", "*i8"])
    ctypes.c_int.in_dll(cuda._library, "parameters").value = 3
    cuda.launch(KERNEL, (65536, 2, 1), 256, 70000, DEVICE, pack([2**46, -5, 0]))
    shape, values = said(cuda)[-1].split(", extra (nil): ")
    assert shape == "launch 0x7fff00000003: 65536 2 1, 256 1 1, 70000 bytes, stream 0x400000000001"
    assert values == "70368744177664 -5 0"


@pytest.mark.cxx
def test_errors_are_told_in_words(cuda: Any) -> None:
    status = ctypes.c_int.in_dll(cuda._library, "launch_status")
    for number, words in ((700, "an illegal memory access was encountered"), (999, "unknown error")):
        status.value = number
        with pytest.raises(BundleError, match=f"^cuLaunchKernel failed: {words} .CUDA error {number}.$"):
            cuda.launch(KERNEL, (1, 1, 1), 32, 0, DEVICE, Packing([])([]))


@pytest.mark.cxx
def test_more_memory_than_a_block_has(cuda: Any) -> None:
    with pytest.raises(BundleError) as caught:
        cuda.load(b"", "forward", 232449, DEVICE)
    assert str(caught.value) == (
        "the kernel takes 232449 bytes of shared memory and a block on this device has 232448; build the bundle for "
        "the architecture of this device"
    )


def test_a_machine_without_a_driver(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(driver, "LIBRARY", "libcuda_that_is_not_there.so")
    with pytest.raises(BundleError) as caught:
        driver.Cuda()
    assert str(caught.value) == (
        "libcuda_that_is_not_there.so cannot be loaded: kernels of a bundle run on an NVIDIA GPU with its driver"
    )


@pytest.mark.cxx
def test_gpus_of_another_maker(cuda: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.version, "hip", "6.4")
    with pytest.raises(BundleError, match="holds machine code for NVIDIA's"):
        cuda.capability(DEVICE)
