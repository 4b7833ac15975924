"""Samples for tests, and the place that they are filed under."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from attngen.autotune.key import Head, Key, Sizes
from attngen.autotune.sample import Sample

HEAD = Head("0123456789ab", "cpu", "forward", "fp32", 64, 64, 1)
KEY = Key(HEAD, Sizes(4096, 4096, 0))
BASE, FAST, OTHER = (f"avx2 q{q} k192 g16 qk6x2 pv6x2" for q in (24, 48, 96))
DEVICE = "cpu avx2 Some Processor"
VERSIONS = {"codegen": "aa", "compiler": "g++ 12"}

ONE = Sample(KEY, FAST, BASE, 2e-3, 1e-5, 0.9, 0.89, 0.91, 12, "causal", "1,8,8,4096,4096,64", 3000.0,
             "2026-11-29T12:00:00+00:00", VERSIONS)  # fmt: skip


def sample(ratio: float = 0.9, config: str = FAST, error: float = 0.01, **changes: Any) -> Sample:
    """A sample of a config that takes `ratio` of the time of the built-in one, give or take `error`."""
    return replace(ONE, config=config, ratio=ratio, low=ratio - error, high=ratio + error, **changes)
