"""`trace`: a Python function becomes an expression over symbols and live inputs."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any

from attngen.errors import AttngenError, LocatedError, Source, SpecError, TraceError
from attngen.frontend import positions
from attngen.frontend.bindings import Binding, Bindings, kind
from attngen.frontend.clones import Followed, clone, follow
from attngen.frontend.forks import Path, merge
from attngen.frontend.outcome import outcome
from attngen.frontend.paths import Direct
from attngen.frontend.roles import Role
from attngen.frontend.scalar import Proxy
from attngen.frontend.signature import Arguments, bind
from attngen.frontend.tracer import Tracer
from attngen.ir.expr import Expr, loads, sym
from attngen.ir.nodes import Input
from attngen.ir.ops import Type


@dataclass(frozen=True)
class Traced:
    """A function as an expression. `inputs` are what it captured, `bindings` how they are read at every call.

    `bindings` is a `Bindings`: `bindings.check()` raises if a Python value that steered the tracing has changed.
    """

    expr: Expr
    inputs: tuple[Input, ...] = ()
    bindings: Mapping[str, Binding] = field(default_factory=Bindings[Binding])


def trace(fn: Callable[..., Any], role: Role) -> Traced:
    """Runs `fn` on symbols and returns what it computes.

    `fn` takes any subset of `role.names`, in any order, or the parameters of `role.positional` under names of its own.
    Captured tensors and numbers become inputs that are read at every call; literals and `attngen.static` are constants.
    Raises `TraceError` or `SpecError` with the user's line, a caret, and what to write instead.
    """
    if not callable(fn):
        raise SpecError(f"{role.label}: a function is needed, got {kind(fn)}")
    tracer = Tracer(role.label, role.dims)
    with tracer.active():
        name = getattr(fn, "__name__", None) or type(fn).__name__
        node = Direct("self" if not hasattr(fn, "__name__") else name, name, fn)
        target = follow(tracer, fn, node)
        if not isinstance(target, Followed):
            raise SpecError(f"{role.label}: a function is needed, got the class {fn!r}")
        signed = getattr(fn, "forward", fn) if hasattr(fn, "_parameters") else fn
        arguments = bind(signed, role, frozenset(target.keywords), target.function.__code__)
        expr = _all_paths(tracer, fn, node, role, arguments)
    inputs = tracer.load_used(iter(loads(expr)))
    bindings = {given.name: tracer.bindings[given.name] for given in inputs}
    return Traced(expr, inputs, Bindings(bindings, tuple(tracer.guards.values())))


def _all_paths(tracer: Tracer, fn: Callable[..., Any], node: Direct, role: Role, arguments: Arguments) -> Expr:
    wanted: Type = "float" if "score" in arguments.symbols() else "bool"
    if role.result != "bool or float":
        wanted = role.result
    results: list[tuple[Path, Expr]] = []
    while True:
        tracer.oracle.start()
        tracer.clones.clear()
        target = follow(tracer, fn, node)
        assert isinstance(target, Followed)
        positional = [Proxy(tracer, sym(symbol)) for symbol in arguments.positional]
        keywords = {name: Proxy(tracer, sym(symbol)) for name, symbol in arguments.keywords}
        result = _run(tracer, target, positional, keywords)
        expr = outcome(result, role, wanted, target.function.__code__)
        results.append((tuple(tracer.oracle.path), expr))
        if not tracer.oracle.next():
            return merge(results)


def _run(tracer: Tracer, target: Followed, positional: list[Proxy], keywords: dict[str, Proxy]) -> Any:
    """One run; errors carry the user's line and none of the frames of the tracer."""
    failed: AttngenError
    try:
        return clone(tracer, target.function)(*target.leading, *positional, **{**target.keywords, **keywords})
    except AttngenError as error:
        source = error.source or positions.of_traceback(error.__traceback__)
        failed = error
        if isinstance(error, LocatedError) and error.source is None:
            failed = type(error)(error.message, source=source)
        failed.__traceback__ = None
    except RecursionError as error:
        failed = TraceError(
            f"this {tracer.label} calls itself without end: its end depends on values that are not known yet",
            source=positions.of_traceback(error.__traceback__),
        )
    except Exception as error:
        failed = _foreign(tracer, error)
        raise failed from error.with_traceback(_users(error.__traceback__))
    raise failed from None


def _foreign(tracer: Tracer, error: Exception) -> TraceError:
    source: Source | None = positions.of_traceback(error.__traceback__)
    where = ""
    if tracer.oracle.path:
        last = tracer.oracle.path[-1]
        place = last.condition.source
        asked = place.text[place.column - 1 : place.end_column - 1] if place else ""
        where = f" where `{asked}` is {last.taken}" if asked else ""
    raised = f"this {tracer.label} raised {type(error).__name__} while it was traced{where}"
    return TraceError(f"{raised}: {error}", source=source)


def _users(traceback: TracebackType | None) -> TracebackType | None:
    """The traceback from the user's first line on."""
    found = traceback
    while found is not None and positions.MARK not in found.tb_frame.f_globals:
        found = found.tb_next
    return found or traceback
