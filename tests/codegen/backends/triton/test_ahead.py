"""Kernels built for GPUs that are not here, and what is said of those that cannot be."""

from __future__ import annotations

import dataclasses
import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from attngen.codegen.backends.triton.ahead import build_apart
from attngen.errors import BuildError, InputError
from tests.codegen.backends.triton.subjects import FILE, SIGNATURE, built

pytestmark = pytest.mark.skipif(importlib.util.find_spec("triton") is None, reason="triton is not installed")
ROOT = Path(__file__).parents[4]
CONSTANTS = {"D": 64, "BLOCK_M": 128, "BLOCK_N": 64}


def refused(entry: str, signature: dict[str, str] | None = None) -> str:
    with pytest.raises(BuildError) as caught:
        build_apart(FILE, entry, signature or {"x_ptr": "*i32"}, {}, (), "sm_90", 4, 2)
    return str(caught.value)


@pytest.mark.parametrize("target", ["sm_80", "sm_90", "sm_100"])
def test_a_kernel_is_built_for_an_architecture(target: str) -> None:
    binary = built(target=target)
    assert (binary.name, binary.arch, binary.num_warps) == ("flash", target, 4)
    assert binary.cubin.startswith(b"\x7fELF")
    assert f".target {target}" in binary.ptx
    assert f'"cuda:{target[3:]}"' in binary.ttgir
    assert 128 * 64 * 2 <= binary.shared < 64 * 1024
    assert "Used" in binary.log


def test_metadata_travels_as_json_and_names_no_file_of_the_builder() -> None:
    metadata = built().metadata
    assert json.loads(json.dumps(metadata)) == metadata
    assert metadata["shared"] == built().shared
    assert metadata["target"] == {"backend": "cuda", "arch": 90, "warp_size": 32}
    assert str(sys.prefix) not in json.dumps(metadata)


def test_specialisation_adds_warps() -> None:
    assert built("specialized", d=128).num_warps == 12


def test_divisible_arguments_are_loaded_wide() -> None:
    narrow = built(target="sm_80", divisible=())
    assert "cp.async.cg.shared.global" in built(target="sm_80").ptx
    assert "cp.async.cg.shared.global" not in narrow.ptx


def test_the_interpreter_and_the_cache_of_this_process_do_not_matter(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache = tmp_path / "cache"
    cache.mkdir()
    monkeypatch.setenv("TRITON_CACHE_DIR", str(cache))
    monkeypatch.setenv("TRITON_INTERPRET", "1")
    copy = tmp_path / "copied.py"
    copy.write_text(FILE.read_text())
    binary = build_apart(copy, "flash", SIGNATURE, CONSTANTS, (), "sm_90", 4, 2)
    assert binary.cubin
    assert list(cache.iterdir()) == []
    assert [file.name for file in tmp_path.iterdir() if file != cache] == ["copied.py"]


def test_a_binary_cannot_be_changed() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        built().name = "other"  # type: ignore[misc]


# Refusals


def test_an_unknown_name_shows_the_line_of_the_inner_function() -> None:
    first, *shown = refused("unknown_name").splitlines()
    assert first == "Triton refused unknown_name for sm_90: NameError('missing is not defined')"
    assert shown[:2] == ["    def shifted(x):", "        return x + missing  # noqa: F821"]
    assert shown[2].index("^") == shown[1].index("missing")
    assert shown[-1] == f"  source: {FILE}"


def test_unlike_shapes_show_their_line() -> None:
    message = refused("unlike_shapes")
    assert "incompatible dimensions at index 0: 64 and 32" in message.splitlines()[0]
    assert "wide = tl.arange(0, 64)[:, None] + tl.arange(0, 32)[:, None]" in message


def test_the_assembler_is_quoted() -> None:
    assert "Unknown modifier '.op'" in refused("bogus_assembly").splitlines()[0]


def test_a_pass_that_fails_leaves_its_reason() -> None:
    message = refused("two_specialized", {"q_ptr": "*bf16", "k_ptr": "*bf16", "n": "i32"})
    assert message.startswith("Triton refused two_specialized for sm_90: ")
    assert "Triton said: Assertion" in message


def test_a_process_that_dies_is_a_build_error(tmp_path: Path) -> None:
    file = tmp_path / "dies.py"
    file.write_text("import os\nos.abort()\n")
    with pytest.raises(BuildError, match="stopped with SIGABRT while it built kernel"):
        build_apart(file, "kernel", {}, {}, (), "sm_90", 4, 2)


def test_python_that_cannot_be_parsed(tmp_path: Path) -> None:
    file = tmp_path / "broken.py"
    file.write_text("x = 1\ndef kernel(:\n")
    with pytest.raises(BuildError, match="Python refused the generated source, line 2"):
        build_apart(file, "kernel", {}, {}, (), "sm_90", 4, 2)


@pytest.mark.parametrize(
    ("entry", "signature", "target", "message"),
    [
        ("flash", SIGNATURE, "gfx942", r"target: 'gfx942'; allowed: sm_ and the compute capability"),
        ("absent", SIGNATURE, "sm_90", r"has no kernel 'absent'"),
        ("flash", SIGNATURE | {"bias_ptr": "*fp32"}, "sm_90", r"arguments of flash\(q_ptr, .*it has no bias_ptr"),
        ("flash", {"q_ptr": "*bf16"}, "sm_90", r"k_ptr, v_ptr, out_ptr, n, scale: no type"),
    ],
)
def test_arguments_that_do_not_fit(entry: str, signature: dict[str, str], target: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        build_apart(FILE, entry, signature, CONSTANTS, (), target, 4, 2)


def test_the_interpreter_is_refused_in_this_process() -> None:
    code = (
        "from pathlib import Path\n"
        "from attngen.codegen.backends.triton.ahead import build_ahead\n"
        f"build_ahead(Path({str(FILE)!r}), 'unknown_name', {{'x_ptr': '*i32'}}, {{}}, (), 'sm_90', 4, 2)\n"
    )
    environment = {**os.environ, "TRITON_INTERPRET": "1"}
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, env=environment, capture_output=True, text=True)
    assert "BuildError: unknown_name was imported under Triton's interpreter" in done.stderr
