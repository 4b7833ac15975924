"""Bindings notice when what they read is gone or has become something else."""

from __future__ import annotations

import re
import types
from typing import Any

import numpy as np
import pytest
import torch

from attngen.errors import InputError
from attngen.frontend import MASK, SCORE, Binding, trace


def of(value: Any) -> tuple[types.SimpleNamespace, Binding]:
    config = types.SimpleNamespace(x=value)
    if hasattr(value, "ndim") and value.ndim:
        traced = trace(lambda score, h: score + config.x[h], SCORE)
    else:
        traced = trace(
            lambda score: torch.where(config.x > 0, score, 0.0) if isinstance(value, bool) else score + config.x, SCORE
        )
    (binding,) = traced.bindings.values()
    return config, binding


@pytest.mark.parametrize(("before", "after", "message"), [
    (3, 3.5, "config.x: was an int when it was traced, is float 3.5 now; compile again"),
    (3, None, "config.x: was an int when it was traced, is None now; compile again".replace("None", "NoneType None")),
    (3, torch.tensor(4), "config.x: was an int when it was traced, is a int64 tensor with 0 dimensions now; compile "
     "again"),
    (2.0, "2", "config.x: was a float when it was traced, is str '2' now; compile again"),
    (torch.ones(4), torch.ones(4, 4), "config.x: was a float tensor with 1 dimensions when it was traced, is a "
     "float32 tensor with 2 dimensions now"),
    (torch.ones(4), torch.ones(4).long(), "config.x: was a float tensor with 1 dimensions when it was traced, is a "
     "int64 tensor with 1 dimensions now"),
    (torch.ones(4), 3.0, "config.x: was a float tensor with 1 dimensions when it was traced, is float 3.0 now"),
    (torch.tensor(1.0), 3.0, "config.x: was a float tensor with 0 dimensions when it was traced, is float 3.0 now"),
])  # fmt: skip
def test_change_of_kind(before: Any, after: Any, message: str) -> None:
    config, binding = of(before)
    config.x = after
    with pytest.raises(InputError, match=f"^{re.escape(message)}$"):
        binding.fetch()


@pytest.mark.parametrize(("before", "after", "fetched"), [
    (2.0, 3, 3.0), (2.0, np.float32(1.5), 1.5), (3, np.int32(4), 4), (3, True, 1),
])  # fmt: skip
def test_harmless_change_of_type(before: Any, after: Any, fetched: Any) -> None:
    config, binding = of(before)
    config.x = after
    assert binding.fetch() == fetched
    assert type(binding.fetch()) is type(fetched)


def test_dtype_of_the_same_kind_may_change() -> None:
    config, binding = of(torch.ones(4))
    config.x = torch.ones(9, dtype=torch.bfloat16)
    assert binding.fetch() is config.x


def test_what_is_gone_is_named() -> None:
    config, binding = of(3)
    del config.x
    with pytest.raises(InputError, match=r"^config.x: cannot be read any more: AttributeError: "):
        binding.fetch()


def test_repr_is_short() -> None:
    _, binding = of(3)
    assert repr(binding) == "Binding(path='config.x', type='int', rank=None, created=False)"


def test_works_under_torch_compile() -> None:
    window = 3
    (binding,) = trace(lambda q, kv: q - kv < window, MASK).bindings.values()
    assert torch.compile(lambda x: x + binding.fetch(), backend="eager", fullgraph=True)(torch.ones(1)) == 4
