"""Look-ups: which samples count, what is near enough, and that nothing is read twice."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from attngen.autotune import database as db
from attngen.autotune import files
from attngen.autotune.key import UNKNOWN, Key, Sizes
from attngen.errors import InputError
from tests.autotune.samples import BASE, DEVICE, FAST, HEAD, ONE, OTHER, VERSIONS, sample


@pytest.fixture(autouse=True)
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.setenv("ATTNGEN_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setattr(db, "SHIPPED", tmp_path / "shipped")
    db.forget()
    yield tmp_path
    db.forget()


def look_up(sizes: Sizes = ONE.key.sizes, device: str = DEVICE) -> db.Found | None:
    return db.database(device, lambda: VERSIONS).look_up(HEAD, lambda: sizes)


def test_nothing_is_known_of_a_new_machine() -> None:
    def never() -> Any:
        raise AssertionError("sizes are not needed")

    assert db.database(DEVICE, never).look_up(HEAD, never) is None


def test_the_users_samples_stand_beside_the_shipped_ones(place: Path) -> None:
    files.append(place / "shipped", DEVICE, [sample(0.9, FAST)])
    shipped = look_up()
    assert shipped is not None
    assert shipped.verdict.config == FAST
    path = db.add(DEVICE, [sample(0.7, OTHER), sample(0.9, FAST)])
    assert path.is_relative_to(place / "cache" / "tuning")
    both = look_up()
    assert both is not None
    assert (both.verdict.config, both.verdict.base, both.exact) == (OTHER, BASE, True)
    assert look_up(device="cpu avx512 Another") is None


def test_what_was_learned_for_sizes_nearby_is_a_hint(place: Path) -> None:
    db.add(DEVICE, [ONE])
    near, far = look_up(Sizes(8192, 8192, 0)), look_up(Sizes(16384, 8192, 0))
    assert near is not None
    assert (near.verdict.config, near.exact, near.key) == (FAST, False, ONE.key)
    assert far is None
    assert look_up(Sizes(4096, 4096, 2)) is not None
    assert look_up(Sizes(4096, 4096, UNKNOWN)) is None
    db.add(DEVICE, [sample(0.8, OTHER, key=Key(HEAD, Sizes(8192, 8192, 0)))])
    exact = look_up(Sizes(8192, 8192, 0))
    assert exact is not None
    assert (exact.verdict.config, exact.exact) == (OTHER, True)


def test_files_are_read_once(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    db.add(DEVICE, [ONE])
    assert look_up() is not None
    monkeypatch.setattr(files, "load", None)
    assert look_up(Sizes(8192, 4096, 0)) is not None


def test_what_cannot_be_read_is_named_once_and_skipped(place: Path, caplog: pytest.LogCaptureFixture) -> None:
    folder = place / "cache" / "tuning"
    db.add(DEVICE, [ONE])
    (folder / "newer.jsonl").write_text(files.header(DEVICE).replace('"format": 1', '"format": 2') + "\n")
    (folder / "noise.jsonl").write_bytes(b"\xff\xfe\x00")
    (folder / "empty.jsonl").write_text("")
    for _ in range(2):
        db.forget()
        found = look_up()
        assert found is not None
        assert found.verdict.config == FAST
    said = [record.getMessage() for record in caplog.records]
    assert sorted(text.split(": ", 1)[1] for text in said) == [
        "it is of format 2, and this version of attngen reads formats up to 1",
        "its first line is not that of a table of samples",
        "its first line is not that of a table of samples",
    ]


def test_modes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("ATTNGEN_AUTOTUNE", raising=False)
    assert db.mode() == "cached"
    assert db.mode("full") == "full"
    monkeypatch.setenv("ATTNGEN_AUTOTUNE", "off")
    assert db.mode() == "off"
    monkeypatch.setenv("ATTNGEN_AUTOTUNE", "sometimes")
    with pytest.raises(InputError, match="ATTNGEN_AUTOTUNE='sometimes' is not known; allowed: off, cached, quick"):
        db.mode()
