"""Calls of kernels from bundles, on a driver that notes what it is given."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

import attngen
from attngen import masks, normalizers, scores
from attngen.codegen.bundle.files import open_bundle
from attngen.errors import AttngenError
from tests.aot.pretend import Launched, Recorder, passed_of

ALIBI = attngen.Spec(mask=masks.sliding_window(5), score=scores.alibi(torch.ones(2)))
EARLY_SINK = attngen.Spec(normalizer=normalizers.chained("c", normalizers.softmax(sink=0.5), normalizers.none()))
Q = torch.zeros(1, 2, 40, 16, dtype=torch.bfloat16)
SLOPES = torch.tensor([0.5, 0.25])


def loaded(directory: Path, inputs: Any = None, **options: Any) -> tuple[attngen.Kernel, Recorder]:
    driver = Recorder(passed_of(open_bundle(directory)), **{k: options.pop(k) for k in ("arch",) if k in options})
    return attngen.load_bundle(directory, inputs, driver=driver, **options), driver


def named(directory: Path, launch: Launched) -> dict[str, Any]:
    """The parameters of a launch by name."""
    variants = open_bundle(directory).manifest.problems[0].kernels[0].variants
    variant = next(v for v in variants if v.name == launch.image.split()[-1].decode())
    return dict(zip((name for name, _ in variant.passed), launch.values, strict=True))


def refused(call: Callable[[], object]) -> str:
    with pytest.raises(AttngenError) as caught:
        call()
    return str(caught.value)
