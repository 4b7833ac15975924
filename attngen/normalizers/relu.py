"""ReLU attention."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

from attngen.arguments import number, one_of
from attngen.frontend import static
from attngen.normalizers.declare import streaming
from attngen.normalizers.normalizer import Normalizer
from attngen.remember import remembered


@remembered
def relu(power: float = 1, divide_by: Literal["n_k", "count", "none"] = "n_k") -> Normalizer:
    """relu(s) ** power, divided by the number of keys. An empty row gives 0; there is no log-sum-exp.

    `power` >= 1 is a constant of the kernel: 1 (arXiv 2309.08586), 2 (Primer's squared ReLU, arXiv 2109.08668).
    `divide_by` "n_k" divides by the length of the keys, masked or not, as the paper does; "count" by the number of keys
    that the row sees; "none" by nothing.
    """
    import torch

    exponent = static(number("power", power, low=1))
    one_of("divide_by", divide_by, ("n_k", "count", "none"))
    finalize: dict[str, Callable[..., Any]] = {
        "n_k": lambda acc, n_k: acc / n_k,
        "count": lambda acc, count: acc / torch.clamp(count, min=1),  # an empty row: 0 / 1
        "none": lambda acc: acc,
    }
    if exponent == 1:
        return streaming("relu", phi=lambda s: torch.relu(s), finalize=finalize[divide_by])
    return streaming("relu", phi=lambda s: torch.relu(s) ** exponent, finalize=finalize[divide_by])
