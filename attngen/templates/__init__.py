"""Kernel skeletons as data, and the one loader. A skeleton owns tiling and state; the compiler fills its holes."""

from __future__ import annotations

import hashlib
import re
from dataclasses import fields
from functools import cache
from importlib.resources import files
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from jinja2 import Environment

INCLUDE = re.compile(r'#include "([^"]+)"$')


@cache
def read(name: str) -> str:
    """The text of a template or header, such as `cpp/forward.h`."""
    return files(__name__).joinpath(name).read_text(encoding="utf-8")


def render(name: str, holes: Any) -> str:
    """The template with the fields of a dataclass in its holes; a hole without a field is an error."""
    values = {f.name: getattr(holes, f.name) for f in fields(holes)}
    return _environment().from_string(read(name)).render(values)


def bundle(folder: str, text: str) -> str:
    """The text with its quoted includes put in place: generated sources stand alone.

    A file comes once, at its first place; one that is included under `#if` may come again in another branch.
    """
    seen: set[str] = set()

    def insert(source: str, conditional: bool) -> str:
        lines, depth = [], 0
        for line in source.splitlines(keepends=True):
            depth += line.startswith("#if")
            depth -= line.startswith("#endif")
            match = INCLUDE.match(line)
            if match is None:
                lines.append("" if line == "#pragma once\n" else line)
            elif match.group(1) not in seen:
                inner = conditional or depth > 0
                if not inner:
                    seen.add(match.group(1))
                lines.append(insert(read(f"{folder}/{match.group(1)}"), inner))
        return "".join(lines)

    return insert(text, False)


@cache
def fingerprint(folder: str) -> str:
    """A hash of every file of a folder: part of the key of what is built from them."""
    digest = hashlib.sha256()
    for item in sorted(files(__name__).joinpath(folder).iterdir(), key=lambda entry: entry.name):
        if item.name.endswith((".h", ".jinja")):
            digest.update(f"{item.name}\n{item.read_text(encoding='utf-8')}\n".encode())
    return digest.hexdigest()


@cache
def _environment() -> Environment:
    from jinja2 import Environment, StrictUndefined

    return Environment(undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True, keep_trailing_newline=True)
