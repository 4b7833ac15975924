"""`attngen aot`: real machine code, twice, for one architecture; and what it refuses."""

from __future__ import annotations

import importlib.util
import json
from functools import partial
from pathlib import Path

import pytest
import torch
from typer.testing import CliRunner, Result

import attngen
from attngen.aot.build import build_bundle
from attngen.cli import app
from attngen.codegen.bundle.files import open_bundle
from attngen.errors import BundleError
from tests.aot import pretend
from tests.aot.pretend import Recorder, passed_of
from tests.cli.conftest import USER_FILE, Run

needs_triton = pytest.mark.skipif(importlib.util.find_spec("triton") is None, reason="triton is not installed")
ONE = ("--arch", "sm_90", "--dtype", "bf16", "--head-dim", "64")
OPTIONS = (*ONE, "--forward-only")


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, Result]:
    """Two bundles of the same spec, built in different places, and what the second build said."""
    folder = tmp_path_factory.mktemp("aot")
    (folder / "mine.py").write_text(USER_FILE)
    for name in ("first", "second"):
        result = CliRunner().invoke(app, ["aot", f"{folder}/mine.py:alibi", *OPTIONS, "-o", str(folder / name)])
        assert result.exit_code == 0, result.output
    return folder / "first", folder / "second", result


@needs_triton
def test_the_table(built: tuple[Path, Path, Result]) -> None:
    _, second, result = built
    assert result.stderr == "built forward for bf16 D 64, sm_90\n"
    header, aligned, generic, last = result.stdout.splitlines()
    assert header.split() == ["kernel", "built", "for", "arch", "tensors", "registers", "shared", "KiB", "lint"]
    for line, name in ((aligned, "aligned"), (generic, "generic")):
        cells = line.split()
        assert cells[:6] == ["forward", "bf16", "D", "64", "sm_90", name]
        assert 32 < int(cells[6]) <= 255
        assert 0 < float(cells[7]) <= 227
        assert cells[8:] == ["fine"]
    assert last.startswith(f"{second}: 3 files, ")
    assert last.endswith(f"; attngen.load_bundle({str(second)!r}) loads it")


@needs_triton
def test_the_same_bytes_in_another_place(built: tuple[Path, Path, Result]) -> None:
    first, second, _ = built
    names = sorted(str(path.relative_to(first)) for path in first.rglob("*") if path.is_file())
    assert len(names) == 4
    for name in names:
        assert (first / name).read_bytes() == (second / name).read_bytes()
        assert b"/mine.py" not in (first / name).read_bytes()
        assert str(first.parent).encode() not in (first / name).read_bytes()


@needs_triton
def test_there_and_back(built: tuple[Path, Path, Result]) -> None:
    directory = built[0]
    bundle = open_bundle(directory)
    driver = Recorder(passed_of(bundle))
    kernel = attngen.load_bundle(directory, {"slopes": torch.ones(2)}, driver=driver)
    q = torch.zeros(1, 2, 100, 64, dtype=torch.bfloat16)
    assert kernel(q, q, q).shape == q.shape
    (launch,) = driver.launched
    assert launch.image.startswith(b"\x7fELF")
    assert launch.symbol.encode() in launch.image
    variant = bundle.manifest.problems[0].kernels[0].variants[0]
    assert (launch.threads, launch.shared) == (variant.threads, variant.shared)
    assert variant.metadata["target"] == {"backend": "cuda", "arch": 90, "warp_size": 32}


@needs_triton
def test_the_backward_is_built_unless_it_is_left_out(
    run: Run, tmp_path: Path, user_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pretend.pretend(monkeypatch)
    monkeypatch.setattr("attngen.aot.build.build_bundle", partial(build_bundle, build=pretend.build))
    result = run("aot", f"{user_file}:alibi", *ONE, "-o", str(tmp_path / "bundle"))
    assert result.exit_code == 0, result.output
    parts = ("rows", "queries", "keys")
    titles = ["forward", *(f"backward {part}" for part in parts), *(f"backward {part} + slopes" for part in parts)]
    assert result.stderr.splitlines() == [f"built {title} for bf16 D 64, sm_90" for title in titles]
    shown = [line.split(" bf16 ")[0].strip() for line in result.stdout.splitlines()[1:-1]]
    assert shown == [title for title in titles for _ in ("aligned", "generic")]


@needs_triton
def test_a_changed_byte_is_refused(built: tuple[Path, Path, Result]) -> None:
    path = built[1] / "bf16-d64" / "sm_90" / "forward.generic.cubin"
    right = path.read_bytes()
    try:
        path.write_bytes(right[:5000] + bytes([right[5000] ^ 1]) + right[5001:])
        with pytest.raises(BundleError, match=r"forward.generic.cubin: was changed after it was written"):
            attngen.load_bundle(built[1])
    finally:
        path.write_bytes(right)


@needs_triton
def test_a_bundle_is_not_overwritten(built: tuple[Path, Path, Result], run: Run) -> None:
    result = run("aot", "causal", *OPTIONS, "-o", str(built[0]))
    assert result.exit_code == 2
    assert result.stderr == (
        f"error: {built[0]}: holds a bundle; give another directory, or replace it with --force (force=True)\n"
    )
    assert json.loads((built[0] / "manifest.json").read_text())["name"] == "causal_alibi"


@needs_triton
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--arch", "sm_75"), "arch: got 'sm_75'; Triton kernels need sm_80 or newer"),
        (("--arch", "sm_95"), "the nearest is 'sm_90'"),
        (("--dtype", "bf16,fp8"), "dtype: got 'fp8'; allowed: bf16, fp16, fp32"),
        (("--head-dim", "64,257"), "head_dim: got 257; a Triton kernel holds vectors of at most 256 channels"),
        (("--head-dim", "0"), "head_dim: got 0; allowed: 1 to 256; the nearest is 1"),
        (("--head-dim", "64,wide"), "--head-dim: got '64,wide'; allowed: integers with commas between them"),
        (("--value-dim", "400"), "value_dim: got 400"),
        (("--input", "slopes"), "--input: got 'slopes'; write NAME=DTYPE, such as slopes=bfloat16"),
        (("--input", "slope=float32"), "input: got 'slope'; tensors of this spec: this spec has none"),
    ],
)
def test_what_cannot_be_built(run: Run, tmp_path: Path, arguments: tuple[str, ...], message: str) -> None:
    result = run("aot", "causal", *arguments, "-o", str(tmp_path / "bundle"))
    assert result.exit_code == 2, result.output
    assert message in result.stderr
    assert len(result.stderr.splitlines()) == 1
    assert list(tmp_path.iterdir()) == []


def test_without_triton(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("attngen.aot.limits.find_spec", lambda name: None)
    result = run("aot", "causal", "-o", str(tmp_path / "bundle"))
    assert (result.exit_code, result.stderr) == (
        2,
        "error: Triton is not installed, and a bundle is built with it; pip install triton (loading a bundle needs "
        "none)\n",
    )


def test_specs_are_resolved_as_everywhere(run: Run, tmp_path: Path) -> None:
    result = run("aot", "causl", "-o", str(tmp_path / "bundle"))
    assert result.exit_code == 2
    assert "no mechanism of that name (did you mean 'causal'?)" in result.stderr
