"""Files of samples: what is written comes back, what cannot be read is named, skipped and never written over."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from attngen.autotune import files
from attngen.autotune.sample import Unreadable, line, read
from attngen.errors import CacheError
from tests.autotune.samples import DEVICE, ONE, OTHER, sample


def test_a_sample_comes_back_from_its_line() -> None:
    found = read(line(ONE))
    assert found == ONE
    assert found.versions == ONE.versions
    assert line(found) == line(ONE)


@pytest.mark.parametrize(
    ("change", "reason"),
    [({"ratio": -1.0}, "not above 0"), ({"direction": "sideways"}, "sideways"), ({"n_q": "4096"}, "is not of type int"),
     ({"date": "yesterday"}, "cannot be read"), ({"date": "2026-11-29T12:00:00"}, "no time zone"),
     ({"median": None}, "cannot be read"), ({"config": 3}, "is not of type str")],
)  # fmt: skip
def test_a_line_that_is_no_sample(change: dict[str, object], reason: str) -> None:
    with pytest.raises(Unreadable, match=reason):
        read(json.dumps(json.loads(line(ONE)) | change))


def test_what_is_added_comes_back(tmp_path: Path) -> None:
    path = files.append(tmp_path / "t", DEVICE, [ONE])
    assert files.append(tmp_path / "t", DEVICE, [sample(0.8, OTHER)]) == path
    assert path.name == "cpu-avx2-some-processor.jsonl"
    found = files.load(path)
    assert (found.device, found.samples, found.problems) == (DEVICE, (ONE, sample(0.8, OTHER)), ())
    assert [table.path for table in files.tables(tmp_path / "t")] == [path]
    assert list(files.tables(tmp_path / "missing")) == []


def test_a_damaged_line_is_named_skipped_and_stays(tmp_path: Path) -> None:
    path = files.append(tmp_path, DEVICE, [ONE])
    with path.open("a") as file:
        file.write("<<<<<<< ours\n" + line(ONE)[:40])
    assert files.load(path).samples == (ONE,)
    later = sample(0.8, OTHER)
    assert files.append(tmp_path, DEVICE, [later]) == path
    found = files.load(path)
    assert found.samples == (ONE, later)
    assert [problem.partition(":")[0] for problem in found.problems] == ["line 3 is skipped", "line 4 is skipped"]
    assert files.rewrite(tmp_path, path, lambda each: each == later) == 1
    assert files.load(path).samples == (later,)
    assert path.read_text().splitlines()[1] == "<<<<<<< ours"
    assert line(ONE)[:40] in path.read_text()


@pytest.mark.parametrize(
    ("first", "reason"),
    [(files.header(DEVICE).replace('"format": 1', '"format": 99'), "it is of format 99"),
     ("\x00\x01", "its first line is not that of a table of samples"),
     (files.header("cpu avx512 Another"), None)],
)  # fmt: skip
def test_a_file_that_is_not_ours_is_left_alone(
    tmp_path: Path, first: str, reason: str | None, caplog: pytest.LogCaptureFixture
) -> None:
    theirs = tmp_path / f"{files.name_of(DEVICE)}.jsonl"
    theirs.write_text(f"{first}\n{line(ONE)}\n")
    before = theirs.read_bytes()
    path = files.append(tmp_path, DEVICE, [ONE])
    assert path.name == "cpu-avx2-some-processor-2.jsonl"
    assert theirs.read_bytes() == before
    assert files.load(path).samples == (ONE,)
    assert "is left alone" in caplog.text
    if reason is not None:
        found = files.load(theirs)
        assert (found.device, found.samples) == (None, ())
        assert reason in found.problems[0]
    assert files.append(tmp_path, DEVICE, [ONE]) == path


def test_a_folder_that_cannot_be_written_to(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(CacheError, match="the samples cannot be kept in"):
        files.append(tmp_path / "file", DEVICE, [ONE])
