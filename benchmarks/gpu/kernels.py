"""A Triton kernel that does nothing but exponentials."""

# mypy: disable-error-code="untyped-decorator, no-untyped-def"

from __future__ import annotations

import triton
import triton.language as tl


@triton.jit
def exponentials(x_data, out_data, steps, BLOCK: tl.constexpr):
    """x = 2 ** -x, `steps` times: it stays between 1/2 and 1 and every step needs the one before it."""
    at = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    x = tl.load(x_data + at)
    for _ in range(steps):
        x = tl.exp2(-x)
    tl.store(out_data + at, x)
