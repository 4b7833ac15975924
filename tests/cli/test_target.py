from __future__ import annotations

from pathlib import Path

import pytest

from attngen.cli.target import resolve
from attngen.errors import AttngenError
from attngen.ir.nodes import Grid


@pytest.mark.parametrize(
    ("attribute", "name"),
    [("alibi", "causal_alibi"), ("every_third", "every_third"), ("make", "causal"), ("capped", "capped")],
)
def test_attributes_of_a_file(user_file: str, attribute: str, name: str) -> None:
    assert resolve(f"{user_file}:{attribute}").spec.ir.name == name


def test_a_kernel_keeps_its_layout(user_file: str) -> None:
    assert resolve(f"{user_file}:kernel").layout == "bnhd"


def test_a_module(user_file: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(Path(user_file).parent)
    assert resolve("mine:packed").spec.ir.name == "document"


def test_a_function_over_a_grid(user_file: str) -> None:
    assert resolve(f"{user_file}:near", "4x5").spec.ir.space == Grid((4, 5))


def test_mechanisms_masks_and_normalizers_by_name() -> None:
    assert resolve("sliding_window:window=5").spec.ir.name == "sliding_window"
    assert resolve("window:left=2,right=3").spec.ir.name.startswith("window")
    assert resolve("sigmoid").spec.ir.branches[0].normalizer.name == "sigmoid"
    assert resolve("neighborhood:kernel_size=3", "5x7").spec.ir.space == Grid((5, 7))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("causl", "no mechanism of that name (did you mean 'causal'?); `attngen list` names them"),
        ("causl:align=top_left", "no mechanism of that name (did you mean 'causal'?)"),
        ("nowhere:thing", "no mechanism of that name, and no such module"),
        ("sliding_window", "sliding_window: window is missing; write sliding_window:window=..."),
        ("sliding_window:windw=3", "unknown key 'windw' (did you mean 'window'?); keys: window"),
        ("window:left=2", "window: right is missing; write window:right=..."),
        ("absent.py:spec", "there is no file 'absent.py'"),
        (":", "SPEC: got ':'; allowed: module:attribute, file.py:attribute, or name:key=value of a mechanism"),
    ],
)
def test_errors(text: str, message: str) -> None:
    with pytest.raises(AttngenError) as caught:
        resolve(text)
    assert message in str(caught.value)


def test_errors_in_a_file(user_file: str) -> None:
    for attribute, message in (
        ("", "without an attribute; write"),
        ("aliby", "there is no 'aliby' (did you mean 'alibi'?); it has: alibi, packed, kernel, text, free"),
        ("number", "is of type int; allowed: a Spec, a Kernel, a mask or score function"),
    ):
        with pytest.raises(AttngenError) as caught:
            resolve(f"{user_file}:{attribute}")
        assert message in str(caught.value)
    with pytest.raises(AttngenError, match="has its own space"):
        resolve(f"{user_file}:alibi", "4x4")
    with pytest.raises(AttngenError, match="--grid: got '4xx'; allowed: 1 to 3 integers"):
        resolve(f"{user_file}:near", "4xx")
    with pytest.raises(AttngenError, match="--grid: the mechanism 'causal' is not over a grid"):
        resolve("causal", "4x4")


def test_a_file_that_fails_names_its_line(tmp_path: Path) -> None:
    path = tmp_path / "broken.py"
    path.write_text("x = 1\ny = undefined\n")
    with pytest.raises(AttngenError) as caught:
        resolve(f"{path}:x")
    message = str(caught.value)
    assert "raised NameError: name 'undefined' is not defined" in message
    assert message.endswith(f"({path}, line 2)")
