"""Congruences over many boxes at once: x = residue (mod stride), in numpy.

Stride 0 means the value is the residue; stride 1 says nothing. What an interval cannot decide, such as
`(2 * q + 4 * kv) % 2 == 0`, this does.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np

from attngen.codegen.analysis.deferred import array
from attngen.codegen.analysis.interval import LIMIT, Bools, Interval, Ints

LARGEST_STRIDE = 2**30
"""Products of two strides or residues must fit an int64; wider strides are dropped."""


@dataclass(frozen=True, slots=True)
class Congruence:
    """x = residue (mod stride) in every box; 0 <= residue < stride where stride > 0."""

    stride: Ints
    residue: Ints

    def excludes(self, value: int) -> Bools:
        """Where the number cannot be `value`."""
        modulus = np.where(self.stride == 0, 1, self.stride)
        return array(np.where(self.stride == 0, self.residue != value, (value - self.residue) % modulus != 0))


def congruence(stride: Any, residue: Any) -> Congruence:
    """A congruence in normal form; what would overflow says nothing."""
    stride, residue = np.abs(array(stride, np.int64)), array(residue, np.int64)
    wide = (stride > LARGEST_STRIDE) | ((stride == 0) & (np.abs(residue) > LARGEST_STRIDE))
    stride = np.where(wide, 1, stride)
    return Congruence(stride, np.where(stride == 0, residue, residue % np.where(stride == 0, 1, stride)))


ANY = congruence(1, 0)


def of_interval(a: Interval, otherwise: Congruence = ANY) -> Congruence:
    """A single value where the interval holds one."""
    point = a.point() & (np.abs(a.lo) < LIMIT)
    return congruence(np.where(point, 0, otherwise.stride), np.where(point, a.lo, otherwise.residue))


def linear(constant: int, terms: Iterable[tuple[Congruence, int]]) -> Congruence:
    """constant + sum of factor * x"""
    total = congruence(0, constant)
    for x, factor in terms:
        if abs(factor) > LARGEST_STRIDE:
            return ANY
        stride = np.gcd(total.stride, x.stride * abs(factor))
        total = congruence(stride, total.residue + x.residue * factor)
    return total


def join(a: Congruence, b: Congruence) -> Congruence:
    """Either may hold."""
    stride = np.gcd(np.gcd(a.stride, b.stride), np.abs(a.residue - b.residue))
    return congruence(stride, a.residue)


def product(a: Congruence, b: Congruence) -> Congruence:
    """a * b"""
    cross = np.gcd(a.stride * b.residue, b.stride * a.residue)
    return congruence(np.gcd(cross, a.stride * b.stride), a.residue * b.residue)


def floor_divide(a: Congruence, divisor: int) -> Congruence:
    """a // divisor, for a positive divisor: (s k + r) // d = (s / d) k + r // d where d divides s."""
    exact = a.stride % divisor == 0
    return congruence(np.where(exact, a.stride // divisor, 1), np.where(exact, a.residue // divisor, 0))


def modulo(a: Congruence, divisor: int) -> Congruence:
    """a % divisor, for a positive divisor."""
    if divisor > LARGEST_STRIDE:
        return ANY
    known = a.stride % divisor == 0
    common = np.gcd(a.stride, divisor)
    return congruence(np.where(known, 0, common), np.where(known, a.residue % divisor, a.residue))
