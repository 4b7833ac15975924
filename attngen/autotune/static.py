"""The static stage: the kernels of a config are built and looked at in a process of their own, before they may run.

    python -m attngen.autotune.static

takes a job (pickled) on stdin and prints JSON. What passes is built into Triton's cache too, where the launch finds it.
"""

from __future__ import annotations

import json
import os
import pickle
import subprocess
import sys
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from attngen.codegen.backends.triton.ahead import ast_source, build_ahead
from attngen.codegen.backends.triton.backend import SOURCE
from attngen.codegen.backends.triton.lint import complaints, lint
from attngen.codegen.backends.triton.module import load
from attngen.codegen.devices import built_for
from attngen.errors import AttngenError

LONGEST = 120.0
"""Seconds that the builds of one config may take."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One kernel of a module, for tensors that are aligned."""

    name: str
    signature: dict[str, str]
    constants: dict[str, int]
    divisible: tuple[str, ...]
    config: Any


@dataclass(frozen=True, slots=True)
class Job:
    """The kernels of a config, and the architecture that they are built for. `given` are those that are as in the
    library's own config: what is said against them is no reason to refuse another one. `launched`: they are to run
    here, so they are built into Triton's cache as well."""

    path: Path
    entries: tuple[Entry, ...]
    given: frozenset[str]
    arch: str
    launched: bool = True

    @classmethod
    def of(cls, built: Any, own: Any, arch: str, launched: bool = True) -> Job:
        """Of what `build` or `build_backward` of the Triton backend gave for a config and for the library's own."""
        entries = [_entry(name, variants) for name, variants in built.kernels.items()]
        given = frozenset(e.name for e in entries if e.config == own.kernels[e.name]._config)
        # What is new first: it decides.
        entries.sort(key=lambda entry: entry.name in given)
        return cls(built.directory / SOURCE, tuple(entries), given, arch, launched)


def _entry(name: str, variants: Any) -> Entry:
    given = variants._parameters
    return Entry(name, given.signature, given.constants(True), given.divisible(True), variants._config)


def look(jobs: Mapping[str, Job]) -> Iterator[tuple[str, dict[str, Any]]]:
    """What each job takes of the machine, or why it is out, as they are done; as many at a time as there are cores."""
    with ThreadPoolExecutor(len(os.sched_getaffinity(0))) as pool:
        running = {pool.submit(look_at, job): name for name, job in jobs.items()}
        try:
            for done in as_completed(running):
                yield running[done], done.result()
        finally:
            for future in running:
                future.cancel()


def look_at(job: Job) -> dict[str, Any]:
    """What one job takes of the machine, or why it is out; it is built in a process of its own."""
    environment = {name: value for name, value in os.environ.items() if name != "TRITON_INTERPRET"}
    environment["PYTHONPATH"] = os.pathsep.join(filter(None, sys.path))
    command = [sys.executable, "-m", "attngen.autotune.static"]
    try:
        done = subprocess.run(
            command, input=pickle.dumps(job), capture_output=True, env=environment, timeout=LONGEST, check=False
        )
    except subprocess.TimeoutExpired:
        return {"refused": f"the build took more than {LONGEST:.0f} s"}
    if done.returncode:
        lines = [line for line in done.stderr.decode(errors="replace").splitlines() if line.strip()]
        return {"refused": f"the build ended with status {done.returncode}: {lines[-1] if lines else 'no word'}"}
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def serve(job: Job) -> dict[str, Any]:
    """What the kernels take, by name; "refused" where one cannot be built or the lint complains of a new one, and
    "remarks" where it complains of another."""
    resources: dict[str, Any] = {}
    remarks: list[str] = []
    for entry in job.entries:
        try:
            binary = build_ahead(
                job.path,
                entry.name,
                entry.signature,
                entry.constants,
                entry.divisible,
                job.arch,
                entry.config.num_warps,
                entry.config.num_stages,
            )
            taken = lint(binary)
        except AttngenError as problem:
            return {"refused": f"{entry.name}: {str(problem).partition(chr(10))[0]}", "resources": resources}
        resources[entry.name] = asdict(taken)
        told = [f"{entry.name}: {each}" for each in complaints(taken, built_for(job.arch))]
        if told and entry.name not in job.given:
            return {"refused": " ".join(told), "resources": resources}
        remarks += told
    for entry in job.entries if job.launched else ():
        _into_the_cache(job, entry)
    return {"resources": resources, "remarks": remarks}


def _into_the_cache(job: Job, entry: Entry) -> None:
    """The same build as the launch makes: it finds this one in Triton's cache."""
    import triton
    from triton.backends.compiler import GPUTarget

    source = ast_source(getattr(load(job.path), entry.name), entry.signature, entry.constants, entry.divisible)
    options = {"num_warps": entry.config.num_warps, "num_stages": entry.config.num_stages}
    triton.compile(source, target=GPUTarget("cuda", int(job.arch.removeprefix("sm_")), 32), options=options)


if __name__ == "__main__":
    from attngen.autotune import static  # the class of the job is that of the module, not of the program

    print(json.dumps(static.serve(pickle.loads(sys.stdin.buffer.read()))))
