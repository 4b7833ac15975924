"""`attngen db`: what is shown, carried, put together, compared and cleared out."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from attngen.autotune import database, files
from attngen.autotune.sample import line
from tests.autotune.samples import BASE, DEVICE, FAST, OTHER, sample
from tests.cli.conftest import Run

AVX512 = "cpu avx512 Another"


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The user's samples; nothing is shipped."""
    monkeypatch.setenv("ATTNGEN_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setattr(database, "SHIPPED", tmp_path / "shipped")
    database.forget()
    yield tmp_path / "cache" / "tuning"
    database.forget()


def test_show(run: Run, folder: Path) -> None:
    assert run("db", "show").output == f"0 samples in 0 files; yours are in {folder}\n"
    files.append(folder, DEVICE, [sample(0.8, FAST), sample(0.98, OTHER, 0.05)])
    (folder / "noise.jsonl").write_text("noise\n")
    shown = run("db", "show").output.splitlines()
    assert shown == [
        f"{DEVICE}: 2 samples",
        "  causal: 0123456789ab cpu forward fp32, D 64, to 4096 x 4096, visits all",
        f"    {FAST}: 1.250 x the built-in one (1.234 to 1.266), 1 session, 2026-11-29",
        f"skipped: {folder / 'noise.jsonl'}: its first line is not that of a table of samples",
        f"2 samples in 2 files; yours are in {folder}",
    ]
    assert f"0.9800 (0.9300 to 1.0300) 2 ms, 12 rounds: {OTHER}" in run("db", "show", "--all").output
    assert DEVICE not in run("db", "show", "--device", "h200").output


def test_what_is_exported_comes_in_elsewhere(
    run: Run, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files.append(folder, DEVICE, [sample(0.8), sample(0.7, OTHER)])
    files.append(folder, AVX512, [sample(0.5)])
    out = tmp_path / "out.jsonl"
    many = run("db", "export", str(out))
    assert many.exit_code == 2
    assert f"--device: got nothing, which names 2 devices; there are: {DEVICE}; {AVX512}" in many.output
    assert run("db", "export", str(out), "--device", "AVX2").output == f"{out}: 2 samples of {DEVICE}\n"
    again = run("db", "export", str(out), "--device", "avx2")
    assert (again.exit_code, "exists, and is not written over" in again.output) == (2, True)
    monkeypatch.setenv("ATTNGEN_CACHE_DIR", str(tmp_path / "elsewhere"))
    assert run("db", "import", str(out)).output == f"{out}: 2 of 2 samples are new, of {DEVICE}\n"
    assert run("db", "import", str(out)).output == f"{out}: 0 of 2 samples are new, of {DEVICE}\n"
    (table,) = files.tables(tmp_path / "elsewhere" / "tuning")
    assert set(table.samples) == {sample(0.8), sample(0.7, OTHER)}


def test_merge_and_diff(run: Run, tmp_path: Path) -> None:
    one, two, out = (tmp_path / f"{name}.jsonl" for name in ("one", "two", "out"))
    one.write_text(f"{files.header(DEVICE)}\n{line(sample(0.8))}\n")
    two.write_text(f"{files.header(DEVICE)}\n{line(sample(0.8))}\n{line(sample(0.6, OTHER))}\n")
    assert run("db", "merge", str(one), str(two), "-o", str(out)).output == f"{out}: 2 samples of {DEVICE}\n"
    assert set(files.load(out).samples) == {sample(0.8), sample(0.6, OTHER)}
    found = run("db", "diff", str(one), str(two))
    assert found.exit_code == 1
    assert f"  one.jsonl: {FAST}: 1.250 x the built-in one" in found.output
    assert f"  two.jsonl: {OTHER}: 1.667 x the built-in one" in found.output
    same = run("db", "diff", str(two), str(out))
    assert (same.exit_code, same.output) == (0, "0 differences\n")
    two.write_text("noise")
    assert run("db", "merge", str(one), str(two), "-o", str(tmp_path / "x")).exit_code == 2


def test_prune(run: Run, folder: Path) -> None:
    path = files.append(folder, DEVICE, [sample(0.8, date="2020-01-01T00:00:00+00:00"), sample(0.7), sample(1.0, BASE)])
    assert run("db", "prune").exit_code == 2
    assert run("db", "prune", "--keep", "1").output == f"{path}: 1 samples removed\n"
    assert set(files.load(path).samples) == {sample(0.7), sample(1.0, BASE)}
    assert run("db", "prune", "--older-than", "100000").output == f"{path}: 0 samples removed\n"
    assert run("db", "prune", "--stale").output == f"{path}: 2 samples removed\n"
    assert files.load(path).samples == ()
