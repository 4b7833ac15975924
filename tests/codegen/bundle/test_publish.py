"""A bundle appears at once, and takes the place of nothing else."""

from __future__ import annotations

from pathlib import Path

import pytest

from attngen.codegen.bundle.files import open_bundle
from attngen.codegen.bundle.publish import published, refuse_occupied
from attngen.errors import InputError
from tests.codegen.bundle.samples import written


def write(directory: Path, force: bool = False) -> None:
    with published(directory, force) as work:
        written(work / "x")
        for path in list((work / "x").iterdir()):
            path.rename(work / path.name)
        (work / "x").rmdir()


def test_into_nothing_and_into_an_empty_directory(tmp_path: Path) -> None:
    write(tmp_path / "deep" / "bundle")
    assert open_bundle(tmp_path / "deep" / "bundle").read("forward.py") == b"x = 1\n"
    (tmp_path / "empty").mkdir()
    write(tmp_path / "empty")
    open_bundle(tmp_path / "empty")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["deep", "empty"]


def test_nobody_sees_half_of_it(tmp_path: Path) -> None:
    def fail() -> None:
        with published(tmp_path / "bundle", False) as work:
            assert work.parent.parent == tmp_path
            assert not (tmp_path / "bundle").exists()
            (work / "half").write_text("")
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert list(tmp_path.iterdir()) == []


def test_what_came_in_between_is_kept(tmp_path: Path) -> None:
    def write_both() -> None:
        with published(tmp_path / "b", False):
            (tmp_path / "b").mkdir()
            (tmp_path / "b" / "mine").write_text("mine")

    with pytest.raises(InputError, match="is not empty and is no bundle"):
        write_both()
    assert [str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*")] == ["b", "b/mine"]


def test_a_link_is_followed(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to("real")
    write(tmp_path / "link")
    assert (tmp_path / "link").is_symlink()
    open_bundle(tmp_path / "real")


def test_what_may_not_be_replaced(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for force in (False, True):
        with pytest.raises(InputError, match="is a file; give a directory"):
            refuse_occupied(tmp_path / "file", force)
    directory = written(tmp_path / "bundle")
    refuse_occupied(directory, True)
    with pytest.raises(InputError, match=r"holds a bundle; give another directory, or replace it with --force"):
        refuse_occupied(directory, False)
    (directory / "sm_90" / "mine").symlink_to(tmp_path)
    with pytest.raises(InputError, match="beside a bundle it holds sm_90/mine, which would be lost"):
        refuse_occupied(directory, True)


def test_a_damaged_bundle_is_not_taken_for_one(tmp_path: Path) -> None:
    directory = written(tmp_path / "bundle")
    (directory / "manifest.json").write_text("{}")
    with pytest.raises(InputError, match="is not empty and is no bundle"):
        refuse_occupied(directory, True)


def test_a_place_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="file/bundle: cannot be written: "):
        write(tmp_path / "file" / "bundle")
