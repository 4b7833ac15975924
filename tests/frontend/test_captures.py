"""Captured values: read anew through their access path, differentiable, never baked."""

from __future__ import annotations

import enum
import functools
import types
import weakref
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest
import torch
from torch.fx.experimental.proxy_tensor import make_fx

from attngen.errors import InputError
from attngen.frontend import MASK, SCORE, Traced, trace

WINDOW = 5
SLOPES = torch.arange(4.0)


def only(traced: Traced) -> Any:
    (binding,) = traced.bindings.values()
    return binding.fetch()


def test_number_in_a_cell_is_read_anew() -> None:
    window = 3

    def mask(q, kv):
        return q - kv < window

    traced = trace(mask, MASK)
    assert [(i.name, i.axes, i.type, i.grad) for i in traced.inputs] == [("window", (), "int", False)]
    assert only(traced) == 3
    window = 7
    assert only(traced) == 7


def test_global_is_read_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    traced = trace(lambda q, kv: q - kv < WINDOW, MASK)
    monkeypatch.setitem(globals(), "WINDOW", 11)
    assert only(traced) == 11


def test_default_is_read_anew() -> None:
    def mask(q, kv, window=4, *, step=2):
        return (q - kv < window) & (kv % step == 0)

    traced = trace(mask, MASK)
    mask.__defaults__ = (9,)
    mask.__kwdefaults__["step"] = 3
    assert {name: b.fetch() for name, b in traced.bindings.items()} == {"window": 9, "step": 3}


def test_tensor_changed_in_place_rebound_or_replaced() -> None:
    layer = torch.nn.Linear(2, 4)

    def score(score, h):
        return score + layer.bias[h]

    traced = trace(score, SCORE)
    assert only(traced) is layer.bias
    with torch.no_grad():
        layer.bias.fill_(2.0)
    assert only(traced)[0] == 2.0
    layer.bias = torch.nn.Parameter(torch.zeros(4))
    assert only(traced) is layer.bias
    layer = torch.nn.Linear(2, 4)
    assert only(traced) is layer.bias


def test_tensor_input_is_described() -> None:
    bias = torch.zeros(2, 3, 4, dtype=torch.bfloat16)
    ids = torch.zeros(5, dtype=torch.int32)
    seen = torch.zeros(5, dtype=torch.bool)
    traced = trace(lambda score, h, q, kv: score + bias[0, h, q] + ids[q] + seen[kv], SCORE)
    assert [(i.name, i.axes, i.type, i.grad) for i in traced.inputs] == [
        ("bias", ("?", "?", "?"), "float", True),
        ("ids", ("?",), "int", False),
        ("seen", ("?",), "bool", False),
    ]


def test_scalar_tensor_is_a_differentiable_input_of_one_entry(text: Callable[..., str]) -> None:
    tau = torch.nn.Parameter(torch.tensor(2.0))
    function = lambda score: score * tau.exp()  # noqa: E731
    traced = trace(function, SCORE)
    assert [(i.name, i.axes, i.grad) for i in traced.inputs] == [("tau", ("?",), True)]
    assert text(function, SCORE) == "score * exp(tau[0])"
    assert only(traced).shape == (1,)
    only(traced).sum().backward()
    assert tau.grad == 1
    tau = torch.nn.Parameter(torch.tensor(3.0))
    assert only(traced) == 3.0
    tau = 2.0  # type: ignore[assignment]
    with pytest.raises(
        InputError, match=r"tau: was a float tensor with 0 dimensions when it was traced, is float 2\.0 now"
    ):
        only(traced)


def test_scalar_tensors_of_integers_and_bools_are_numbers() -> None:
    window, flag = torch.tensor(7), torch.tensor(True)
    traced = trace(lambda q, kv: (q - kv < window) & flag, MASK)
    assert [(i.name, i.axes, i.type, i.grad) for i in traced.inputs] == [
        ("window", (), "int", False), ("flag", (), "bool", False),
    ]  # fmt: skip
    assert [b.fetch() for b in traced.bindings.values()] == [7, True]


@pytest.mark.parametrize("work", [
    lambda t: torch.exp(t), lambda t: t * 2, lambda t: 1 - t, lambda t: t.flatten().float(), lambda t: -t,
    lambda t: torch.nn.functional.softplus(t, beta=2.0), lambda t: t[1:], lambda t: torch.cat([t, t]),
    lambda t: t @ t[:, None], lambda t: t.to(torch.float64), lambda t: torch.softmax(t, -1), lambda t: t / t.sum(),
    lambda t: t.max(dim=0, keepdim=True)[0],
])  # fmt: skip
def test_work_on_a_tensor_alone_is_recorded_and_differentiable(work: Callable[[Any], Any]) -> None:
    table = torch.rand(4, requires_grad=True)
    traced = trace(lambda score, h: score + work(table)[h], SCORE)
    assert torch.equal(only(traced), work(table))
    (gradient,) = torch.autograd.grad(only(traced).sum(), table)
    assert torch.allclose(gradient, torch.autograd.grad(work(table).sum(), table)[0])
    with torch.no_grad():
        table.mul_(3)
    assert torch.equal(only(traced), work(table))


def test_shapes_follow_the_tensor() -> None:
    table = torch.rand(2, 7)
    traced = trace(
        lambda score, h, q, kv: score + table[h, q - kv + table.shape[1] // 2] * len(table) * table.size(0), SCORE
    )
    assert {b.path: b.fetch() for b in traced.bindings.values() if b.rank is None} == {
        "table.shape[1]": 7,
        "table.shape[0]": 2,
    }
    table = torch.rand(2, 11)
    assert next(b for b in traced.bindings.values() if b.path == "table.shape[1]").fetch() == 11


def test_recorded_work_takes_captured_numbers() -> None:
    length, gain = 6, 0.5
    traced = trace(lambda score, q: score + (torch.arange(length * 2) * gain)[q], SCORE)
    binding = next(iter(traced.bindings.values()))
    assert binding.created
    assert torch.equal(binding.fetch(), torch.arange(12) * 0.5)
    length, gain = 2, 3.0
    assert torch.equal(binding.fetch(), torch.arange(4) * 3.0)


def test_item_of_a_tensor_is_a_run_time_scalar() -> None:
    slopes = torch.tensor([1.0, 4.0])
    traced = trace(lambda score: score * slopes.max().item(), SCORE)
    assert only(traced) == 4.0
    slopes[0] = 9.0
    assert only(traced) == 9.0


def test_numpy_and_symbolic_numbers() -> None:
    one, two, zero = np.float32(0.5), np.int64(3), np.array(2.0)
    slopes = np.arange(4.0)
    traced = trace(lambda score, h: score * one + two + zero + slopes[h], SCORE)
    assert [(i.name, i.axes, i.type, i.grad) for i in traced.inputs] == [
        ("one", (), "float", False), ("two", (), "int", False), ("zero", (), "float", False),
        ("slopes", ("?",), "float", True),
    ]  # fmt: skip
    found = [b.fetch() for b in traced.bindings.values()]
    assert found[:3] == [0.5, 3, 2.0]
    assert type(found[0]) is float
    assert isinstance(found[3], torch.Tensor)


class Mode(enum.Enum):
    LOCAL = "local"
    FULL = "full"


@dataclass
class Settings:
    window: int = 4
    mode: Mode = Mode.LOCAL
    causal: bool = True
    name: str | None = None
    sizes: list[int] = field(default_factory=lambda: [2, 3])
    table: dict[str, Any] = field(default_factory=lambda: {"slopes": torch.ones(4)})

    @property
    def half(self) -> int:
        return self.window // 2

    def near(self, q, kv):
        return abs(q - kv) < self.half


def test_objects_are_followed(text: Callable[..., str]) -> None:
    config = Settings()

    def mask(q, kv):
        if config.name is not None:
            return True
        near = config.near(q, kv) if config.mode is Mode.LOCAL else True
        rows, _ = config.sizes
        return near & (q // rows == kv // config.sizes[-1])

    traced = trace(mask, MASK)
    assert text(mask) == "(abs(q - kv) < half) and (q // sizes_0 == kv // sizes_1)"
    assert {b.path: b.fetch() for b in traced.bindings.values()} == {
        "config.half": 2, "config.sizes[0]": 2, "config.sizes[1]": 3,
    }  # fmt: skip
    config.window = 10
    config.sizes[0] = 5
    assert [b.fetch() for b in traced.bindings.values()] == [5, 5, 3]


def test_dict_of_tensors_and_nested_paths() -> None:
    config = Settings()
    traced = trace(lambda score, h: score + config.table["slopes"][h], SCORE)
    assert next(iter(traced.bindings.values())).path == "config.table['slopes']"
    config.table["slopes"] = torch.zeros(4)
    assert only(traced).sum() == 0


def test_modules_of_the_user(text: Callable[..., str]) -> None:
    module = types.ModuleType("my_settings")
    module.window = 5  # type: ignore[attr-defined]
    traced = trace(lambda q, kv: q - kv < module.window, MASK)
    module.window = 6  # type: ignore[attr-defined]
    assert only(traced) == 6


def test_list_of_numbers_indexed_by_a_head() -> None:
    slopes = [0.5, 0.25]
    traced = trace(lambda score, h: score + slopes[h], SCORE)
    slopes[1] = 4.0
    assert only(traced).tolist() == [0.5, 4.0]


def test_captured_flag_forks_and_follows(text: Callable[..., str]) -> None:
    causal = True
    function = lambda q, kv: q >= kv if causal else True  # noqa: E731
    assert text(function) == "(not causal) or (q >= kv)"
    traced = trace(function, MASK)
    causal = False
    assert only(traced) is False


def test_partials_and_cached_helpers(text: Callable[..., str]) -> None:
    @functools.lru_cache
    def near(distance, window):
        return abs(distance) < window

    mask = functools.partial(
        functools.partial(lambda q, kv, window, step: near(q - kv, window) & (kv % step == 0), step=2), window=3
    )
    traced = trace(mask, MASK)
    assert {name: b.fetch() for name, b in traced.bindings.items()} == {"window": 3, "step": 2}
    assert text(mask) == "(abs(q - kv) < window) and (kv % step == 0)"


def test_same_path_is_one_input_and_same_name_is_not() -> None:
    first = Settings(window=1)
    second = Settings(window=2)
    traced = trace(lambda q, kv: (q - kv < first.window) | (kv - q < second.window) | (kv < first.window), MASK)
    assert {name: b.path for name, b in traced.bindings.items()} == {
        "window": "first.window",
        "window_2": "second.window",
    }


def test_names_of_symbols_are_not_taken() -> None:
    d, tanh, v = 3, 4, 5
    traced = trace(lambda q, kv: q - kv < d + tanh + v, MASK)
    assert list(traced.bindings) == ["d_", "tanh_", "v_"]


def test_functions_of_the_user_are_not_changed() -> None:
    calls = 0
    seen: list[Any] = []

    def mask(q, kv):
        nonlocal calls
        calls += 1
        return q >= kv and kv > 1

    before = (mask.__code__, mask.__defaults__, mask.__closure__, dict(mask.__globals__))
    trace(mask, MASK)
    assert calls == 0
    assert seen == []
    assert (mask.__code__, mask.__defaults__, mask.__closure__, dict(mask.__globals__)) == before


def test_guards_remember_what_stayed_python(monkeypatch: pytest.MonkeyPatch) -> None:
    mode, steps, helper = "causal", 3, lambda q, kv: q >= kv

    def mask(q, kv):
        if mode == "causal":
            return helper(q, kv) and all(q != i for i in range(steps))
        return True

    traced = trace(mask, MASK)
    assert traced.bindings.stale() is None  # type: ignore[attr-defined]
    traced.bindings.check()  # type: ignore[attr-defined]
    steps = 4
    with pytest.raises(InputError, match="steps: has changed since the function was traced, when it had the value 3"):
        traced.bindings.check()  # type: ignore[attr-defined]
    steps, mode = 3, "full"
    with pytest.raises(
        InputError, match="mode: has changed since the function was traced, when it had the value 'causal'"
    ):
        traced.bindings.check()  # type: ignore[attr-defined]
    mode, helper = "causal", lambda q, kv: q > kv
    assert traced.bindings.stale().path == "helper"  # type: ignore[attr-defined]


class Biased(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.bias = torch.nn.Parameter(torch.zeros(4))

    def traced(self) -> Any:
        return trace(lambda score, h: score + self.bias[h], SCORE)


def test_a_class_that_torch_puts_in_its_place() -> None:
    """As `fully_shard` does, too: what is read is still read by the same name."""
    module = Biased()
    traced = module.traced()
    torch.nn.utils.parametrize.register_parametrization(module, "bias", torch.nn.Softplus())
    assert type(module) is not Biased
    traced.bindings.check()
    assert torch.equal(only(traced), torch.nn.functional.softplus(torch.zeros(4)))
    only(traced).sum().backward()
    assert module.parametrizations.bias.original.grad is not None


def test_a_class_of_the_users_in_its_place() -> None:
    class Mine(Biased):
        pass

    module = Biased()
    traced = module.traced()
    module.__class__ = Mine
    with pytest.raises(InputError, match="self: has changed since the function was traced, when it had type Biased;"):
        traced.bindings.check()


def test_the_tracer_lets_go_of_tensors() -> None:
    slopes = torch.ones(4)
    held = weakref.ref(slopes)
    config = types.SimpleNamespace(slopes=slopes)
    traced = trace(lambda score, h: score + torch.exp(config.slopes)[h], SCORE)
    config.slopes = torch.zeros(4)
    del slopes
    assert held() is None
    assert only(traced).sum() == 4


def test_constants_under_another_default_device(text: Callable[..., str]) -> None:
    with torch.device("meta"):
        assert text(lambda score: score + torch.tensor(2.0), SCORE) == "score + 2.0"


def test_torch_cond(text: Callable[..., str]) -> None:
    function = lambda score, q, kv: torch.cond(q > kv, lambda s: s, lambda s: s * 2, (score,))  # noqa: E731
    assert text(function, SCORE) == "where(q > kv, score, score * 2)"


def test_symbolic_sizes() -> None:
    seen: list[Any] = []

    def run(x: torch.Tensor) -> torch.Tensor:
        n = x.shape[0]
        traced = trace(lambda q, kv: q - kv < n // 2, MASK)
        seen.append((traced.inputs, next(iter(traced.bindings.values())).fetch()))
        return x + 1

    make_fx(run, tracing_mode="symbolic")(torch.ones(6))
    ((found, fetched),) = seen
    assert [(i.name, i.type) for i in found] == [("n", "int")]
    assert fetched == 6


def test_infinities_are_constants(text: Callable[..., str]) -> None:
    hidden = float("-inf")
    assert text(lambda score, q, kv: torch.where(q >= kv, score, hidden)) == "where(q >= kv, score, -inf)"
