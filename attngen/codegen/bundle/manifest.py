"""What a bundle says of itself: its spec, and for each problem the kernels, their binaries and how they are launched.

    Manifest
      BundledProblem    one for each combination of dtype and head dimensions, with the plan in words
        BundledKernel   one for each function and architecture: source, config, parameters
          Variant       one for each binary: machine code, threads, shared memory, scratch, what a launch passes

A kernel has a role in its problem. The forward is one kernel of role "forward"; what comes as several (a backward) is
several kernels with roles of their own, told apart by `options` where one role has more than one of them. A new role
needs no new format; a change of what a launch means does.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from attngen.codegen.problem import Operand, Problem
from attngen.errors import BundleError

FORMAT = 1
"""Of the manifest, and of what a launch passes. A bundle of another one is refused."""

Number = bool | int | float


@dataclass(frozen=True, slots=True)
class Variant:
    """One binary: of "aligned" tensors, or of all others ("generic").

    `passed`: name and Triton's type of each parameter, in the order of the machine code, scratch pointers included.
    `shared` is dynamic shared memory in bytes. Scratch: bytes for each block of the grid, and their alignment.
    `resources` and `complaints` are what the lint says, `metadata` is the compiler's own.
    """

    name: str
    cubin: str
    symbol: str
    threads: int
    shared: int
    passed: tuple[tuple[str, str], ...]
    global_scratch: tuple[int, int]
    profile_scratch: tuple[int, int]
    resources: Mapping[str, Any] = field(default_factory=dict)
    complaints: tuple[str, ...] = ()
    metadata: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class BundledKernel:
    """One function for one architecture. `signature`: name and type of each of its arguments, in the order of a launch.

    Which variant fits a call is told by three groups of arguments: `pointers` and `strides` (multiples of 16) and
    `channels` (1).
    """

    role: str
    arch: str
    entry: str
    source: str
    config: Mapping[str, Any]
    options: Mapping[str, Any]
    signature: tuple[tuple[str, str], ...]
    pointers: tuple[str, ...]
    strides: tuple[str, ...]
    channels: tuple[str, ...]
    variants: tuple[Variant, ...]

    @property
    def title(self) -> str:
        """The role, for messages and tables; of a backward, the inputs that it computes gradients of besides."""
        if "wanted" not in self.options:
            return self.role
        return " + ".join([f"backward {self.role}", *self.options["wanted"]])


@dataclass(frozen=True, slots=True)
class BundledProblem:
    """What the kernels are built for: dtypes, ranks and widths of all operands. `plan`: how, in words."""

    problem: Problem
    plan: str
    kernels: tuple[BundledKernel, ...]

    @property
    def head_dim(self) -> int:
        """The width of queries and keys."""
        return self.problem.operand("q").width

    @property
    def value_dim(self) -> int:
        """The width of values."""
        return self.problem.operand("v").width

    @property
    def title(self) -> str:
        """dtype and head dimensions, for messages and tables."""
        value = "" if self.value_dim == self.head_dim else f"/{self.value_dim}"
        return f"{self.problem.dtype} D {self.head_dim}{value}"


@dataclass(frozen=True, slots=True)
class BundledFile:
    """A file of the bundle: path, size in bytes, sha256."""

    name: str
    size: int
    sha256: str


@dataclass(frozen=True, slots=True)
class Manifest:
    """The whole bundle. `numbers`: values that the spec had captured for its run-time numbers.

    `attngen` is the version that built, `compilers` the versions of what it built with.
    """

    attngen: str
    backend: str
    compilers: Mapping[str, str]
    name: str
    spec: str
    layout: str
    numbers: Mapping[str, Number]
    problems: tuple[BundledProblem, ...]
    files: tuple[BundledFile, ...] = ()

    @property
    def archs(self) -> tuple[str, ...]:
        """The architectures that every problem has kernels for."""
        return tuple(dict.fromkeys(kernel.arch for problem in self.problems for kernel in problem.kernels))


def dump(manifest: Manifest) -> str:
    """The text of manifest.json. Equal manifests give equal texts."""
    body = asdict(manifest)
    for kernel in (kernel for problem in body["problems"] for kernel in problem["kernels"]):
        kernel["signature"] = _typed(kernel["signature"])
        for variant in kernel["variants"]:
            variant["passed"] = _typed(variant["passed"])
    body["numbers"] = {name: _number(value) for name, value in manifest.numbers.items()}
    body |= {"format": FORMAT, "spec_sha256": hashlib.sha256(manifest.spec.encode()).hexdigest()}
    body["digest"] = digest(body)
    return json.dumps(body, indent=1, sort_keys=True, allow_nan=False) + "\n"


def load(text: bytes, where: str) -> Manifest:
    """The manifest of a text. Raises `BundleError` for another format, and for one that was changed."""
    try:
        body = json.loads(text)
        found = body["format"]
    except (ValueError, KeyError, TypeError, RecursionError) as problem:
        raise BundleError(f"{where}: is not the manifest of a bundle ({problem!r}); {AGAIN}") from None
    if found != FORMAT:
        raise BundleError(
            f"{where}: is of format {found!r} and this version of attngen reads format {FORMAT}; load it with the "
            "version that wrote it, or build it again: attngen aot SPEC -o DIR"
        )
    try:
        if body.pop("digest") != digest(body):
            raise BundleError(f"{where}: was changed after it was written (its digest does not match); {AGAIN}")
        manifest = _manifest(body)
        if body["spec_sha256"] != hashlib.sha256(manifest.spec.encode()).hexdigest():
            raise BundleError(f"{where}: its spec does not match the hash beside it; {AGAIN}")
    except (ValueError, KeyError, TypeError, AttributeError) as problem:
        raise BundleError(f"{where}: cannot be read: {problem!r}; {AGAIN}") from None
    return manifest


AGAIN = "build it again: attngen aot SPEC -o DIR"


def digest(body: Mapping[str, Any]) -> str:
    """The hash of a manifest without its digest."""
    text = json.dumps(body, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()


def _number(value: Number) -> Number | str:
    return str(value) if isinstance(value, float) and not math.isfinite(value) else value


def _manifest(body: Mapping[str, Any]) -> Manifest:
    return Manifest(
        attngen=str(body["attngen"]),
        backend=str(body["backend"]),
        compilers=dict(body["compilers"]),
        name=str(body["name"]),
        spec=str(body["spec"]),
        layout=str(body["layout"]),
        numbers={name: float(v) if isinstance(v, str) else v for name, v in body["numbers"].items()},
        problems=tuple(_problem(each) for each in body["problems"]),
        files=tuple(BundledFile(str(f["name"]), int(f["size"]), str(f["sha256"])) for f in body["files"]),
    )


def _problem(body: Mapping[str, Any]) -> BundledProblem:
    given = body["problem"]
    operands = tuple(Operand(o["name"], o["dtype"], int(o["rank"]), int(o["width"])) for o in given["operands"])
    return BundledProblem(
        problem=Problem(given["dtype"], operands, bool(given["return_lse"])),
        plan=str(body["plan"]),
        kernels=tuple(_kernel(each) for each in body["kernels"]),
    )


def _kernel(body: Mapping[str, Any]) -> BundledKernel:
    names = {name: tuple(map(str, body[name])) for name in ("pointers", "strides", "channels")}
    return BundledKernel(
        role=str(body["role"]),
        arch=str(body["arch"]),
        entry=str(body["entry"]),
        source=str(body["source"]),
        config=dict(body["config"]),
        options=dict(body["options"]),
        signature=_pairs(body["signature"]),
        variants=tuple(_variant(each) for each in body["variants"]),
        **names,
    )


def _variant(body: Mapping[str, Any]) -> Variant:
    return Variant(
        name=str(body["name"]),
        cubin=str(body["cubin"]),
        symbol=str(body["symbol"]),
        threads=int(body["threads"]),
        shared=int(body["shared"]),
        passed=_pairs(body["passed"]),
        global_scratch=_scratch(body["global_scratch"]),
        profile_scratch=_scratch(body["profile_scratch"]),
        resources=dict(body["resources"]),
        complaints=tuple(map(str, body["complaints"])),
        metadata=dict(body["metadata"]),
    )


def _typed(pairs: Any) -> list[str]:
    """A parameter a line: `q_data: *bf16`."""
    return [f"{name}: {kind}" for name, kind in pairs]


def _pairs(body: Any) -> tuple[tuple[str, str], ...]:
    return tuple((name, kind) for name, kind in (str(line).split(": ") for line in body))


def _scratch(body: Any) -> tuple[int, int]:
    size, alignment = body
    return int(size), int(alignment)
