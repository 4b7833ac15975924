"""Nothing of a bundle is used that is not what was written."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from attngen.codegen.bundle.files import MANIFEST, measure, open_bundle
from attngen.codegen.bundle.manifest import BundledFile, dump
from attngen.errors import BundleError
from tests.codegen.bundle.samples import manifest, written


def test_files_are_read_by_name(tmp_path: Path) -> None:
    bundle = open_bundle(written(tmp_path / "bundle"))
    assert [file.name for file in bundle.manifest.files] == ["forward.py", "sm_90/a.cubin"]
    assert bundle.read("sm_90/a.cubin") == bytes(range(256))
    with pytest.raises(BundleError, match="the manifest names no file 'other'"):
        bundle.read("other")


def flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[17] ^= 1
    path.write_bytes(data)


@pytest.mark.parametrize(
    ("harm", "message"),
    [
        (flip, "a.cubin: was changed after it was written (its sha256 does not match); build it again"),
        (lambda path: path.write_bytes(b"x"), "a.cubin: has 1 bytes and 256 were written; build it again"),
        (Path.unlink, "a.cubin: cannot be read: No such file or directory; build it again"),
    ],
)
def test_damage_is_found_when_it_is_opened_and_when_it_is_used(
    tmp_path: Path, harm: Callable[[Path], object], message: str
) -> None:
    directory = written(tmp_path / "bundle")
    bundle = open_bundle(directory)
    harm(directory / "sm_90" / "a.cubin")
    for use in (lambda: bundle.read("sm_90/a.cubin"), lambda: open_bundle(directory)):
        with pytest.raises(BundleError) as caught:
            use()
        assert message in str(caught.value)


@pytest.mark.parametrize("name", ["../forward.py", "/etc/hostname"])
def test_files_outside_are_not_touched(tmp_path: Path, name: str) -> None:
    (tmp_path / MANIFEST).write_text(dump(manifest(files=(BundledFile(name, 1, "0"),))))
    with pytest.raises(BundleError, match="which is outside of the bundle"):
        open_bundle(tmp_path)


def test_what_is_no_bundle(tmp_path: Path) -> None:
    with pytest.raises(BundleError) as caught:
        open_bundle(tmp_path / "nowhere")
    assert str(caught.value) == (
        f"{tmp_path / 'nowhere'}: is not a bundle: manifest.json cannot be read: No such file or directory; make one "
        "with attngen aot SPEC -o DIR"
    )


def test_files_are_measured_in_order(tmp_path: Path) -> None:
    for name in ("b", "a"):
        (tmp_path / name).write_text(name)
    assert [(file.name, file.size) for file in measure(tmp_path)] == [("a", 1), ("b", 1)]
