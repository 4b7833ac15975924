"""`attngen bench`: the same attention by SDPA and FlexAttention, and what they do not know."""

from __future__ import annotations

from typing import Any

import pytest
import torch

import attngen
from attngen import masks, scores
from attngen.bench import Refused, peer, race
from attngen.bench import peers as module
from attngen.samples import Shape, sample
from tests.cli.conftest import Run

pytestmark = pytest.mark.cxx
SHAPE = Shape(2, 4, 2, 48, 48, 16, 16)
SLOPES = torch.tensor([0.5, 0.25, 0.1, 1.0])
IDS = torch.arange(96).reshape(2, 48) // 7
SPECS = {
    "full": lambda: attngen.Spec(scale=0.3),
    "causal": lambda: attngen.Spec(mask=masks.causal()),
    "window": lambda: attngen.Spec(mask=masks.sliding_window(9)),
    "documents": lambda: attngen.Spec(mask=masks.document(IDS)),
    "alibi": lambda: attngen.Spec(mask=masks.causal(), score=scores.alibi(SLOPES)),
    "image": lambda: attngen.Spec(mask=masks.neighborhood((6, 8), 3)),
}


def called(name: str, spec: attngen.Spec) -> tuple[Any, Any]:
    kernel = attngen.compile(spec)
    call = sample(spec, SHAPE)
    found = peer(name, kernel, call.q, call.k, call.v, dict(call.inputs))
    return found, kernel(call.q, call.k, call.v, **call.inputs)


@pytest.mark.filterwarnings("ignore:flex_attention called without")
@pytest.mark.parametrize("name", list(SPECS))
@pytest.mark.parametrize("library", ["sdpa", pytest.param("flex", marks=pytest.mark.slow)])
def test_libraries_compute_the_same(library: str, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    # Its eager form is slow, and says the same.
    monkeypatch.setattr(torch, "compile", lambda function, **_: function)
    found, wanted = called(library, SPECS[name]())
    assert not isinstance(found, Refused), found
    result = race({"attngen": lambda: wanted, library: found}, "cpu", 0.0)
    assert result.refused == {}
    assert result.found[library].rounds == 5


def test_a_causal_mask_is_no_tensor(monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[dict[str, Any]] = []
    real = torch.nn.functional.scaled_dot_product_attention
    monkeypatch.setattr(
        torch.nn.functional, "scaled_dot_product_attention", lambda *a, **o: told.append(o) or real(*a, **o)
    )
    found, _ = called("sdpa", SPECS["causal"]())
    found()
    assert (told[0]["is_causal"], "attn_mask" in told[0]) == (True, False)


@pytest.mark.parametrize(
    ("spec", "reason"),
    [(lambda: attngen.Spec(normalizer="sigmoid"), "it has the softmax alone, not sigmoid"),
     (lambda: attngen.mechanisms.dual_triangle(), "it has one branch"),
     (lambda: attngen.Spec(score=scores.soft_cap(3.0)), "of scores it knows what is added to them"),
     (lambda: attngen.Spec(scale=torch.ones(4)), "its scale is one number")],
)  # fmt: skip
def test_what_sdpa_does_not_know(spec: Any, reason: str) -> None:
    found, _ = called("sdpa", spec())
    assert found == Refused(reason)


def test_what_disagrees_is_not_timed() -> None:
    wanted = torch.ones(1, 1, 4, 4)

    def broken() -> Any:
        raise ValueError("no kernel")

    calls = {"attngen": lambda: wanted, "a": lambda: wanted + 1, "b": lambda: wanted[..., :2], "c": broken}
    result = race(calls, "cpu", 0.0)
    assert list(result.found) == ["attngen"]
    assert result.refused["a"] == "its result is off by 1.0e+00: it is not timed"
    assert result.refused["b"] == "its result has the shape (1, 1, 4, 2), and (1, 1, 4, 4) is wanted"
    assert result.refused["c"] == "ValueError: no kernel"


def test_the_command(run: Run) -> None:
    result = run("bench", "causal", "--shape", "1,2,2,100,100,16", "--seconds", "0")
    assert result.exit_code == 0, result.output
    first, ours, sdpa = result.output.splitlines()
    assert first == "causal 1,2,2,100,100,16 fp32, 5 rounds"
    assert ours.startswith("  attngen ")
    assert " x the time of attngen (" in sdpa
    refused = run("bench", "causal", "--against", "flax")
    assert refused.exit_code == 2
    assert "--against: got 'flax'; allowed: sdpa, flex (did you mean 'flex'?)" in refused.output
    assert set(module.PEERS) == {"sdpa", "flex"}
