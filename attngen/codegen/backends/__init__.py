"""The backends, one line each, in the order in which a device tries them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from attngen import settings
from attngen.errors import InputError

if TYPE_CHECKING:
    from attngen.codegen.backend import Backend

ORDER: dict[str, tuple[str, ...]] = {"cpu": ("cpu", "reference")}
"""Backends by torch device type; a device that is not here has only the reference."""


def for_device(device: str, name: str | None = None) -> tuple[Backend, ...]:
    """The backends to try on a device type; `name` (or ATTNGEN_BACKEND) leaves only that one."""
    from attngen.codegen.backends.cpu.backend import CpuBackend
    from attngen.codegen.backends.reference import ReferenceBackend

    table: dict[str, Backend] = {"cpu": CpuBackend(), "reference": ReferenceBackend()}
    available = ORDER.get(device, ("reference",))
    wanted = name or settings.current().backend
    if wanted is None:
        return tuple(table[n] for n in available)
    if wanted not in available:
        raise InputError(
            f"backend: {wanted!r} does not run on device {device!r}; allowed there: {', '.join(available)}"
        )
    return (table[wanted],)
