"""The README says what is true: its example prints what stands below it, its tables match the code."""

from __future__ import annotations

import re
import subprocess
import sys
import zipfile
from dataclasses import fields
from pathlib import Path

from attngen import settings

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")


def block(language: str) -> str:
    """The first fenced block of that language."""
    found = re.search(rf"^```{language}\n(.*?)^```", README, re.MULTILINE | re.DOTALL)
    assert found, f"README.md has no {language} block"
    return found[1]


def test_example_prints_its_output_from_another_folder_with_the_wheel(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(tmp_path), str(ROOT)]
    subprocess.run(command, check=True, capture_output=True)
    site, elsewhere = tmp_path / "site", tmp_path / "elsewhere"
    elsewhere.mkdir()
    zipfile.ZipFile(next(tmp_path.glob("*.whl"))).extractall(site)
    before = f"import sys; sys.path.insert(0, {str(site)!r})"
    after = f"assert attngen.__file__.startswith({str(site)!r}), attngen.__file__"
    example = f"{before}\n{block('python')}\n{after}"
    done = subprocess.run([sys.executable, "-c", example], cwd=elsewhere, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout == block("text")


def test_example_has_twelve_lines_or_fewer() -> None:
    assert len([line for line in block("python").splitlines() if line.strip()]) <= 12


def test_flags_table_names_every_setting() -> None:
    documented = set(re.findall(r"^\| `(ATTNGEN_\w+)", README, re.MULTILINE))
    assert documented == {settings.variable(f.name) for f in fields(settings.Settings)}


def test_commands_table_names_commands_that_exist() -> None:
    script = "import sys; sys.argv[0] = 'attngen'; from attngen.cli import main; main()"
    done = subprocess.run([sys.executable, "-c", script, "--help"], capture_output=True, text=True, check=True)
    documented = set(re.findall(r"^\| `attngen (\w+)", README, re.MULTILINE))
    assert documented - set(re.findall(r"\w+", done.stdout)) == set()
