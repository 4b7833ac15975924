"""The text of a manifest."""

from __future__ import annotations

import json
from typing import Any

import pytest

from attngen.codegen.bundle.manifest import digest, dump, load
from attngen.errors import BundleError
from tests.codegen.bundle.samples import manifest


def test_it_reads_what_it_wrote() -> None:
    assert load(dump(manifest()).encode(), "here") == manifest()


def test_equal_manifests_have_equal_texts() -> None:
    numbers = manifest().numbers
    turned = manifest(numbers=dict(reversed(numbers.items())))
    assert dump(turned) == dump(manifest())


def test_titles_and_architectures() -> None:
    assert manifest().problems[0].title == "bf16 D 64/32"
    assert manifest().archs == ("sm_90",)


def changed(**changes: Any) -> bytes:
    body = json.loads(dump(manifest()))
    del body["digest"]
    body |= changes
    return json.dumps(body | {"digest": digest(body)}).encode()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (b"", "here: is not the manifest of a bundle (JSONDecodeError("),
        (b"{}", "here: is not the manifest of a bundle (KeyError('format')); build it again: attngen aot SPEC -o DIR"),
        (b"[1]", "here: is not the manifest of a bundle (TypeError("),
        (
            changed(format=2),
            "here: is of format 2 and this version of attngen reads format 1; load it with the version that wrote it, "
            "or build it again: attngen aot SPEC -o DIR",
        ),
        (
            dump(manifest()).replace("causal", "casual").encode(),
            "here: was changed after it was written (its digest does not match); build it again",
        ),
        (changed(spec="spec other"), "here: its spec does not match the hash beside it; build it again"),
        (changed(problems=[{}]), "here: cannot be read: KeyError('problem'); build it again"),
        (changed(files=3), "here: cannot be read: TypeError("),
    ],
)
def test_what_is_no_manifest(text: bytes, message: str) -> None:
    with pytest.raises(BundleError) as caught:
        load(text, "here")
    assert str(caught.value).startswith(message)
