"""Autograd inside of an operator."""

from __future__ import annotations

from contextlib import contextmanager
from functools import reduce
from operator import or_
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator


@contextmanager
def recorded() -> Iterator[None]:
    """Autograd records, also where the call comes from below it, as it does under a dispatch mode."""
    import torch
    from torch._C import DispatchKey, DispatchKeySet, _dispatch_tls_local_include_set, _ForceDispatchKeyGuard

    autocast = [getattr(DispatchKey, name) for name in dir(DispatchKey) if name.startswith("Autocast")]
    excluded = reduce(or_, map(DispatchKeySet, autocast))
    with _ForceDispatchKeyGuard(_dispatch_tls_local_include_set(), excluded), torch.enable_grad():
        yield
