"""The compiled kernel that a user holds: callable, a torch operator underneath, able to explain itself."""

from __future__ import annotations

from operator import index
from typing import TYPE_CHECKING, Any, cast

import torch

from attngen import settings
from attngen.errors import InputError
from attngen.ir.nodes import Grid, Layout
from attngen.ir.walk import views
from attngen.runtime.autograd import attention
from attngen.runtime.call import AXES
from attngen.runtime.dispatch import autocast, check_dispatch
from attngen.runtime.engine import Engine, engine, remember
from attngen.runtime.grids import flattened, on_grid, restored
from attngen.runtime.traced_op import ATTENTION, ATTENTION_LSE
from attngen.runtime.transforms import in_transform
from attngen.suggest import nearest

if TYPE_CHECKING:
    from torch import Tensor

    from attngen.settings import AutotuneMode
    from attngen.spec import Spec

FORWARD = torch.ops.attngen.forward.default
FORWARD_LSE = torch.ops.attngen.forward_lse.default


class Kernel:
    """An attention kernel. Call it with q (B, Hq, Nq, D), k (B, Hk, Nk, D), v (B, Hv, Nk, Dv).

    Made by `attngen.compile`. It is built on the first call for each combination of dtype and head dimension; a new
    length, window or captured value never rebuilds it. (Where `attngen tune` found that long calls want other tiles
    than short ones, there is a kernel for each, built once.)

    What a kernel makes of tensors before it starts (the keys that a tile sees; checks of indices) it makes again when
    their values have changed. On a GPU, where comparing values would wait, it goes by the writes that PyTorch counts;
    after one that PyTorch does not see (a replayed CUDA graph, a kernel of your own, `.data`), call
    `torch.autograd.graph.increment_version(tensor)`. Inside a CUDA graph all of it is made anew at every replay.
    """

    def __init__(
        self,
        spec: Spec,
        *,
        layout: Layout = "bhnd",
        backend: str | None = None,
        autotune: AutotuneMode | None = None,
    ) -> None:
        if layout not in AXES:
            raise InputError(f"layout: got {layout!r}; allowed: 'bhnd', 'bnhd'")
        if backend is not None and backend not in settings.CHOICES["backend"]:
            known = settings.CHOICES["backend"]
            raise InputError(f"backend: got {backend!r}{nearest(backend, known)}; allowed: {', '.join(known)}")
        if autotune is not None and autotune not in settings.CHOICES["autotune"]:
            modes = settings.CHOICES["autotune"]
            raise InputError(f"autotune: got {autotune!r}{nearest(str(autotune), modes)}; allowed: {', '.join(modes)}")
        self.spec = spec
        self.layout = layout
        self.backend = backend
        self.autotune = autotune
        dims = spec.ir.space.dims if isinstance(spec.ir.space, Grid) else ()
        self._dims = dims if len(dims) > 1 else ()  # operands may have these in place of one axis of tokens
        self.__name__ = spec.ir.name
        self.__doc__ = f"attngen kernel {spec.ir.name}"
        self.kept_for: Any = None
        self._text = str(spec)
        # Forced settings are part of it: a kernel made after they changed obeys them.
        forced = settings.current()
        wanted = backend or forced.backend or ""
        self._options = f"{layout}:{wanted}:{remember(spec.ir, self._text)}:{forced.isa or ''}:{autotune or ''}"
        inputs = spec.ir.inputs
        self._guarded = bool(getattr(spec.bindings, "guards", ()))
        self._tensors = tuple((i.name, spec.bindings.get(i.name)) for i in inputs if i.axes)
        self._names = tuple(name for name, _ in self._tensors)
        viewed = {"q", "k", "v", *(view.tensor for view in views(spec.ir))}
        self._cast = tuple(name in viewed for name in ("q", "k", "v", *self._names))
        self._ints = tuple((i.name, spec.bindings.get(i.name)) for i in inputs if not i.axes and i.type != "float")
        self._floats = tuple((i.name, spec.bindings.get(i.name)) for i in inputs if not i.axes and i.type == "float")

    def __call__(
        self, q: Tensor, k: Tensor, v: Tensor, *, return_lse: bool = False, layout: Layout | None = None, **inputs: Any
    ) -> Any:
        """The result (B, Hq, Nq, Dv) in q's dtype and memory order; with `return_lse` also (B, Hq, Nq), natural log.

        For a spec on a grid, q, k and v may have the dimensions of the grid in place of N, (B, H, X, Y, D) or in the
        layout "bnhd" (B, X, Y, H, D); then so have the results. Nothing is copied.

        Keyword arguments are the inputs that the spec declares without capturing them. Differentiable, once, by q, k, v
        and every tensor input of floating point. Raises `InputError` for a wrong rank, dtype, device, head count or
        name.
        """
        if layout is not None and layout != self.layout:
            return self.in_layout(layout)(q, k, v, return_lse=return_lse, **inputs)
        if self._dims and on_grid(self._dims, q, k, v):
            q, k, v = flattened(self._dims, self.layout, q, k, v)
            results = self(q, k, v, return_lse=return_lse, **inputs)
            return restored(self._dims, self.layout, results)
        if self._guarded:
            self.spec.bindings.check()
        tensors, ints, floats = self._values(inputs)
        differentiable = check_dispatch(q, (("k", k), ("v", v), *zip(self._names, tensors, strict=True)))
        transform = in_transform((q, k, v, *tensors))
        if differentiable and torch.compiler.is_compiling():
            operator = ATTENTION_LSE if return_lse else ATTENTION
            return operator(q, k, v, tensors, ints, floats, self._text, self._options)
        if differentiable or transform:
            numbers = (ints, floats, self._text, self._options)
            given = autocast((q, k, v, *tensors), self._cast)
            return attention(given, numbers, return_lse, transform is not None)
        operator = FORWARD_LSE if return_lse else FORWARD
        return operator(q, k, v, tensors, ints, floats, self._text, self._options)

    def in_layout(self, layout: Layout) -> Kernel:
        """The same kernel for tensors in another layout."""
        return Kernel(self.spec, layout=layout, backend=self.backend, autotune=self.autotune)

    def _values(self, given: dict[str, Any]) -> tuple[list[Tensor], list[int], list[float]]:
        """The inputs of this call: captured ones read anew, the others from the keyword arguments."""
        if given:
            self._refuse_unknown(given)
        tensors = [_take(name, binding, given) for name, binding in self._tensors]
        ints = [_int(name, _take(name, binding, given)) for name, binding in self._ints]
        floats = [_float(name, _take(name, binding, given)) for name, binding in self._floats]
        return tensors, ints, floats

    def _flattened(self, q: Tensor, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """q, k and v with one axis of tokens, if they lie on the grid of the spec."""
        return flattened(self._dims, self.layout, q, k, v) if self._dims and on_grid(self._dims, q, k, v) else (q, k, v)

    def _refuse_unknown(self, given: dict[str, Any]) -> None:
        known = [i.name for i in self.spec.ir.inputs]
        name = next((name for name in given if name not in known), None)
        if name is None:
            return
        allowed = ", ".join(known) if known else "this spec has no inputs besides q, k and v"
        raise InputError(f"{name}: not an input of this kernel{nearest(name, known)}; inputs: {allowed}")

    def engine(self) -> Engine:
        """The engine behind this kernel."""
        return engine(self._text, self._options)

    def reference(self, q: Tensor, k: Tensor, v: Tensor, *, return_lse: bool = False, **inputs: Any) -> Any:
        """The same attention in dense float64 torch, straight from the spec: the oracle. Needs O(Nq Nk) memory."""
        from attngen.codegen.backends.reference import evaluate

        tensors, ints, floats = self._values(inputs)
        flat = self._flattened(q, k, v)
        results = evaluate(self.engine(), flat, tensors, (*ints, *floats), return_lse)
        return results if flat[0] is q else restored(self._dims, self.layout, results)

    def source(self, q: Tensor, k: Tensor, v: Tensor, **inputs: Any) -> str:
        """The generated source of the kernel that this call would run."""
        tensors, ints, floats = self._values(inputs)
        flat, engine = self._flattened(q, k, v), self.engine()
        situation = engine.situation(*flat, tensors, (*ints, *floats))
        compiled = engine.compiled(*flat, tensors, False, situation=situation)
        return compiled.backend.emit(compiled.plan, compiled.config).text

    def explain(self, q: Tensor, k: Tensor, v: Tensor, **inputs: Any) -> Any:
        """What the compiler proved and chose for this call: an `Explanation`, printable."""
        from attngen.explain import explain

        tensors, ints, floats = self._values(inputs)
        flat = self._flattened(q, k, v)
        return explain(self.engine(), *flat, tensors, (*ints, *floats)).with_paths(self.spec.bindings)

    def __deepcopy__(self, memo: dict[int, Any]) -> Kernel:
        """Itself, as for functions: a kernel does not change, and what it captured stays where it is."""
        return self

    def __repr__(self) -> str:
        return f"<attngen.Kernel {self.spec.ir.name}>"


def _take(name: str, binding: Any, given: dict[str, Any]) -> Any:
    if name in given:
        return given[name]
    if binding is None:
        raise InputError(f"{name}: this spec needs it as a keyword argument: kernel(q, k, v, {name}=...)")
    return binding.fetch()


def _int(name: str, value: Any) -> Any:
    if type(value) is not int and not isinstance(value, torch.SymInt):
        try:
            value = index(value)  # bools, NumPy integers, integer tensors of one element
        except TypeError:
            raise InputError(f"{name}: got {value!r}; an integer is needed") from None
    if not -(2**63) <= value < 2**63:
        raise InputError(f"{name}: got {value}; run-time integers have 64 bits")
    return value


def _float(name: str, value: Any) -> float:
    if type(value) is not float:
        if isinstance(value, torch.Tensor) and value.requires_grad and torch.is_grad_enabled():
            raise InputError(
                f"{name}: requires grad, but the spec reads it as a number; "
                f"read it as a tensor of one entry, {name}[0], or detach it"
            )
        try:
            value = float(value)
        except (TypeError, ValueError, RuntimeError):
            raise InputError(f"{name}: got {value!r}; a number is needed") from None
    if value != value:
        raise InputError(f"{name}: got nan; a number is needed")
    return cast(float, value)
