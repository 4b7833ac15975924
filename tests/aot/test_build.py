"""What a bundle holds, and that it is whole or not there."""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path
from typing import Any

import pytest
import torch

import attngen
from attngen import masks, scores
from attngen.aot.build import Step
from attngen.codegen.backends.triton.ahead import Binary
from attngen.codegen.backends.triton.lint import Resources
from attngen.errors import BuildError, InputError, UnsupportedError
from tests.aot import pretend
from tests.aot.conftest import Make

WINDOW = attngen.Spec(mask=masks.sliding_window(256))


def files(directory: Path) -> dict[str, bytes]:
    return {str(p.relative_to(directory)): p.read_bytes() for p in sorted(directory.rglob("*")) if p.is_file()}


def test_what_is_in_it(make: Make) -> None:
    directory = make(WINDOW, archs=["sm_100", "sm_80"], dtypes=["fp32", "bf16"], head_dims=[32, 16], value_dim=16)
    names = sorted(files(directory))
    assert len(names) == 2 * 2 * 2 * (3 + 7) + 1
    cubins = [f"{function}.{variant}" for function in ("backward.keys", "backward.queries", "backward.rows", "forward")
              for variant in ("aligned", "generic")]  # fmt: skip
    there = [name.removeprefix("bf16-d16/sm_100/") for name in names[:10]]
    assert there == sorted([*(f"{cubin}.cubin" for cubin in cubins), "backward.py", "forward.py"])
    assert "fp32-d32-v16/sm_80/forward.py" in names
    manifest = json.loads((directory / "manifest.json").read_text())
    assert manifest["format"] == 1
    assert manifest["attngen"] == attngen.__version__
    assert list(manifest["compilers"]) == ["triton"]
    assert manifest["spec"] == str(WINDOW)
    assert manifest["spec_sha256"] == hashlib.sha256(str(WINDOW).encode()).hexdigest()
    assert manifest["numbers"] == {"window": 256}
    assert manifest["layout"] == "bhnd"
    problem = manifest["problems"][0]
    assert "needs no mask inside" in problem["plan"]
    assert problem["problem"]["operands"][0] == {"dtype": "bfloat16", "name": "q", "rank": 4, "width": 16}
    roles = ["forward", "rows", "queries", "keys"]
    assert [(kernel["arch"], kernel["role"]) for kernel in problem["kernels"]] == [
        (arch, role) for arch in ("sm_80", "sm_100") for role in roles
    ]
    assert [kernel["options"] for kernel in problem["kernels"][1:4]] == [{"wanted": []}] * 3
    kernel = problem["kernels"][0]
    assert (kernel["role"], kernel["entry"], kernel["options"]) == ("forward", "forward", {})
    assert kernel["config"]["num_warps"] == 8
    assert kernel["signature"][:2] == ["q_data: *bf16", "k_data: *bf16"]
    aligned, generic = kernel["variants"]
    assert aligned["global_scratch"] == [0, 1]
    assert aligned["passed"][-2:] == ["global_scratch: *i8", "profile_scratch: *i8"]
    channels = {f"{name}_stride3: i64" for name in ("q", "k", "v", "out")}
    assert set(generic["passed"]) - set(aligned["passed"]) == channels
    assert aligned["resources"]["registers"] == 100
    assert aligned["complaints"] == []


def test_inputs_that_may_be_learned_have_a_second_backward(make: Make) -> None:
    directory = make(attngen.Spec(mask=masks.document(torch.zeros(40, dtype=torch.int64)), score="score * gain[h]"))
    kernels = json.loads((directory / "manifest.json").read_text())["problems"][0]["kernels"]
    assert [(each["role"], each["options"].get("wanted"), Path(each["source"]).name) for each in kernels] == [
        ("forward", None, "forward.py"),
        *((role, [], "backward.py") for role in ("rows", "queries", "keys")),
        *((role, ["gain"], "backward_inputs.py") for role in ("rows", "queries", "keys")),
    ]


def test_the_forward_alone(make: Make) -> None:
    names = sorted(path.name for path in make(WINDOW, backward=False).rglob("*") if path.is_file())
    assert names == ["forward.aligned.cubin", "forward.generic.cubin", "forward.py", "manifest.json"]


def test_equal_builds_give_equal_files(make: Make) -> None:
    spec = attngen.Spec(mask=masks.causal(), score=scores.alibi(torch.ones(2)))
    first, second = make(spec, "first"), make(spec, "second")
    assert files(first) == files(second)


def test_nothing_in_it_tells_of_the_machine(make: Make, tmp_path: Path) -> None:
    text = b"".join(files(make(WINDOW)).values())
    for place in (tmp_path, Path(attngen.__file__).parent, Path.home()):
        assert str(place).encode() not in text


def test_each_kernel_is_told_of(make: Make) -> None:
    told: list[Step] = []
    make(WINDOW, archs=["sm_90", "sm_80"], each=told.append)
    assert [(step.problem.title, step.kernel.arch, step.kernel.title) for step in told] == [
        ("bf16 D 16", arch, title)
        for arch in ("sm_80", "sm_90")
        for title in ("forward", "backward rows", "backward queries", "backward keys")
    ]


def test_the_mode_is_the_users(make: Make) -> None:
    mask = os.umask(0o022)
    try:
        assert make(WINDOW).stat().st_mode & 0o777 == 0o755
    finally:
        os.umask(mask)


# Whole, or not there


def test_a_build_that_fails_leaves_nothing(make: Make, tmp_path: Path) -> None:
    built: list[str] = []

    def fails(path: Path, entry: str, *arguments: Any) -> Binary:
        built.append(entry)
        if len(built) == 3:
            raise BuildError("no")
        return pretend.build(path, entry, *arguments)

    with pytest.raises(BuildError, match=r"^no$"):
        make(WINDOW, archs=["sm_80", "sm_90"], build=fails)
    assert len(built) >= 3
    assert list(tmp_path.iterdir()) == []


def test_a_bundle_is_replaced_when_that_is_asked_for(make: Make) -> None:
    old = files(make(WINDOW))
    with pytest.raises(InputError) as caught:
        make(WINDOW, head_dims=[32])
    assert "holds a bundle; give another directory, or replace it with --force" in str(caught.value)
    directory = make(WINDOW, head_dims=[32], force=True)
    assert {name.split("/")[0] for name in files(directory)} == {"bf16-d32", "manifest.json"}
    assert list(directory.parent.iterdir()) == [directory]
    assert old != files(directory)


def test_a_replacement_that_fails_leaves_the_old_one(make: Make) -> None:
    directory = make(WINDOW)
    old = files(directory)

    def fails(*arguments: Any) -> Binary:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        make(WINDOW, build=fails, force=True)
    assert files(directory) == old
    assert list(directory.parent.iterdir()) == [directory]


def test_what_is_no_bundle_is_never_replaced(make: Make, tmp_path: Path) -> None:
    mine = tmp_path / "bundle"
    mine.mkdir()
    (mine / "thesis.tex").write_text("years of work")
    with pytest.raises(InputError, match="is not empty and is no bundle"):
        make(WINDOW, force=True)
    assert (mine / "thesis.tex").read_text() == "years of work"


def test_files_beside_a_bundle_are_never_lost(make: Make) -> None:
    directory = make(WINDOW)
    (directory / "notes").mkdir()
    (directory / "notes" / "thesis.tex").write_text("years of work")
    with pytest.raises(InputError, match=r"beside a bundle it holds notes/thesis.tex, which would be lost"):
        make(WINDOW, force=True)


# Refusals


def test_a_head_dimension_that_no_block_holds(make: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The limit, and the largest that fits: it was built to know."""

    def shared_of(binary: Binary) -> Resources:
        folder = binary.cubin.split()[0].decode()
        width = int(folder) if folder.isdecimal() else 256
        return pretend.resources(binary, shared=1000 * width)

    monkeypatch.setattr("attngen.codegen.backends.triton.aot.lint", shared_of)
    with pytest.raises(InputError) as caught:
        make(WINDOW, archs=["sm_80"], head_dims=[200])
    assert str(caught.value) == (
        "head_dim: 200 in bf16 takes 256000 bytes of shared memory, and a block on sm_80 (A100) has 166912; the "
        "nearest that fits is 128"
    )
    assert list(tmp_path.iterdir()) == []


def test_a_head_dimension_whose_backward_no_block_holds(
    make: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def shared_of(binary: Binary) -> Resources:
        return pretend.resources(binary, shared=200000 if binary.name == "keys" else 1000)

    monkeypatch.setattr("attngen.codegen.backends.triton.aot.lint", shared_of)
    with pytest.raises(InputError) as caught:
        make(WINDOW, archs=["sm_80"], head_dims=[4])
    assert str(caught.value) == (
        "head_dim: 4 in bf16 takes 200000 bytes of shared memory in its backward (keys), and a block on sm_80 (A100) "
        "has 166912; no smaller one fits either; without its backward it may fit: --forward-only (backward=False)"
    )
    assert list(tmp_path.iterdir()) == []
    assert make(WINDOW, archs=["sm_80"], head_dims=[4], backward=False).is_dir()


def test_a_spec_without_a_triton_kernel(make: Make) -> None:
    spec = attngen.mechanisms.linear(mask=~masks.causal(), decay=True)
    with pytest.raises(UnsupportedError, match=r"^linear: no bundle can be built: a decay has a kernel only for"):
        make(spec)


def test_options_are_checked_before_anything_is_built(make: Make, tmp_path: Path) -> None:
    for options, message in (
        ({"archs": ["sm_75"]}, "the nearest is 'sm_80'"),
        ({"dtypes": []}, "dtype: got none"),
        ({"head_dims": []}, "head_dim: got none; give one or more, such as 64 or 128"),
        ({"head_dims": [16, 300]}, "head_dim: got 300"),
        ({"inputs": {"gate": "float32"}}, "input: got 'gate'; tensors of this spec: this spec has none"),
    ):
        with pytest.raises(InputError, match=message):
            make(WINDOW, **options)
    assert list(tmp_path.iterdir()) == []
