"""The backends, one line each, in the order in which a device tries them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from attngen import settings
from attngen.errors import InputError

if TYPE_CHECKING:
    from attngen.codegen.backend import Backend

ORDER: dict[str, tuple[str, ...]] = {"cpu": ("cpu", "reference"), "cuda": ("triton", "reference")}
"""Backends by torch device type; a device that is not here has only the reference."""
ASKED_FOR: dict[str, dict[str, str]] = {"cpu": {"triton": "runs there if it is asked for, under Triton's interpreter"}}
"""What runs there, too, if it is named, and what to say of it."""


def for_device(device: str, name: str | None = None) -> tuple[Backend, ...]:
    """The backends to try on a device type; `name` (or ATTNGEN_BACKEND) leaves only that one."""
    from attngen.codegen.backends.cpu.backend import CpuBackend
    from attngen.codegen.backends.reference import ReferenceBackend
    from attngen.codegen.backends.triton.backend import TritonBackend

    table: dict[str, Backend] = {"cpu": CpuBackend(), "triton": TritonBackend(device), "reference": ReferenceBackend()}
    available = ORDER.get(device, ("reference",))
    wanted = name or settings.current().backend
    if wanted is None:
        return tuple(table[n] for n in available)
    allowed = (*available, *ASKED_FOR.get(device, ()))
    if wanted not in allowed:
        raise InputError(f"backend: {wanted!r} does not run on device {device!r}; allowed there: {', '.join(allowed)}")
    return (table[wanted],)
