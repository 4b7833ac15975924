from __future__ import annotations

from xml.etree import ElementTree

import attngen
from attngen import draw, masks

NAMESPACE = "{http://www.w3.org/2000/svg}"


def test_it_is_xml_with_titles_and_a_legend() -> None:
    root = ElementTree.fromstring(draw.svg(attngen.Spec(mask=masks.causal() & masks.sliding_window(9)), 100_000))
    texts = [e.text for e in root.iter(f"{NAMESPACE}text")]
    assert texts[:4] == ["causal_sliding_window", "always", "sometimes", "never"]
    assert texts[4] is not None
    assert texts[4].startswith("visible 0.009 %")


def test_runs_are_joined() -> None:
    document = draw.svg(attngen.Spec(), 512)
    assert document.count("<rect") < 150 + 10
    assert 'width="128" height="1"' in document
