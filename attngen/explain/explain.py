"""Gathers the facts of a call. Nothing is built."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from attngen import settings
from attngen.autotune.choose import tuned
from attngen.autotune.situation import Situation
from attngen.codegen.backend import Call
from attngen.codegen.backends import ASKED_FOR, ORDER
from attngen.codegen.lower.lowered import added_inputs, counted
from attngen.codegen.plan import make_plan
from attngen.explain.explanation import Choice, Explanation, InputFacts
from attngen.explain.facts import Setting, keyset_facts
from attngen.explain.loops import loop
from attngen.explain.rooflines import rooflines
from attngen.explain.work import work
from attngen.ir.nodes import Grid, Paged, Segments
from attngen.ir.verify import verify
from attngen.pipeline import select_backend

if TYPE_CHECKING:
    from torch import Tensor

    from attngen.runtime.engine import Engine


def explain(
    engine: Engine, q: Tensor, k: Tensor, v: Tensor, tensors: Sequence[Tensor], scalars: Sequence[float]
) -> Explanation:
    """The facts of the call of an engine on these tensors; `scalars` are the integers, then the floats, of its inputs.

    Raises what the call itself would raise for arguments that do not fit.
    """
    spec = engine.spec
    problem = engine.problem(q, k, v, tensors, False)
    verify(spec)
    plan = make_plan(spec, problem)
    backend, refused = select_backend(plan, q.device.type, engine.backend)
    names = [i.name for i in (*engine.tensor_inputs, *engine.int_inputs, *engine.float_inputs)]
    values: dict[str, Any] = dict(zip(names, (*tensors, *scalars), strict=True))
    sizes = engine.sizes(q, k, v, tensors)
    n_k = values[spec.space.table].shape[1] * spec.space.page if isinstance(spec.space, Paged) else sizes.n_k
    call = Call(sizes.n_b, sizes.n_h, sizes.n_q, n_k, engine.layout, (q, k, v, *tensors))
    found = tuned(plan, backend, Situation(engine.structure, call, tuple(scalars)), "forward", engine.autotune)
    config = backend.configs(plan)[0] if found is None else found.config
    shown = str(config) if found is None else f"{config} ({found})"
    operands = {"q": q, "k": k, "v": v, **values, **added_inputs(plan, call)}
    tile = getattr(config, "shape", None)
    setting = Setting(
        plan,
        counted(plan),
        operands,
        (sizes.n_b, sizes.n_h, sizes.n_q, n_k),
        tile,
        engine.layout,
        getattr(config, "box", ()),
    )
    facts = keyset_facts(setting)
    return Explanation(
        name=spec.name,
        call=_call(setting, problem.dtype, engine.layout, q.device.type),
        choice=Choice(backend.name, _others(backend.name, refused, engine, q.device.type), shown, loop(plan)),
        keysets=facts,
        work=work(setting, facts, config),
        rooflines=rooflines(setting, facts),
        inputs=tuple(InputFacts(name, _what(value), "given per call") for name, value in values.items()),
    )


def _call(setting: Setting, dtype: str, layout: str, device: str) -> str:
    n_b, n_h, n_q, n_k = setting.extents
    heads = 2 if layout == "bnhd" else 1
    k, v = setting.operands["k"], setting.operands["v"]
    shared = f", {k.shape[heads]} key heads" if k.shape[heads] != n_h else ""
    width = f"D {k.shape[-1]}" + (f", Dv {v.shape[-1]}" if v.shape[-1] != k.shape[-1] else "")
    space = setting.plan.spec.space
    match space:
        case Grid(dims=dims):
            layout_of = f" (grid {'x'.join(map(str, dims))})"
        case Segments(q_offsets=name):
            layout_of = f" in {len(setting.operands[name]) - 1} packed sequences"
        case Paged(page=page):
            layout_of = f" in pages of {page}"
        case _:
            layout_of = ""
    return f"B {n_b}, {n_h} heads{shared}, {n_q} queries x {n_k} keys{layout_of}, {width}; {dtype}, {layout}, {device}"


def _others(
    chosen: str, refused: tuple[tuple[str, str], ...], engine: Engine, device: str
) -> tuple[tuple[str, str], ...]:
    """Every other backend with the reason why it is not the one."""
    reasons = dict(refused)
    forced = engine.backend or settings.current().backend
    for name in settings.CHOICES["backend"]:
        if name == chosen or name in reasons:
            continue
        if name in ASKED_FOR.get(device, {}):
            reasons[name] = ASKED_FOR[device][name]
        elif name not in ORDER.get(device, ("reference",)):
            reasons[name] = f"does not run on device {device!r} in this version"
        else:
            reasons[name] = f"{chosen!r} was asked for" if forced else f"comes after {chosen!r}, which takes the spec"
    return tuple(reasons.items())


def _what(value: Any) -> str:
    if hasattr(value, "shape"):
        return f"{str(value.dtype).removeprefix('torch.')} tensor ({', '.join(map(str, value.shape))})"
    return f"{type(value).__name__} {value}"
