"""The compiled kernel that a user holds: callable, a torch operator underneath, able to explain itself."""

from __future__ import annotations

from operator import index
from typing import TYPE_CHECKING, Any, cast

import torch
from torch._C._functorch import is_functorch_wrapped_tensor
from torch.autograd import forward_ad

from attngen import settings
from attngen.errors import InputError
from attngen.ir.nodes import Layout
from attngen.runtime import op as _op  # noqa: F401  (defines the operator)
from attngen.runtime.call import AXES
from attngen.runtime.engine import Engine, engine, remember
from attngen.suggest import nearest

if TYPE_CHECKING:
    from torch import Tensor

    from attngen.spec import Spec

FORWARD = torch.ops.attngen.forward.default
FORWARD_LSE = torch.ops.attngen.forward_lse.default


class Kernel:
    """An attention kernel. Call it with q (B, Hq, Nq, D), k (B, Hk, Nk, D), v (B, Hv, Nk, Dv).

    Made by `attngen.compile`. It is built on the first call for each combination of dtype and head dimension; a new
    length, window or captured value never rebuilds it.
    """

    def __init__(self, spec: Spec, *, layout: Layout = "bhnd", backend: str | None = None) -> None:
        if layout not in AXES:
            raise InputError(f"layout: got {layout!r}; allowed: 'bhnd', 'bnhd'")
        if backend is not None and backend not in settings.CHOICES["backend"]:
            known = settings.CHOICES["backend"]
            raise InputError(f"backend: got {backend!r}{nearest(backend, known)}; allowed: {', '.join(known)}")
        self.spec = spec
        self.layout = layout
        self.backend = backend
        self.__name__ = spec.ir.name
        self.__doc__ = f"attngen kernel {spec.ir.name}"
        self.kept_for: Any = None
        self._text = str(spec)
        # Forced settings are part of it: a kernel made after they changed obeys them.
        forced = settings.current()
        wanted = backend or forced.backend or ""
        self._options = f"{layout}:{wanted}:{remember(spec.ir, self._text)}:{forced.isa or ''}"
        inputs = spec.ir.inputs
        self._guarded = bool(getattr(spec.bindings, "guards", ()))
        self._tensors = tuple((i.name, spec.bindings.get(i.name)) for i in inputs if i.axes)
        self._names = tuple(name for name, _ in self._tensors)
        self._ints = tuple((i.name, spec.bindings.get(i.name)) for i in inputs if not i.axes and i.type != "float")
        self._floats = tuple((i.name, spec.bindings.get(i.name)) for i in inputs if not i.axes and i.type == "float")

    def __call__(
        self, q: Tensor, k: Tensor, v: Tensor, *, return_lse: bool = False, layout: Layout | None = None, **inputs: Any
    ) -> Any:
        """The result (B, Hq, Nq, Dv) in q's dtype and memory order; with `return_lse` also (B, Hq, Nq), natural log.

        Keyword arguments are the inputs that the spec declares without capturing them. Raises `InputError` for a wrong
        rank, dtype, device, head count or name.
        """
        if layout is not None and layout != self.layout:
            return Kernel(self.spec, layout=layout, backend=self.backend)(q, k, v, return_lse=return_lse, **inputs)
        if self._guarded:
            self.spec.bindings.check()
        tensors, ints, floats = self._values(inputs)
        check_dispatch(q, (("k", k), ("v", v), *zip(self._names, tensors, strict=True)))
        operator = FORWARD_LSE if return_lse else FORWARD
        return operator(q, k, v, tensors, ints, floats, self._text, self._options)

    def _values(self, given: dict[str, Any]) -> tuple[list[Tensor], list[int], list[float]]:
        """The inputs of this call: captured ones read anew, the others from the keyword arguments."""
        if given:
            self._refuse_unknown(given)
        tensors = [_take(name, binding, given) for name, binding in self._tensors]
        ints = [_int(name, _take(name, binding, given)) for name, binding in self._ints]
        floats = [_float(name, _take(name, binding, given)) for name, binding in self._floats]
        return tensors, ints, floats

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
        return evaluate(self.engine(), (q, k, v), tensors, (*ints, *floats), return_lse)

    def source(self, q: Tensor, k: Tensor, v: Tensor, **inputs: Any) -> str:
        """The generated source of the kernel that this call would run."""
        tensors, _, _ = self._values(inputs)
        compiled = self.engine().compiled(q, k, v, tensors, False)
        return compiled.backend.emit(compiled.plan, compiled.config).text

    def explain(self, q: Tensor, k: Tensor, v: Tensor, **inputs: Any) -> Any:
        """What the compiler proved and chose for this call: an `Explanation`, printable."""
        from attngen.explain import explain

        tensors, ints, floats = self._values(inputs)
        return explain(self.engine(), q, k, v, tensors, (*ints, *floats)).with_paths(self.spec.bindings)

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
        if isinstance(value, torch.Tensor):
            refuse_gradient(name, value)
        try:
            value = float(value)
        except (TypeError, ValueError, RuntimeError):
            raise InputError(f"{name}: got {value!r}; a number is needed") from None
    if value != value:
        raise InputError(f"{name}: got nan; a number is needed")
    return cast(float, value)


def check_dispatch(q: Tensor, others: tuple[tuple[str, Tensor], ...]) -> None:
    """What torch's dispatcher would decide by itself, wrongly or unreadably: devices, layouts, derivatives."""
    if not torch.compiler.is_compiling():
        refuse_transforms((q, *(tensor for _, tensor in others)))
    for name, tensor in (("q", q), *others):
        if not isinstance(tensor, torch.Tensor):
            raise InputError(f"{name}: got {type(tensor).__name__}; a torch.Tensor is needed")
        if tensor.layout is not torch.strided or tensor.is_nested:
            kind = "nested" if tensor.is_nested else str(tensor.layout).removeprefix("torch.")
            raise InputError(f"{name}: got a {kind} tensor; a dense (strided) one is needed")
        if tensor.device != q.device:
            raise InputError(f"{name}: is on {tensor.device}, but q is on {q.device}; move it there")
        refuse_gradient(name, tensor)


def refuse_transforms(tensors: tuple[Any, ...]) -> None:
    """vmap and forward mode would cut tangents or fail without a word of what to do."""
    if torch._C._functorch.peek_interpreter_stack() is not None:
        if any(isinstance(t, torch.Tensor) and is_functorch_wrapped_tensor(t) for t in tensors):
            raise InputError(
                "q, k, v: are inside a torch.func transform (vmap, jvp, grad), which kernels do not take; "
                "call the kernel outside of it, with the mapped dimension as the batch"
            )
    elif forward_ad._current_level >= 0:
        for tensor in tensors:
            unpacked: Any = forward_ad.unpack_dual(tensor)  # type: ignore[no-untyped-call]
            if unpacked.tangent is not None:
                raise InputError(
                    "q, k, v: carry forward-mode tangents, which kernels do not compute; use kernel.reference"
                )


def refuse_gradient(name: str, tensor: Tensor) -> None:
    """There is a forward only, so far: say so instead of cutting the graph."""
    if tensor.requires_grad and torch.is_grad_enabled():
        raise InputError(
            f"{name}: requires grad, and this version computes forward only; "
            "call the kernel under torch.no_grad(), or detach the input"
        )
