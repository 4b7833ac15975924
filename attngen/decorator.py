"""What `attngen.compile(mask=...)` gives: a kernel that can still take a function, because it may be a decorator."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import torch

from attngen.kernel import Kernel

if TYPE_CHECKING:
    from attngen.spec import Spec


class KernelOrDecorator(Kernel):
    """A kernel; called with one function instead of tensors, it is the decorator that adds the function to its spec."""

    def __init__(self, spec: Spec, decorate: Callable[[Callable[..., Any]], Kernel], **options: Any) -> None:
        super().__init__(spec, **options)
        self._decorate = decorate

    def __call__(self, *args: Any, **options: Any) -> Any:
        if len(args) == 1 and not options and callable(args[0]) and not isinstance(args[0], torch.Tensor):
            return self._decorate(args[0])
        return super().__call__(*args, **options)
