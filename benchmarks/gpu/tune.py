"""tune: every config of every row that passes the static stage, timed in turn: the whole matrix, not the winners."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any

import torch

from attngen.autotune import static
from attngen.autotune.spaces.triton import joined
from attngen.autotune.timing import Times, figures, interleave, timer
from attngen.errors import AttngenError
from benchmarks.gpu.report import excuse
from benchmarks.gpu.sampled import error, rows_of
from benchmarks.gpu.session import Result, Session, Unit, reason_of
from benchmarks.gpu.subjects import Subject, forced, subjects
from benchmarks.gpu.tune_report import STATIC
from benchmarks.gpu.tune_report import report as report

TOGETHER = "all together"
"""What is noted as tried while the configs of a work take turns."""
NEEDS = 25.0
"""Seconds that a stage of one work may take."""
LIMIT = 5.0
"""Of them, those of the rounds."""
ALLOWED = 2e-2
"""The error of a bf16 result beyond which a config is out, whatever its time."""
NO_CONFIG = "-"


def units(session: Session) -> Iterator[Unit]:
    """For each direction the static stage of every work, then the times: builds and times do not disturb each other."""
    for backward in (False, True):
        offered: dict[str, dict[str, Any]] = {}
        those = [subject for subject in subjects(session) if subject.backward is backward]
        for subject in those:
            try:
                offered[subject.name] = subject.configs(session.device, session.dry)
            except Exception as problem:
                known = isinstance(problem, AttngenError)
                told: Result = {"refused": str(problem)} if known else {"failed": reason_of(problem)}
                yield Unit(subject.name, (NO_CONFIG,), 0.0, lambda _, told=told: [(NO_CONFIG, told)])  # type: ignore[misc]
                continue
            stage = _stage(session, subject, offered[subject.name])
            yield Unit(subject.name, tuple(offered[subject.name]), NEEDS, stage, STATIC)
        for subject in those:
            good = [text for text in offered.get(subject.name, {}) if _passed(session, subject, text)]
            if good and session.result(subject.name, TOGETHER) is None:
                yield Unit(subject.name, tuple(good), NEEDS, _timing(session, subject, offered[subject.name]))


def _arch(session: Session) -> str:
    """The architecture to build for; a dry run builds for the one of the table."""
    if session.dry:
        return "sm_90"
    major, minor = torch.cuda.get_device_capability()
    return f"sm_{major}{minor}"


def _stage(
    session: Session, subject: Subject, listed: dict[str, Any]
) -> Callable[[list[str]], Iterable[tuple[str, Result]]]:
    def run(wanted: list[str]) -> Iterator[tuple[str, Result]]:
        found, arch = subject.forced(session.device), _arch(session)
        own = subject.built(found, next(iter(listed.values())))
        yield from static.look({text: static.Job.of(subject.built(found, listed[text]), own, arch) for text in wanted})

    return run


def _passed(session: Session, subject: Subject, text: str) -> bool:
    found = session.result(subject.name, text, STATIC)
    return found is not None and excuse(found) is None


def _timing(
    session: Session, subject: Subject, listed: dict[str, Any]
) -> Callable[[list[str]], Iterable[tuple[str, Result]]]:
    def run(wanted: list[str]) -> Iterator[tuple[str, Result]]:
        work, device = subject.work, session.device
        q, k, v, dout = work.operands(device)
        captured = work.captured(device)
        found = forced(work, device, q, k, v, captured=captured)
        exact = None if work.opaque or subject.backward else rows_of(work, q, k, v, captured)
        calls: dict[str, Callable[[], Any]] = {}
        errors: dict[str, float] = {}

        def prepare(text: str, config: Any) -> Result:
            call = subject.call(found, config, dout)
            out = call()
            if exact is not None:
                errors[text] = error(out[:, :, exact[1]], exact[0])
                if not errors[text] <= ALLOWED:
                    return {"failed": f"wrong: the result is off by {errors[text]:.1e}"}
            calls[text] = call
            return {}

        # What the library takes by itself stands beside the others even where its own times are known.
        own = next(iter(listed))
        for text in dict.fromkeys([own, *wanted]):
            trouble = session.attempt(subject.name, text, lambda text=text: prepare(text, listed[text]))  # type: ignore[misc]
            if trouble and text in wanted:
                yield text, trouble
            if session.broken:
                return
        times = _in_turn(session, subject, calls)
        yield from _results(subject, {t: times[t] for t in wanted if t in times}, times.get(own), errors)
        pair = _joined(times, listed) if subject.backward else None
        if pair is None:
            return
        # The two kernels do not know of each other: the fastest of both should be the fastest together.
        text = str(pair)
        trouble = session.attempt(subject.name, text, lambda: prepare(text, pair))
        if trouble:
            yield text, trouble
        elif own in calls:
            times = _in_turn(session, subject, {name: calls[name] for name in (own, text)})
            yield from _results(subject, {text: times[text]}, times[own], errors)

    return run


def _in_turn(session: Session, subject: Subject, calls: dict[str, Callable[[], Any]]) -> dict[str, Times]:
    session.attempt(subject.name, TOGETHER, dict)
    limit, least = (0.0, 1) if session.dry else (LIMIT, 5)
    return interleave(calls, timer(session.device), limit, least)


def _results(
    subject: Subject, times: dict[str, Times], own: Times | None, errors: dict[str, float]
) -> Iterator[tuple[str, Result]]:
    flops = subject.work.flops(subject.backward)
    for text, found in times.items():
        seconds = found.warm.median
        beside = None if own is None else own.warm.median / seconds
        more = {"error": errors.get(text), "beside_own": beside, "tflops": flops / seconds / 1e12}
        yield text, figures(found) | more


def _joined(times: dict[str, Times], listed: dict[str, Any]) -> Any:
    """The fastest choice of each of the two kernels, beside the library's own other one; None where that was timed."""
    own = next(iter(listed.values()))
    fastest = sorted((text for text in times if text in listed), key=lambda text: times[text].warm.median)
    queries = next((listed[t] for t in fastest if listed[t].keys == own.keys), own)
    keys = next((listed[t] for t in fastest if listed[t].queries == own.queries), own)
    found = joined(queries, keys)
    return None if str(found) in times else found
