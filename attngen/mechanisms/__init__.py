"""Named mechanisms: each a function that returns a Spec. `build` reads the command line's form of a call."""

from __future__ import annotations

from attngen.mechanisms.a_shape import a_shape, tri_shape
from attngen.mechanisms.axial import axial
from attngen.mechanisms.bigbird import bigbird
from attngen.mechanisms.blocked import blocked, shifted_windows
from attngen.mechanisms.causal import causal, full
from attngen.mechanisms.chunked import chunked
from attngen.mechanisms.differential import differential
from attngen.mechanisms.dual_triangle import dual_triangle
from attngen.mechanisms.freeswim import freeswim
from attngen.mechanisms.linear import linear
from attngen.mechanisms.longformer import longformer
from attngen.mechanisms.maxvit_grid import maxvit_grid
from attngen.mechanisms.neighborhood import neighborhood
from attngen.mechanisms.power_attention import power_attention
from attngen.mechanisms.registry import ALL, build, register
from attngen.mechanisms.sliding_tile import sliding_tile
from attngen.mechanisms.sliding_window import sliding_window, window
from attngen.mechanisms.sparse_linear import sparse_linear
from attngen.mechanisms.streaming_llm import streaming_llm
from attngen.mechanisms.strided import strided
from attngen.mechanisms.vertical_slash import vertical_slash
from attngen.suggest import missing

__all__ = [
    "ALL",
    "a_shape",
    "axial",
    "bigbird",
    "blocked",
    "build",
    "causal",
    "chunked",
    "differential",
    "dual_triangle",
    "freeswim",
    "full",
    "linear",
    "longformer",
    "maxvit_grid",
    "neighborhood",
    "power_attention",
    "shifted_windows",
    "sliding_tile",
    "sliding_window",
    "sparse_linear",
    "streaming_llm",
    "strided",
    "tri_shape",
    "vertical_slash",
    "window",
]

register(globals())
__getattr__ = missing(__name__, __all__)
