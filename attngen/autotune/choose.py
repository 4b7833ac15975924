"""Which config a plan is built with: what was measured for calls like this one, else the backend's first guess."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from attngen.autotune.database import Found, database, mode
from attngen.autotune.identity import device_of, versions
from attngen.autotune.spaces import illegal, parse
from attngen.errors import InputError

if TYPE_CHECKING:
    from attngen.autotune.key import Direction
    from attngen.autotune.situation import Situation
    from attngen.codegen.backend import Backend
    from attngen.codegen.plan import Plan
    from attngen.settings import AutotuneMode

log = logging.getLogger("attngen.autotune")


@dataclass(frozen=True, slots=True)
class Tuned:
    """A config from the database, and what it rests on."""

    config: Any
    found: Found

    def __str__(self) -> str:
        said = self.found.verdict
        gain = "as built in" if said.config == said.base else f"{1 / said.ratio:.3g} x the built-in one"
        where = "" if self.found.exact else f" for {self.found.key.sizes.n_q} x {self.found.key.sizes.n_k}"
        stale = "; stale: measured with other versions" if said.stale else ""
        return f"tuned {said.date[:10]}{where}, {gain}{stale}"


def choose_backward(
    plan: Plan, backend: Backend, situation: Situation | None = None, told: AutotuneMode | None = None
) -> Any:
    """The config of the backward to build, for a call; `told` in place of ATTNGEN_AUTOTUNE."""
    found = tuned(plan, backend, situation, "backward", told)
    return backend.configs_backward(plan)[0] if found is None else found.config


def tuned(
    plan: Plan,
    backend: Backend,
    situation: Situation | None,
    direction: Direction,
    told: AutotuneMode | None = None,
) -> Tuned | None:
    """What the database has for a call, or None: nothing was measured, or tuning is off."""
    if situation is None or mode(told) == "off":
        return None
    device = device_of(backend)
    if device is None:
        return None
    known = database(device, lambda: versions(backend.name))
    found = known.look_up(situation.head(plan, backend, direction), lambda: situation.sizes(plan))
    return None if found is None else _checked(plan, backend, found)


def _checked(plan: Plan, backend: Backend, found: Found) -> Tuned | None:
    said, head = found.verdict, found.key.head
    if said.config == said.base:
        return None
    backward = head.direction == "backward"
    try:
        config = parse(backend.name, backward, said.config)
        reason = illegal(plan, backend.name, config, backward)
    except InputError as problem:
        reason = problem.message
    if reason is not None:
        log.info("the tuned config %r is not used for %s: %s", said.config, plan.spec.name, reason)
        return None
    if said.stale:
        log.info("%s: the config %s is stale: it was measured with other versions", plan.spec.name, said.config)
    return Tuned(config, found)
