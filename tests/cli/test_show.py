from __future__ import annotations

from pathlib import Path

from tests.cli.conftest import Run, elsewhere

WINDOW = """\
sliding_window   8 queries x 8 keys, one cell is 1 x 1
# . . . . . . .
# # . . . . . .
# # # . . . . .
. # # # . . . .
. . # # # . . .
. . . # # # . .
. . . . # # # .
. . . . . # # #
visible 32.81 % (21 of 64 pairs)
# always   + sometimes   . never visible
"""


PACKED = """\
document   33 queries x 33 keys, one cell is 11 x 11
+ + +
+ # +
+ + +
visible between 11.11 % and 100.00 %
# always   + sometimes   . never visible
"""


def test_text(run: Run) -> None:
    result = run("show", "sliding_window:window=3", "--size", "8")
    assert (result.exit_code, result.output) == (0, WINDOW)


def test_from_another_folder(user_file: str) -> None:
    result = elsewhere(Path(user_file).parent, "show", "mine.py:packed", "--tile", "11")
    assert result.returncode == 0, result.stderr
    assert result.stdout == PACKED


def test_files(run: Run, tmp_path: Path) -> None:
    png, svg = tmp_path / "a.png", tmp_path / "a.svg"
    result = run("show", "causal", "--size", "1000000", "--png", str(png), "--svg", str(svg))
    assert result.exit_code == 0
    assert png.read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"
    assert svg.read_text().startswith("<svg ")
    assert f"{png}: {png.stat().st_size} bytes" in result.output


def test_bad_sizes(run: Run, tmp_path: Path) -> None:
    for arguments, message in (
        (("--size", "0"), "--size: got '0'; allowed: N, or Nq,Nk, integers >= 1"),
        (("--shape", "1,2,3"), "--shape: got 3 numbers in '1,2,3'; allowed: B,Hq,Hkv,Nq,Nk,D[,Dv]"),
        (("--shape", "1,2,2,8,x,4"), "--shape: got Nk='x'; allowed: an integer >= 1, in B,Hq,Hkv,Nq,Nk,D[,Dv]"),
        (("--size", "8", "--shape", "1,2,2,8,8,4"), "--size: not beside --shape; give one of them"),
        (("--png", str(tmp_path / "no" / "a.png")), "a.png: cannot be written: No such file or directory"),
    ):
        result = run("show", "causal", *arguments)
        assert result.exit_code == 2
        assert message in result.stderr


def test_a_grid_knows_its_size(run: Run) -> None:
    assert "12 queries x 12 keys" in run("show", "neighborhood:dims=3x4,kernel_size=2").output
    result = run("show", "neighborhood:dims=3x4,kernel_size=2", "--size", "13")
    assert (result.exit_code, result.stderr) == (2, "error: size: got 13 x 13; the grid of this spec has 12 tokens\n")
