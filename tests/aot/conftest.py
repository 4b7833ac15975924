"""A bundle that is built in no time."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import attngen
from tests.aot import pretend

Make = Callable[..., Path]


@pytest.fixture
def make(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Make:
    """make(spec, name="bundle", **options of build_bundle) -> its directory."""
    pytest.importorskip("triton")
    pretend.pretend(monkeypatch)

    def made(spec: attngen.Spec, name: str = "bundle", **options: Any) -> Path:
        chosen = {"archs": ["sm_90"], "head_dims": [16], "build": pretend.build, **options}
        attngen.build_bundle(spec, tmp_path / name, **chosen)
        return tmp_path / name

    return made
