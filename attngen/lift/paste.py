"""A recovered Spec as the attngen code that makes it: what to paste in place of the plain function."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from textwrap import indent

from attngen.ir.expr import Const, Expr, const
from attngen.ir.nodes import Affine, KeySet, Sequence, default_scale
from attngen.ir.ops import Type
from attngen.ir.text_expr import expr_text
from attngen.normalizers.softmax import softmax
from attngen.spec import Spec
from attngen.texts import Every

VISIBLE, RAW = const(True), KeySet().score


def code(spec: Spec) -> str:
    """Lines of Python: the spec, the kernel, and a call. Executed, they give an equal spec."""
    names = [i.name for i in spec.ir.inputs]
    given = "".join(f", {name}={name}" for name in names)
    return f"spec = {_everyday(spec) or _parsed(spec)}\nkernel = attngen.compile(spec)\nout = kernel(q, k, v{given})"


def _everyday(spec: Spec) -> str | None:
    """`attngen.Spec(mask=..., score=...)`, where that gives the same."""
    (branch, *others), ir = spec.ir.branches, spec.ir
    usual = (
        not others
        and branch.normalizer == softmax().ir
        and ir.combine == Affine((const(1.0),))
        and isinstance(ir.space, Sequence)
    )
    if not usual:
        return None
    lines = [
        *_argument("mask", branch.mask, VISIBLE, Every("int")),
        *_argument("score", branch.score, RAW, Every("float")),
        *_argument("weight", branch.weight or VISIBLE, VISIBLE, Every("float")),
        *_scale(branch.dots[0].scale),
        f"name={ir.name!r},",
    ]
    text = f"attngen.Spec(\n{indent(chr(10).join(lines), '    ')}\n)"
    return text if _gives(text, spec) else None


def _argument(name: str, expr: Expr, usual: Expr, types: Mapping[str, Type]) -> Iterator[str]:
    if expr != usual:
        yield f"{name}={' '.join(expr_text(expr, types).split())!r},"


def _scale(scale: Expr) -> Iterator[str]:
    if isinstance(scale, Const):
        yield f"scale={scale.value!r},"
    elif scale != default_scale():
        yield from _argument("scale", scale, VISIBLE, Every("float"))


def _gives(text: str, spec: Spec) -> bool:
    """Whether the code makes this spec; what the everyday form does not say (labels of axes) may differ."""
    import attngen

    made = eval(text, {"attngen": attngen})
    return bool(made.ir == spec.ir)


def _parsed(spec: Spec) -> str:
    return f'attngen.Spec.parse("""\n{str(spec).rstrip()}\n""")'
