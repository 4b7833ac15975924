"""Cases of one kind: `make test` runs some of them, `make thorough` all."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import pytest


def some(cases: Iterable[Any], *later: Any) -> list[Any]:
    """The cases of a test. Those that are named `later`, each one more of a kind, are marked `slow`.

    Raises `AssertionError` where there is no such case, so that none is named in vain.
    """
    found = list(cases)
    assert set(later) <= set(found), set(later) - set(found)
    apart = [case if isinstance(case, tuple) else (case,) for case in found]
    return [
        pytest.param(*each, marks=pytest.mark.slow if case in later else ())
        for each, case in zip(apart, found, strict=True)
    ]
