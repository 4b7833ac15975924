"""What the lint found in every kernel of the matrix, kept beside the hash of what was compiled.

    python -m tests.codegen.backends.triton.ledger [--jobs 2]        (make lint-kernels)

builds the kernels whose source has changed since, with the Triton that is installed and with the oldest that is
supported, and writes ledger/triton-<version>.tsv. Building all takes half an hour; to see that a ledger is of these
sources takes seconds, and that is what every run of the tests does.
"""

from __future__ import annotations

import argparse
import hashlib
import inspect
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import asdict, astuple, dataclass, fields
from pathlib import Path
from typing import Any

from attngen.codegen import devices
from attngen.codegen.backends.triton import lint as linter
from attngen.codegen.backends.triton.ahead import Binary, build_ahead
from tests.codegen.backends.triton.asking import ROOT
from tests.codegen.backends.triton.matrix import ALONE, MASKS, Cell, Source, cells

FOLDER = Path(__file__).with_name("ledger")
OLDEST = "3.6.0"
OLDER = ROOT / ".venv" / "triton-older"
"""The oldest Triton that attngen supports, which `make setup` puts beside the other one."""
OLDER_FIRST = {"PYTHONPATH": f"{OLDER}{os.pathsep}{ROOT}"}
"""The environment of a process in which that is Triton."""
OFTEN = 20
"""So many kernels are built between two times that the file is written: who stops it loses little."""
CLEAN = "clean"


@dataclass(frozen=True, slots=True)
class Found:
    """A line of a ledger. `source`: of what was compiled; `waits`: full waits in the main loops; `shared`: bytes."""

    source: str
    registers: int
    shared: int
    dots: int
    waits: int
    lint: str


def address(source: Source) -> str:
    """The hash of all that decides what the lint finds, but the version of Triton."""
    _, code = source.text.split("\n", 1)  # behind the title
    given = [code, source.entry, source.arch, astuple(source.config), source.given.signature]
    given += [source.given.constants(True), source.given.divisible(True)]
    program = inspect.getsource(linter) + inspect.getsource(devices)
    return hashlib.sha256((json.dumps(given) + program).encode()).hexdigest()[:16]


def build(source: Source, folder: Path, aligned: bool = True) -> Binary:
    """The machine code of a kernel."""
    path = folder / "kernels.py"
    path.write_text(source.text, encoding="utf-8")
    given, config = source.given, source.config
    kinds = given.signature, given.constants(aligned), given.divisible(aligned)
    return build_ahead(path, source.entry, *kinds, source.arch, config.num_warps, config.num_stages)


def linted(source: Source, aligned: bool = True) -> dict[str, Any]:
    """What a kernel takes (`Resources`), and `complaints`."""
    with tempfile.TemporaryDirectory() as folder:
        found = linter.lint(build(source, Path(folder), aligned))
    return asdict(found) | {"complaints": linter.complaints(found, devices.built_for(source.arch))}


def found_in(source: Source) -> Found:
    """Builds a kernel and lints it."""
    taken = linted(source)
    numbers = (taken[name] for name in ("registers", "shared", "dots_in_loop", "full_waits_in_loop"))
    return Found(address(source), *numbers, " ".join(taken["complaints"]) or CLEAN)


def cells_of(triton: str) -> list[Cell]:
    """The cells that are built with a version of Triton: with the oldest, masks without scores on one architecture."""
    return [cell for cell in cells() if triton != OLDEST or (cell.arch == "sm_90" and cell.spec in (*MASKS, *ALONE))]


def file_of(triton: str) -> Path:
    """The ledger of a version of Triton."""
    return FOLDER / f"triton-{triton}.tsv"


def read(file: Path) -> dict[Cell, Found]:
    """The lines of a ledger; none where there is none."""
    if not file.is_file():
        return {}
    _, *lines = file.read_text(encoding="utf-8").splitlines()
    parted = [line.split("\t") for line in lines]
    return {Cell(*x[:3], int(x[3])): Found(x[4], *(int(n) for n in x[5:9]), x[9]) for x in parted}


def write(file: Path, found: dict[Cell, Found]) -> None:
    """All of a ledger, in the order of the matrix."""
    head = "\t".join(field.name for part in (Cell, Found) for field in fields(part))
    lines = ("\t".join(map(str, (*astuple(cell), *astuple(found[cell])))) for cell in cells() if cell in found)
    file.parent.mkdir(exist_ok=True)
    file.write_text("\n".join([head, *lines, ""]), encoding="utf-8")


def changed(triton: str) -> Iterator[tuple[Cell, Source]]:
    """The cells that a ledger lacks, or has of another source."""
    found = read(file_of(triton))
    for cell in cells_of(triton):
        source = cell.source()
        if cell not in found or found[cell].source != address(source):
            yield cell, source


def fill(part: int, parts: int) -> None:
    """Prints a line of JSON for every changed cell of a part, with the Triton that this process has."""
    import triton

    print(triton.__version__, flush=True)
    for i, (cell, source) in enumerate(changed(triton.__version__)):
        if i % parts == part:
            print(json.dumps([astuple(cell), astuple(found_in(source))]), flush=True)


def filled(jobs: int, variables: dict[str, str]) -> None:
    """Brings the ledger of one Triton up to date, in processes of their own."""
    command = [sys.executable, "-m", "tests.codegen.backends.triton.ledger", "--jobs", str(jobs), "--part"]
    environment = {**os.environ, **variables}
    running = [
        subprocess.Popen([*command, str(i)], env=environment, cwd=ROOT, stdout=subprocess.PIPE, text=True)
        for i in range(jobs)
    ]
    outputs = [process.stdout for process in running if process.stdout is not None]
    (version,) = {output.readline().strip() for output in outputs}
    file = file_of(version)
    known = read(file)
    for count, line in enumerate(_in_turn(outputs), 1):
        cell, found = json.loads(line)
        known[Cell(*cell)] = Found(*found)
        print(f"Triton {version}, {count}: {' '.join(map(str, cell))}: {found[-1]}", flush=True)
        if count % OFTEN == 0:
            write(file, known)
    write(file, known)
    if any(process.wait() for process in running):
        sys.exit(1)


def _in_turn(outputs: list[Any]) -> Iterator[str]:
    """The lines of all, one of each at a time."""
    while outputs:
        for output in list(outputs):
            line = output.readline()
            if line:
                yield line
            else:
                outputs.remove(output)


def serve() -> None:
    """Builds the cell of every line of JSON that comes in, with the Triton of this process."""
    import triton

    for line in sys.stdin:
        found = astuple(found_in(Cell(*json.loads(line)).source()))
        print(json.dumps({"triton": triton.__version__, "found": found}), flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.codegen.backends.triton.ledger")
    parser.add_argument("--jobs", type=int, default=2, help="processes (2)")
    parser.add_argument("--part", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--serve", action="store_true", help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    if chosen.serve:
        serve()
    elif chosen.part is not None:
        fill(chosen.part, chosen.jobs)
    else:
        filled(chosen.jobs, {})
        if OLDER.is_dir():
            filled(chosen.jobs, OLDER_FIRST)


if __name__ == "__main__":
    main()
