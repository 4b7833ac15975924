"""What is known of every row of the table without a GPU: its kernels, built for one, and what the lint says of them.

    python -m benchmarks.gpu.evidence [--arch sm_90] [--out DIR] [--only TEXT]

writes DIR/evidence.md and evidence.json (benchmarks/results/h200): for each row the command that measures it, the
commit, the library's own config, registers, shared memory, products and full waits in the main loops, complaints, and
the figure of table.json beside it where there is one.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

import attngen
from attngen.codegen.backends.triton.abi import backward_parameters, parameters
from attngen.codegen.backends.triton.ahead import build_ahead
from attngen.codegen.backends.triton.backend import TritonBackend
from attngen.codegen.backends.triton.config import default, default_backward
from attngen.codegen.backends.triton.emit import emit
from attngen.codegen.backends.triton.emit_backward import KERNELS, emit_backward
from attngen.codegen.backends.triton.lint import complaints, lint
from attngen.codegen.devices import built_for
from attngen.codegen.lower.lowered import lowered
from attngen.codegen.plan import Plan, make_plan
from attngen.errors import AttngenError
from benchmarks.gpu.place import commit
from benchmarks.gpu.report import MISSING, table
from benchmarks.gpu.rows import Row, rows
from benchmarks.gpu.table_report import ratio

ROOT = Path(__file__).parents[2]
HEADER = [
    "row",
    "command",
    "kernel",
    "config",
    "registers",
    "shared, bytes",
    "products / full waits",
    "lint",
    "measured",
]


def main() -> None:
    """Builds what is asked for and writes the files."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.gpu.evidence", description=__doc__.partition("\n")[0])
    parser.add_argument("--arch", default="sm_90", help="architecture to build for (sm_90)")
    parser.add_argument(
        "--out", type=Path, default=ROOT / "benchmarks" / "results" / "h200", help="folder for the files"
    )
    parser.add_argument("--only", default="", help="rows whose names hold this text")
    parser.add_argument("--dry-run", action="store_true", help="tiny sizes")
    given = parser.parse_args()
    given.out.mkdir(parents=True, exist_ok=True)
    measured = _measured(given.out)
    found = {row.name: evidence(row, given.arch) for row in rows(given.dry_run) if given.only in row.name}
    chosen = [row for row in rows(given.dry_run) if row.name in found]
    lines = [line for row in chosen for line in _lines(row, found[row.name], measured.get(row.name))]
    import triton

    head = (
        f"Commit {commit()}, {given.arch}, Triton {triton.__version__}; nothing here ran on a GPU but what is measured."
    )
    text = f"# Static evidence for the rows of the table\n\n{head}\n\n{table(HEADER, lines)}\n"
    (given.out / "evidence.md").write_text(text, encoding="utf-8")
    kept = {"commit": commit(), "arch": given.arch, "triton": triton.__version__, "rows": found}
    (given.out / "evidence.json").write_text(json.dumps(kept, indent=1) + "\n", encoding="utf-8")


def evidence(row: Row, arch: str) -> dict[str, Any]:
    """What the kernels of a row take, by name, or why there are none."""
    try:
        plan = _plan(row)
    except AttngenError as problem:
        return {"refused": str(problem)}
    if row.backward:
        config: Any = default_backward(plan, int(arch[3:]) // 10)
        given, text = backward_parameters(plan, frozenset()), emit_backward(plan, config, frozenset()).text
        own = {name: config.of(name) for name in KERNELS}
    else:
        config = default(plan, int(arch[3:]) // 10)
        given, text, own = parameters(plan), emit(plan, config).text, {"forward": config}
    kernels: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "kernels.py"
        path.write_text(text, encoding="utf-8")
        for name, each in own.items():
            binary = build_ahead(
                path,
                name,
                given.signature,
                given.constants(True),
                given.divisible(True),
                arch,
                each.num_warps,
                each.num_stages,
            )
            taken = lint(binary)
            told = complaints(taken, built_for(arch))
            kernels[name] = {"config": str(each), "resources": asdict(taken), "complaints": told}
    return {"kernels": kernels}


def _plan(row: Row) -> Plan:
    """The plan that a GPU would run; raises with the backend's reason where it has none."""
    size = row.work.size
    kernel = attngen.compile(row.work.spec(size, row.work.captured("cpu")), backend="triton")
    tensors, _, _ = kernel._values({})
    q = torch.empty(1, size.h, size.n, size.d, dtype=torch.bfloat16, device="meta")
    engine, backend = kernel.engine(), TritonBackend("cuda")
    plan = make_plan(engine.spec, engine.problem(q, q, q, tensors, False))
    reason = backend.supports(plan) or (backend.supports_backward(plan) if row.backward else None)
    if reason is not None:
        raise AttngenError(reason)
    return lowered(plan)


def _lines(row: Row, found: dict[str, Any], measured: str | None) -> list[list[str]]:
    command = f"`python -m benchmarks.gpu table --only '{row.name}'`"
    if "refused" in found:
        return [[row.name, command, "none", "", "", "", "", found["refused"], MISSING]]
    lines = []
    for i, (name, kernel) in enumerate(found["kernels"].items()):
        taken = kernel["resources"]
        waits = f"{taken['dots_in_loop']} / {taken['full_waits_in_loop']}" if taken["main_loops"] else ""
        lint_says = " ".join(kernel["complaints"]) or "clean"
        told = [kernel["config"], str(taken["registers"]), str(taken["shared"]), waits, lint_says]
        lines.append(
            [*([row.name, command] if i == 0 else ["", ""]), name, *told, (measured or MISSING) if i == 0 else ""]
        )
    return lines


def _measured(folder: Path) -> dict[str, str]:
    """The figures of table.json: attngen beside the first peer."""
    file = folder / "table.json"
    if not file.is_file():
        return {}
    results = json.loads(file.read_text(encoding="utf-8"))["results"]
    by_name = {row.name: row for row in rows(False)}
    found = {}
    for name, result in results.items():
        beside = ratio(result, by_name[name].peers[0]) if name in by_name else None
        if beside is not None:
            found[name] = f"{beside:.2f} x {by_name[name].peers[0]}"
    return found


if __name__ == "__main__":
    main()
