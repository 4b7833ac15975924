"""What a measurement is filed under: what the spec is like, never what exactly it was called with.

Lengths and the numbers that a spec holds count by their size alone, and names not at all: so a window of 250 finds what
was learned for one of 256, and a new length never asks for a measurement of its own.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal, NamedTuple

Direction = Literal["forward", "backward"]

_NUMBER = re.compile(r"(?<![\w.\[])\d+(?![\w.\]])")
_INPUT = re.compile(r"^\s*(?:input|router) (\w+)", re.MULTILINE)
_HEAD = re.compile(r"\Aspec \S+ ")
SMALL = 8
"""Numbers up to this one are part of the structure: classes, coordinates, remainders."""


class Head(NamedTuple):
    """Everything of a key but sizes: structure of the spec, backend, direction, dtype, channels of keys and of values,
    query heads per key head."""

    spec: str
    backend: str
    direction: Direction
    dtype: str
    d: int
    dv: int
    group: int


class Sizes(NamedTuple):
    """Powers of two that hold the queries and the keys, and the share of the pairs that is visited: about 1 / 2^share.
    UNKNOWN where the values of a tensor decide that."""

    n_q: int
    n_k: int
    share: int


UNKNOWN = -1


@dataclass(frozen=True, slots=True, order=True)
class Key:
    """The place of a measurement in the database."""

    head: Head
    sizes: Sizes

    def __str__(self) -> str:
        h, s = self.head, self.sizes
        share = "by data" if s.share == UNKNOWN else "all" if s.share == 0 else f"1/{2**s.share}"
        dims = f"D {h.d}" + (f", Dv {h.dv}" if h.dv != h.d else "") + (f", GQA {h.group}" if h.group > 1 else "")
        return f"{h.spec} {h.backend} {h.direction} {h.dtype}, {dims}, to {s.n_q} x {s.n_k}, visits {share}"


def bucket(size: int) -> int:
    """The power of two that holds a size."""
    return 1 << max(0, size - 1).bit_length()


@lru_cache(maxsize=1024)
def structure(text: str) -> str:
    """A hash of the text form of a spec without names, with numbers by their size.

    Two specs of one hash differ in nothing that a tile could notice but how many keys a query sees, which `Sizes` has.
    """
    body = _HEAD.sub("spec _ ", text)
    for i, name in enumerate(dict.fromkeys(_INPUT.findall(body))):
        if name not in ("q", "k", "v"):
            body = re.sub(rf"\b{re.escape(name)}\b", f"input{i}", body)
    body = _NUMBER.sub(lambda found: _by_size(int(found[0])), body)
    return hashlib.sha256(body.encode()).hexdigest()[:12]


def _by_size(number: int) -> str:
    return str(number) if number <= SMALL else f"~{bucket(number)}"
