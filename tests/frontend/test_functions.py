"""Functions in many styles: the traced expression has the value that the function itself has."""

from __future__ import annotations

import functools
import itertools
import math
import operator
from collections.abc import Callable
from math import exp as mexp
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import tanh
from torch.nn.attention import flex_attention

from attngen.frontend import MASK_OR_SCORE, static, trace

N = 16
HEADS = 4
WINDOW = 3
CAP = 5.0
NEGATIVE = float("-inf")
generator = torch.Generator().manual_seed(0)
SLOPES = torch.rand(HEADS, generator=generator, dtype=torch.float64)
TABLE = torch.rand(HEADS, 2 * N - 1, generator=generator, dtype=torch.float64)
BIAS = torch.rand(2, HEADS, N, N, generator=generator, dtype=torch.float64)
DOCS = torch.tensor([0] * 5 + [1] * 4 + [2] * 7)
LENGTHS = torch.tensor([5, 12])
PAD = torch.arange(N) % 5 != 0
ARRAY = np.linspace(0.0, 1.0, HEADS)
POWERS = [1, 2, 4]
CONFIG = {"window": 4, "mode": "causal", "sizes": (4, 4)}


class Settings:
    window = 6
    kind = "local"


def is_close(a: Any, b: Any, distance: Any = 2) -> Any:
    return abs(a - b) <= distance


def t5_bucket(relative: Any, buckets: int = 8, farthest: int = 32) -> Any:
    half = buckets // 2
    offset = (relative > 0).to(torch.long) * half
    distance = torch.abs(relative)
    exact = half // 2
    scaled = torch.log(distance.float() / exact) / math.log(farthest / exact) * (half - exact)
    large = torch.minimum(exact + scaled.to(torch.long), torch.full_like(distance, half - 1))
    return offset + torch.where(distance < exact, distance, large)


def causal(b, h, q_idx, kv_idx):
    return q_idx >= kv_idx


def sliding(b, h, q_idx, kv_idx):
    return (q_idx >= kv_idx) & (q_idx - kv_idx < WINDOW)


def prefix_lm(b, h, q_idx, kv_idx):
    return (kv_idx <= LENGTHS[b]) | (q_idx >= kv_idx)


def document(b, h, q_idx, kv_idx):
    return (DOCS[q_idx] == DOCS[kv_idx]) & causal(b, h, q_idx, kv_idx)


def padding(b, h, q, kv):
    return PAD[q] & PAD[kv]


def natten(b, h, q_idx, kv_idx, width=4, kernel=3):
    q_x, q_y = q_idx // width, q_idx % width
    kv_x, kv_y = kv_idx // width, kv_idx % width
    center_x = q_x.clamp(kernel // 2, (width - 1) - kernel // 2)
    center_y = q_y.clamp(kernel // 2, (width - 1) - kernel // 2)
    return ((center_x - kv_x).abs() <= kernel // 2) & ((center_y - kv_y).abs() <= kernel // 2)


def tiled(b, h, q, kv):
    rows, columns = CONFIG["sizes"]
    return q // columns == kv // columns if CONFIG["mode"] == "causal" else q % rows == kv % rows


def alibi(score, b, h, q_idx, kv_idx):
    return score + SLOPES[h] * (kv_idx - q_idx)


def alibi_formula(score, b, h, q_idx, kv_idx):
    scale = torch.exp2(-((h + 1) * 8.0 / HEADS))
    return score + (q_idx - kv_idx) * scale


def relative(score, b, h, q_idx, kv_idx):
    return score + (q_idx - kv_idx)


def relative_causal(score, b, h, q_idx, kv_idx):
    return torch.where(q_idx >= kv_idx, score, -float("inf"))


def t5(score, b, h, q, kv):
    return score + TABLE[h, t5_bucket(kv - q)]


def soft_cap_then_mask(score, b, h, q, kv):
    score = score / CAP
    score = torch.tanh(score)
    score *= CAP
    return score.masked_fill(q < kv, NEGATIVE)


def ramp(score, q, kv):
    if q < kv:
        return NEGATIVE
    distance = q - kv
    if distance < WINDOW:
        return score
    return score - 0.5 * (distance - WINDOW)


def banded(q, kv):
    allowed = False
    for power in POWERS:
        allowed = allowed or q - kv == power
    return allowed


def longformer(q, kv):
    for i in range(3):
        if kv == i:
            return True
    return abs(q - kv) < WINDOW


class Layer(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.slopes = torch.nn.Parameter(SLOPES.clone())
        self.tau = torch.nn.Parameter(torch.tensor(0.5, dtype=torch.float64))
        self.bias = torch.nn.Embedding(8, HEADS, dtype=torch.float64)
        self.activation = torch.nn.Tanh()
        self.window = 5

    def score(self, score, b, h, q_idx, kv_idx):
        return score * self.tau + self.slopes[h] * self.distance(q_idx, kv_idx)

    def distance(self, a, b):
        return torch.clamp((a - b).abs(), max=self.window)

    def forward(self, score, h, q, kv):
        return self.activation(score) + self.bias(torch.clamp(q - kv, 0, 7))[h]

    @staticmethod
    def near(q, kv):
        return is_close(q, kv)


class Callable_:
    def __init__(self, window: int) -> None:
        self.window = window

    def __call__(self, b, h, q, kv):
        return q - kv < self.window


def closure(window: int) -> Callable[..., Any]:
    def inside(q, kv):
        return abs(q - kv) < window

    return lambda b, h, q, kv: inside(q, kv) and not (kv < 3 and kv == 2)


torch.manual_seed(0)
LAYER = Layer()
MASKS: dict[str, Callable[..., Any]] = {
    "causal": causal,
    "sliding": sliding,
    "prefix_lm": prefix_lm,
    "document": document,
    "padding": padding,
    "natten": natten,
    "tiled": tiled,
    "banded": banded,
    "longformer": longformer,
    "callable": Callable_(4),
    "closure": closure(3),
    "static_method": LAYER.near,
    "partial": functools.partial(is_close, distance=1),
    "partial_mask": functools.partial(lambda window, q, kv: q - kv < window, 3),
    "and": lambda q, kv: q >= kv and q - kv < WINDOW,
    "chained": lambda q, kv: 0 <= q - kv < WINDOW,
    "or_not": lambda q, kv: not (q < kv or kv % 2 == 1) or kv in (0, 1),
    "conditional": lambda h, q, kv: q >= kv if h < 2 else q <= kv,
    "dilated": lambda q, kv: (q - kv) % 2 == 0,
    "checkerboard": lambda b, h, q, kv: (q + kv) % 2 == h % 2,
    "bits": lambda q, kv: (q ^ kv) & 1 == 0,
    "shifts": lambda q, kv: (q >> 2) == (kv >> 2) or kv == (q & 1) << 2,
    "any": lambda q, kv: any(q // power == kv // power for power in POWERS[1:]),
    "all": lambda q, kv: all(x < 9 for x in (q, kv)),
    "chunked": lambda q, kv, chunk=4: q // chunk == kv // chunk,
    "keyword_default": lambda q, *, kv, chunk=4: q // chunk >= kv // chunk,
    "sink": lambda q, kv: (kv < 2) | (q - kv < WINDOW) & (q >= kv),
    "lengths": lambda b, kv: kv < LENGTHS[b],
    "logical": lambda q, kv: torch.logical_and(torch.logical_not(q < kv), torch.logical_or(kv > 3, q == 1)),
    "torch_compare": lambda q, kv: torch.ge(q, kv) & torch.ne(kv, 3),
    "flex_and": flex_attention.and_masks(causal, lambda b, h, q, kv: kv > 1),
    "flex_or": flex_attention.or_masks(causal, sliding),
    "flex_noop": flex_attention.noop_mask,
    "constant": lambda: True,
    "nested": lambda b, h, i, j: (lambda x, y: x >= y)(i, j),
    "reduce": lambda q, kv: functools.reduce(operator.and_, [q >= kv, kv > 0, q < 12]),
    "class_attribute": lambda q, kv: (q - kv).abs() < Settings.window if Settings.kind == "local" else True,
    "dict": lambda q, kv: q - kv <= CONFIG["window"],
    "divmod": lambda q, kv: divmod(q, 3)[1] == kv % 3,
    "round": lambda q, kv: round(q / 4) == kv // 4,
    "fmod": lambda q, kv: torch.fmod(q - kv, 3) == 1,
    "trunc": lambda q, kv: torch.div(q - kv, 3, rounding_mode="trunc") == 0,
    "floor": lambda q, kv: torch.div(q - kv, 3, rounding_mode="floor") == -1,
    "int_cast": lambda q, kv: int(q / 3) == int(kv / 3),
    "static": lambda q, kv: all(q - kv != i for i in range(static(WINDOW))),
    "power_loop": lambda q, kv: any(q - kv == 2**i for i in range(4)),
}
SCORES: dict[str, Callable[..., Any]] = {
    "alibi": alibi,
    "alibi_formula": alibi_formula,
    "relative": relative,
    "relative_causal": relative_causal,
    "t5": t5,
    "soft_cap_then_mask": soft_cap_then_mask,
    "ramp": ramp,
    "method": LAYER.score,
    "module": LAYER,
    "table": lambda score, h, q, kv: score + TABLE[h, q - kv + N - 1],
    "table_shape": lambda score, h, q, kv: score + TABLE[h, q - kv + TABLE.shape[1] // 2],
    "table_flat": lambda score, h, q, kv: score + TABLE.flatten()[h * (2 * N - 1) + q - kv + N - 1],
    "bias": lambda score, b, h, q, kv: score + BIAS[b, h, q, kv],
    "bias_chained": lambda score, b, h, q, kv: score + BIAS[b][h][q][kv],
    "bias_ellipsis": lambda score, q, kv: score + BIAS[0, ..., kv][1][q],
    "bias_slice": lambda score, b, q, kv: score + BIAS[b, :, q, kv][2],
    "last_head": lambda score: score + SLOPES[-1],
    "exp_of_table": lambda score, h: score + torch.exp(SLOPES)[h] * 2,
    "exp_of_entry": lambda score, h: score + torch.exp(SLOPES[h]),
    "arithmetic_on_table": lambda score, h: score * (1 - SLOPES / SLOPES.sum())[h],
    "stacked": lambda score, h: score + torch.stack([SLOPES, -SLOPES])[1, h],
    "unrolled": lambda score, h: score + sum(SLOPES[i] * i for i in range(len(SLOPES))),
    "tanh_import": lambda score: 30 * tanh(score / 30),
    "math": lambda score, q, kv: score + mexp(-abs(q - kv)) + math.sqrt(q + 1) + math.floor(score),
    "numpy": lambda score, h: np.tanh(score) + ARRAY[h],
    "clamp": lambda score, q, kv: torch.clamp(score, min=-0.5, max=0.5) + (q - kv).clip(0, 3),
    "sigmoid": lambda score: torch.sigmoid(score) + F.softplus(score) + F.relu(score) + torch.sign(score),
    "minmax": lambda score, q, kv: max(score, 0) - min(abs(q - kv), WINDOW),
    "where_bool": lambda score, q, kv: torch.where((q >= kv).bool(), score, torch.tensor(-1e4)),
    "new_tensor": lambda score, q, kv: torch.where(q >= kv, score, score.new_tensor(-1.0)),
    "pow": lambda score, h: score**2 + 2.0 ** (-8 / HEADS * (h + 1)),
    "functions": lambda score: F.gelu(score) + F.silu(score) + F.leaky_relu(score, 0.1) + F.elu(score),
    "aten": lambda score: torch.ops.aten.exp(score) + torch.ops.aten.mul.Tensor(score, score),
    "distance_bool": lambda score, q, kv: score + (q > kv) * 0.5,
    "index_tensor": lambda score, h, q: score + SLOPES[DOCS[q]],
    "int_score": lambda score, q, kv: torch.where(q >= kv, q - kv, 0),
    "list_table": lambda score, h: score + torch.tensor([0.5, 1.5, 2.5, 3.5])[h],
    "arange": lambda score, q: score + torch.arange(N, device=q.device)[q] / N,
    "method_style": lambda score, q, kv: score.mul(2).add(q.sub(kv).abs().float().log1p()),
    "piecewise": lambda score, q, kv: score if q >= kv else (0.0 if q == kv - 1 else score / 2),
    "item": lambda score: score * SLOPES.max().item(),
    "lerp": lambda score: torch.lerp(score, torch.tensor(1.0, dtype=torch.float64), 0.25),
}  # fmt: skip


# Written for Python numbers; tensors have no divmod, and round otherwise.
PLAIN = ("divmod", "round", "math", "numpy", "minmax", "int_cast")


def same(found: Any, expected: Any) -> bool:
    expected = expected.item() if hasattr(expected, "item") else expected
    if isinstance(expected, bool) or isinstance(found, bool):
        return found is bool(expected)
    return found == expected or math.isclose(found, expected, rel_tol=1e-6, abs_tol=1e-9)


def call(function: Callable[..., Any], plain: bool, **symbols: Any) -> Any:
    """The function itself, on 0-dimensional tensors or plain numbers."""

    def number(value: Any) -> Any:
        return value if plain else torch.tensor(value, dtype=torch.float64 if isinstance(value, float) else torch.int64)

    score, b, h, q, kv = (number(symbols[name]) for name in ("score", "b", "h", "q", "kv"))
    given = {"score": score, "b": b, "h": h, "q": q, "kv": kv, "q_idx": q, "kv_idx": kv}
    names = trace_names(function)
    if set(names) <= given.keys():
        return function(**{name: given[name] for name in names})
    four = (b, h, q, kv)
    return function(*four) if len(names) in (0, 4) else function(*((q, kv) if len(names) == 2 else (score, *four)))


def trace_names(function: Callable[..., Any]) -> list[str]:
    import inspect

    target = function.forward if isinstance(function, torch.nn.Module) else function
    return [p.name for p in inspect.signature(target).parameters.values() if p.default is p.empty and p.kind.value != 2]


def check(function: Callable[..., Any], evaluate: Callable[..., Any], plain: bool = False) -> None:
    traced = trace(function, MASK_OR_SCORE)
    inputs = {name: binding.fetch() for name, binding in traced.bindings.items()}
    for b, h, q, kv in itertools.product((0, 1), (0, 3), (0, 1, 8, 15), (0, 2, 5, 7, 14)):
        score = math.sin(q * 3.7 + kv * 1.3 + h) * 2
        symbols = {"score": score, "b": b, "h": h, "q": q, "kv": kv}
        found = evaluate(traced.expr, symbols, inputs)
        expected = call(function, plain, **symbols)
        assert same(found, expected), (symbols, found, expected)


@pytest.mark.parametrize("name", [name for name in MASKS if name not in ("partial", "static_method")])
def test_masks(name: str, evaluate: Callable[..., Any]) -> None:
    if name in ("constant",):
        assert trace(MASKS[name], MASK_OR_SCORE).expr.value is True  # type: ignore[attr-defined]
        return
    check(MASKS[name], evaluate, name in PLAIN)


def test_masks_whose_names_are_not_symbols(evaluate: Callable[..., Any]) -> None:
    check(lambda q, kv: MASKS["static_method"](q, kv), evaluate)
    check(lambda q, kv: MASKS["partial"](q, kv), evaluate)


@pytest.mark.parametrize("name", SCORES)
def test_scores(name: str, evaluate: Callable[..., Any]) -> None:
    check(SCORES[name], evaluate, name in PLAIN)
