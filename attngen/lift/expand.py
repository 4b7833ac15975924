"""`F.multi_head_attention_forward`, which `nn.MultiheadAttention` and `nn.TransformerEncoderLayer` end in, written out.

torch's tracer takes it for one operation. Its attention is that of `scaled_dot_product_attention`, which lifts.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from torch.fx import Node, Proxy
from torch.fx.node import map_arg
from torch.fx.proxy import GraphAppendingTracer

from attngen.lift.nodes import called, example, shape

if TYPE_CHECKING:
    from torch.fx import Graph


def expanded(graph: Graph) -> None:
    """Writes out each call whose weights are not asked for."""
    for node in list(graph.nodes):
        if called(node) == "multi_head_attention_forward":
            arguments: Any = node.args
            options: Any = node.kwargs
            _expand(graph, node, *arguments, **options)


def _expand(
    graph: Graph, node: Node, query: Any, key: Any, value: Any, width: Any, heads: Any, in_weight: Any, in_bias: Any,
    bias_k: Any, bias_v: Any, add_zero_attn: Any, dropout_p: Any, out_weight: Any, out_bias: Any, training: Any = True,
    key_padding_mask: Any = None, need_weights: Any = True, attn_mask: Any = None,
    use_separate_proj_weight: Any = False, **others: Any,
) -> None:  # fmt: skip
    masks = [mask for mask in (attn_mask, key_padding_mask) if mask is not None]
    kinds = {example(mask).dtype == torch.bool for mask in masks}
    used = bias_k is not None or bias_v is not None or add_zero_attn or use_separate_proj_weight
    picked = all(called(user) == "getitem" and user.args[1] == 0 for user in node.users)
    if need_weights is not False or used or in_weight is None or len(kinds) > 1 or len(shape(query)) != 3 or not picked:
        return
    before = set(graph.nodes)
    tracer = GraphAppendingTracer(graph)
    with graph.inserting_before(node):
        given = [Proxy(x, tracer) if isinstance(x, Node) else x for x in (query, key, value, in_weight, in_bias)]
        q, k, v = _projected(given, heads)
        if attn_mask is not None and len(shape(attn_mask)) == 3:
            attn_mask = Proxy(attn_mask, tracer).unflatten(0, (-1, heads))
        elif attn_mask is not None:
            attn_mask = Proxy(attn_mask, tracer)
        if key_padding_mask is not None:
            padding: Any = Proxy(key_padding_mask, tracer)
            key_padding_mask = padding[:, None, None, :]
        mask = _mask(attn_mask, key_padding_mask, kinds == {True})
        drop = dropout_p if training else 0.0
        out: Any = F.scaled_dot_product_attention(q, k, v, attn_mask=mask, dropout_p=drop)
        joined = out.permute(2, 0, 1, 3).flatten(2)
        after: list[Any] = [Proxy(x, tracer) if x is not None else None for x in (out_weight, out_bias)]
        last: Any = F.linear(joined, *after)
    for made in graph.nodes:
        if made not in before:
            _annotate(made, node)
    for user in list(node.users):
        user.replace_all_uses_with(last.node)
        graph.erase_node(user)
    graph.erase_node(node)


def _projected(given: list[Any], heads: int) -> tuple[Any, ...]:
    """(L, B, E) -> (B, H, L, D), for each of queries, keys and values."""
    *inputs, weight, bias = given
    weights = weight.chunk(3)
    biases = (None, None, None) if bias is None else bias.chunk(3)
    made = (F.linear(x, weights[i], biases[i]) for i, x in enumerate(inputs))
    return tuple(x.unflatten(-1, (heads, -1)).permute(1, 2, 0, 3) for x in made)  # type: ignore[no-untyped-call]


def _mask(attn_mask: Any, padding: Any, boolean: bool) -> Any:
    """What both masks leave. Here a condition says what is hidden, there what is seen."""
    if attn_mask is None or padding is None:
        mask = attn_mask if padding is None else padding
    else:
        mask = attn_mask | padding if boolean else attn_mask + padding
    return ~mask if boolean and mask is not None else mask


def _annotate(made: Node, origin: Node) -> None:
    """What the tracer would know of a node."""
    args, options = map_arg((made.args, dict(made.kwargs)), example)
    target: Any = made.target
    if made.op == "call_method":
        made.meta["example_value"] = getattr(args[0], target)(*args[1:], **options)
    else:
        made.meta["example_value"] = target(*args, **options)
    made.stack_trace = origin.stack_trace
