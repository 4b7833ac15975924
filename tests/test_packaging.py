"""What a user installs: a light import, every template in the wheel, and none of the repository's links."""

from __future__ import annotations

import json
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
LINKS = ("ir", "codegen", "templates", "autotune")
HEAVY = ("torch", "triton", "sympy", "transformers", "optuna", "matplotlib", "cupy", "jinja2", "rich")

IMPORT = """
import json, sys, time
start = time.perf_counter()
import json.tool, dataclasses, inspect, logging, pathlib, typing  # a yardstick: a few modules of the standard library
yardstick = time.perf_counter() - start
start = time.perf_counter()
import attngen
seconds = time.perf_counter() - start
print(json.dumps({"loaded": sorted(sys.modules), "ratio": seconds / yardstick}))
"""


def test_import_is_light(tmp_path: Path, record_property: Callable[[str, object], None]) -> None:
    done = subprocess.run([sys.executable, "-c", IMPORT], cwd=tmp_path, capture_output=True, text=True, check=True)
    report = json.loads(done.stdout)
    record_property("import time of attngen / of a few stdlib modules", report["ratio"])  # kept, never judged
    assert [name for name in HEAVY if name in report["loaded"]] == []


WITHOUT_EXTRAS = """
import sys
for name in ("platformdirs", "optuna", "matplotlib", "transformers"):
    sys.modules[name] = None  # importing it raises ImportError
import torch, attngen
torch.manual_seed(0)
q, k, v = torch.randn(3, 1, 2, 33, 16)
out = attngen.attention(q, k, v, mask=attngen.masks.causal())
dense = torch.nn.functional.scaled_dot_product_attention(q, k, v, is_causal=True)
assert torch.allclose(out, dense, atol=1e-5), (out - dense).abs().max()
"""


def test_kernels_run_where_platformdirs_and_the_extras_are_missing(tmp_path: Path) -> None:
    done = subprocess.run([sys.executable, "-c", WITHOUT_EXTRAS], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, built offline."""
    folder = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(folder), str(ROOT)]
    subprocess.run(command, check=True, capture_output=True)
    return next(folder.glob("*.whl"))


def test_wheel_holds_the_package_and_nothing_else(wheel: Path) -> None:
    names = zipfile.ZipFile(wheel).namelist()
    assert {name.split("/")[0] for name in names} == {
        "attngen",
        next(n for n in names if ".dist-info/" in n).split("/")[0],
    }


def test_wheel_holds_every_file_of_the_package(wheel: Path) -> None:
    """Templates and shipped tables too, which no import would miss."""
    files = {p.relative_to(ROOT).as_posix() for p in (ROOT / "attngen").rglob("*") if p.is_file()}
    expected = {name for name in files if "__pycache__" not in name}
    assert any(name.endswith(".jinja") for name in expected)
    assert expected - set(zipfile.ZipFile(wheel).namelist()) == set()


@pytest.mark.parametrize("room", LINKS)
def test_links_open_into_the_rooms(room: str) -> None:
    assert (ROOT / room).readlink() == Path("attngen") / room
