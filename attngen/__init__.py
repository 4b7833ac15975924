"""attngen: a compiler for attention. Write what a mechanism is; get fast kernels for it.

Names are imported on first use, so that `import attngen` stays light: no torch, no sympy, no triton.
"""

from __future__ import annotations

import sys
from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from attngen import integrations, masks, mechanisms, nn, normalizers, scores, weights
    from attngen.aot import build_bundle, load_bundle
    from attngen.api import attention, compile
    from attngen.errors import AttngenError
    from attngen.frontend import static
    from attngen.kernel import Kernel
    from attngen.space import Grid
    from attngen.spec import Spec

__version__ = "0.1.0"

HOMES = {
    "Spec": "attngen.spec",
    "Grid": "attngen.space",
    "Kernel": "attngen.kernel",
    "compile": "attngen.api",
    "attention": "attngen.api",
    "static": "attngen.frontend",
    "build_bundle": "attngen.aot",
    "load_bundle": "attngen.aot",
    "AttngenError": "attngen.errors",
}
LIBRARIES = ("integrations", "masks", "mechanisms", "nn", "normalizers", "scores", "weights")

__all__ = [  # noqa: RUF022  (the order in which a reader meets them)
    "Spec",
    "compile",
    "attention",
    "Kernel",
    "Grid",
    "static",
    "masks",
    "scores",
    "normalizers",
    "weights",
    "mechanisms",
    "nn",
    "integrations",
    "build_bundle",
    "load_bundle",
    "AttngenError",
]


if "torch" in sys.modules:
    # Programs saved by torch.export name our operators: they have to exist when they are loaded.
    import_module("attngen.runtime.traced_op")


def __getattr__(name: str) -> Any:
    if name in HOMES:
        value = getattr(import_module(HOMES[name]), name)
    elif name in LIBRARIES:
        value = import_module(f"attngen.{name}")
    else:
        from attngen.suggest import nearest

        raise AttributeError(f"module 'attngen' has no attribute {name!r}{nearest(name, __all__)}")
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
