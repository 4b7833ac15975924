"""Gathers what a report shows. Nothing is built; what was measured comes from the database."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from attngen import __version__, draw
from attngen.autotune import database
from attngen.autotune.admin import devices
from attngen.autotune.choose import tuned
from attngen.autotune.identity import device_of
from attngen.autotune.model import agreement, rank
from attngen.autotune.spaces import parse, space_of, tuned_backends
from attngen.codegen.plan import make_plan
from attngen.codegen.plan_text import plan_text
from attngen.errors import InputError
from attngen.explain.page import duration
from attngen.pipeline import select_backend
from attngen.report.scatter import Point, scatter
from attngen.runtime.tuning import workload
from attngen.templates import render

if TYPE_CHECKING:
    from attngen.autotune.workload import Workload
    from attngen.kernel import Kernel


@dataclass(frozen=True, slots=True)
class Holes:
    """The holes of report.html.jinja: texts, but for the two pictures, which are SVG."""

    title: str
    call: str
    version: str
    mask: str
    facts: str
    plan: str
    rooflines: tuple[tuple[str, str, str], ...]
    tuning: str
    scatter: str
    samples: tuple[tuple[str, str, str, str], ...]
    source: str


def report(kernel: Kernel, q: Any, k: Any, v: Any, **inputs: Any) -> str:
    """An HTML page about a call; it refers to nothing outside of itself."""
    engine = kernel.engine()
    tensors, ints, floats = kernel._values(inputs)
    flat = kernel._flattened(q, k, v)
    found = kernel.explain(q, k, v, **inputs)
    plan = make_plan(engine.spec, engine.problem(*flat, tensors, False))
    backend, _ = select_backend(plan, flat[0].device.type, kernel.backend)
    situation = engine.situation(*flat, tensors, (*ints, *floats))
    said = tuned(plan, backend, situation, "forward", kernel.autotune)
    config = backend.configs(plan)[0] if said is None else said.config
    work = workload(plan, backend.name, situation) if backend.name in tuned_backends() else None
    points = [] if work is None else _points(work, str(config))
    call = situation.call
    return render(
        "html/report.html.jinja",
        Holes(
            title=found.name,
            call=found.call,
            version=__version__,
            mask=_mask(kernel, call.n_q, call.n_k, call.n_b, call.n_h),
            facts=str(found),
            plan=plan_text(plan),
            rooflines=tuple((r.device, duration(r.seconds), r.bound) for r in found.rooflines),
            tuning=_told(points),
            scatter=scatter(points) if points else "",
            samples=tuple(_row(point) for point in sorted(points, key=lambda p: p.measured)[:20]),
            source=backend.emit(plan, config).text,
        ),
    )


def _mask(kernel: Kernel, n_q: int, n_k: int, n_b: int, n_h: int) -> str:
    try:
        return draw.svg(kernel.spec, n_q, n_k, n_b=n_b, n_h=n_h)
    except InputError:  # a mask that the tensors of a call decide
        return ""


def _points(work: Workload, used: str) -> list[Point]:
    """What was measured on this device for calls like this one, the newest of each config."""
    device, key = device_of(work.target), work.key
    samples = [s for s in devices(database.every_table()).get(device or "", ()) if s.key == key]
    newest = {sample.config: sample for sample in sorted(samples, key=lambda sample: sample.when)}
    base = str(space_of(work.plan, work.target).own)
    configs = []
    for text in newest:
        try:
            configs.append(parse(work.backend, False, text))
        except InputError:
            continue
    found = [Point(str(each.config), each.seconds, newest[str(each.config)].median) for each in rank(work, configs)]
    marks = {base: "built in", used: "in use"}
    return [replace(point, mark=marks.get(point.name, "")) for point in found if point.predicted > 0]


def _told(points: list[Point]) -> str:
    if not points:
        return "Nothing was measured for calls like this one on this device: attngen tune does that."
    told = agreement([p.predicted for p in points], [p.measured for p in points])
    said = "" if told is None else f"; rank correlation of predicted and measured times {told:.2f}"
    return f"{len(points)} configs were measured{said}."


def _row(point: Point) -> tuple[str, str, str, str]:
    return point.name, f"{1e3 * point.predicted:.4g}", f"{1e3 * point.measured:.4g}", point.mark
