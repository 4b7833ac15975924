"""Gradients of Triton kernels beside those of the reference, under Triton's interpreter: what a case cannot say.

A line of JSON for each check: its name and what it found, or a message.
"""

from __future__ import annotations

import json
import traceback
import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

import attngen
from attngen import masks, normalizers
from attngen.codegen.backends.triton.backend import TritonBackend
from attngen.codegen.backends.triton.config import GradientConfig, TritonConfig
from attngen.ir import nodes
from attngen.ir.expr import load, op, sym
from attngen.ir.nodes import Branch, Concat, Dot, Input, KeySet, Paged, View
from tests.end_to_end.oracle import error, random

CAUSAL = op("le", sym("kv"), sym("q"))
SOFTMAX, STICKS = normalizers.softmax().ir, normalizers.stick_breaking().ir
MORE = (Input("text_k", ("b", "h", "?", "?")), Input("text_v", ("b", "h", "?", "?")))
PAGES = (Input("page_table", ("b", "?"), "int"), Input("kv_lengths", ("b",), "int"))
PAIRS = random(5, 5, seed=8).requires_grad_()
IDS = torch.arange(70) // 7
Found = dict[str, Any]
Call = Callable[..., Any]


def compiled(spec: attngen.Spec | nodes.Spec) -> attngen.Kernel:
    known = attngen.Spec.from_ir(spec) if isinstance(spec, nodes.Spec) else spec
    kernel: attngen.Kernel = attngen.compile(known, backend="triton")
    return kernel


def qkv(n_q: int, n_k: int, b: int = 1, h: int = 2, heads: Sequence[int] = (2, 2), batch: int | None = None) -> Any:
    """`heads` are those of k and v, `batch` is theirs."""
    batch = b if batch is None else batch
    return (
        random(b, h, n_q, 16, seed=1),
        random(batch, heads[0], n_k, 16, seed=2),
        random(batch, heads[1], n_k, 16, seed=3),
    )


def gradients(call: Call, by: Sequence[Tensor], dout: Tensor | None = None, **given: Tensor) -> list[Tensor]:
    """Those by q, k, v (the first of `by`), by the given floats and by the others."""
    leaves = [t.detach().requires_grad_() for t in by[:3]]
    named = {name: t.detach().requires_grad_() if t.is_floating_point() else t for name, t in given.items()}
    out = call(*leaves, **named)
    dout = random(*out.shape, seed=4) if dout is None else dout
    asked = [*leaves, *(t for t in named.values() if t.requires_grad), *by[3:]]
    return list(torch.autograd.grad(out, asked, dout.to(out.dtype)))


def errors(call: Any, by: Sequence[Tensor], **given: Tensor) -> list[float]:
    ours, exact = gradients(call, by, **given), gradients(call.reference, by, **given)
    return [error(a, b) for a, b in zip(ours, exact, strict=True)]


def score(score: Any, q: Any, kv: Any) -> Any:
    return score + PAIRS[q % 5, kv % 5]


SPECS: Mapping[str, Callable[[], attngen.Spec]] = {
    "causal": lambda: attngen.Spec(mask=masks.causal()),
    "sticks in documents": lambda: attngen.Spec(
        mask=masks.document(IDS) & masks.causal(), normalizer=normalizers.stick_breaking()
    ),
    "entmax of learned scores": lambda: attngen.Spec(score=score, normalizer=normalizers.entmax(1.5)),
    "neighborhood": lambda: attngen.mechanisms.neighborhood((7, 10), (3, 4)),
    "both triangles": attngen.mechanisms.dual_triangle,
}
"""Sums of every kind that kernels hand on: by rows, by tiles of keys, by elements of a table."""


def tiles_of_other_sizes() -> Found:
    """The kernels of the gradients need not agree on tiles, nor on loops."""
    found = {}
    for name, spec in SPECS.items():
        keys = 16 if "sticks" in name else 64
        rows, columns = TritonConfig(32, 16, 4, 2, "ieee"), TritonConfig(16, keys, 4, 2, "ieee", loops="one")
        config = GradientConfig(rows, columns)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(TritonBackend, "configs_backward", lambda self, plan, config=config: (config,))
            learned = [PAIRS] if "learned" in name else []
            found[name] = errors(compiled(spec()), [*qkv(70, 70, h=1, heads=(1, 1)), *learned])
    return {"errors": found}


def memory_that_nobody_wrote() -> Found:
    """What a launch gets with torch.empty is NaN until somebody writes it."""
    ours, found = {"launch.py", "launch_backward.py", "gather.py"}, {}

    def poisoned(make: Call) -> Call:
        def made(*arguments: Any, **options: Any) -> Tensor:
            tensor: Tensor = make(*arguments, **options)
            there = traceback.extract_stack(limit=2)[0].filename
            if tensor.is_floating_point() and not tensor.is_meta and Path(there).name in ours:
                tensor.fill_(torch.nan)
            return tensor

        return made

    for name, spec in SPECS.items():
        learned = [PAIRS] if "learned" in name else []
        call = compiled(spec())
        with pytest.MonkeyPatch.context() as patch:
            for function in ("empty", "empty_like", "empty_strided"):
                patch.setattr(torch, function, poisoned(getattr(torch, function)))
            sums = gradients(call, [*qkv(70, 70, h=1, heads=(1, 1)), *learned])
        exact = gradients(call.reference, [*qkv(70, 70, h=1, heads=(1, 1)), *learned])
        found[name] = [error(a, b) for a, b in zip(sums, exact, strict=True)]
    return {"errors": found}


def heads_and_batches() -> Found:
    """Other heads in k than in v, and one batch of keys for all."""
    call = compiled(attngen.Spec(mask=masks.causal()))
    return {
        "errors": {
            "more in v": errors(call, qkv(37, 37, h=4, heads=(1, 2))),
            "no common head": errors(call, qkv(33, 20, h=6, heads=(2, 3))),
            "one batch": errors(call, qkv(33, 33, b=3, batch=1, h=2, heads=(1, 1))),
        }
    }


def key_sets() -> Found:
    """More keys in the other set than in the main one, whose keys may lie in pages."""
    main = Branch(SOFTMAX, mask=CAUSAL, keysets=(KeySet((Dot(k=View("text_k")),), View("text_v")),))
    text = {"text_k": random(1, 2, 75, 16, seed=5), "text_v": random(1, 1, 75, 16, seed=6)}
    found = {"two": errors(compiled(nodes.Spec((main,), inputs=MORE)), qkv(37, 20, h=4), **text)}
    pages = nodes.Spec((main,), space=Paged(16), inputs=(*MORE, *PAGES))
    table = torch.tensor([[3, 1, 0], [3, 2, -7]])
    where = {"page_table": table, "kv_lengths": torch.tensor([37, 20])}
    keys = random(4, 2, 16, 16, seed=2), random(4, 2, 16, 16, seed=3)
    found["pages"] = errors(compiled(pages), (random(2, 4, 9, 16), *keys), **text, **where)
    return {"errors": found}


def branches_on_a_grid() -> Found:
    """A block table, boxes and ranges of one kernel, one after the other."""
    ids = load("ids", (sym("q"),), "int"), load("ids", (sym("kv"),), "int")
    boxes = attngen.mechanisms.neighborhood((6, 9), (3, 3)).ir.branches
    branches = (Branch(SOFTMAX, mask=op("eq", *ids)), *boxes, Branch(STICKS, mask=CAUSAL))
    inputs = (Input("ids", ("q",), "int"),)
    spec = nodes.Spec(branches, space=attngen.Grid((6, 9)), inputs=inputs, combine=Concat())
    return {"errors": {"all": errors(compiled(spec), qkv(54, 54, h=1, heads=(1, 1)), ids=torch.arange(54) % 4)}}


def again() -> Found:
    """A graph that is kept gives the same, bit by bit; and tables follow what they are made of."""
    seen = torch.tensor([[True, False, True], [False, True, False], [True, True, False]])
    call = compiled(attngen.Spec(mask=lambda q, kv: seen[q // 32, kv // 32], score=score))
    leaves = [t.requires_grad_() for t in qkv(70, 70, h=1, heads=(1, 1))]
    out, dout = call(*leaves), random(1, 1, 70, 16, seed=4)
    first, second = (torch.autograd.grad(out, [*leaves, PAIRS], dout, retain_graph=True) for _ in range(2))
    seen.copy_(~seen)
    changed = errors(call, [*leaves, PAIRS])
    return {"same": all(map(torch.equal, first, second)), "errors": {"changed": changed}}


def rows_with_one_key() -> Found:
    """Their scores do not matter: what two roundings of a cotangent leave would stand out among 16-bit numbers."""
    rule = normalizers.streaming(
        "bent",
        phi=lambda s, m: torch.exp(s - m),
        psi=lambda s, m: torch.exp(s - m),
        anchor=lambda s: s,
        finalize=lambda acc, mass: torch.tanh(acc / mass),
    )
    call, found = compiled(attngen.Spec(mask=masks.causal(), normalizer=rule)), {}
    for dtype in (torch.bfloat16, torch.float16):
        dq, *_ = gradients(call, [t.to(dtype) for t in qkv(33, 33, h=1, heads=(1, 1))])
        found[str(dtype)] = [float(dq[:, :, 0].abs().max() / dq.abs().max())]
    return {"errors": found}


def all_pairs_in_one_place() -> Found:
    """The largest sum of integers that there can be: every pair has the same to add to the same element."""
    spec = attngen.Spec(score=lambda score, q, kv: score + PAIRS[(q + kv) // 1000, 0], normalizer="none")
    call, ones = compiled(spec), [torch.ones(1, 1, 37, 16) for _ in range(3)]
    *_, table = gradients(call, [*ones, PAIRS], ones[0])
    *_, exact = gradients(call.reference, [*ones, PAIRS], ones[0])
    return {"errors": {"all": [error(table, exact)]}}


def a_number_that_is_none() -> Found:
    """A cotangent that is NaN in one row shows in the gradient of a table of pairs."""
    call = compiled(attngen.Spec(score=score))
    dout = random(1, 2, 37, 16, seed=4)
    dout[0, 0, 20] = torch.nan
    *_, table = gradients(call, [*qkv(37, 37), PAIRS], dout)
    *_, exact = gradients(call.reference, [*qkv(37, 37), PAIRS], dout)
    return {"shown": bool(table[exact.isnan()].isnan().all())}


CHECKS = (
    tiles_of_other_sizes,
    memory_that_nobody_wrote,
    heads_and_batches,
    key_sets,
    branches_on_a_grid,
    again,
    rows_with_one_key,
    all_pairs_in_one_place,
    a_number_that_is_none,
)


def main() -> None:
    warnings.simplefilter("error")
    warnings.filterwarnings("ignore", message="All-NaN slice encountered")
    for check in CHECKS:
        try:
            found = check()
        except Exception:
            found = {"failed": traceback.format_exc()}
        print(json.dumps({"name": check.__name__, **found}), flush=True)


if __name__ == "__main__":
    main()
