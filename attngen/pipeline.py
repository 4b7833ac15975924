"""The compiler as one readable function: a stage a line. Each stage reads the value before it and returns a new one."""

from __future__ import annotations

import contextlib
import logging
import sys
import threading
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from attngen import settings
from attngen.autotune.choose import Tuned, choose_backward, tuned
from attngen.codegen.backends import for_device
from attngen.codegen.plan import Plan, make_plan
from attngen.codegen.plan_text import plan_text
from attngen.errors import UnsupportedError
from attngen.ir.text import text
from attngen.ir.verify import verify

if TYPE_CHECKING:
    from attngen.autotune.situation import Situation
    from attngen.codegen.backend import Backend
    from attngen.codegen.problem import Problem
    from attngen.ir.nodes import Spec
    from attngen.settings import AutotuneMode

log = logging.getLogger("attngen")
WARNED: set[str] = set()
"""Reasons that were told once, such as a missing compiler; later kernels repeat them at level INFO."""


@dataclass(frozen=True, slots=True)
class Compiled:
    """A kernel on one backend, with everything that led to it. `tuned`: its config is one from the database."""

    plan: Plan
    backend: Backend
    config: Any
    built: Any
    refusals: tuple[tuple[str, str], ...]
    tuned: bool = False


@dataclass(frozen=True, slots=True)
class CompiledBackward:
    """The backward of a kernel, on the backend that runs its forward. `wanted`: as in `Backend.emit_backward`."""

    plan: Plan
    backend: Backend
    config: Any
    built: Any
    wanted: frozenset[str]


def compile_spec(
    spec: Spec,
    problem: Problem,
    device: str,
    backend_name: str | None = None,
    wanted: frozenset[str] | None = None,
    situation: Situation | None = None,
    autotune: AutotuneMode | None = None,
) -> Compiled:
    """spec -> verify -> plan -> backend -> config -> source and build (or the cache).

    With `wanted` (as in `Backend.emit_backward`) the backend is one that has the backward of the plan too, and that is
    built beside the forward, to be there when it is called for. `situation` is the call, for which a config may have
    been measured; `autotune` in place of ATTNGEN_AUTOTUNE.
    """
    verify(spec)
    debug("ir", lambda: text(spec))
    plan = make_plan(spec, problem)
    debug("passes", lambda: plan_text(plan))
    backend, refusals = select_backend(plan, device, backend_name, wanted is not None)
    if wanted is not None:
        build_ahead(plan, backend, wanted, situation, autotune)
    found = tuned(plan, backend, situation, "forward", autotune)
    return build(Compiled(plan, backend, None, None, refusals), found)


def build(compiled: Compiled, found: Tuned | None) -> Compiled:
    """The kernel with a config from the database, or with the backend's own: source and build (or the cache)."""
    plan, backend = compiled.plan, compiled.backend
    config = backend.configs(plan)[0] if found is None else found.config
    debug("source", lambda: backend.emit(plan, config).text)
    return replace(compiled, config=config, built=backend.build(plan, config), tuned=found is not None)


def compile_backward(
    compiled: Compiled,
    wanted: frozenset[str],
    situation: Situation | None = None,
    autotune: AutotuneMode | None = None,
) -> CompiledBackward:
    """The backward of a kernel that was compiled with gradients: config -> source and build (or the cache)."""
    plan, backend = compiled.plan, compiled.backend
    config = choose_backward(plan, backend, situation, autotune)
    debug("source", lambda: backend.emit_backward(plan, config, wanted).text)
    built = backend.build_backward(plan, config, wanted)
    return CompiledBackward(plan, backend, config, built, wanted)


def build_ahead(
    plan: Plan,
    backend: Backend,
    wanted: frozenset[str],
    situation: Situation | None = None,
    autotune: AutotuneMode | None = None,
) -> None:
    """Builds a backward into the cache on a thread of its own. Who needs it waits there; who does not, forgets it."""

    def build() -> None:
        with contextlib.suppress(Exception):  # it comes again, in the thread that asks for the backward
            backend.build_backward(plan, choose_backward(plan, backend, situation, autotune), wanted)

    threading.Thread(target=build, name="attngen-build", daemon=True).start()


def debug(stage: str, shown: Callable[[], str]) -> None:
    """Prints a stage to standard error where ATTNGEN_DEBUG names it."""
    if stage in settings.current().debug:
        print(shown(), file=sys.stderr)


def select_backend(
    plan: Plan, device: str, name: str | None, gradients: bool = False
) -> tuple[Backend, tuple[tuple[str, str], ...]]:
    """The first backend for the device that takes the plan, and why those before it did not.

    With `gradients` it has to take the backward too: both directions run on one backend. Raises `UnsupportedError`
    with every backend's reason where none does.
    """
    refusals: list[tuple[str, str]] = []
    what = "it and its gradient" if gradients else "it"
    for backend in for_device(device, name):
        reason = backend.supports(plan)
        if reason is None and gradients:
            reason = backend.supports_backward(plan)
        if reason is None:
            for refused, why in refusals:
                level = logging.INFO if why in WARNED else logging.WARNING
                WARNED.add(why)
                because = f"because {refused}: {why}"
                log.log(level, "%s: the %s backend runs %s, %s", plan.spec.name, backend.name, what, because)
            return backend, tuple(refusals)
        refusals.append((backend.name, reason))
    reasons = "; ".join(f"{refused}: {why}" for refused, why in refusals) or f"no backend for device {device!r}"
    raise UnsupportedError(f"{plan.spec.name}: no backend takes {what} ({reasons})")
