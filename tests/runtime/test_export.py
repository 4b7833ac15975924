"""torch.export: the program carries the spec as text, is saved, and runs in a new process."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import torch

from tests.runtime.modules import Attention

pytestmark = [pytest.mark.cxx, pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")]

LOAD = """
import sys, torch, attngen
x, expected = torch.load(sys.argv[2])
module = torch.export.load(sys.argv[1]).module()
with torch.no_grad():
    torch.testing.assert_close(module(x), expected)
print("equal")
"""


def exported(module: torch.nn.Module) -> torch.export.ExportedProgram:
    shapes = {"x": {1: torch.export.Dim("n", min=2, max=500)}}
    with torch.no_grad():
        return torch.export.export(module, (torch.randn(2, 10, 16),), dynamic_shapes=shapes)


def test_exported_program_runs_at_other_lengths() -> None:
    module = Attention()
    program = exported(module)
    assert "attngen.forward" in str(program.graph)
    for n in (2, 10, 77, 500):
        x = torch.randn(2, n, 16)
        with torch.no_grad():
            torch.testing.assert_close(program.module()(x), module(x))


@pytest.mark.parametrize("strict", [False, True])
def test_program_exported_with_gradients_has_them(strict: bool) -> None:
    module = Attention()
    shapes = {"x": {1: torch.export.Dim("n", min=2, max=500)}}
    program = torch.export.export(module, (torch.randn(2, 10, 16),), strict=strict, dynamic_shapes=shapes)
    assert "attngen.attention.default" in str(program.graph)
    x = torch.randn(2, 33, 16)
    loaded = program.module()
    with torch.no_grad():
        torch.testing.assert_close(loaded(x), module(x))
    for run in (loaded, module):
        run(x).square().sum().backward()
    for name, parameter in module.named_parameters():
        torch.testing.assert_close(loaded.get_parameter(name).grad, parameter.grad)


def test_saved_program_runs_in_a_new_process(tmp_path: Path) -> None:
    module, x = Attention(), torch.randn(2, 77, 16)
    torch.export.save(exported(module), tmp_path / "program.pt2")
    with torch.no_grad():
        torch.save((x, module(x)), tmp_path / "expected.pt")
    command = [sys.executable, "-c", LOAD, str(tmp_path / "program.pt2"), str(tmp_path / "expected.pt")]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.stdout == "equal\n", done.stderr
