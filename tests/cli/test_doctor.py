from __future__ import annotations

from dataclasses import fields
from pathlib import Path

import pytest
import torch

from attngen import settings
from attngen.cli import health
from attngen.codegen.backends.cpu import compiler
from attngen.runtime.engine import engine
from tests.cli.conftest import Run


@pytest.mark.cxx
def test_ready(run: Run) -> None:
    result = run("doctor")
    assert result.exit_code == 0, result.output
    lines = result.output.splitlines()
    assert lines[-1] == "ready"
    assert f"{'torch':<22}{torch.__version__}" in lines
    for f in fields(settings.Settings):
        assert any(line.startswith(settings.variable(f.name)) for line in lines)
    assert any(line.startswith("test kernel") and "causal on the cpu backend" in line for line in lines)


def test_what_is_missing_is_said(run: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    engine.cache_clear()  # kernels of other tests stay built
    monkeypatch.setattr(compiler, "find", lambda: compiler.NoCompiler("no C++ compiler runs here. Install g++."))
    open_to_all = tmp_path / "cache"
    open_to_all.mkdir()
    open_to_all.chmod(0o777)
    monkeypatch.setenv("ATTNGEN_CACHE_DIR", str(open_to_all))
    result = run("doctor")
    engine.cache_clear()
    assert result.exit_code == 1
    lines = result.output.splitlines()
    assert lines[-1] == "not ready"
    assert "to do: no C++ compiler runs here. Install g++." in lines
    assert any(line.startswith("to do: the cache directory") and "others may write to it" in line for line in lines)
    assert any("causal on the reference backend" in line for line in lines)


def test_a_wrong_setting_is_a_problem(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ATTNGEN_ISA", "avx9000")
    assert any("ATTNGEN_ISA='avx9000' is not known" in problem for problem in health.examine().problems)
