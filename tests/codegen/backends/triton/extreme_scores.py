"""Triton kernels beside the reference at scores of every size, under Triton's interpreter.

Scores are products of two numbers each and exact in float32, so that all that can go wrong is what becomes of them. A
line of JSON for each check: its name and the errors that it found, or a message.
"""

from __future__ import annotations

import json
import traceback
import warnings
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

import attngen
from attngen import masks, normalizers
from tests.end_to_end.oracle import random

N = 45
"""Queries and keys: two tiles of keys, with a rest."""
EACH = torch.arange(N)
STEPS = (EACH * 29) % 32
"""Whole numbers below 32 in no order, with ties."""
POWERS = 2.0 ** (EACH * 0.75).floor()
Found = dict[str, Any]


def operands(rows: Tensor, keys: Tensor, dtype: torch.dtype = torch.float32) -> tuple[Tensor, Tensor, Tensor]:
    """q, k, v with rows[i] * keys[j] as the score of query i and key j."""
    q, k = torch.zeros(1, 1, N, 16), torch.zeros(1, 1, N, 16)
    q[..., 0], k[..., 0] = 4.0 * rows, keys
    return q.to(dtype), k.to(dtype), random(1, 1, N, 16, seed=3).to(dtype)


def results(call: Any, *leaves: Tensor) -> dict[str, Tensor]:
    leaves = tuple(leaf.detach().requires_grad_() for leaf in leaves)
    out, lse = call(*leaves, return_lse=True)
    found = torch.autograd.grad(out, leaves, random(1, 1, N, 16, seed=4).to(out.dtype))
    return {"out": out.detach(), "lse": lse.detach(), **dict(zip(("dq", "dk", "dv"), found, strict=True))}


def errors(
    rows: Tensor, keys: Tensor, spec: attngen.Spec | None = None, dtype: torch.dtype = torch.float32
) -> dict[str, float]:
    """The largest of each result, beside the largest number that goes into it."""
    call: Any = attngen.compile(attngen.Spec(mask=masks.causal()) if spec is None else spec, backend="triton")
    q, k, v = operands(rows, keys, dtype)
    ours, exact = results(call, q, k, v), results(call.reference, q, k, v)
    sizes = {"out": v, "dq": k, "dk": q, "dv": v}
    found = {}
    for name, mine in ours.items():
        gap = (mine.double() - exact[name]).abs()
        if name == "lse":
            gap = torch.where(mine == exact[name], 0.0, gap / (1.0 + exact[name].abs()))
        else:
            gap = gap / float(sizes[name].abs().max())
        found[name] = float(gap.max()) if bool(mine.isfinite().all()) or name == "lse" else float("inf")
    return found


def one_size() -> Found:
    """A few different scores, each many times, of both signs."""
    found = {}
    for size in (1e8, -1e8, 1e9, -1e9, 1e30, -1e30):
        found[str(size)] = errors(torch.full((N,), size), (STEPS % 8).float())
    return {"errors": found}


def rows_of_every_size() -> Found:
    """Beside each other in one tile."""
    sizes = 2.0 ** torch.tensor([0.0, 10.0, 20.0, 27.0, 28.0, 29.0, 30.0, 40.0, 100.0])
    signs = 1.0 - 2.0 * ((EACH // 9) % 2)
    return {"errors": {"all": errors(signs * sizes[EACH % 9], (STEPS % 8).float())}}


def rows_that_grow() -> Found:
    """The largest score of a row goes from 1 to 2**33 with its keys, or comes from there, on either side of 0."""
    ones, found = torch.ones(N), {}
    for name, keys in {"up": POWERS, "down": POWERS.flip(0), "from below": -POWERS.flip(0), "below": -POWERS}.items():
        found[name] = errors(ones, keys)
    return {"errors": found}


def neighbours() -> Found:
    """Scores that follow each other in float32, around where rows change how they are computed."""
    found = {}
    for exponent in (27, 28):
        for name, order in (("up", EACH), ("down", EACH.flip(0))):
            keys = 2.0**exponent * (1.0 + order * 2.0**-23)
            found[f"2**{exponent}, {name}"] = errors(torch.ones(N), keys)
            found[f"-2**{exponent}, {name}"] = errors(-torch.ones(N), keys)
    return {"errors": found}


def large() -> Found:
    """Scores of some size, with differences of about 1: what is rounded has to be the same for all keys of a row."""
    adjusted = attngen.Spec(mask=masks.causal(), normalizer=normalizers.softmax(numerics="adjusted"))
    found = {}
    for size in (300.0, -300.0, 1e5, -1e5, 1e6):
        found[str(size)] = errors(torch.ones(N), size + STEPS / 16.0)
    found["adjusted"] = errors(torch.ones(N), 1e5 + STEPS / 16.0, adjusted)
    return {"errors": found}


def sinks() -> Found:
    """The sink has an anchor of its own, above or below those of keys."""
    found = {}
    for sink in (1e3, 1e6, -1e9, 1e30):
        spec = attngen.Spec(mask=masks.causal(), normalizer=normalizers.softmax(sink))
        found[str(sink)] = errors(torch.where(EACH % 2 == 0, 1.0, 2.0**20), 990.0 + STEPS, spec)
    return {"errors": found}


def programs() -> Found:
    """The lowest number of float32 is a score like any other, and one that a program made infinite is the largest."""
    lowest = torch.finfo(torch.float32).min
    masked = attngen.Spec(score=lambda score, q, kv: torch.where((kv > q) | (q < 40), lowest, score))
    found = {"lowest": errors(torch.ones(N), STEPS / 8.0, masked)}
    call: Any = attngen.compile(attngen.Spec(score=lambda score: torch.exp(score)), backend="triton")
    given = operands(torch.ones(N), torch.where(EACH % 7 == 3, 90.0, 80.0))
    found["infinite"] = {"out": float((call(*given) - call.reference(*given)).abs().max())}
    return {"errors": found}


def halves() -> Found:
    """Weights of 16-bit numbers have no room for what a rounded shift may leave of them."""
    keys = (STEPS % 8).float()
    sizes = 2.0 ** torch.arange(8.0, 16.0)
    found = {"fp16": errors(sizes[EACH % 8] / 4, keys * 2048.0, dtype=torch.float16)}
    for size in (1e4, 1e30):
        found[f"bf16, {size}"] = errors(torch.full((N,), size), keys, dtype=torch.bfloat16)
    return {"errors": found}


def infinite() -> Found:
    """Rows whose products leave float32 give what rows without keys do; others do not notice, and nothing is NaN."""
    call: Any = attngen.compile(attngen.Spec(mask=masks.causal()), backend="triton")
    lost = (EACH % 2 == 0) & (EACH >= 3)
    found = {}
    for dtype in (torch.float32, torch.bfloat16):
        for sign in (1.0, -1.0):
            rows, keys = torch.where(lost, 1e20, 1e-20), torch.where(EACH % 7 == 3, sign * 1e20, -sign * 1e19)
            q, k, v = operands(rows, keys, dtype)
            ours, exact = results(call, q, k, v), results(call.reference, q, k, v)
            gap = (ours["out"].double() - exact["out"]).abs()[:, :, ~lost]
            found[f"{dtype}, {sign}"] = {
                "others": float(gap.max()),
                "finite": all(bool(t.isfinite().all()) for name, t in ours.items() if name != "lse"),
                "nothing": not ours["out"][:, :, lost].any() and bool(ours["lse"][:, :, lost].isneginf().all()),
                "no gradient": not ours["dq"][:, :, lost].any(),
            }
    return found


CHECKS: tuple[Callable[[], Found], ...] = (
    one_size,
    rows_of_every_size,
    rows_that_grow,
    neighbours,
    large,
    sinks,
    programs,
    halves,
    infinite,
)


def main() -> None:
    warnings.simplefilter("error")
    for check in CHECKS:
        try:
            found = check()
        except Exception:
            found = {"failed": traceback.format_exc()}
        print(json.dumps({"name": check.__name__, **found}), flush=True)


if __name__ == "__main__":
    main()
