"""No normalisation."""

from __future__ import annotations

from attngen.normalizers.declare import streaming
from attngen.normalizers.normalizer import Normalizer
from attngen.remember import remembered


@remembered
def none() -> Normalizer:
    """The scores themselves are the weights: O = sum s V. An empty row gives 0; there is no log-sum-exp.

    With feature maps on the views this is unnormalised linear attention (retention, with a decay).
    """
    return streaming("none", phi=lambda s: s)
