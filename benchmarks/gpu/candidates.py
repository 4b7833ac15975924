"""The configs that are tried for a plan: the library's own space, and short lists for dry runs."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from attngen.autotune.spaces.triton import backward_around, forward_around
from attngen.autotune.spaces.triton import every_backward as every_pair
from attngen.codegen.backend import Backend
from attngen.codegen.backends.triton.config import GradientConfig, TritonConfig
from attngen.codegen.plan import Plan


def forward_candidates(backend: Backend, plan: Plan, dry: bool) -> list[TritonConfig]:
    """The backend's own first, then every other combination of the choices, each once."""
    own: TritonConfig = backend.configs(plan)[0]
    if dry:
        return [own, replace(own, num_warps=4)]
    return list(dict.fromkeys([own, *forward_around(own, plan)]))


def backward_candidates(backend: Backend, plan: Plan, dry: bool) -> list[GradientConfig]:
    """The backend's own first; then one of its two kernels as it is and every choice for the other."""
    own: Any = backend.configs_backward(plan)[0]
    return [own] if dry else list(dict.fromkeys([own, *backward_around(own, plan)]))


def every_backward(backend: Backend, plan: Plan) -> list[GradientConfig]:
    """Any choice for the one kernel with any for the other."""
    own: Any = backend.configs_backward(plan)[0]
    return list(dict.fromkeys([own, *every_pair(own, plan)]))
