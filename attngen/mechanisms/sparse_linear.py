"""SLA: softmax attention on the blocks that matter, linear attention on the others."""

from __future__ import annotations

from typing import Any, Literal

from attngen.arguments import integer, number, one_of, refuse
from attngen.builder import Builder
from attngen.errors import SpecError
from attngen.ir.expr import Expr, Load, const, load, op, sym
from attngen.ir.nodes import Affine, Branch, Dot, Given, PooledTopK, Project, Router, View
from attngen.mechanisms.features import feature_map as features
from attngen.spec import Spec

DOMAINS = ("marginal", "complement", "all")


def sparse_linear(
    topk: float | Literal["table"],
    bottom: float = 0.0,
    query_block: int = 64,
    key_block: int = 64,
    feature_map: str | Expr = "softmax",
    linear_domain: Literal["marginal", "complement", "all"] = "marginal",
    smooth_k: bool = True,
    projection: bool = True,
    eps: float = 0.0,
) -> Spec:
    """O = softmax attention over the critical blocks + linear attention over the others, times a projection.

    Blocks of `query_block` queries and `key_block` keys are ranked by the dot products of their means (`smooth_k`:
    after the mean of all keys is subtracted from k). In every row of blocks the share `topk` with the highest score is
    critical (at least one block), the share `bottom` with the lowest negligible, the rest marginal. topk="table": the
    classes arrive per call as `block_classes`, integers (B or 1, H or 1, query blocks, key blocks): 1, -1, 0.

    The softmax branch sees the keys of critical blocks. The linear branch, with phi = `feature_map` ("softmax" over the
    head dimension, "elu": elu(x) + 1, "relu", or an expression in `x`) on q and k, sees those of the marginal blocks
    ("marginal", the paper), of all blocks that are not critical ("complement", the first released code), or all keys
    ("all", the later code, with eps=1e-5). Each has its own denominator; `eps` is added to the linear one, and a row
    without linear keys gives 0. `projection`: the linear result is multiplied by the input `projection` (Dv, Dv), given
    per call, zero-initialised for training; without it the two results are added. The ranking has no gradient.
    Source: SLA, arXiv 2509.24006; thu-ml/SLA.
    """
    one_of("linear_domain", linear_domain, DOMAINS)
    builder = Builder()
    router = _router(builder, topk, bottom, query_block, key_block, smooth_k)
    cls = _class(router)
    feature = features(feature_map)
    critical = Branch(builder.normalizer("softmax"), mask=op("eq", cls, 1))
    others = Branch(
        builder.normalizer(_linear(eps)),
        dots=(Dot(View("q", feature=feature), View("k", feature=feature), const(1.0)),),
        mask={"marginal": op("eq", cls, 0), "complement": op("ne", cls, 1), "all": const(True)}[linear_domain],
    )
    combine: Affine | Project = Affine((const(1.0), const(1.0)))
    if projection:
        combine = Project((None, builder.input("projection", ("?", "?"))))
    built = builder.build(critical, others, combine_by=combine, routers=(router,), name="sparse_linear")
    return Spec.from_ir(*built)


def _router(builder: Builder, topk: Any, bottom: float, query_block: int, key_block: int, smooth_k: bool) -> Router:
    integer("query_block", query_block, 1)
    integer("key_block", key_block, 1)
    if topk == "table":
        table = builder.input("block_classes", ("b", "h", "?", "?"), "int")
        return Router("blocks", query_block, key_block, Given(table))
    if number("topk", topk, above=0, allowed="a share, 0 < topk <= 1, or 'table'") > 1:
        raise refuse("topk", topk, "a share, 0 < topk <= 1, or 'table'")
    number("bottom", bottom, low=0, allowed="a share, 0 <= bottom < 1")
    if topk + bottom > 1:
        raise SpecError(f"bottom: got {bottom!r} beside topk={topk!r}; allowed: topk + bottom <= 1")
    return Router("blocks", query_block, key_block, PooledTopK(float(topk), float(bottom), bool(smooth_k)))


def _class(router: Router) -> Load:
    """The class of the block of (q, kv): 1 critical, 0 marginal, -1 negligible."""
    blocks = (op("floordiv", sym("q"), router.query_block), op("floordiv", sym("kv"), router.key_block))
    return load(router.name, (sym("b"), sym("h"), *blocks), "int")


def _linear(eps: float) -> Any:
    from attngen.normalizers import linear

    return linear(eps)
