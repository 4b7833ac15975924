"""Small models of transformers, randomly initialised: logits and gradients are those of eager attention."""

# mypy: ignore-errors
from __future__ import annotations

import copy
from typing import Any

import pytest
import torch

from attngen.integrations.transformers import Visible, register
from attngen.ir.expr import loads, sym

transformers = pytest.importorskip("transformers")
pytestmark = [pytest.mark.cxx, pytest.mark.filterwarnings("ignore")]

SMALL = {
    "vocab_size": 64, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4,
    "num_key_value_heads": 2, "max_position_embeddings": 64, "pad_token_id": 0,
}  # fmt: skip
DECODER = {**SMALL, "head_dim": 8}
MODELS: dict[str, Any] = {
    "llama": lambda: transformers.LlamaForCausalLM(transformers.LlamaConfig(**DECODER)),
    "gemma2": lambda: transformers.Gemma2ForCausalLM(
        transformers.Gemma2Config(**DECODER, sliding_window=5, attn_logit_softcapping=5.0, query_pre_attn_scalar=8)
    ),
    "gemma3": lambda: transformers.Gemma3ForCausalLM(
        transformers.Gemma3TextConfig(**DECODER, sliding_window=5, query_pre_attn_scalar=8)
    ),
    "gpt_oss": lambda: transformers.GptOssForCausalLM(
        transformers.GptOssConfig(**DECODER, sliding_window=5, num_local_experts=2, num_experts_per_tok=1)
    ),
    "bert": lambda: transformers.BertForMaskedLM(
        transformers.BertConfig(**{k: v for k, v in SMALL.items() if k != "num_key_value_heads"})
    ),
}


@pytest.mark.parametrize(
    "name", ["llama", *(pytest.param(n, marks=pytest.mark.slow) for n in ("bert", "gpt_oss", "gemma2", "gemma3"))]
)
def test_logits_and_gradients_are_those_of_eager(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    masks, kernel = [], Visible.kernel
    monkeypatch.setattr(Visible, "kernel", lambda mask, settings: (masks.append(mask), kernel(mask, settings))[1])
    register()
    torch.manual_seed(0)
    eager = MODELS[name]().eval()
    ours = copy.deepcopy(eager)
    eager.set_attn_implementation("eager")
    ours.set_attn_implementation("attngen")
    tokens = torch.randint(1, 64, (2, 13))
    padding = torch.ones(2, 13, dtype=torch.long)
    padding[0, 9:] = 0
    found, exact = (model(input_ids=tokens, attention_mask=padding).logits for model in (ours, eager))
    torch.testing.assert_close(found[padding.bool()], exact[padding.bool()], rtol=1e-4, atol=1e-5)
    assert len(masks) == 2  # one for each layer
    for mask in masks:
        assert [one.indices for one in loads(mask.mask.traced.expr) if one.indices] == [(sym("b"), sym("kv"))]
    for logits in (found, exact):
        (logits * padding[..., None] * torch.linspace(-1, 1, 64)).sum().backward()
    for (place, one), other in zip(ours.named_parameters(), eager.parameters(), strict=True):
        if other.grad is not None:
            torch.testing.assert_close(one.grad, other.grad, rtol=1e-3, atol=1e-5, msg=place)


@pytest.mark.slow
def test_decoding_with_a_cache() -> None:
    register()
    torch.manual_seed(0)
    model = MODELS["llama"]().eval()
    tokens = torch.randint(1, 64, (2, 7))
    found = []
    for name in ("eager", "attngen"):
        model.set_attn_implementation(name)
        found.append(model.generate(tokens, max_new_tokens=5, do_sample=False, pad_token_id=0))
    assert torch.equal(*found)
