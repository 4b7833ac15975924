"""Runs a kernel of a bundle: what `Variants` is to a kernel that is compiled here, with nothing compiled."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import prod
from typing import TYPE_CHECKING, Any

from attngen.codegen.backends.triton.alignment import ALIGNED, GENERIC, Alignment
from attngen.codegen.bundle.driver import Driver, Grid
from attngen.codegen.bundle.manifest import BundledKernel, Variant
from attngen.codegen.bundle.packing import Packing

if TYPE_CHECKING:
    import torch
    from torch import Tensor

SCRATCH = ("global_scratch", "profile_scratch")


class Cubins:
    """Both binaries of one kernel. `read` gives the checked bytes of a file of the bundle."""

    def __init__(self, kernel: BundledKernel, read: Callable[[str], bytes], driver: Driver) -> None:
        names = [name for name, _ in kernel.signature]
        self._read, self._driver = read, driver
        self._aligned = Alignment(names, kernel.channels, kernel.strides, kernel.pointers)
        by_name = {variant.name: _Passing(variant, names) for variant in kernel.variants}
        self._variants = {True: by_name[ALIGNED], False: by_name[GENERIC]}
        self._loaded: dict[tuple[torch.device, bool], int] = {}

    def run(self, grid: Grid, arguments: Sequence[Any]) -> None:
        """Launches on the current stream of the device of the tensors."""
        aligned = self._aligned(arguments)
        device, passing = arguments[0].device, self._variants[aligned]
        variant = passing.variant
        with self._driver.on(device):
            kernel = self._loaded.get((device, aligned))
            if kernel is None:
                kernel = self._driver.load(self._read(variant.cubin), variant.symbol, variant.shared, device)
                self._loaded[device, aligned] = kernel
            scratch = passing.scratch(grid, device)
            parameters = passing.pack(
                [*passing.values(arguments), *(0 if s is None else s.data_ptr() for s in scratch)]
            )
            self._driver.launch(kernel, grid, variant.threads, variant.shared, device, parameters)


class _Passing:
    """From the arguments of a kernel to the parameters of one of its binaries."""

    def __init__(self, variant: Variant, names: list[str]) -> None:
        self.variant = variant
        self.pack = Packing([kind for _, kind in variant.passed])
        given = [(name, kind) for name, kind in variant.passed if name not in SCRATCH]
        self._places = [(names.index(name), kind.startswith("*")) for name, kind in given]

    def values(self, arguments: Sequence[Any]) -> list[Any]:
        return [arguments[i].data_ptr() if pointer else arguments[i] for i, pointer in self._places]

    def scratch(self, grid: Grid, device: torch.device) -> list[Tensor | None]:
        """Memory for the time of the launch. It may be given back at once: what takes it next runs after the kernel."""
        sizes = (self.variant.global_scratch[0], self.variant.profile_scratch[0])
        return [_bytes(size * prod(grid), device) if size else None for size in sizes]


def _bytes(count: int, device: torch.device) -> Tensor:
    import torch

    return torch.empty(count, dtype=torch.uint8, device=device)
