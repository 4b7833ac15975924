"""Feature maps of linear attention: what each element, or the whole vector, of q and k becomes. All are >= 0."""

from __future__ import annotations

from attngen.arguments import one_of
from attngen.ir.expr import Expr, op, sym

X = sym("x")
FEATURES: dict[str, Expr] = {
    "softmax": op("dim_softmax", X),
    # exp sees no positive number, so it cannot overflow where it is not selected.
    "elu": op("where", op("gt", X, 0.0), op("add", X, 1.0), op("exp", op("where", op("gt", X, 0.0), 0.0, X))),
    "relu": op("relu", X),
}


def feature_map(value: str | Expr) -> Expr:
    """The map of a name: softmax over the head dimension, elu(x) + 1, relu; or an expression in `x` itself."""
    return value if isinstance(value, Expr) else FEATURES[one_of("feature_map", value, FEATURES)]
