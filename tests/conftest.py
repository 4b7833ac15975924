"""What every test shares: one kernel cache, markers that skip themselves with a reason, golden files."""

from __future__ import annotations

import difflib
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import hypothesis
import pytest

GOLDEN = Path(__file__).parent / "golden"
QUICK = "-Og"
"""What is tested is mostly what a kernel computes, not how fast, and C++ so compiled is built in a third of the time.

Tests marked `optimized`, and all with --optimized, take the options that kernels ship with.
"""

hypothesis.settings.register_profile("attngen", deadline=None, print_blob=True)
hypothesis.settings.load_profile("attngen")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--update-golden", action="store_true", help="rewrite the golden files instead of comparing")
    parser.addoption("--optimized", action="store_true", help="build every C++ kernel with the options it ships with")


@pytest.fixture(scope="session", autouse=True)
def kernel_cache(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """One cache of built kernels for all tests and for the processes they start; it outlives the session.

    A kernel takes about a second to build, and its address holds everything that decides what it is.
    """
    cache = getattr(request.config, "cache", None)
    given = os.environ.get("ATTNGEN_CACHE_DIR")
    folder = Path(given) if given else cache.mkdir("attngen-kernels") if cache else tmp_path_factory.mktemp("kernels")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ATTNGEN_CACHE_DIR", str(folder))
        yield folder


@pytest.fixture(scope="session", autouse=True)
def threads() -> None:
    """Two threads: what runs on more must not depend on their number anyway."""
    import torch

    torch.set_num_threads(min(2, torch.get_num_threads()))


def pytest_runtest_setup(item: pytest.Item) -> None:
    for marker in item.iter_markers():
        reason = missing(marker)
        if reason is not None:
            pytest.skip(reason)
    optimized = item.get_closest_marker("optimized") or item.config.getoption("--optimized")
    os.environ["ATTNGEN_CXXFLAGS"] = "" if optimized else QUICK


def missing(marker: pytest.Mark) -> str | None:
    """What a marked test needs and this machine lacks."""
    if marker.name == "cxx":
        from attngen.codegen.backends.cpu import compiler

        found = compiler.find()
        return found.reason if isinstance(found, compiler.NoCompiler) else None
    if marker.name == "isa":
        from attngen.codegen.backends.cpu import isa

        return None if marker.args[0] in isa.available() else f"this processor has no {marker.args[0]}"
    if marker.name == "gpu":
        import torch

        return None if torch.cuda.is_available() else "no CUDA device"
    return None


@pytest.fixture
def golden(request: pytest.FixtureRequest) -> Callable[[str, str], None]:
    """`golden(text, "causal.cpp")` compares with tests/golden/<module>/causal.cpp and fails with a diff."""

    def compare(text: str, name: str) -> None:
        file = GOLDEN / request.path.stem / name
        if request.config.getoption("--update-golden"):
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(text, encoding="utf-8")
            return
        assert file.is_file(), f"{file} is missing; write it with --update-golden"
        expected = file.read_text(encoding="utf-8")
        diff = difflib.unified_diff(expected.splitlines(), text.splitlines(), str(file), "generated", lineterm="")
        assert text == expected, "\n".join(["differs; accept with --update-golden", *diff])

    return compare
