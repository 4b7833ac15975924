"""Workloads of small calls."""

from __future__ import annotations

from typing import Any

import attngen
from attngen.autotune.workload import Workload
from attngen.cli.tuning import workload_of
from attngen.samples import Shape, sample

SMALL = Shape(2, 4, 2, 70, 70, 16, 16)


def work_of(spec: attngen.Spec, shape: Shape = SMALL, dtype: str = "fp32", **options: Any) -> Workload:
    """A workload with random tensors."""
    return workload_of(attngen.compile(spec, backend="cpu"), sample(spec, shape, dtype), **options)
