"""Gradients of a kernel from a bundle: what its backward launches, and what it says where it has none."""

from __future__ import annotations

import pytest
import torch

import attngen
from attngen.codegen.bundle.files import open_bundle
from tests.aot.calls import ALIBI, EARLY_SINK, SLOPES, Q, loaded, refused
from tests.aot.conftest import Make
from tests.aot.pretend import Recorder

FORWARD_ONLY = (
    "q, k, v: require grad, and this bundle holds no backward: it was built without one (--forward-only); call its "
    "kernel under torch.no_grad(), or use attngen.compile"
)


def test_gradients_of_a_bundle_without_a_backward(make: Make) -> None:
    kernel, driver = loaded(make(ALIBI, backward=False), {"slopes": SLOPES})
    q = Q.clone().requires_grad_()
    assert refused(lambda: kernel(q, Q, Q)) == FORWARD_ONLY
    with pytest.raises(Exception, match="this bundle holds no backward: it was built without one"):
        torch.compile(lambda q: kernel(q, Q, Q), fullgraph=True, backend="aot_eager")(q)
    with torch.no_grad():
        kernel(q, Q, Q)
    assert len(driver.launched) == 1


def test_gradients_of_a_spec_without_a_backward(make: Make, caplog: pytest.LogCaptureFixture) -> None:
    kernel, _ = loaded(make(EARLY_SINK, head_dims=[16, 32]))
    reason = "a sink in an earlier pass of a chain has no Triton backward yet"
    assert caplog.messages == [f"{EARLY_SINK.ir.name}: the bundle holds no backward: {reason}"]
    assert refused(lambda: kernel(Q.clone().requires_grad_(), Q, Q)) == (
        f"q, k, v: require grad, and this bundle holds no backward: {reason}; call its kernel under torch.no_grad(), "
        "or use attngen.compile"
    )


# Gradients


def codes(driver: Recorder) -> list[str]:
    return [launch.image.decode().removeprefix("sm_90 ") for launch in driver.launched]


def test_a_backward_launches_three_kernels(make: Make) -> None:
    directory = make(ALIBI)
    kernel, driver = loaded(directory, {"slopes": SLOPES})
    q, k, v = (torch.zeros(3, 2, n, 16, dtype=torch.bfloat16).requires_grad_() for n in (200, 40, 40))
    out, lse = kernel(q, k, v, return_lse=True)
    dout, dlse = torch.ones_like(out), torch.ones_like(lse)
    dq, dk, dv = torch.autograd.grad((out, lse), (q, k, v), (dout, dlse))
    names = ("rows", "queries", "keys")
    assert codes(driver) == ["forward forward aligned", *(f"backward {name} aligned" for name in names)]
    assert [launch.symbol for launch in driver.launched] == ["forward", *names]
    kernels = {kernel.role: kernel for kernel in open_bundle(directory).manifest.problems[0].kernels[:4]}
    passed = {name: [n for n, _ in kernels[name].variants[0].passed] for name in kernels}
    values = {x.symbol: dict(zip(passed[x.symbol], x.values, strict=True)) for x in driver.launched}
    tensors = {"q": q, "k": k, "v": v, "x3_slopes": SLOPES, "dout": dout, "dlse": dlse}
    tensors |= {"dq_0_0": dq, "dk_0_0_0": dk, "dv_0_0": dv}
    for name in names:
        assert [values[name][f"{t}_data"] for t in tensors] == [t.data_ptr() for t in tensors.values()]
        assert [values[name][n] for n in ("n_b", "n_h", "n_q", "most_keys", "has_dlse")] == [3, 2, 200, 40, 1]
    # What the forward saved is what the backward reads; and kernels of a backward share the state of rows.
    assert values["forward"]["save"] == 1
    assert len({each["saved_data"] for each in values.values()}) == 1
    assert len({values[name]["state_data"] for name in names}) == 1
    queries, keys = (kernels[name].config for name in ("queries", "keys"))
    tiles = [-(-200 // queries["block_m"]), -(-200 // queries["block_m"]), -(-40 // keys["block_n"])]
    assert [launch.grid for launch in driver.launched[1:]] == [(3 * 2 * n, 1, 1) for n in tiles]


def test_the_log_sum_exp_may_have_no_gradient(make: Make) -> None:
    kernel, driver = loaded(make(ALIBI), {"slopes": SLOPES})
    q = Q.clone().requires_grad_()
    kernel(q, Q, Q).backward(Q)
    assert len(driver.launched) == 4
    assert q.grad is not None
    assert q.grad.shape == Q.shape


def test_a_cotangent_that_is_not_aligned_takes_the_other_code(make: Make) -> None:
    kernel, driver = loaded(make(ALIBI), {"slopes": SLOPES})
    out = kernel(Q.clone().requires_grad_(), Q, Q)
    out.backward(out.detach().repeat_interleave(2, -1)[..., ::2])
    names = ("rows", "queries", "keys")
    assert codes(driver) == ["forward forward aligned", *(f"backward {name} generic" for name in names)]


def test_the_cotangent_of_a_sum_is_written_out(make: Make) -> None:
    kernel, driver = loaded(make(ALIBI), {"slopes": SLOPES})
    kernel(Q.clone().requires_grad_(), Q, Q).sum().backward()  # one number, seen everywhere
    assert codes(driver)[1:] == [f"backward {name} aligned" for name in ("rows", "queries", "keys")]


def test_gradients_of_inputs_have_kernels_of_their_own(make: Make) -> None:
    kernel, driver = loaded(make(ALIBI))
    q, slopes = Q.clone().requires_grad_(), SLOPES.clone().requires_grad_()
    kernel(q, Q, Q, slopes=slopes).backward(Q)
    assert slopes.grad is not None
    assert slopes.grad.shape == slopes.shape
    kernel(q, Q, Q, slopes=SLOPES).backward(Q)
    names = ("rows", "queries", "keys")
    forward = "forward forward aligned"
    learned, plain = ([f"{file} {name} aligned" for name in names] for file in ("backward_inputs", "backward"))
    assert codes(driver) == [forward, *learned, forward, *plain]


def test_what_only_masks_read_has_a_gradient_of_zeros(make: Make) -> None:
    near, gain = torch.ones(40).requires_grad_(), torch.ones(2).requires_grad_()
    spec = attngen.Spec(mask=lambda kv: near[kv] > 0.5, score=lambda score, h: score * gain[h])
    kernel, driver = loaded(make(spec), {"near": near, "gain": gain.detach()})
    kernel(Q, Q, Q).backward(Q)
    assert near.grad is not None
    assert torch.equal(near.grad, torch.zeros(40))
    assert codes(driver)[1] == "backward rows aligned"


def test_gradients_under_torch_compile(make: Make) -> None:
    kernel, driver = loaded(make(ALIBI), {"slopes": SLOPES})
    q = Q.clone().requires_grad_()
    torch.compile(lambda q: kernel(q, Q, Q), fullgraph=True, backend="aot_eager")(q).backward(Q)
    assert [launch.symbol for launch in driver.launched] == ["forward", "rows", "queries", "keys"]


def test_the_source_of_a_backward(make: Make) -> None:
    directory = make(ALIBI)
    kernel, _ = loaded(directory, {"slopes": SLOPES})
    compiled = kernel.engine().compiled(Q, Q, Q, [SLOPES], False, True)
    backend, (config,) = compiled.backend, compiled.backend.configs_backward(compiled.plan)
    for wanted, file in ((frozenset[str](), "backward.py"), (frozenset({"slopes"}), "backward_inputs.py")):
        found = backend.emit_backward(compiled.plan, config, wanted)
        assert found.text == (directory / "bf16-d16/sm_90" / file).read_text()
