"""The tracer: a Python function in, an expression and its live inputs out."""

from __future__ import annotations

from attngen.frontend.bindings import Binding, Bindings, Guard
from attngen.frontend.combine import combine, rename
from attngen.frontend.roles import (
    ANCHOR,
    COEFFICIENT,
    FINALIZE,
    HEAD,
    LSE,
    MASK,
    MASK_OR_SCORE,
    PHI,
    PSI,
    SCALE,
    SCORE,
    WEIGHT,
    Role,
    role,
)
from attngen.frontend.static import static
from attngen.frontend.trace import Traced, trace

__all__ = [
    "ANCHOR",
    "COEFFICIENT",
    "FINALIZE",
    "HEAD",
    "LSE",
    "MASK",
    "MASK_OR_SCORE",
    "PHI",
    "PSI",
    "SCALE",
    "SCORE",
    "WEIGHT",
    "Binding",
    "Bindings",
    "Guard",
    "Role",
    "Traced",
    "combine",
    "rename",
    "role",
    "static",
    "trace",
]
