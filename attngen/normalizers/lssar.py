"""Length-scaled softplus attention with re-weighting."""

from __future__ import annotations

from typing import Any, Literal

from attngen.arguments import number, refuse
from attngen.frontend import static
from attngen.normalizers.declare import chained, streaming
from attngen.normalizers.normalizer import Normalizer
from attngen.normalizers.softplus_l1 import softplus_l1
from attngen.remember import remembered

TINY = 1e-30
"""Below it a re-weighted share counts as zero: far from the range of fp32, far below any share that matters."""


@remembered
def lssar(power: float, offset: float, amplify: float | Literal["n_k", "n_visible"] = "n_k") -> Normalizer:
    """Two passes: A = softplus(s) / sum softplus(s), then B = relu(amplify * A - offset) ** power, weights B / sum B.

    `power` >= 1 is a constant of the kernel; `offset` is a run-time number. `amplify` is a run-time number > 0, "n_k"
    (the mean of n_k * A is 1 where nothing is masked) or "n_visible", the number of keys that the row sees, for masks
    that give it in closed form (q + 1 under a causal mask). Powers are taken relative to the largest of the row, so
    none overflows. A row without a positive B gives 0, as does an empty row; there is no log-sum-exp. The length scale
    of the scores is `Spec(scale=lambda q: ...)`. Source: LSSAR, arXiv 2501.13428.
    """
    import torch

    exponent = static(float(number("power", power, low=1)))
    offset = float(number("offset", offset))
    excess = _excess(amplify, offset)
    tiny = static(TINY)

    def phi(s: Any, m: Any, n_k: Any, n_visible: Any) -> Any:
        b = excess(s, n_k, n_visible)
        return torch.where(b > tiny, torch.exp(exponent * (torch.log(torch.clamp(b, min=tiny)) - m)), 0.0)

    def anchor(s: Any, n_k: Any, n_visible: Any) -> Any:
        return torch.log(torch.clamp(excess(s, n_k, n_visible), min=tiny))

    return chained("lssar", softplus_l1(), streaming("reweight", phi=phi, psi=phi, anchor=anchor))


def _excess(amplify: float | str, offset: float) -> Any:
    """amplify * s - offset, as a function that the tracer follows."""
    if amplify == "n_k":
        return lambda s, n_k, n_visible: s * n_k - offset
    if amplify == "n_visible":
        return lambda s, n_k, n_visible: s * n_visible - offset
    if isinstance(amplify, str):
        raise refuse("amplify", amplify, "a number > 0, 'n_k' or 'n_visible'")
    factor = number("amplify", amplify, above=0, allowed="a number > 0, 'n_k' or 'n_visible'")
    return lambda s, n_k, n_visible: s * factor - offset
