"""Which config a plan is built with: the backend's first guess until something better was measured."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from attngen.codegen.backend import Backend
    from attngen.codegen.plan import Plan


def choose(plan: Plan, backend: Backend) -> Any:
    """The config to build."""
    return backend.configs(plan)[0]


def choose_backward(plan: Plan, backend: Backend) -> Any:
    """The config of the backward to build."""
    return backend.configs_backward(plan)[0]
