"""`attngen tune`."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from attngen.cli.options import SPEC_HELP, BackendOption, GridOption, HeadDimOption, ShapeOption
from attngen.errors import AttngenError, InputError, UnsupportedError

if TYPE_CHECKING:
    from attngen.autotune.tune import Outcome
    from attngen.autotune.workload import Workload

FAMILIES = ("causal", "neighborhood:dims=64x64,kernel_size=13", "dual_triangle",
            "sparse_linear:topk=0.05,projection=false")  # fmt: skip
"""What is tuned where no SPEC is given: dense, windows of an image, two triangles, sparse-linear."""
HEADS = {"cpu": 4, "cuda": 16}
DTYPES = {"cpu": "fp32", "cuda": "bf16"}
BUILDS = 60
"""Candidates of the static stage for a GPU that is not here."""

SpecArgument = Annotated[
    str | None,
    typer.Argument(
        metavar="[SPEC]", help=f"{SPEC_HELP} Without it: four families at common shapes.", show_default=False
    ),
]
DtypeOption = Annotated[
    str | None,
    typer.Option("--dtype", metavar="fp32|bf16|fp16", help="Default: fp32, on a GPU bf16.", show_default=False),
]
DeviceOption = Annotated[
    str | None,
    typer.Option(
        "--device",
        metavar="cpu|cuda:0|h200",
        help="Or a GPU that is not here: nothing is measured.",
        show_default=False,
    ),
]
StorageOption = Annotated[
    str | None,
    typer.Option(
        "--storage", metavar="URL", help="Search with optuna; processes with one storage share it.", show_default=False
    ),
]
FromOption = Annotated[
    Path | None,
    typer.Option("--from", metavar="FILE", help="The calls that ATTNGEN_RECORD wrote down.", show_default=False),
]


@dataclass(frozen=True, slots=True)
class Options:
    """What the command line says of a call. `gpu`: the name in the table of a GPU that is not here."""

    shape: str | None
    dtype: str | None
    grid: str | None
    head_dim: int | None
    where: str
    backend: str | None
    backward: bool
    gpu: str | None

    @property
    def kind(self) -> str:
        return "cpu" if self.where == "cpu" else "cuda"


def tune(
    spec: SpecArgument = None,
    shape: ShapeOption = None,
    dtype: DtypeOption = None,
    grid: GridOption = None,
    head_dim: HeadDimOption = None,
    device: DeviceOption = None,
    backend: BackendOption = None,
    backward: Annotated[bool, typer.Option("--backward", help="The kernels of gradients.")] = False,
    budget: Annotated[float, typer.Option("--budget", metavar="SECONDS", min=1, help="For each call, about.")] = 60.0,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="List the configs, and what is left out and why.")] = False,
    storage: StorageOption = None,
    from_: FromOption = None,
) -> None:
    """Measure configs for a call, and keep what was learned.

    Every candidate must agree with the float64 oracle before it is timed. Ctrl-C keeps what was learned so far.
    """
    from attngen.cli.tuning import table_name

    where = device or _device_here()
    gpu = table_name(where)
    if (spec is None or from_ is not None) and (shape or grid or head_dim):
        raise InputError("--shape, --grid, --head-dim: go with a SPEC; without one, common shapes are tuned")
    if gpu and (storage or from_):
        raise InputError(
            f"--storage, --from: nothing is measured, as there is no {gpu} on this machine; leave them out"
        )
    if from_ is not None:
        if spec is not None or backward or dtype or device or backend:
            raise InputError("--from: the file says what is called; leave SPEC and the options of a call out")
        works = _recorded(from_)
    else:
        told = Options(shape, dtype, grid, head_dim, where, backend, backward, gpu)
        works = _common(told) if spec is None else iter([_workload(spec, told)])
    skipped = 0
    for work in works:
        if isinstance(work, str):
            typer.echo(f"skipped: {work}")
            skipped += 1
            continue
        typer.echo(f"{work.spec.name}: {work.key}")
        _one(work, budget, dry_run, storage, gpu)
    raise typer.Exit(1 if skipped else 0)


def _recorded(path: Path) -> Iterator[Workload | str]:
    """Calls of a file, the first of each kind."""
    from attngen.autotune.recorded import read

    seen = set()
    for work in read(path):
        if isinstance(work, str):
            yield work
        elif work.key not in seen:
            seen.add(work.key)
            yield work


def _common(told: Options) -> Iterator[Workload | str]:
    """The four families at common shapes; in place of one that has no kernel here, why."""
    heads = HEADS[told.kind]
    for text in FAMILIES:
        try:
            yield _workload(text, replace(told, shape=f"1,{heads},{heads},4096,4096,64"))
        except UnsupportedError as problem:
            yield problem.message


def _device_here() -> str:
    import torch

    return "cuda" if torch.cuda.is_available() else "cpu"


def _workload(text: str, told: Options) -> Workload:
    from attngen.cli.problem import kernel_of, sample_of, shape_of
    from attngen.cli.target import resolve
    from attngen.cli.tuning import workload_of

    target = resolve(text, told.grid)
    shape = shape_of(target, told.shape, told.head_dim)
    call = sample_of(target, shape, told.dtype or DTYPES[told.kind], "cpu" if told.gpu else told.where)
    return workload_of(
        kernel_of(target, told.backend), call, "backward" if told.backward else "forward", told.gpu or ""
    )


def _one(work: Workload, budget: float, dry_run: bool, storage: str | None, gpu: str | None) -> None:
    from attngen.autotune.tune import build_stage, candidates, static_stage
    from attngen.cli.tuning_page import Bar, measured_lines, space_lines, static_lines

    if dry_run:
        lines = space_lines(static_stage(work))
    elif gpu:
        outcome = static_stage(work)
        chosen = candidates(outcome, BUILDS)
        with Bar(budget) as bar:
            build_stage(outcome, chosen, time.monotonic() + budget, bar.tell)
        lines = static_lines(outcome, len(chosen), gpu)
    else:
        lines = measured_lines(_measured(work, budget, storage))
    for line in lines:
        typer.echo(f"  {line}")


def _measured(work: Workload, budget: float, storage: str | None) -> Outcome:
    from attngen.autotune.tune import tune as measure
    from attngen.cli.tuning_page import Bar

    try:
        with Bar(budget) as bar:
            if storage is None:
                return measure(work, budget, bar.tell)
            from attngen.autotune.search import search

            return search(work, budget, storage, bar.tell)
    except KeyboardInterrupt:
        typer.echo("stopped; what was measured is kept, attngen db show has it", err=True)
        raise typer.Exit(130) from None
    except RuntimeError as problem:
        raise AttngenError(str(problem)) from None
