"""Kernels built ahead of time: `build_bundle` writes them for GPUs that need not be at hand, `load_bundle` runs them.

limits.py      which architectures, dtypes and head dimensions there can be, and the nearest to one that cannot
problems.py    what the kernels of a spec are built for, without tensors
build.py       the bundle of a spec
load.py        a kernel from a bundle
engine.py      what runs its calls; it compiles nothing
refusals.py    what a bundle says to a call that it was not built for
"""

from attngen.aot.build import build_bundle
from attngen.aot.load import BundledKernel, load_bundle

__all__ = ["BundledKernel", "build_bundle", "load_bundle"]
