"""The normalizers that go by name: `Spec(normalizer="sigmoid")`."""

from __future__ import annotations

import inspect
from collections.abc import Callable

from attngen.arguments import refuse, shown
from attngen.errors import SpecError
from attngen.normalizers.affine import affine
from attngen.normalizers.cog import cog
from attngen.normalizers.entmax import entmax, sparsemax
from attngen.normalizers.laplace import laplace
from attngen.normalizers.linear import linear
from attngen.normalizers.lssar import lssar
from attngen.normalizers.none import none
from attngen.normalizers.normalizer import Normalizer
from attngen.normalizers.relu import relu
from attngen.normalizers.sigmoid import sigmoid
from attngen.normalizers.softmax import softmax
from attngen.normalizers.softmax1 import softmax1
from attngen.normalizers.softpick import softpick
from attngen.normalizers.softplus_l1 import softplus_l1
from attngen.normalizers.stick_breaking import stick_breaking
from attngen.suggest import nearest

LIST: tuple[Callable[..., Normalizer], ...] = (
    softmax, softmax1, sigmoid, relu, softplus_l1, cog, laplace, none, linear, softpick,
    affine, lssar, entmax, sparsemax, stick_breaking,
)  # fmt: skip
ALL: dict[str, Callable[..., Normalizer]] = {function.__name__: function for function in LIST}


def named(value: object) -> Normalizer:
    """The normalizer of a name, or a declaration itself. Raises `SpecError` with the nearest name."""
    if isinstance(value, Normalizer):
        return value
    if not isinstance(value, str):
        hint = f" (call it: normalizers.{value.__name__}(...))" if value in LIST else ""
        raise refuse("normalizer", value, f"a name, or an object of attngen.normalizers{hint}")
    make = ALL.get(value)
    if make is None:
        raise SpecError(f"normalizer: got {shown(value)}; allowed: {', '.join(ALL)}{nearest(value, ALL)}")
    needed = [p.name for p in inspect.signature(make).parameters.values() if p.default is p.empty]
    if needed:
        raise SpecError(f"normalizer: {value!r} needs {', '.join(needed)}; write normalizers.{value}({needed[0]}=...)")
    return make()
