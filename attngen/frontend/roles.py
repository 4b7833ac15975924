"""What a traced function is for: the names that it may take, and what it must return."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Literal

Result = Literal["bool", "int", "float", "bool or float"]

ALIASES = {"q_idx": "q", "kv_idx": "kv"}
SIZES = ("n_q", "n_k", "n_h", "n_b")


@dataclass(frozen=True, slots=True)
class Role:
    """How the parameters of a function become symbols.

    `names` maps parameter names to symbols. `positional` are the signatures for functions with other names, chosen by
    the number of required parameters. `result` "bool or float": a function that takes `score` returns a number, another
    one a bool. `dims` is the number of dimensions of the grid, where it is known: it lets `y, x = q` work.
    """

    label: str
    names: Mapping[str, str]
    positional: tuple[tuple[str, ...], ...] = ()
    result: Result = "float"
    dims: int | None = None

    def on_grid(self, dims: int) -> Role:
        """The same role on a grid of `dims` dimensions."""
        return replace(self, dims=dims)


def role(label: str, *symbols: str, result: Result = "float", positional: tuple[tuple[str, ...], ...] = ()) -> Role:
    """A role whose functions take any subset of `symbols` by name (aliases included).

    Example: `role("normalizer phi", "s", "m", positional=(("s",), ("s", "m")))`.
    """
    names = {symbol: symbol for symbol in symbols}
    names |= {alias: symbol for alias, symbol in ALIASES.items() if symbol in names}
    return Role(label, MappingProxyType(names), positional, result)


_PAIR = ("b", "h", "q", "kv")
MASK = role("mask", *_PAIR, *SIZES, "n_visible", result="bool", positional=(_PAIR,))
SCORE = role("score", "score", *_PAIR, *SIZES, "n_visible", positional=(("score", *_PAIR),))
MASK_OR_SCORE = role(
    "mask or score", "score", *_PAIR, *SIZES, "n_visible", result="bool or float",
    positional=(_PAIR, ("score", *_PAIR)),
)  # fmt: skip
WEIGHT = role("weight", *_PAIR, *SIZES, "n_visible", positional=(_PAIR,))
SCALE = role("scale", "b", "h", "q", "d", *SIZES, "n_visible")
COEFFICIENT = role("coefficient", "b", "h", "q", "dim", *SIZES, "n_visible", positional=(("b", "h", "q"),))
HEAD = role("head map", "h", "n_h", "heads", result="int", positional=(("h",),))

_ROW = ("b", "h", "q", *SIZES, "n_visible")
PHI = role("normalizer phi", "s", "m", *_ROW, positional=(("s",), ("s", "m")))
PSI = role("normalizer psi", "s", "m", *_ROW, positional=(("s",), ("s", "m")))
ANCHOR = role("normalizer anchor", "s", positional=(("s",),))
FINALIZE = role("normalizer finalize", "acc", "mass", "m", "count", "vsum", "dim", *_ROW, positional=(("acc", "mass"),))
LSE = role("normalizer lse", "m", "mass", "count", *_ROW, positional=(("m", "mass"),))
