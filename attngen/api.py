"""`attngen.compile` and `attngen.attention`: from a spec, or a plain function, to a kernel."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from types import FunctionType
from typing import TYPE_CHECKING, Any

from attngen.errors import InputError, SpecError
from attngen.ir.nodes import Layout
from attngen.program import Program
from attngen.spec import Spec

if TYPE_CHECKING:
    from torch import Tensor

    from attngen.kernel import Kernel
    from attngen.settings import AutotuneMode


def compile(
    spec: Spec | Callable[..., Any] | None = None,
    /,
    *,
    mask: Any = None,
    score: Any = None,
    normalizer: Any = "softmax",
    space: Any = None,
    scale: Any = None,
    weight: Any = None,
    name: str | None = None,
    layout: Layout = "bhnd",
    backend: Any = None,
    autotune: AutotuneMode | None = None,
    lift: bool | None = None,
    fullgraph: bool = False,
    dynamic: bool | None = None,
    mode: str | None = None,
) -> Any:
    """Compiles a spec into a kernel, or puts kernels into a plain PyTorch function.

    `attngen.compile(spec)`; `attngen.compile(mask=..., score=...)`; or as a decorator, with or without arguments, on a
    mask or score function, whose name the kernel takes; what the arguments define and the function does not is added.
    `layout` is "bhnd" or "bnhd"; `backend` forces one of cpu, triton, cuda, reference. `autotune`, in place of
    ATTNGEN_AUTOTUNE: "off" takes the built-in configs, "cached" those that were measured for such calls, where there
    are some, "quick" and "full" measure at the first call where nothing was. Nothing is built before the first call.

    On a function of tensors, or a module, it is what `torch.compile` is: the same function, with every attention in it
    that lifts as a kernel (`attngen.lift`). `fullgraph=True` makes what does not lift an error at its line, `dynamic`
    is torch.compile's, `backend` may also name what compiles the rest ("inductor"), and `mode` is "default" or
    "max-autotune". Parameters tell functions of tensors from masks and scores (attngen/lift/told_apart.py); `lift=True`
    and `lift=False` settle it.
    """
    from attngen.decorator import KernelOrDecorator
    from attngen.kernel import Kernel

    traced = {"fullgraph": fullgraph, "dynamic": dynamic, "mode": mode}
    asked = [key for key, value in {**traced, "lift": lift}.items() if value not in (None, False)]
    definition = {"mask": mask, "score": score, "space": space, "scale": scale, "weight": weight}
    given = {key: value for key, value in definition.items() if value is not None}
    if normalizer != "softmax":
        given["normalizer"] = normalizer
    if asked and (given or isinstance(spec, Spec)):
        beside = "a finished Spec" if isinstance(spec, Spec) else ", ".join(given)
        raise SpecError(f"{', '.join(asked)}: for functions of tensors, which have no place beside {beside}")
    if isinstance(spec, Spec):
        if given:
            raise SpecError(f"{', '.join(given)}: not beside a finished Spec; put them into the Spec")
        return Kernel(spec, layout=layout, backend=backend, autotune=autotune)

    def decorate(function: Callable[..., Any]) -> Any:
        if not given and (lift or (lift is None and (asked or _is_attention(function)))):
            from attngen.lift import lift as lifted

            if layout != "bhnd":
                raise SpecError(
                    f"layout: got {layout!r}, but a function of tensors has a layout of its own; leave it out"
                )
            return lifted(function, backend=backend, autotune=autotune, **traced)
        if asked:
            raise SpecError(f"{', '.join(asked)}: only for functions of tensors, and lift=False says that this is none")
        built = Spec.from_function(function, name=name, **given)
        return Kernel(built, layout=layout, backend=backend, autotune=autotune)

    if spec is not None:
        return decorate(spec)
    if not given:
        return decorate
    whole = Spec(name=name, **given)
    return KernelOrDecorator(whole, decorate, layout=layout, backend=backend, autotune=autotune)


def attention(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    *,
    mask: Any = None,
    score: Any = None,
    normalizer: Any = "softmax",
    space: Any = None,
    scale: Any = None,
    weight: Any = None,
    layout: Layout = "bhnd",
    backend: str | None = None,
    return_lse: bool = False,
    **inputs: Any,
) -> Any:
    """Attention in one call: `compile` and call, with the kernel kept for the next call.

    Shapes as in `Kernel.__call__`. A mask or score given as a function is kept by its code and what it captures, so a
    lambda written in the call is traced once, and its captured tensors and numbers are read anew.
    """
    import torch

    if torch.compiler.is_compiling():
        raise InputError(
            "attention: reads its functions anew, which torch.compile cannot trace; "
            "make the kernel outside, kernel = attngen.compile(attngen.Spec(...)), and call that"
        )
    kernel = _kept(mask, score, normalizer, space, scale, weight, layout, backend)
    return kernel(q, k, v, return_lse=return_lse, **inputs)


def _is_attention(function: Any) -> bool:
    from attngen.lift.told_apart import is_attention

    return callable(function) and is_attention(function)


KEPT: OrderedDict[tuple[Any, ...], Kernel] = OrderedDict()
MOST_KEPT = 256


def _kept(*definition: Any) -> Kernel:
    """The kernel of an earlier call with the same definition, or a new one."""
    key = tuple(_identity(part) for part in definition)
    kernel = KEPT.get(key)
    if kernel is None or kernel.spec.bindings.stale() is not None:
        mask, score, normalizer, space, scale, weight, layout, backend = definition
        spec = Spec(mask=mask, score=score, normalizer=normalizer, space=space, scale=scale, weight=weight)
        kernel = KEPT[key] = compile(spec, layout=layout, backend=backend)
        kernel.kept_for = definition
        if len(KEPT) > MOST_KEPT:
            KEPT.popitem(last=False)
    return kernel


def _identity(part: Any) -> Any:
    """A key that is equal only where tracing gives the same spec and bindings.

    Two lambdas of one code object are the same if they share cells, globals and defaults. Identities stay valid because
    the kept kernel holds its definition.
    """
    if isinstance(part, FunctionType):
        cells = tuple(id(cell) for cell in part.__closure__ or ())
        return (part.__code__, id(part.__globals__), cells, tuple(id(d) for d in part.__defaults__ or ()),
                tuple((n, id(d)) for n, d in (part.__kwdefaults__ or {}).items()))  # fmt: skip
    if part is None or isinstance(part, str | bool | int | float):
        return (type(part), repr(part))
    if isinstance(part, Program):
        traced = part.traced
        return (type(part), part.name, part.grid, traced.expr, traced.inputs,
                tuple((name, binding.key) for name, binding in traced.bindings.items()))  # fmt: skip
    return id(part)
