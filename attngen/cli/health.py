"""What `attngen doctor` finds: facts in the order of printing, and what is left to do."""

from __future__ import annotations

import os
import platform
from collections.abc import Iterator
from dataclasses import dataclass, fields
from importlib.metadata import PackageNotFoundError, version

from attngen import __version__, settings
from attngen.errors import AttngenError

OPTIONAL = ("triton", "platformdirs", "cupy-cuda13x", "optuna")
REQUIRED = ("torch", "numpy", "sympy", "jinja2", "filelock", "rich", "typer")
LARGEST = 1e-5
Fact = tuple[str, str]


@dataclass(frozen=True, slots=True)
class Health:
    """Labelled facts, and the problems that keep kernels from being built or from being right."""

    facts: tuple[Fact, ...]
    problems: tuple[str, ...]


def examine() -> Health:
    """Looks at everything, and builds and checks a tiny kernel."""
    facts: list[Fact] = [*_packages()]
    problems: list[str] = []
    for part in (_settings, _compiler, _instructions, _openmp, _cache, _kernel):
        try:
            for label, fact, problem in part():
                facts.append((label, fact))
                if problem:
                    problems.append(problem)
        except AttngenError as error:
            problems.append(str(error))
    return Health(tuple(facts), tuple(dict.fromkeys(problems)))


def _packages() -> Iterator[Fact]:
    yield "attngen", __version__
    yield "python", f"{platform.python_version()} on {platform.system()} {platform.machine()}"
    for name in (*REQUIRED, *OPTIONAL):
        try:
            yield name, version(name)
        except PackageNotFoundError:
            yield name, "missing" if name in REQUIRED else "not installed (optional)"


Found = Iterator[tuple[str, str, str | None]]


def _settings() -> Found:
    for f in fields(settings.Settings):
        name = settings.variable(f.name)
        given = os.environ.get(name)
        yield name, f"{given or '(not set)'}: {f.metadata['help']}", None
    settings.current()


def _compiler() -> Found:
    from attngen.codegen.backends.cpu import compiler

    found = compiler.find()
    if isinstance(found, compiler.NoCompiler):
        yield "compiler", "none", found.reason
    else:
        yield "compiler", f"{' '.join(found.command)}: {found.version}", None


def _instructions() -> Found:
    from attngen.codegen.backends.cpu import isa

    name, _ = isa.processor()
    yield "processor", name, None
    forced = " (forced)" if settings.current().isa else ""
    yield "instruction sets", f"{', '.join(isa.available())}; kernels use {isa.choose()}{forced}", None


def _openmp() -> Found:
    import torch

    from attngen.codegen.backends.cpu import openmp

    runtime = openmp.share_torch_runtime()
    loaded = openmp.mapped()
    threads = f"{torch.get_num_threads()} threads"
    if runtime is None:
        yield "openmp", "no runtime: kernels run on one thread", None
        return
    shared = "shared with torch" if openmp.visible() else "not visible to kernels"
    several = f"; {len(loaded)} runtimes are loaded" if len(loaded) > 1 else ""
    problem = None if openmp.visible() else f"the OpenMP runtime {runtime} is not visible: kernels run on one thread"
    yield "openmp", f"{runtime.name}, {shared}, {threads}{several}", problem


def _cache() -> Found:
    from attngen.codegen import cache, cache_place
    from attngen.explain.page import binary

    root = cache.directory()
    reason = cache_place.distrust(root)
    if reason is None and root.exists() and not os.access(root, os.W_OK):
        reason = "it cannot be written to"
    state = f"{len(cache.list_entries())} kernels, {binary(cache.total_size())}" if root.exists() else "not made yet"
    variable = settings.variable("cache_dir")
    advice = f"the cache directory {root} is not used: {reason}. Set {variable} to one of your own."
    yield "cache", f"{root}: {state}" + (f"; not used: {reason}" if reason else ""), advice if reason else None


def _kernel() -> Found:
    from time import perf_counter

    from attngen.kernel import Kernel
    from attngen.masks import causal
    from attngen.samples import Shape, sample
    from attngen.spec import Spec

    kernel = Kernel(Spec(mask=causal()))
    call = sample(kernel.spec, Shape(1, 2, 2, 19, 19, 16, 16))
    begin = perf_counter()
    out = kernel(call.q, call.k, call.v)
    seconds = perf_counter() - begin
    wanted = kernel.reference(call.q, call.k, call.v)
    error = float((out.double() - wanted).norm() / wanted.norm())
    used = kernel.engine().compiled(call.q, call.k, call.v, [], False).backend.name
    wrong = f"a causal kernel of the {used} backend is wrong by {error:.2g} (allowed: {LARGEST:g})"
    problem = None if error <= LARGEST else wrong
    yield "test kernel", f"causal on the {used} backend, ready in {seconds:.2f} s, error {error:.1e}", problem
