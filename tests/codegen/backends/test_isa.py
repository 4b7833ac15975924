"""The instruction sets, on this machine and on machines that are only described."""

from __future__ import annotations

import platform
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from attngen import settings
from attngen.codegen.backends.cpu import isa
from attngen.errors import InputError

AVX2 = "fpu sse2 avx avx2 fma f16c"
AVX512 = f"{AVX2} avx512f avx512bw avx512vl avx512dq"
CPUINFO = "processor\t: {0}\nmodel name\t: Fast CPU\nflags\t\t: {1}\nbugs\t\t: none: at all\n\n"


@pytest.fixture(autouse=True)
def fresh(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.delenv("ATTNGEN_ISA", raising=False)
    isa.processor.cache_clear()
    yield
    isa.processor.cache_clear()


def pretend(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, text: str) -> None:
    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.setattr(isa, "_CPUINFO", tmp_path / "cpuinfo")
    (tmp_path / "cpuinfo").write_text(text)


@pytest.mark.parametrize(
    ("flags", "expected"),
    [
        (f"{AVX512} avx512_bf16", ("avx512_bf16", "avx512", "avx2", "portable")),
        (AVX512, ("avx512", "avx2", "portable")),
        (f"{AVX2} avx512f avx512_bf16", ("avx2", "portable")),
        (AVX2, ("avx2", "portable")),
        ("fpu sse2 avx avx2 fma", ("portable",)),
        ("", ("portable",)),
    ],
)
def test_available_sets_best_first(
    flags: str, expected: tuple[str, ...], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    pretend(monkeypatch, tmp_path, CPUINFO.format(0, flags))
    assert isa.available() == expected
    assert isa.choose() == expected[0]


def test_only_the_first_processor_is_read(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    pretend(monkeypatch, tmp_path, "\n" + CPUINFO.format(0, AVX512) + CPUINFO.format(1, "nothing"))
    assert isa.available()[0] == "avx512"


def test_the_names_are_those_of_the_setting() -> None:
    assert tuple(isa.REQUIRED) == settings.CHOICES["isa"]


def test_a_forced_set(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    pretend(monkeypatch, tmp_path, CPUINFO.format(0, AVX512))
    for name in ("avx512", "avx2", "portable"):
        monkeypatch.setenv("ATTNGEN_ISA", name)
        assert isa.choose() == name


def test_a_forced_set_that_is_missing(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    pretend(monkeypatch, tmp_path, CPUINFO.format(0, AVX2))
    monkeypatch.setenv("ATTNGEN_ISA", "avx512")
    with pytest.raises(InputError) as caught:
        isa.choose()
    assert str(caught.value) == "ATTNGEN_ISA=avx512: this machine has no avx512; it has avx2, portable"


def test_the_identity_holds_model_and_relevant_flags_only(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    pretend(monkeypatch, tmp_path, CPUINFO.format(0, AVX2))
    assert isa.identity() == f"{platform.machine()}; Fast CPU; avx2 f16c fma"
    for text in (CPUINFO.format(0, "fma f16c avx2 something_new"), CPUINFO.format(7, AVX2)):
        isa.processor.cache_clear()
        pretend(monkeypatch, tmp_path, text)
        assert isa.identity() == f"{platform.machine()}; Fast CPU; avx2 f16c fma"
    isa.processor.cache_clear()
    pretend(monkeypatch, tmp_path, CPUINFO.format(0, AVX512))
    assert isa.identity().endswith("; avx2 avx512bw avx512dq avx512f avx512vl f16c fma")


def test_arm(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    text = "processor\t: 0\nFeatures\t: fp asimd\nCPU implementer\t: 0x41\nCPU part\t: 0xd0c\n\n"
    pretend(monkeypatch, tmp_path, text)
    assert isa.available() == ("portable",)
    assert "; implementer 0x41 part 0xd0c; no vector flags" in isa.identity()


def test_no_cpuinfo(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.setattr(isa, "_CPUINFO", tmp_path / "missing")
    assert isa.available() == ("portable",)
    assert isa.identity().endswith("no vector flags")


@pytest.mark.parametrize(
    ("features", "leaf7", "expected"),
    [
        ("FPU FMA AVX1.0 F16C", "AVX2 BMI2", ("avx2", "portable")),
        ("FMA F16C", "AVX2 AVX512F AVX512BW AVX512VL AVX512DQ", ("avx512", "avx2", "portable")),
        ("", "", ("portable",)),
    ],
)
def test_mac(features: str, leaf7: str, expected: tuple[str, ...], monkeypatch: pytest.MonkeyPatch) -> None:
    answers = {"brand_string": "Apple M1", "features": features, "leaf7_features": leaf7}

    def run(command: tuple[str, ...], **_: object) -> subprocess.CompletedProcess[str]:
        assert command[:2] == ("sysctl", "-n")
        return subprocess.CompletedProcess(command, 0, answers[command[2].rpartition(".")[2]] + "\n", "")

    monkeypatch.setattr(sys, "platform", "darwin")
    monkeypatch.setattr(subprocess, "run", run)
    assert isa.available() == expected
    assert "; Apple M1; " in isa.identity()


def test_this_machine_agrees_with_torch() -> None:
    torch = pytest.importorskip("torch")
    capability = torch.backends.cpu.get_cpu_capability()
    if capability == "AVX512":
        assert "avx512" in isa.available()
    if capability == "AVX2":
        assert "avx2" in isa.available()
