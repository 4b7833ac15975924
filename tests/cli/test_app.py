from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from attngen import __version__
from tests.cli.conftest import ROOT, Run, elsewhere

HELP = """
import sys
from attngen.cli import main
sys.argv = ["attngen", "--help"]
try:
    main()
finally:
    heavy = sorted({"torch", "sympy", "numpy", "triton"} & set(sys.modules))
    print("heavy:", ",".join(heavy) or "none")
"""


def test_help_lists_the_commands_that_exist_and_no_others(run: Run) -> None:
    result = run("--help")
    assert result.exit_code == 0
    listed = [line.split()[0] for line in result.output.partition("Commands:")[2].splitlines() if line.strip()]
    assert listed == ["list", "show", "explain", "verify", "tune", "bench", "report", "aot", "doctor", "db", "cache"]
    assert "..." not in result.output.partition("Commands:")[2]


def test_help_imports_nothing_heavy() -> None:
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    result = subprocess.run([sys.executable, "-c", HELP], env=env, capture_output=True, text=True, timeout=60)
    assert "heavy: none" in result.stdout, result.stdout + result.stderr


def test_version(run: Run) -> None:
    assert run("--version").output == f"attngen {__version__}\n"


def test_an_error_is_one_line_and_exit_code_2(tmp_path: Path) -> None:
    result = elsewhere(tmp_path, "show", "causl")
    assert result.returncode == 2
    assert result.stdout == ""
    assert result.stderr.startswith("error: SPEC: got 'causl': no mechanism of that name (did you mean 'causal'?)")
    assert len(result.stderr.splitlines()) == 1


def test_debug_keeps_the_traceback(tmp_path: Path) -> None:
    result = elsewhere(tmp_path, "show", "causl", ATTNGEN_DEBUG="ir")
    assert result.returncode != 0
    assert "Traceback" in result.stderr


def test_an_unknown_command_is_refused(run: Run) -> None:
    assert run("tuna").exit_code == 2


def test_a_bad_environment_is_one_line(tmp_path: Path) -> None:
    result = elsewhere(tmp_path, "show", "causal", ATTNGEN_LOG="LOUD")
    assert (result.returncode, result.stderr) == (
        2,
        "error: ATTNGEN_LOG='LOUD' is not known; allowed: DEBUG, INFO, WARNING, ERROR\n",
    )
