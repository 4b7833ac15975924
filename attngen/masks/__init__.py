"""Masks: which keys a query sees. Combine with `&`, `|`, `~`; the docstring of each says how many keys a row sees."""

from __future__ import annotations

from attngen.masks.a_shape import a_shape, tri_shape
from attngen.masks.axial import axial
from attngen.masks.bigbird import bigbird
from attngen.masks.blocked import blocked
from attngen.masks.causal import causal
from attngen.masks.chunked import chunked
from attngen.masks.dilated import dilated
from attngen.masks.document import document
from attngen.masks.full import full
from attngen.masks.global_tokens import global_tokens
from attngen.masks.lengths import lengths
from attngen.masks.mask import Mask
from attngen.masks.maxvit_grid import maxvit_grid
from attngen.masks.neighborhood import neighborhood
from attngen.masks.power_blocks import power_blocks
from attngen.masks.prefix import prefix
from attngen.masks.sink import sink
from attngen.masks.sliding_tile import sliding_tile
from attngen.masks.sliding_window import sliding_window
from attngen.masks.strided import strided
from attngen.masks.vertical_slash import vertical_slash
from attngen.masks.window import window
from attngen.suggest import missing

__all__ = [
    "Mask",
    "a_shape",
    "axial",
    "bigbird",
    "blocked",
    "causal",
    "chunked",
    "dilated",
    "document",
    "full",
    "global_tokens",
    "lengths",
    "maxvit_grid",
    "neighborhood",
    "power_blocks",
    "prefix",
    "sink",
    "sliding_tile",
    "sliding_window",
    "strided",
    "tri_shape",
    "vertical_slash",
    "window",
]

__getattr__ = missing(__name__, __all__)
