"""The places of a Spec that hold an expression: which symbols each may use, and which type it must have."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from attngen.ir.nodes import Grid, Space
from attngen.ir.ops import Type

Role = Literal[
    "mask",
    "score",
    "join",
    "scale",
    "weight",
    "phi",
    "psi",
    "anchor",
    "sink",
    "finalize",
    "lse",
    "ordered",
    "coefficient",
    "head",
    "extent",
    "feature",
]

RESULT: dict[Role, Type] = {"mask": "bool", "head": "int", "extent": "int"}
"""The type that an expression must have; float where nothing is said."""

SIZES = frozenset({"n_q", "n_k", "n_b", "n_h"})


@dataclass(frozen=True, slots=True)
class Scope:
    """What symbols a place depends on beside its role.

    `coordinates` is the number of grid dimensions, `dots` that of the key set; `main` says whether the keys are the
    grid's own; `anchor` and `mass` whether the normalizer declares them.
    """

    coordinates: int = 0
    dots: int = 1
    main: bool = True
    anchor: bool = False
    mass: bool = False


def coordinates(space: Space) -> int:
    """How many coordinates q[0], q[1], ... the space has."""
    return len(space.dims) if isinstance(space, Grid) else 0


def visible(role: Role, scope: Scope) -> frozenset[str]:
    """The symbols that an expression in this place may use."""
    row = SIZES | {"b", "h", "q"} | {f"q[{i}]" for i in range(scope.coordinates)}
    pair = row | {"kv"} | {f"kv[{i}]" for i in range(scope.coordinates if scope.main else 0)}
    anchor = frozenset({"m"} if scope.anchor else ())
    mass = frozenset({"mass"} if scope.mass else ())
    match role:
        case "mask":
            return pair
        case "score":
            return pair | {"score", "n_visible"}
        case "join":
            return pair | {"n_visible"} | {f"dot[{i}]" for i in range(scope.dots)}
        case "weight":
            return pair | {"n_visible"}
        case "scale":
            return row | {"d", "n_visible"}
        case "phi" | "psi":
            return row | anchor | {"s", "n_visible"}
        case "anchor" | "ordered":
            return row | {"s", "n_visible"}
        case "sink":
            return row | {"n_visible"}
        case "finalize":
            return row | anchor | mass | {"acc", "count", "vsum", "dim", "n_visible"}
        case "lse":
            return row | anchor | mass | {"count", "n_visible"}
        case "coefficient":
            return row | {"dim"}
        case "head":
            return frozenset({"h", "n_h", "heads"})
        case "extent":
            return frozenset({"d"})
        case "feature":
            return frozenset({"x"})
