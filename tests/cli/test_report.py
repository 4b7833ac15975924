"""`attngen report`: a page that stands alone, and what is on it."""

from __future__ import annotations

from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from xml.etree import ElementTree

import pytest

from attngen.autotune import database as db
from attngen.autotune.identity import device_of, versions
from attngen.codegen.backends.cpu.backend import CpuBackend
from attngen.masks import causal
from attngen.report.scatter import Point, scatter
from attngen.samples import Shape
from attngen.spec import Spec
from tests.autotune.samples import sample
from tests.autotune.works import work_of
from tests.cli.conftest import Run

pytestmark = pytest.mark.cxx


@pytest.fixture(autouse=True)
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.setattr(db, "FOLDER", str(tmp_path / "tuning"))
    db.forget()
    yield tmp_path
    db.forget()


class Page(HTMLParser):
    """Headings, and every reference to something else."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.headings: list[str] = []
        self.references: list[str] = []
        self.open: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        if tag != "meta":
            self.open.append(tag)
        self.references += [str(value) for name, value in attributes if name in ("src", "href")]

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] in ("h1", "h2"):
            self.headings.append(data)


def test_the_page_of_a_call(run: Run, place: Path) -> None:
    out = place / "report.html"
    arguments = ("report", "causal", "-o", str(out), "--shape", "1,2,2,300,300,16")
    result = run(*arguments)
    assert result.exit_code == 0, result.output
    text = out.read_text()
    page = Page(text)
    assert page.headings == ["causal", "Mask", "Facts", "Plan", "Rooflines", "Tuning", "Generated source"]
    assert page.references == []
    assert page.open == []
    assert "Nothing was measured for calls like this one" in text
    assert "kv &lt;= q" in text
    assert "struct Args" in text

    work = work_of(Spec(mask=causal()), Shape(1, 2, 2, 300, 300, 16, 16))
    own = work.target.configs(work.plan)[0]
    device = device_of(CpuBackend())
    assert device is not None
    faster = str(own).replace(f" g{own.group}", f" g{own.group + 1}")
    given = {"key": work.key, "base": str(own), "versions": versions("cpu")}
    db.add(device, [sample(1.0, str(own), **given), sample(0.8, faster, **given, median=1e-3)])
    assert run(*arguments).exit_code == 0
    text = out.read_text()
    assert "2 configs were measured." in text
    assert f"{faster} (in use): " in text
    assert f"{own} (built in): " in text


def test_a_scatter_is_svg() -> None:
    text = scatter([Point("a <b>", 1e-3, 2e-3, "in use"), Point("c", 2e-3, 5e-3)])
    root = ElementTree.fromstring(text)
    circles = [node for node in root.iter() if node.tag.endswith("circle")]
    assert [node[0].text for node in circles] == [
        "c: 2 ms predicted, 5 ms measured", "a <b> (in use): 1 ms predicted, 2 ms measured",
    ]  # fmt: skip
    x = [float(node.attrib["cx"]) for node in circles]
    y = [float(node.attrib["cy"]) for node in circles]
    assert x[1] < x[0]
    assert y[1] > y[0]


def test_a_file_that_cannot_be_written(run: Run, place: Path) -> None:
    result = run("report", "causal", "-o", str(place / "no" / "x.html"), "--shape", "1,1,1,30,30,8")
    assert result.exit_code == 2
    assert "cannot be written" in result.output
