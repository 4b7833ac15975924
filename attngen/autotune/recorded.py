"""Calls of a program, written down as they come and tuned later: ATTNGEN_RECORD names the file.

A line is a call: the text of its spec, dtypes, shapes and memory orders, numbers, and the values of tensors of integers
and truth values, which decide what a mask shows. Values of floating point are not kept; they decide nothing that takes
time.
"""

from __future__ import annotations

import base64
import json
import os
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from attngen.autotune.workload import Workload
from attngen.codegen.problem import Operand, Problem
from attngen.errors import AttngenError, InputError
from attngen.ir.nodes import Spec
from attngen.ir.text import text

if TYPE_CHECKING:
    from torch import Tensor

FORMAT = 1
MOST_VALUES = 1 << 20
"""Elements of a tensor that are kept."""
_written: set[tuple[Path, str]] = set()


def record(path: Path, work: Workload) -> None:
    """Adds a call to a file, once in a process. Raises `InputError` where it cannot be written to."""
    line = json.dumps(_body(work))
    if (path, line) in _written:
        return
    try:
        file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
        try:
            os.write(file, f"{line}\n".encode())
        finally:
            os.close(file)
    except OSError as problem:
        raise InputError(f"ATTNGEN_RECORD: {path} cannot be written to: {problem.strerror or problem}") from problem
    _written.add((path, line))


def read(path: Path) -> Iterator[Workload | str]:
    """The calls of a file; in place of one that cannot be made again, a sentence that says why.

    Raises `InputError` where the file cannot be read.
    """
    try:
        lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError as problem:
        raise InputError(f"{path}: cannot be read: {problem.strerror or problem}") from problem
    for number, line in enumerate(lines, 1):
        try:
            yield _work(json.loads(line))
        except (AttngenError, ValueError, KeyError, TypeError, AttributeError, zlib.error) as problem:
            yield f"line {number} is no call that can be made again: {problem}"


def _body(work: Workload) -> dict[str, Any]:
    problem = work.problem
    return {
        "format": FORMAT,
        "spec": text(work.spec),
        "dtype": problem.dtype,
        "backend": work.backend,
        "device": work.device,
        "layout": work.layout,
        "direction": work.direction,
        "sizes": list(work.sizes),
        "widths": [operand.width for operand in problem.operands],
        "tensors": [_described(tensor) for tensor in (*work.operands, *work.inputs)],
        "numbers": list(work.numbers),
        "wanted": sorted(work.wanted),
    }


def _described(tensor: Tensor) -> dict[str, Any]:
    found: dict[str, Any] = {
        "dtype": str(tensor.dtype).removeprefix("torch."),
        "shape": list(tensor.shape),
        "strides": list(tensor.stride()),
    }
    if not tensor.is_floating_point() and tensor.numel() <= MOST_VALUES:
        values = tensor.detach().cpu().long().contiguous().numpy().astype("<i8").tobytes()
        found["values"] = base64.b64encode(zlib.compress(values)).decode()
    return found


def _work(body: dict[str, Any]) -> Workload:
    import torch

    from attngen.ir.parse import parse

    if body["format"] != FORMAT:
        raise InputError(f"it is of format {body['format']}, and this version reads {FORMAT}")
    spec = parse(body["spec"])
    names = ("q", "k", "v", *(i.name for i in spec.inputs if i.axes))
    generator = torch.Generator().manual_seed(0)
    tensors = [
        _tensor(each, name, spec, generator).to(body["device"])
        for name, each in zip(names, body["tensors"], strict=True)
    ]
    operands = tuple(
        Operand(name, each["dtype"], len(each["shape"]), width)
        for name, each, width in zip(names, body["tensors"], body["widths"], strict=True)
    )
    n_b, n_h, n_q, n_k = map(int, body["sizes"])
    q, k, v, *inputs = tensors
    return Workload(
        spec,
        Problem(body["dtype"], operands, False),
        body["backend"],
        body["device"],
        body["layout"],
        (n_b, n_h, n_q, n_k),
        (q, k, v),
        tuple(inputs),
        tuple(body["numbers"]),
        body["direction"],
        frozenset(body["wanted"]),
    )


def _tensor(described: dict[str, Any], name: str, spec: Spec, generator: Any) -> Tensor:
    import numpy as np
    import torch

    shape, strides = described["shape"], described["strides"]
    dtype: torch.dtype = getattr(torch, described["dtype"])
    if dtype.is_floating_point:
        values = torch.randn(shape, generator=generator)
        if name in {branch.decay for branch in spec.branches}:
            values = -0.1 * values.abs()
    elif "values" in described:
        flat = np.frombuffer(zlib.decompress(base64.b64decode(described["values"])), "<i8")
        values = torch.from_numpy(flat.astype(np.int64)).reshape(shape)
    else:
        raise InputError(f"the values of {name!r} were not kept: it has more than {MOST_VALUES} elements")
    if min(strides, default=1) < 1:
        return values.to(dtype)
    return torch.empty_strided(shape, strides, dtype=dtype).copy_(values)
