"""check: oracle tests on the device, calibration, and with --sanitize one kernel under the tools."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

from benchmarks.gpu import calibrate, oracle, tools
from benchmarks.gpu.report import excuse, table, write
from benchmarks.gpu.session import Result, Session, Unit

NEEDS = 8.0
"""Seconds of a case: two kernels to build and a reference."""
TOOLS = {"compute-sanitizer": tools.sanitizer, "ncu": tools.profiler}
CALIBRATION = "calibration"


def units(session: Session) -> Iterator[Unit]:
    """Calibration first: it needs the device cool, and little time."""
    for name, measure in calibrate.measures(session).items():
        yield session.single(f"{CALIBRATION}: {name}", "-", NEEDS, measure)
    for name, case in oracle.cases(session.dry).items():
        yield session.single(name, "default", NEEDS, partial(oracle.run, case, session.device))
    if session.options.sanitize:
        for name, tool in TOOLS.items():
            yield session.single(name, "-", tools.LONGEST if not session.dry else 0.0, tool)


def report(session: Session, left: list[str]) -> None:
    """The rates, then a line for each case."""
    results = {r["row"]: r["result"] for r in session.records()}
    names = list(oracle.cases(session.dry))
    lines = [_case(name, results.get(name)) for name in names]
    measured = [results[name] for name in names if "good" in results.get(name, {})]
    bad = [name for name in names if results.get(name, {}).get("good") is False]
    refused = sum("refused" in r["gradients"] for r in measured)
    notes = [
        "errors are relative Frobenius norms against float64; of the log-sum-exp the largest difference over 1 + |lse|",
        f"{len(measured)} of {len(names)} cases ran, {len(bad)} of them not within bounds"
        + (f": {'; '.join(bad)}" if bad else ""),
        f"gradients were refused in {refused} of them",
    ]
    print("\n".join(f"  {note}" for note in notes[1:]), flush=True)
    tried = [f"- {name}: {_tool(results.get(name))}" for name in TOOLS]
    parts = [
        "## Calibration",
        table(
            ["what", "measured", "p20 - p80", "table of devices", "share", "clocks before -> after"], _rates(results)
        ),
        _device(results.get(f"{CALIBRATION}: device")),
        "## Against the float64 reference",
        table(["case", "result", "log-sum-exp", "dq", "dk", "dv", "bound", "same bits", "good"], lines),
        "## Tools",
        "\n".join(tried),
    ]
    write(session, "Checks on the device", parts, notes, left, results=results)


def _case(name: str, found: Result | None) -> list[str]:
    reason = excuse(found)
    if found is None or reason is not None:
        return [name, str(reason), *[""] * 7]
    grads = found["gradients"]
    why = excuse(grads)
    shown = [f"{float(grads[each]):.1e}" for each in "qkv"] if why is None else [why, "", ""]
    lse = f"{float(found['lse']):.1e}" if "lse" in found else ""
    good = "yes" if found["good"] else "NO"
    same = "yes" if found["same_bits"] else "NO"
    return [name, f"{float(found['out']):.1e}", lse, *shown, f"{found['bound']:.0e}", same, good]


def _rates(results: dict[str, Result]) -> list[list[str]]:
    lines = []
    for name in ("matrix products", "exponentials", "copies"):
        found = results.get(f"{CALIBRATION}: {name}")
        reason = excuse(found)
        if found is None or reason is not None:
            lines.append([name, str(reason), "", "", "", ""])
            continue
        stated = "no entry" if found["stated"] is None else f"{found['stated']:.4g} {found['unit']}"
        share = "" if found["share"] is None else f"{found['share']:.0%}"
        before, after = (", ".join(found[f"clocks_{when}"].values()) for when in ("before", "after"))
        bounds = f"{found['p20']:.4g} - {found['p80']:.4g}"
        lines.append([name, f"{found['rate']:.4g} {found['unit']}", bounds, stated, share, f"{before} -> {after}"])
    return lines


def _device(found: Result | None) -> str:
    reason = excuse(found)
    if found is None or reason is not None:
        return f"Device: {reason}"
    return f"The driver says {found['said']}; the table of devices says {found['stated'] or 'nothing'}."


def _tool(found: Result | None) -> str:
    reason = excuse(found)
    if found is None or reason is not None:
        return str(reason)
    if "errors" in found:
        return f"{found['errors']} errors; {'; '.join(found['said'])}"
    return ", ".join(f"{name} {value}" for name, value in found["counters"].items())
