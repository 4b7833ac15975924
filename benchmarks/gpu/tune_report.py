"""The matrix of tune in Markdown and JSON."""

from __future__ import annotations

from benchmarks.gpu.report import excuse, spread, table, write
from benchmarks.gpu.session import Result, Session
from benchmarks.gpu.subjects import subjects

STATIC = "static"
"""What the records of the static stage are filed under."""


def report(session: Session, left: list[str]) -> None:
    """The matrix of each work, fastest first; then what the static stage or the device refused, and why."""
    timed = {(r["row"], r["config"]): r["result"] for r in session.records()}
    looked = {(r["row"], r["config"]): r["result"] for r in session.records(STATIC)}
    parts = []
    for subject in subjects(session):
        keys = [key for key in dict.fromkeys([*looked, *timed]) if key[0] == subject.name]
        lines = sorted((_line(key[1], looked.get(key), timed.get(key)) for key in keys), key=lambda line: line[0])
        size = subject.work.size
        title = f"## {subject.name}: B {size.b}, H {size.h}, N {size.n}, D {size.d}, bf16"
        header = ["config", "warm ms (p20 - p80)", "cold ms (p20 - p80)", "x own", "TFLOP/s", "error", "registers",
                  "shared"]  # fmt: skip
        parts += [title, table(header, [line[1] for line in lines]) if lines else str(excuse(None))]
    notes = [
        "times are medians of rounds in which the configs of a work take turns; x own: how many times as fast as the "
        "config that the library takes by itself, in the same rounds",
        "TFLOP/s count visible pairs alone, of the warm time; error: of some rows, against float64",
        "registers of a thread and bytes of shared memory are read from the machine code, of each kernel",
        "a backward varies one of its two large kernels at a time, and joins the fastest of both",
        "the library's own config is timed whatever the static stage says of it",
        *_remarks(looked),
    ]
    results = [{"row": row, "config": config, "result": r} for (row, config), r in timed.items()]
    stage = [{"row": row, "config": config, "result": r} for (row, config), r in looked.items()]
    write(session, "Every config", parts, notes, left, results=results, static=stage)


def _remarks(looked: dict[tuple[str, str], Result]) -> list[str]:
    """What the static stage has against kernels of the library's own."""
    told = {(row, remark) for (row, _), result in looked.items() for remark in result.get("remarks", ())}
    return [f"static stage, {row}, the library's own config: {remark}" for row, remark in sorted(told)]


def _line(config: str, looked: Result | None, timed: Result | None) -> tuple[float, list[str]]:
    """A line and what it is sorted by."""
    kernels = (looked or {}).get("resources", {}).values()
    taken = [" / ".join(str(kernel[what]) for kernel in kernels) for what in ("registers", "shared")]
    why = excuse(looked) if looked is not None and excuse(looked) is not None else excuse(timed)
    if timed is None or why is not None:
        return float("inf"), [config, str(why), "", "", "", "", *taken]
    warm, cold = (spread(timed[kind]) for kind in ("warm", "cold"))
    beside = "" if timed["beside_own"] is None else f"{timed['beside_own']:.2f}"
    wrong = "" if timed["error"] is None else f"{float(timed['error']):.1e}"
    return timed["warm"]["median"], [config, warm, cold, beside, f"{timed['tflops']:.1f}", wrong, *taken]
