"""The binaries of one kernel: one for aligned tensors, and one for all others. No call builds a third.

Triton alone would build anew for every combination of sizes that are 1 or multiples of 16.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from attngen.codegen.backends.triton import module
from attngen.codegen.backends.triton.abi import Parameters
from attngen.codegen.backends.triton.ahead import ast_source
from attngen.codegen.backends.triton.alignment import Alignment
from attngen.codegen.backends.triton.config import TritonConfig


class Variants:
    """Runs the kernel of a module; `parameters` are those of its function."""

    def __init__(self, path: Path, entry: str, parameters: Parameters, config: TritonConfig) -> None:
        self._parameters, self._config = parameters, config
        self._function = getattr(module.load(path), entry)
        self._built: dict[tuple[Any, bool], Any] = {}
        self._aligned = Alignment(
            list(parameters.signature), parameters.channels, parameters.strides, parameters.pointers
        )

    def run(self, grid: tuple[int, int, int], arguments: Sequence[Any]) -> None:
        """Launches on the current stream of the device of the tensors."""
        import torch

        if module.interpreted():
            import numpy as np

            # Infinities are part of the computation; on a device nobody mentions them.
            with np.errstate(all="ignore"):
                self._function[grid](*arguments, self._aligned(arguments))
            return
        aligned, device = self._aligned(arguments), arguments[0].device
        with torch.cuda.device(device):
            if self._config.loads == "descriptor":
                give_scratch(device)
            self._variant(arguments, aligned)[grid](*arguments, aligned)

    def _variant(self, arguments: Sequence[Any], aligned: bool) -> Any:
        key = (arguments[0].device, aligned)
        if key not in self._built:
            self._built[key] = self._compile(aligned)
        return self._built[key]

    def _compile(self, aligned: bool) -> Any:
        import triton

        given = self._parameters
        source = ast_source(self._function, given.signature, given.constants(aligned), given.divisible(aligned))
        options = {"num_warps": self._config.num_warps, "num_stages": self._config.num_stages}
        return triton.compile(source, options=options)


def give_scratch(device: Any) -> None:
    """Lets Triton have memory for the descriptors that a kernel makes.

    Triton asks a function that every thread has to set for itself, and autograd runs backwards in a thread of its own.
    """
    import torch
    import triton

    def allocate(size: int, alignment: int, stream: int | None) -> Any:
        return torch.empty(size, dtype=torch.int8, device=device)

    triton.set_allocator(allocate)
