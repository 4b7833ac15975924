"""Random numbers inside of traced functions."""

from __future__ import annotations

from typing import Any

from attngen.errors import SpecError


def uniform(seed: Any) -> Any:
    """A uniform number in [0, 1) for every (b, h, q, kv); for use inside of a mask, score or weight function.

    It depends on the integer `seed` and on the four indices alone (Philox4x32-10), so it is the same on every tiling
    and when it is computed again in backward. Another draw needs another seed.
    """
    from attngen.frontend.scalar import Proxy
    from attngen.frontend.tracer import ACTIVE
    from attngen.ir.expr import const

    tracer = ACTIVE.get()
    if tracer is None:
        raise SpecError("uniform: called outside of a mask, score or weight function; draw with torch.rand instead")
    value = seed.expr if isinstance(seed, Proxy) else const(int(seed))
    return Proxy(tracer, tracer.op("uniform", value))


# Called as it is by the tracer, not traced into.
uniform.__attngen_intrinsic__ = True  # type: ignore[attr-defined]
