"""The contract of a lifted function: what torch.compile's users expect of one, and the errors at their lines."""

# mypy: ignore-errors
from __future__ import annotations

import logging
from collections.abc import Iterator
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

import attngen
from attngen.errors import LiftError, SpecError
from attngen.ir.nodes import default_scale
from attngen.lift.backend import Backend
from tests.lift import functions as f
from tests.lift.cases import CASES, qkv, rand
from tests.lift.test_functions import close

pytestmark = [
    pytest.mark.cxx,
    pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning", "ignore:The .grad attribute"),
]


@pytest.fixture(autouse=True)
def fresh_dynamo() -> Iterator[None]:
    torch._dynamo.reset()
    yield
    torch._dynamo.reset()


def error(found: Tensor, exact: Tensor) -> float:
    return float((found - exact).detach().norm() / exact.detach().norm())


# --- lengths ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("dynamic", "most"), [(None, 2), pytest.param(True, 1, marks=pytest.mark.slow)])
def test_a_new_length_is_no_new_trace(dynamic: bool | None, most: int) -> None:
    attn = attngen.compile(f.alibi_window, dynamic=dynamic)
    for n in (33, 40, 41, 57, 90):
        args = (*(rand(2, 4, n, 16, seed=s) for s in range(3)), torch.rand(4))
        assert error(attn(*args), f.alibi_window(*args)) <= 1e-5
    assert len(attn.backend.lifted) <= most
    assert all(spec.ir.branches[0].dots[0].scale == default_scale() for spec in attn.backend.lifted)


def test_the_mask_is_recovered_in_closed_form() -> None:
    attn = attngen.compile(f.alibi_window)
    args = (*qkv(), torch.rand(4))
    (spec,) = attn.explain(*args).specs
    facts = attngen.compile(spec).explain(*args[:3], slopes=args[3]).keysets[0]
    assert facts.form.startswith("closed form")
    assert facts.pairs == (sum(min(i + 1, 9) for i in range(33)) * 2 * 4,) * 2


def test_a_row_without_keys_gives_zero() -> None:
    def attn(q, k, v, keep):
        return (q @ k.mT).masked_fill(~keep, float("-inf")).softmax(-1) @ v

    out = attngen.compile(attn)(*qkv(), torch.zeros(33, dtype=torch.bool))
    assert torch.equal(out, torch.zeros_like(out))


# --- what a function is -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("function", "lifted"),
    [
        (f.plain, True),
        (f.baddbmm, True),  # four parameters, but k and v are tensors
        (f.packed_projection, True),
        (lambda q, kv: q >= kv, False),
        (lambda b, h, q_idx, kv_idx: q_idx >= kv_idx, False),
        (lambda x1, x2, x3, x4: x3 >= x4, False),
        (lambda s, b, h, i, j: s + i - j, False),
        (lambda score: score * 2, False),
    ],
)
def test_parameters_tell_functions_apart(function: Any, lifted: bool) -> None:
    assert (type(attngen.compile(function)).__name__ == "Lifted") == lifted


def test_it_can_be_said() -> None:
    def attn(a, b, c, d):
        return (a @ b.mT + d).softmax(-1) @ c

    assert type(attngen.compile(attn, lift=True)).__name__ == "Lifted"
    with pytest.raises(SpecError):
        attngen.compile(f.plain, lift=False)


def test_options() -> None:
    with pytest.raises(SpecError, match="mode: got 'fast'; allowed: default, max-autotune"):
        attngen.compile(f.plain, mode="fast")
    with pytest.raises(SpecError, match="fullgraph: for functions of tensors, which have no place beside normalizer"):
        attngen.compile(normalizer="sigmoid", fullgraph=True)
    with pytest.raises(SpecError, match=r"dynamic, lift: .* no place beside a finished Spec"):
        attngen.compile(attngen.Spec(), dynamic=True, lift=True)
    with pytest.raises(SpecError, match="layout: got 'bnhd', but a function of tensors has a layout of its own"):
        attngen.compile(f.plain, layout="bnhd")
    with pytest.raises(SpecError, match="dynamic: only for functions of tensors"):
        attngen.compile(lambda q, kv: q >= kv, dynamic=True, lift=False)
    attn = attngen.compile(mode="max-autotune", backend="reference", fullgraph=True)(f.plain)
    assert error(attn(*qkv()), f.plain(*qkv())) <= 1e-5
    assert attn.__name__ == "plain"


# --- around it --------------------------------------------------------------------------------------------------------


class Block(nn.Module):
    """Self-attention with a window that is an attribute, and slopes that are parameters."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.project = nn.Linear(64, 192)
        self.slopes = nn.Parameter(torch.rand(4))
        self.window = 9

    def forward(self, x: Tensor) -> Tensor:
        b, n, c = x.shape
        q, k, v = (t.view(b, n, 4, 16).transpose(1, 2) for t in self.project(x).chunk(3, -1))
        return self.attend(q, k, v).transpose(1, 2).reshape(b, n, c)

    def attend(self, q, k, v):
        r = torch.arange(q.shape[-2])
        d = r[:, None] - r
        s = q @ k.mT / 4 - self.slopes[:, None, None] * d.abs()
        return s.masked_fill((d < 0) | (d >= self.window), float("-inf")).softmax(-1) @ v


def steps(module: nn.Module, run: Any) -> list[Tensor]:
    module.zero_grad()
    out = run(rand(2, 33, 64))
    (out * torch.linspace(-1, 1, out.numel()).view(out.shape)).sum().backward()
    return [out.detach(), *(p.grad.clone() for p in module.parameters())]


@pytest.mark.parametrize("inner", [None, pytest.param("inductor", marks=pytest.mark.slow)])
def test_a_module(inner: str | None) -> None:
    module = Block()
    lifted = attngen.compile(module, fullgraph=True, backend=inner)
    close(steps(module, lifted), steps(module, module))
    assert [name for name, _ in lifted.named_parameters()] == [f"_orig_mod.{n}" for n, _ in module.named_parameters()]
    assert "score - slopes[h] * abs(q - kv)" in str(lifted.explain(rand(2, 33, 64)))


def test_the_layers_of_a_model_share_one_graph(monkeypatch: pytest.MonkeyPatch) -> None:
    read, rewrite = [], Backend.rewrite
    monkeypatch.setattr(Backend, "rewrite", lambda *args: (read.append(args), rewrite(*args))[1])
    layers = [attngen.compile(Block()) for _ in range(10)]
    x = rand(2, 33, 64)
    for layer in layers:
        layer(x)
    assert len(read) == 1


@pytest.mark.slow
def test_attributes_are_read_anew_and_explain_leaves_no_graph() -> None:
    module = Block()
    lifted = attngen.compile(module, fullgraph=True)
    for window in (9, 5, 7):
        module.window = window
        close(steps(module, lifted), steps(module, module))
        for _ in range(4):
            assert len(lifted.explain(rand(2, 33, 64)).specs) == 1


def test_a_method() -> None:
    class Decorated(Block):
        attend = attngen.compile(Block.attend, fullgraph=True)

    module, plain = Decorated(), Block()
    close(steps(module, module), steps(plain, plain))
    assert len(Decorated.attend.backend.lifted) == 1


def test_torch_compile_around_it() -> None:
    attn = attngen.compile(f.causal_bool_triu)
    args = qkv()
    found = torch.compile(lambda q, k, v: attn(2 * q, k, v) + 1, fullgraph=True, backend="aot_eager")(*args)
    assert error(found, f.causal_bool_triu(2 * args[0], *args[1:]) + 1) <= 1e-5


def test_autocast_and_checkpointing() -> None:
    attn = attngen.compile(f.causal_bool_triu, fullgraph=True)
    q, k, v = (t.requires_grad_() for t in qkv())
    with torch.autocast("cpu", torch.bfloat16):
        out = checkpoint(attn, q, k, v, use_reentrant=False)
        expected = f.causal_bool_triu(q, k, v)
    assert out.dtype == expected.dtype == torch.bfloat16
    assert error(out, expected) <= 1e-2
    (found,) = torch.autograd.grad(out.float().sum(), q)
    (exact,) = torch.autograd.grad(expected.float().sum(), q)
    assert error(found, exact) <= 2e-2


@pytest.mark.slow
def test_dropout_draws_from_torchs_generator() -> None:
    def attn(q, k, v):
        return F.dropout((q @ k.mT / 4).softmax(-1), 0.5) @ v

    lifted, (q, k, v) = attngen.compile(attn, fullgraph=True), qkv()
    torch.manual_seed(0)
    first, second = lifted(q, k, v), lifted(q, k, v)
    torch.manual_seed(0)
    assert torch.equal(lifted(q, k, v), first)
    assert not torch.equal(first, second)
    mean = sum(lifted(q, k, v) for _ in range(200)) / 200
    assert error(mean, (q @ k.mT / 4).softmax(-1) @ v) <= 0.1


# --- explain ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name",
    ["alibi_window", *(pytest.param(n, marks=pytest.mark.slow) for n in ("documents", "sink", "sigmoid", "weighted"))],
)
def test_what_explain_prints_can_be_pasted(name: str) -> None:
    case = next(case for case in CASES if case.name == name)
    recovered = attngen.compile(case.function, lift=True).explain(*case.make())
    text = str(recovered).replace("out = kernel", "# out = kernel")
    space: dict[str, Any] = {}
    exec(text, space)
    assert space["spec"].ir == recovered.specs[0].ir


def test_explain_says_what_stays() -> None:
    text = str(attngen.compile(f.other_axis).explain(*qkv()))
    assert text.startswith("# other_axis: 0 of its attentions lifted")
    assert "# left to PyTorch: `softmax` over dimension -2 is not over the keys of a query" in text
    assert "#         return torch.softmax(q @ k.mT / 4, dim=-2) @ v" in text


# --- what does not lift -----------------------------------------------------------------------------------------------


def branches(q, k, v):
    s = q @ k.mT
    if s.max() > 3:
        s = s * 2
    return s.softmax(-1) @ v


def changes_an_input(q, k, v):
    bias = torch.zeros(33, 33)
    view = bias.view(-1)
    view += 1
    return (q @ k.mT + bias).softmax(-1) @ v


def assigns_a_part(q, k, v):
    mask = torch.ones(33, 33, dtype=torch.bool)
    mask[:, 3] = False
    return (q @ k.mT).masked_fill(~mask, float("-inf")).softmax(-1) @ v


def sorts(q, k, v):
    return (q @ k.mT).sort(-1).values.softmax(-1) @ v


def accumulates(q, k, v):
    return (q @ k.mT).cumsum(-1).softmax(-1) @ v


def without_gradient(q, k, v):
    with torch.no_grad():
        bias = q.sum(-1, keepdim=True) * k.sum(-1).unsqueeze(-2)
    return (q @ k.mT + bias).softmax(-1) @ v


def cut_in_the_middle(q, k, v):
    return (q @ k.mT).detach().softmax(-1) @ v


REASONS = [
    (branches, "a branch depends on the data of a tensor; write torch.where", "if s.max() > 3:"),
    (changes_an_input, "`iadd` in place on a tensor that the attention reads; make a new tensor", "view += 1"),
    (
        assigns_a_part,
        "a part of a tensor that the attention reads is assigned; write torch.where",
        "mask[:, 3] = False",
    ),
    (sorts, "`sort` between the two products has no form in a kernel", "sort(-1)"),
    (accumulates, "`cumsum` between the two products has no form in a kernel", "cumsum(-1)"),
    (without_gradient, "gradients are switched on or off inside of the function", "bias = q.sum"),
    (cut_in_the_middle, "`detach` on scores cuts a gradient", "detach()"),
]


@pytest.mark.parametrize(("function", "reason", "line"), REASONS, ids=[r[0].__name__ for r in REASONS])
def test_fullgraph_says_what_stood_in_the_way(function: Any, reason: str, line: str) -> None:
    with pytest.raises(LiftError) as caught:
        attngen.compile(function, fullgraph=True)(*(t.requires_grad_() for t in qkv()))
    assert reason in str(caught.value)
    assert caught.value.source is not None
    assert line in caught.value.source.text


@pytest.mark.parametrize("function", [r[0] for r in REASONS], ids=[r[0].__name__ for r in REASONS])
def test_without_fullgraph_it_is_what_it_was(function: Any) -> None:
    lifted, args = attngen.compile(function), [t.requires_grad_() for t in qkv()]
    assert torch.equal(lifted(*args), function(*args))
    assert not lifted.backend.lifted


def test_nothing_to_lift_is_an_error_under_fullgraph() -> None:
    with pytest.raises(LiftError, match="there is no attention in this function"):
        attngen.compile(f.mlp, fullgraph=True)(rand(2, 33, 16), rand(16, 8), rand(8, 16))


def test_it_is_said_once(caplog: pytest.LogCaptureFixture) -> None:
    lifted = attngen.compile(f.other_axis)
    for n in (33, 34, 35):
        lifted(*(rand(2, 4, n, 16) for _ in range(3)))
    assert len([r for r in caplog.records if r.name == "attngen" and r.levelno == logging.WARNING]) == 1


def test_an_index_that_wraps_around_is_left_to_pytorch(caplog: pytest.LogCaptureFixture) -> None:
    def attn(q, k, v, table):
        r = torch.arange(q.shape[-2])
        return (q @ k.mT + table[r[:, None] - r]).softmax(-1) @ v

    args = (*qkv(), rand(65))
    assert torch.equal(attngen.compile(attn)(*args), attn(*args))
    assert "index 0 of 'table', `q - kv`, takes values -32 to 32" in caplog.text
    with pytest.raises(attngen.AttngenError, match="takes values -32 to 32"):
        attngen.compile(attn, fullgraph=True)(*args)
