"""How normalizers are declared: ten lines from functions of named arguments; the rest of a kernel is derived."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, Literal

from attngen.arguments import number, one_of, refuse, shown
from attngen.codegen.derive.differentiable import check_differentiable
from attngen.codegen.derive.laws import check_chain, check_keep, shift_rate
from attngen.errors import SpecError
from attngen.frontend import FINALIZE, LSE, PHI, PSI, Binding, Bindings, Role, combine, role, trace
from attngen.ir.expr import op, sym
from attngen.ir.nodes import Input
from attngen.ir.normalizer import Chained, Ordered, Streaming
from attngen.normalizers.normalizer import Normalizer

Function = Callable[..., Any]
ROW = ("b", "h", "q", "n_q", "n_k", "n_h", "n_b", "n_visible")
ANCHOR = role("normalizer anchor", "s", *ROW, positional=(("s",),))
SINK = role("normalizer sink", *ROW)
OFFSETS = "a number in 0 .. 1/2"


def streaming(
    name: str,
    phi: Function,
    psi: Function | None = None,
    anchor: Function | None = None,
    finalize: Function | None = None,
    sink: Function | None = None,
    lse: Function | None = None,
    offset: float = 0.0,
    scores: Literal["real", "nonnegative"] = "real",
    jumps_ignored: Sequence[float] = (),
) -> Normalizer:
    """Declares a normalizer of one pass over the keys, from functions of named arguments.

    phi(s, m): the unnormalised weight of a key with score s; m is the anchor.
    psi(s, m): the key's share of the row mass; None: there is no mass.
    anchor(s): its running maximum over the row is m; None: no m.
    finalize(acc, mass, m, count, vsum): the result from acc = sum phi V, mass = sum psi, the number of visible keys and
        the sum of their V. By default acc / mass, or acc where there is no mass; 0 for a row without mass.
    sink(h): the score of a virtual key of value 0.
    lse(m, mass): the log-sum-exp, for `return_lse=True`.
    offset: added to the maximum.
    scores: "nonnegative" if the declaration is for scores that are never below zero, such as dots of feature maps; a
        spec whose scores can be is then refused.
    jumps_ignored: scores at which phi or psi jumps, and where the derivative is meant to be that of the pieces.

    phi, psi, finalize and lse may also take b, h, q, n_q, n_k, n_visible; all may capture tensors and numbers.

    The laws on which kernels and gradients rest are proven here, or the declaration is refused with a `SpecError` that
    names the law and, where there is one, a counterexample:
        shift: phi(s, m + t) = exp(-k t) phi(s, m) for one number k, and psi with the same k, where there is an anchor;
        mass: psi is never negative, where the result divides by the mass;
        invariance: finalize(exp(-k t) acc, exp(-k t) mass, m + t) = finalize(acc, mass, m), and lse likewise;
        no jumps and no infinite slopes in s, or in acc, mass and vsum; kinks are fine.
    """
    if not 0 <= number("offset", offset, low=0, allowed=OFFSETS) <= 0.5:
        raise refuse("offset", offset, OFFSETS)
    if anchor is None and offset:
        raise SpecError(f"offset: got {offset!r} without an anchor; give an anchor, or leave the offset away")
    roles = {"phi": PHI, "psi": PSI, "anchor": ANCHOR, "finalize": FINALIZE, "sink": SINK, "lse": LSE}
    given = {"phi": phi, "psi": psi, "anchor": anchor, "finalize": finalize, "sink": sink, "lse": lse}
    exprs, inputs, bindings = _traced(name, given, roles)
    quotient = sym("acc") if psi is None else op("safe_div", sym("acc"), sym("mass"))
    one_of("scores", scores, ("real", "nonnegative"))
    bare = Streaming(name, phi=sym("s"), finalize=quotient, offset=float(offset), scores=scores)
    declared = replace(bare, **exprs)
    shift_rate(declared)
    check_differentiable(declared, _points(jumps_ignored), _numbers(bindings))
    return Normalizer(declared, inputs, bindings)


def chained(name: str, *passes: Normalizer) -> Normalizer:
    """Declares several passes over the keys: `s` in a later pass is the weight phi / mass that the pass before gave.

    Every pass is a `streaming` normalizer; those before the last need a mass.
    """
    exprs, inputs, bindings = combine(*(part for one in passes for part in one.parts()))
    rest = iter(exprs)
    declared: list[Streaming] = []
    for i, one in enumerate(passes):
        if not isinstance(one.ir, Streaming) or (one.ir.psi is None and i < len(passes) - 1):
            raise refuse(f"passes[{i}]", one, "a streaming normalizer, with a psi if it is not the last")
        declared.append(one.declared_with(rest))  # type: ignore[arg-type]
    chain = Chained(name, tuple(declared))
    check_chain(chain)
    return Normalizer(chain, inputs, bindings)


def ordered(
    name: str,
    direction: Literal["backward", "forward"],
    weight: Function,
    log_keep: Function,
    jumps_ignored: Sequence[float] = (),
) -> Normalizer:
    """Declares a normalizer that visits the visible keys in order.

    A key's weight is weight(s) * exp(sum of log_keep(s) over the keys visited before it). "backward" visits from the
    last visible key to the first. log_keep is never positive, and neither jumps: that is proven, or the declaration is
    refused with a `SpecError`. `jumps_ignored`: scores at which one does, and the derivative is that of the pieces.
    """
    one_of("direction", direction, ("backward", "forward"))
    given = {"weight": weight, "log_keep": log_keep}
    exprs, inputs, bindings = _traced(name, given, {"weight": PHI, "log_keep": PHI})
    declared = replace(Ordered(name, direction, sym("s"), sym("s")), **exprs)
    check_keep(declared)
    check_differentiable(declared, _points(jumps_ignored), _numbers(bindings))
    return Normalizer(declared, inputs, bindings)


def _points(values: Sequence[float]) -> tuple[float, ...]:
    if not isinstance(values, tuple | list):
        raise refuse("jumps_ignored", values, "the scores at which there is a jump, such as (0.0,)")
    return tuple(float(number("jumps_ignored", value)) for value in values)


def _numbers(bindings: Bindings[Binding]) -> dict[str, float]:
    """Captured numbers as they are now."""
    found = {name: binding.fetch() for name, binding in bindings.items() if binding.rank is None}
    return {name: value for name, value in found.items() if isinstance(value, int | float)}


def _traced(
    name: str, functions: Mapping[str, Function | None], roles: Mapping[str, Role]
) -> tuple[dict[str, Any], tuple[Input, ...], Bindings[Binding]]:
    """The expressions of those functions that are given, by field, over one set of inputs."""
    given = {key: function for key, function in functions.items() if function is not None}
    for key, function in given.items():
        if not callable(function):
            raise SpecError(f"{name}, {key}: got {shown(function)}; allowed: a function")
    exprs, inputs, bindings = combine(*(trace(function, roles[key]) for key, function in given.items()))
    return dict(zip(given, exprs, strict=True)), inputs, bindings
