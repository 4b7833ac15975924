"""Named mechanisms: each a function that returns a Spec. `build` reads the command line's form of a call."""

from __future__ import annotations

from attngen.mechanisms.causal import causal, full
from attngen.mechanisms.chunked import chunked
from attngen.mechanisms.differential import differential
from attngen.mechanisms.dual_triangle import dual_triangle
from attngen.mechanisms.linear import linear
from attngen.mechanisms.neighborhood import neighborhood
from attngen.mechanisms.registry import ALL, build, register
from attngen.mechanisms.sliding_window import sliding_window
from attngen.mechanisms.sparse_linear import sparse_linear
from attngen.mechanisms.streaming_llm import streaming_llm
from attngen.suggest import missing

__all__ = [
    "ALL",
    "build",
    "causal",
    "chunked",
    "differential",
    "dual_triangle",
    "full",
    "linear",
    "neighborhood",
    "sliding_window",
    "sparse_linear",
    "streaming_llm",
]

register(globals())
__getattr__ = missing(__name__, __all__)
