"""The spaces of the backends: which configs a plan may have there, and how their texts are read."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from attngen.autotune.spaces.space import Pruned, Space

if TYPE_CHECKING:
    from attngen.codegen.backend import Backend
    from attngen.codegen.devices import Device
    from attngen.codegen.plan import Plan

__all__ = ["Pruned", "Space", "illegal", "parse", "refusal", "space_of", "tuned_backends"]


def tuned_backends() -> tuple[str, ...]:
    """The backends that have a choice."""
    return ("cpu", "triton")


def space_of(plan: Plan, backend: Backend, backward: bool = False, device: Device | None = None) -> Space:
    """The configs of a plan, the backend's own first, and what is left out and why.

    `device`: the GPU whose limits hold; without one, those that hold for every GPU. A backend without choices has a
    space of one config.
    """
    from attngen.autotune.spaces import cpu, triton

    own = (backend.configs_backward if backward else backend.configs)(plan)[0]
    match backend.name:
        case "cpu":
            return Space.of(own, cpu.around(own, plan, backward), lambda each: cpu.refusal(plan, each, backward))
        case "triton":
            around = triton.backward_around(own, plan) if backward else triton.forward_around(own, plan)
            return Space.of(own, around, lambda each: triton.refusal(plan, each, backward, device))
    return Space(own, (own,), ())


def parse(backend: str, backward: bool, text: str) -> Any:
    """The config of a backend that a text stands for. Raises `InputError` with the form that is allowed."""
    from attngen.codegen.backends.cpu.config import CpuConfig
    from attngen.codegen.backends.triton.config import GradientConfig, TritonConfig

    gradients: Callable[[str], Any] = GradientConfig.parse if backward else TritonConfig.parse
    return CpuConfig.parse(text) if backend == "cpu" else gradients(text)


def illegal(plan: Plan, backend: str, config: Any, backward: bool = False) -> str | None:
    """Why a config cannot be built for a plan, or None; what is only too large is not asked for."""
    from attngen.autotune.spaces import cpu, triton

    return cpu.illegal(plan, config) if backend == "cpu" else triton.refusal(plan, config, backward, None)


def refusal(plan: Plan, backend: str, config: Any, backward: bool = False, device: Device | None = None) -> str | None:
    """Why a config is not tried for a plan, or None."""
    from attngen.autotune.spaces import cpu, triton

    if backend == "cpu":
        return cpu.refusal(plan, config, backward)
    return triton.refusal(plan, config, backward, device)
