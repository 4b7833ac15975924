"""What a normalizer, a bias, its gradient or dropout costs beside the spec without it, in one alternating set."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor

import attngen
from attngen import normalizers, scores, weights
from benchmarks.measure import interleave
from benchmarks.peak import Peak
from benchmarks.tables import Results, Section
from benchmarks.work import gradients

HEADER = ["spec", "ms", "beside", "ratio", "target", "met"]


@dataclass(frozen=True, slots=True)
class Variant:
    """A spec, the name of the one beside it, and the ratio of times that is allowed; None: for information.

    `learned`: the captured tensors whose gradients are computed beside those of q, k and v.
    """

    name: str
    spec: attngen.Spec
    base: str = ""
    most: float | None = None
    learned: tuple[Tensor, ...] = ()


SOFTMAX = "softmax"


def of_normalizers(h: int, n: int) -> list[Variant]:
    """Every streaming normalizer of the library beside softmax."""
    sink = torch.randn(h, requires_grad=True)
    made = {
        "sigmoid": normalizers.sigmoid(-math.log(n)),
        "softmax1": normalizers.softmax1(),
        "relu": normalizers.relu(),
        "relu, squared": normalizers.relu(2),
        "softplus_l1": normalizers.softplus_l1(),
        "laplace": normalizers.laplace(),
        "cog": normalizers.cog(),
        "softpick": normalizers.softpick(),
        "none": normalizers.none(),
        "affine": normalizers.affine(1.1, 1e-3),
    }
    found = [Variant(SOFTMAX, attngen.Spec())]
    found += [Variant(name, attngen.Spec(normalizer=made[name]), SOFTMAX, 1.15) for name in made]
    with_sink = attngen.Spec(normalizer=normalizers.softmax(sink=sink))
    return [*found, Variant("softmax, learned sink", with_sink, SOFTMAX, 1.15, (sink,))]


def of_biases(h: int, n: int) -> list[Variant]:
    """Biases whose tables are fixed beside none, and learned beside fixed."""
    shapes: dict[str, tuple[Callable[[Tensor], Any], tuple[int, ...], float | None]] = {
        "relative bias": (scores.relative_bias, (h, 2 * n - 1), 1.15),
        "alibi": (scores.alibi, (h,), None),
        "T5 buckets": (t5, (h, 32), None),
    }
    found = [Variant(SOFTMAX, attngen.Spec())]
    for name, (score, shape, most) in shapes.items():
        fixed = torch.rand(shape)
        learned = fixed.clone().requires_grad_()
        found.append(Variant(f"{name}, fixed", attngen.Spec(score=score(fixed)), SOFTMAX))
        found.append(
            Variant(f"{name}, learned", attngen.Spec(score=score(learned)), f"{name}, fixed", most, (learned,))
        )
    return found


def t5(table: Tensor) -> Callable[..., Any]:
    """T5's bias: half of the 32 buckets for each side, exact up to 8 tokens, then logarithmic up to 128."""

    def bucket(distance: Any) -> Any:
        near = torch.abs(distance)
        far = 8 + (torch.log(near.float() / 8) / math.log(128 / 8) * 8).to(torch.long)
        side = torch.where(near < 8, near, torch.clamp(far, max=15))
        return side + torch.where(distance > 0, 16, 0)

    return lambda score, h, q, kv: score + table[h, bucket(kv - q)]


def of_dropout(h: int, n: int) -> list[Variant]:
    """Dropout beside none."""
    with_dropout = attngen.Spec(weight=weights.dropout(0.1, 7))
    return [Variant("no dropout", attngen.Spec()), Variant("dropout 0.1", with_dropout, "no dropout", 1.25)]


@dataclass(frozen=True, slots=True)
class Set:
    """Variants that take turns, with fp32 tensors (1, h, n, d). Where it is not `judged`, targets do not apply."""

    title: str
    variants: Callable[[int, int], list[Variant]]
    backward: bool
    judged: bool = True
    h: int = 8
    n: int = 2048
    d: int = 64


SETS = (
    Set("Normalizers, forward", of_normalizers, False),
    Set("Normalizers, forward + backward", of_normalizers, True),
    Set("Biases, forward + backward", of_biases, True),
    Set("Dropout, forward", of_dropout, False, judged=False),
    Set("Dropout, forward + backward", of_dropout, True),
)


def measure(chosen: Set, peak: Peak, rounds: int, results: Results) -> Section:
    """The table of one set; keeps the figures."""
    torch.manual_seed(0)
    variants = chosen.variants(chosen.h, chosen.n)
    calls = {variant.name: call_of(variant, chosen) for variant in variants}
    with torch.set_grad_enabled(chosen.backward):
        row = interleave(calls, peak, "fp32", rounds)
    section = Section(f"{chosen.title}, fp32, H {chosen.h}, N {chosen.n}, D {chosen.d}", HEADER)
    for variant in variants:
        sample = row.samples[variant.name]
        base = row.samples[variant.base or variant.name].median
        ratio = sample.median / base
        most = variant.most if chosen.judged else None
        verdict = row.verdict(None if most is None else ratio <= most)
        figures = {"set": section.title, "name": variant.name, "beside": variant.base, "seconds": asdict(sample)}
        figures |= {"ratio": ratio, "most": most, "target_met": verdict}
        figures |= {"rounds": row.rounds, "quiet_rounds": row.quiet, "peak_gflops": row.peak / 1e9}
        results.other.setdefault("variants", []).append(figures)
        target = "" if most is None else f"<= {most} x"
        beside = [variant.base, f"{ratio:.2f} x"] if variant.base else ["", ""]
        section.add([variant.name, f"{sample.median * 1e3:.2f}", *beside, target, verdict])
    return section


def call_of(variant: Variant, chosen: Set) -> Callable[[], Any]:
    """The kernel of a variant on random tensors, with gradients where the set has them."""
    q, k, v = (torch.randn(1, chosen.h, chosen.n, chosen.d) for _ in range(3))
    kernel = attngen.compile(variant.spec)
    if not chosen.backward:
        return lambda: kernel(q, k, v)
    return gradients(lambda: kernel(q, k, v), torch.randn_like(v), q, k, v, *variant.learned)
