"""What SPEC on the command line stands for."""

from __future__ import annotations

import importlib
import importlib.util
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

from attngen.cli.library import libraries, mechanism
from attngen.errors import AttngenError, InputError
from attngen.suggest import nearest

if TYPE_CHECKING:
    from attngen.ir.nodes import Grid, Layout
    from attngen.spec import Spec

FORMS = "module:attribute, file.py:attribute, or name:key=value of a mechanism"


@dataclass(frozen=True, slots=True)
class Target:
    """The spec of the command line; layout and backend are those of a kernel, where it names one."""

    spec: Spec
    layout: Layout = "bhnd"
    backend: str | None = None


def resolve(text: str, grid: str | None = None) -> Target:
    """The target of a text. `grid` ("32x32") goes to a mechanism that has `dims`, or is the space of a function.

    Raises `InputError` with the nearest name, or with what importing the user's module raised.
    """
    head, _, rest = text.strip().partition(":")
    dims = None if grid is None else parse_grid(grid)
    if not head:
        raise InputError(f"SPEC: got {text!r}; allowed: {FORMS}")
    if head.endswith(".py") or "/" in head:
        return _of(_attribute(_file(Path(head)), rest, text), text, dims)
    names = libraries()
    if head in names:
        return Target(mechanism(text.strip(), dims))
    if not rest or "=" in rest or not _is_module(head):
        hint = nearest(head, names)
        what = "no mechanism of that name" + ("" if not rest or "=" in rest else ", and no such module")
        raise InputError(f"SPEC: got {text!r}: {what}{hint}; `attngen list` names them. Allowed: {FORMS}")
    return _of(_attribute(_module(head), rest, text), text, dims)


def parse_grid(text: str) -> Grid:
    """`32x32` as a grid."""
    from attngen.space import Grid

    parts = text.lower().split("x")
    if not 1 <= len(parts) <= 3 or not all(part.isdecimal() and int(part) >= 1 for part in parts):
        raise InputError(f"--grid: got {text!r}; allowed: 1 to 3 integers >= 1 with an x between them, such as 32x32")
    return Grid([int(part) for part in parts])


def _of(value: Any, text: str, dims: Grid | None) -> Target:
    from attngen.kernel import Kernel
    from attngen.masks import Mask
    from attngen.normalizers import Normalizer
    from attngen.scores import Score
    from attngen.spec import Spec

    space: dict[str, Any] = {} if dims is None else {"space": dims}
    if callable(value) and not isinstance(value, Kernel | Spec) and _takes_nothing(value):
        value = value()
    match value:
        case Mask():
            return Target(Spec(mask=value, **space))
        case Score():
            return Target(Spec(score=value, **space))
        case Normalizer():
            return Target(Spec(normalizer=value, **space))
        case Spec() | Kernel():
            spec = value if isinstance(value, Spec) else value.spec
            if dims is not None and spec.ir.space != dims:
                raise InputError(f"--grid: {text!r} has its own space, {spec.ir.space}; leave --grid out")
            return Target(spec) if isinstance(value, Spec) else Target(spec, value.layout, value.backend)
    if callable(value) and not isinstance(value, type):
        return Target(Spec.from_function(value, **space))
    raise InputError(
        f"SPEC: {text!r} is of type {type(value).__name__}; allowed: a Spec, a Kernel, a mask or score function, "
        "or a function without parameters that returns one of them"
    )


def _takes_nothing(value: Callable[..., Any]) -> bool:
    import inspect

    try:
        return not inspect.signature(value).parameters and not isinstance(value, type)
    except (TypeError, ValueError):
        return False


def _attribute(module: ModuleType, path: str, text: str) -> Any:
    if not path:
        raise InputError(f"SPEC: got {text!r} without an attribute; write {text.rstrip(':')}:NAME{_offer(module)}")
    value: Any = module
    for name in path.split("."):
        try:
            value = getattr(value, name)
        except AttributeError:
            known = [n for n in dir(value) if not n.startswith("_")]
            raise InputError(f"SPEC: {text!r}: there is no {name!r}{nearest(name, known)}{_offer(value)}") from None
    return value


def _offer(module: object) -> str:
    """The names in a module that can be a target, for messages."""
    here = getattr(module, "__name__", "")
    public = {name: value for name, value in vars(module).items() if not name.startswith("_")}
    own = [name for name, value in public.items() if _is_ours(value) or getattr(value, "__module__", None) == here]
    return f"; it has: {', '.join(own[:12])}" if own else ""


def _is_ours(value: object) -> bool:
    home = type(value).__module__
    return home.startswith("attngen.") and not isinstance(value, ModuleType | type)


def _is_module(name: str) -> bool:
    _reach_here()
    try:
        return importlib.util.find_spec(name) is not None
    except (ImportError, ValueError, AttributeError):
        return False


def _reach_here() -> None:
    if "" not in sys.path and str(Path.cwd()) not in sys.path:
        sys.path.insert(0, str(Path.cwd()))


def _module(name: str) -> ModuleType:
    _reach_here()
    return _imported(name, lambda: importlib.import_module(name))


def _file(path: Path) -> ModuleType:
    if not path.is_file():
        near = nearest(path.name, [p.name for p in path.parent.glob("*.py")] if path.parent.is_dir() else [])
        raise InputError(f"SPEC: there is no file {str(path)!r}{near}")
    name = f"_attngen_{path.stem}"  # its own name would hide a module of that name
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    sys.path.insert(0, str(path.parent.resolve()))

    def run() -> ModuleType:
        spec.loader.exec_module(module)  # type: ignore[union-attr]
        return module

    return _imported(str(path), run)


def _imported(name: str, load: Callable[[], ModuleType]) -> ModuleType:
    try:
        return load()
    except AttngenError:
        raise
    except Exception as problem:
        frame = problem.__traceback__
        while frame is not None and frame.tb_next is not None:
            frame = frame.tb_next
        where = "" if frame is None else f" ({frame.tb_frame.f_code.co_filename}, line {frame.tb_lineno})"
        raise InputError(f"SPEC: importing {name!r} raised {type(problem).__name__}: {problem}{where}") from problem
