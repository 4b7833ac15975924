"""A kernel from a bundle: called like any other, and never compiled."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from attngen import __version__
from attngen.aot.engine import BundleEngine
from attngen.aot.refusals import arch_for
from attngen.codegen.bundle.driver import Driver, cuda
from attngen.codegen.bundle.files import Bundle, open_bundle
from attngen.codegen.bundle.manifest import AGAIN, dump
from attngen.errors import BundleError, InputError
from attngen.frontend import Binding
from attngen.kernel import Kernel
from attngen.runtime.engine import BUNDLE, LOADED, engine
from attngen.spec import Spec
from attngen.suggest import nearest

if TYPE_CHECKING:
    import torch

    from attngen.ir.nodes import Layout


class BundledKernel(Kernel):
    """A kernel whose machine code comes from a bundle. It is called as every kernel, on the GPUs it was built for.

    `bundle` has the directory and the manifest. Where a gradient is asked for and the bundle was built without the
    backward, it refuses.
    """

    def __init__(self, bundle: Bundle, spec: Spec, layout: Layout, driver: Driver) -> None:
        super().__init__(spec, layout=layout)
        self.bundle, self._driver = bundle, driver
        place = BUNDLE + hashlib.sha256(dump(bundle.manifest).encode()).hexdigest()[:16]
        if driver is not MACHINE:
            place += f"-{id(driver)}"
        self._options = f"{layout}::{place}:"
        # torch's operators name an engine by these texts. A bundle may have been moved since it was last loaded.
        name = (self._text, self._options)
        known = LOADED.get(name)
        if not isinstance(known, BundleEngine) or known.bundle.directory != bundle.directory:
            LOADED[name] = BundleEngine(bundle, spec.ir, layout, driver)
            if known is not None:
                engine.cache_clear()

    def in_layout(self, layout: Layout) -> BundledKernel:
        """The same kernel for tensors in another layout."""
        return BundledKernel(self.bundle, self.spec, layout, self._driver)

    def __repr__(self) -> str:
        manifest = self.bundle.manifest
        built = ", ".join(each.title for each in manifest.problems)
        return f"<attngen.BundledKernel {self.spec.ir.name}: {built}; {', '.join(manifest.archs)}>"


def load_bundle(
    directory: str | Path,
    inputs: Mapping[str, Any] | None = None,
    *,
    layout: Layout | None = None,
    device: str | torch.device | None = None,
    driver: Driver | None = None,
) -> BundledKernel:
    """A kernel from a bundle that `attngen aot` wrote. It needs an NVIDIA GPU with its driver, and neither Triton nor a
    compiler.

    inputs: tensors and numbers that the spec reads beside q, k and v, by name. What is not given here is given with
    each call; numbers that were captured when the bundle was built are in it, until others are given. layout: "bhnd" or
    "bnhd", if not that of the bundle. device: refuse at once if the bundle was not built for it; otherwise the first
    call does. Every file is checked against its hash, when the bundle is loaded and when its code goes to the device.
    Raises `BundleError` for a directory that is no bundle, is damaged, or was written in another format or by another
    version of attngen, and `InputError` for an unknown input.
    """
    bundle = open_bundle(Path(directory).absolute())
    manifest = bundle.manifest
    if manifest.attngen != __version__:
        raise BundleError(
            f"{directory}: was built by attngen {manifest.attngen}, and this is {__version__}; kernels and what "
            f"launches them belong together: {AGAIN}"
        )
    spec = Spec.parse(manifest.spec)
    given = {**manifest.numbers, **(inputs or {})}
    known = {item.name: item for item in spec.ir.inputs}
    for name in given:
        if name not in known:
            told = ", ".join(known) or "this spec has none"
            raise InputError(f"inputs: got {name!r}{nearest(name, known)}; inputs of the bundle: {told}")
    bindings = {name: _binding(name, value, known[name].type) for name, value in given.items()}
    if device is not None:
        import torch

        arch_for(bundle, driver or MACHINE, torch.device(device))
    chosen = layout or cast("Layout", manifest.layout)
    return BundledKernel(bundle, Spec.from_ir(spec.ir, bindings), chosen, driver or MACHINE)


def _binding(name: str, value: Any, type: Any) -> Binding:
    rank = value.dim() if hasattr(value, "dim") else None
    return Binding(f"inputs[{name!r}]", ("bundle", name, id(value)), lambda: value, type, rank)


class _Late:
    """The driver of the machine, looked for when it is first needed: bundles can be looked at where there is none."""

    device_type = "cuda"

    def __getattr__(self, name: str) -> Any:
        return getattr(cuda(), name)


MACHINE: Driver = _Late()
