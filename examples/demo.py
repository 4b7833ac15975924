"""What `make demo` runs: attngen inside a real model, then five unseen mechanisms in a race against PyTorch.

Kernels are built in an empty cache, and PyTorch's compiler has its caches off, so both compile times are those of a
first call. The contenders of a row take turns; each time is a median.

    python examples/demo.py
"""

from __future__ import annotations

import os
import shutil
import tempfile
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from statistics import median

os.environ["TORCHINDUCTOR_FORCE_DISABLE_CACHES"] = "1"  # read when torch is imported

import minilm
import torch
import user_specs as user
from rich.console import Console
from rich.table import Table
from torch.nn.attention.flex_attention import create_block_mask, flex_attention
from torch.nn.functional import scaled_dot_product_attention

import attngen
from attngen import draw

BATCH, HEADS, TOKENS, HEAD_DIM = 1, user.HEADS, user.TOKENS, 64
PICTURES = Path(__file__).parent.parent / "build" / "pictures"
SECONDS_PER_ROW = 4.0


@dataclass(frozen=True, slots=True)
class Flex:
    """The same mechanism for FlexAttention, whose functions take every argument, by position."""

    mask_mod: Callable[..., torch.Tensor]
    score_mod: Callable[..., torch.Tensor] | None = None


@dataclass(frozen=True, slots=True)
class Case:
    """A spec, and how PyTorch says it, where PyTorch can. `dense` makes SDPA's mask from column q and row kv."""

    name: str
    what: str
    spec: attngen.Spec
    dense: Callable[[torch.Tensor, torch.Tensor], torch.Tensor] | None = None
    flex: Flex | None = None


def packed_bias(q: torch.Tensor, kv: torch.Tensor) -> torch.Tensor:
    """(1, H, N, N): ALiBi inside a document, -inf elsewhere."""
    h = torch.arange(HEADS).view(1, HEADS, 1, 1)
    return torch.where(user.same_document(0, h, q, kv), user.alibi(0.0, 0, h, q, kv), float("-inf"))


CASES = (
    Case(
        "fading_cap",
        "causal, soft-cap that tightens with distance",
        user.fading_cap,
        flex=Flex(
            mask_mod=lambda b, h, q, kv: user.causal(q, kv),
            score_mod=lambda score, b, h, q, kv: user.fade(score, q, kv),
        ),
    ),
    Case(
        "dilated",
        "every 4th of the last 512 keys, 4 sinks",
        user.dilated,
        dense=lambda q, kv: user.every_fourth(0, 0, q, kv),
        flex=Flex(mask_mod=user.every_fourth),
    ),
    Case(
        "packed",
        "8 packed documents, ALiBi from a tensor",
        user.packed,
        dense=packed_bias,
        flex=Flex(mask_mod=user.same_document, score_mod=user.alibi),
    ),
    Case("picture", "13 x 13 neighbours, own normalizer", user.picture),
    Case("sigmoid_bias", "sigmoid, learned clipped distance bias", user.sigmoid_bias),
)


@dataclass(frozen=True, slots=True)
class Row:
    """What was measured: seconds of the first call, seconds per later call, and the error of attngen."""

    case: Case
    compile_seconds: dict[str, float]
    seconds: dict[str, float]
    error: float


def contenders(
    case: Case, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor
) -> dict[str, Callable[[], Callable[[], torch.Tensor]]]:
    """By name, how to get ready; what that returns computes the result. Dense masks are not part of SDPA's time."""
    index = torch.arange(TOKENS)

    def ours() -> Callable[[], torch.Tensor]:
        kernel = attngen.compile(case.spec)
        return lambda: kernel(q, k, v)

    def sdpa() -> Callable[[], torch.Tensor]:
        assert case.dense is not None
        mask = case.dense(index[:, None], index[None, :])
        return lambda: scaled_dot_product_attention(q, k, v, attn_mask=mask)

    def flex() -> Callable[[], torch.Tensor]:
        assert case.flex is not None
        score_mod = case.flex.score_mod
        block_mask = create_block_mask(case.flex.mask_mod, None, None, TOKENS, TOKENS, device="cpu")
        compiled = torch.compile(flex_attention, dynamic=False)
        return lambda: compiled(q, k, v, score_mod=score_mod, block_mask=block_mask)

    ready = {"attngen": ours}
    if case.dense is not None:
        ready["SDPA"] = sdpa
    if case.flex is not None and shutil.which(os.environ.get("CXX", "g++")):  # PyTorch's CPU compiler needs one too
        ready["Flex"] = flex
    return ready


def measure(case: Case) -> Row:
    """Compile every contender, check attngen against float64, then let them take turns."""
    torch.manual_seed(0)
    q, k, v = torch.randn(3, BATCH, HEADS, TOKENS, HEAD_DIM)
    calls, compile_seconds = {}, {}
    for name, get_ready in contenders(case, q, k, v).items():
        start = time.perf_counter()
        calls[name] = get_ready()
        calls[name]()
        compile_seconds[name] = time.perf_counter() - start
    exact = attngen.compile(case.spec).reference(q, k, v)
    error = ((calls["attngen"]().double() - exact).norm() / exact.norm()).item()
    samples: dict[str, list[float]] = {name: [] for name in calls}
    end = time.perf_counter() + SECONDS_PER_ROW
    while time.perf_counter() < end:
        for name, call in calls.items():
            start = time.perf_counter()
            call()
            samples[name].append(time.perf_counter() - start)
    return Row(case, compile_seconds, {name: median(times) for name, times in samples.items()}, error)


def cells(row: Row) -> tuple[str, ...]:
    """One line of the table."""

    def against(name: str) -> str:
        if name not in row.seconds:
            return "n/a"
        return f"{1e3 * row.seconds[name]:.1f} ms\n[bold]{row.seconds[name] / row.seconds['attngen']:.1f} x[/]"

    compiling = [f"{name} {seconds:.1f} s" for name, seconds in row.compile_seconds.items() if name != "SDPA"]
    return (
        f"[bold]{row.case.name}[/]\n[dim]{row.case.what}[/]",
        "\n".join(compiling),
        f"{1e3 * row.seconds['attngen']:.1f} ms",
        against("SDPA"),
        against("Flex"),
        f"{row.error:.0e}",
    )


def draw_picture(case: Case) -> Path:
    """Write the mask, drawn from its tile classes, as a PNG."""
    PICTURES.mkdir(parents=True, exist_ok=True)
    path = PICTURES / f"{case.name}.png"
    path.write_bytes(draw.png(case.spec, TOKENS, n_b=BATCH, n_h=HEADS))
    return path


def race(console: Console) -> None:
    """Measure every case and print the table."""
    warnings.filterwarnings("ignore", message="dynamo_pgo force disabled")
    torch.compile(torch.sin)(torch.ones(8))  # PyTorch's compiler starts up: not part of anybody's compile time
    table = Table(
        title=f"B {BATCH}, H {HEADS}, N {TOKENS}, D {HEAD_DIM}, float32, {torch.get_num_threads()} threads",
        caption="compile: until the first result. x: attngen is that many times faster. error: relative, to float64. "
        "n/a: SDPA takes no score function, and both know softmax only.",
        show_lines=True,
    )
    table.add_column("spec")
    for heading in ("compile", "attngen", "SDPA", "Flex", "error"):
        table.add_column(heading, justify="right", no_wrap=True)
    for case in CASES:
        with console.status(f"{case.name}: compiling and measuring"):
            table.add_row(*cells(measure(case)))
    console.print(table)


def main() -> None:
    """The model, the race, the pictures."""
    console = Console()
    console.width = max(console.width, 96)  # a log has 80 columns, which is too narrow for the table
    console.rule("a pretrained sentence encoder on attngen kernels")
    minilm.main(console)
    console.rule("five mechanisms from examples/user_specs.py")
    race(console)
    for case in CASES:
        console.print(f"mask of {case.name}: {os.path.relpath(draw_picture(case))}")


if __name__ == "__main__":
    with tempfile.TemporaryDirectory(prefix="attngen-demo-") as cache:
        os.environ["ATTNGEN_CACHE_DIR"] = cache
        with torch.no_grad():
            main()
