"""The binaries of one kernel: one for aligned tensors, and one for all others. No call builds a third.

Triton alone would build anew for every combination of sizes that are 1 or multiples of 16.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from attngen.codegen.backends.triton import module
from attngen.codegen.backends.triton.abi import Parameters
from attngen.codegen.backends.triton.config import TritonConfig

ALIGNMENT = 16
"""Bytes of a pointer, and multiples of strides, that vector loads want."""


class Variants:
    """Runs the kernel of a module; `parameters` are those of its function."""

    def __init__(self, path: Path, entry: str, parameters: Parameters, config: TritonConfig) -> None:
        self._parameters, self._config = parameters, config
        self._function = getattr(module.load(path), entry)
        self._built: dict[tuple[Any, bool], Any] = {}
        names = list(parameters.signature)
        self._pointers = [i for i, kind in enumerate(parameters.signature.values()) if kind.startswith("*")]
        self._channels = [names.index(name) for name in parameters.channels]
        self._strides = [i for i, name in enumerate(names) if "_stride" in name and i not in self._channels]

    def run(self, grid: tuple[int, int, int], arguments: Sequence[Any]) -> None:
        """Launches on the current stream of the device of the tensors."""
        import torch

        if module.interpreted():
            import numpy as np

            # Infinities are part of the computation; on a device nobody mentions them.
            with np.errstate(all="ignore"):
                self._function[grid](*arguments)
            return
        with torch.cuda.device(arguments[0].device):
            self._variant(arguments)[grid](*arguments)

    def _variant(self, arguments: Sequence[Any]) -> Any:
        aligned = (
            all(arguments[i] == 1 for i in self._channels)
            and all(arguments[i] % ALIGNMENT == 0 for i in self._strides)
            and all(arguments[i].data_ptr() % ALIGNMENT == 0 for i in self._pointers)
        )
        key = (arguments[0].device, aligned)
        if key not in self._built:
            self._built[key] = self.compile(aligned)
        return self._built[key]

    def compile(self, aligned: bool, target: Any = None) -> Any:
        """The binary of a variant, for the current device or a `GPUTarget`."""
        import triton
        from triton.compiler import ASTSource

        signature = dict(self._parameters.signature)
        constants = {}
        attributes = {}
        if aligned:
            names = list(signature)
            constants = {(i,): 1 for i in self._channels}
            signature |= {names[i]: "constexpr" for i in self._channels}
            attributes = {(i,): [["tt.divisibility", ALIGNMENT]] for i in (*self._pointers, *self._strides)}
        source = ASTSource(self._function, signature, constants, attributes)
        options = {"num_warps": self._config.num_warps, "num_stages": self._config.num_stages}
        return triton.compile(source, target=target, options=options)
