"""What `attngen.compile` gives for a plain PyTorch function: the same function, with its attention in kernels."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from attngen import settings
from attngen.errors import SpecError
from attngen.lift.backend import Backend
from attngen.lift.explanation import Recovered, explained
from attngen.lift.unsupported import in_users_words
from attngen.settings import AutotuneMode

MODES = ("default", "max-autotune")


class Lifted:
    """A function with its attention in kernels. Signature, results and gradients are those of the function.

    A row that sees no key gives 0, where eager softmax gives NaN. What does not lift is left to PyTorch, and a warning
    says once what stood in the way; with `fullgraph=True` it is an error.
    """

    def __init__(self, function: Callable[..., Any], **options: Any) -> None:
        functools.update_wrapper(self, function)
        self.backend = made(function, **options)
        self.dynamic = options.get("dynamic")
        self.compiled = compiled(function, self.backend, self.dynamic)

    def __call__(self, *args: Any, **options: Any) -> Any:
        try:
            return self.compiled(*args, **options)
        except (torch._dynamo.exc.BackendCompilerFailed, torch._dynamo.exc.Unsupported) as error:
            failed = in_users_words(error)
            if failed is None:
                raise
        raise failed

    def explain(self, *args: Any, **options: Any) -> Recovered:
        """The specs recovered from a call with these arguments, printed as attngen code that can be pasted."""
        return explained(self.__wrapped__, self.dynamic, args, options)  # type: ignore[attr-defined]

    def __get__(self, instance: Any, owner: type | None = None) -> Any:
        return self if instance is None else BoundLifted(self, instance)

    def __repr__(self) -> str:
        return f"<attngen.Lifted {self.backend.name}>"


class BoundLifted:
    """A lifted method of one object."""

    def __init__(self, lifted: Lifted, instance: Any) -> None:
        self.__func__ = lifted
        self.__self__ = instance
        self.explain = functools.partial(lifted.explain, instance)

    def __call__(self, *args: Any, **options: Any) -> Any:
        return self.__func__(self.__self__, *args, **options)


def lift(function: Any, **options: Any) -> Any:
    """The function with its attention in kernels; for a module, a module with the same parameters."""
    if not isinstance(function, nn.Module):
        return Lifted(function, **options)
    module: Any = compiled(function, made(function, **options), options.get("dynamic"))
    module.__dict__["explain"] = lambda *args, **named: explained(function, options.get("dynamic"), args, named)
    return module


def compiled(function: Any, backend: Backend, dynamic: bool | None) -> Any:
    """torch.compile with our backend."""
    return torch.compile(function, backend=backend, dynamic=dynamic, fullgraph=backend.fullgraph)


def made(
    function: Any,
    fullgraph: bool = False,
    dynamic: bool | None = None,
    mode: str | None = None,
    backend: Any = None,
    autotune: AutotuneMode | None = None,
) -> Backend:
    """The backend for the options of `attngen.compile`."""
    if mode not in (None, *MODES):
        raise SpecError(f"mode: got {mode!r}; allowed: {', '.join(MODES)}")
    name = str(getattr(function, "__name__", type(function).__name__))
    chosen = autotune or ("full" if mode == "max-autotune" else None)
    if backend is None or backend in settings.CHOICES["backend"]:
        return Backend(name, fullgraph, None, backend, chosen)
    inner: Any = torch._dynamo.lookup_backend(backend)
    return Backend(name, fullgraph, inner, None, chosen)
