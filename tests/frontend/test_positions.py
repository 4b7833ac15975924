"""Every node knows the user's expression: in files, lambdas, notebooks, and code without text."""

from __future__ import annotations

import linecache
import subprocess
import sys
from typing import Any

import pytest
import torch

from attngen.errors import Source, TraceError
from attngen.frontend import MASK, SCORE, trace
from attngen.ir.expr import Expr, Op, postorder


def shown(expr: Expr) -> str:
    source = expr.source
    assert source is not None
    return source.text[source.column - 1 : source.end_column - 1]


def made(source: str, filename: str) -> Any:
    namespace: dict[str, Any] = {"torch": torch}
    exec(compile(source, filename, "exec"), namespace)
    return namespace["function"]


def test_every_operator_has_its_expression() -> None:
    def score(score, h, q, kv):
        distance = abs(q - kv)
        return torch.where(q >= kv, 30 * torch.tanh(score / 30), -distance * 0.5)

    found = {node.name: shown(node) for node in postorder(trace(score, SCORE).expr) if isinstance(node, Op)}
    assert found == {
        "sub": "q - kv",
        "abs": "abs(q - kv)",
        "ge": "q >= kv",
        "truediv": "score / 30",
        "tanh": "torch.tanh(score / 30)",
        "mul": "-distance * 0.5",
        "neg": "-distance",
        "where": "torch.where(q >= kv, 30 * torch.tanh(score / 30), -distance * 0.5)",
    }


def test_merged_paths_show_the_condition() -> None:
    expr = trace(lambda q, kv: q >= kv and kv > 2, MASK).expr
    assert shown(expr) in ("q >= kv", "q >= kv and kv > 2")


def test_lambdas_on_one_line() -> None:
    first, second = trace(lambda q, kv: q > kv, MASK), trace(lambda q, kv: q < kv, MASK)  # fmt: skip
    assert (shown(first.expr), shown(second.expr)) == ("q > kv", "q < kv")


def test_helpers_show_their_own_line() -> None:
    def helper(a, b):
        return a * 2 + b

    expr = trace(lambda q, kv: helper(q, kv) > 3, MASK).expr
    assert isinstance(expr, Op)
    assert (shown(expr), shown(expr.args[0])) == ("helper(q, kv) > 3", "a * 2 + b")


def test_columns_count_characters() -> None:
    name, source = "<café>", "def function(q, kv):\n\tcafé = 1; return q + café > kv\n"
    linecache.cache[name] = (len(source), None, source.splitlines(keepends=True), name)
    expr = trace(made(source, name), MASK).expr
    assert shown(expr) == "q + café > kv"
    assert expr.source is not None
    assert (expr.source.file, expr.source.line, expr.source.column) == (name, 2, 19)


def test_expressions_over_several_lines_end_with_their_first() -> None:
    name, source = "<lines>", "def function(q, kv):\n    return (q +\n            kv) > 3\n"
    linecache.cache[name] = (len(source), None, source.splitlines(keepends=True), name)
    expr = trace(made(source, name), MASK).expr
    assert shown(expr) == "(q +"


def test_code_without_text() -> None:
    function = made("def function(score, q):\n    return score.max()\n", "<nowhere>")
    with pytest.raises(TraceError) as caught:
        trace(function, SCORE)
    source = caught.value.source
    assert source is not None
    assert (source.file, source.line, source.column, source.text) == ("<nowhere>", 2, 12, "")
    assert str(caught.value).startswith("`max` over `score`")


@pytest.mark.parametrize("options", [[], ["-X", "no_debug_ranges"]])
def test_on_the_command_line(options: list[str]) -> None:
    program = "from attngen.frontend import trace, MASK\ntrace(lambda q, kv: q - kv, MASK)"
    done = subprocess.run([sys.executable, *options, "-c", program], capture_output=True, text=True, check=False)
    assert "TraceError: this mask returns an int and must return a bool" in done.stderr
    assert 'File "<string>", line 2' in done.stderr


def test_source_without_columns(tmp_path: Any) -> None:
    file = tmp_path / "mine.py"
    file.write_text("from attngen.frontend import trace, MASK\ntrace(lambda q, kv:  q - kv, MASK)\n")
    done = subprocess.run(
        [sys.executable, "-X", "no_debug_ranges", str(file)], capture_output=True, text=True, check=False
    )
    lines = done.stderr.splitlines()
    assert lines[-2:] == ["    trace(lambda q, kv:  q - kv, MASK)", "    " + "^" * 34]


def test_light_import() -> None:
    program = "import sys, attngen.frontend; sys.exit(any(m in sys.modules for m in ('torch', 'numpy', 'sympy')))"
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0


def test_trace_without_torch_functions_imports_no_torch() -> None:
    program = (
        "import sys; from attngen.frontend import trace, MASK\nw = 3\n"
        "trace(lambda q, kv: 0 <= q - kv < w, MASK)\nsys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0


def test_source_is_not_part_of_equality() -> None:
    one = trace(lambda q, kv: q > kv, MASK).expr
    two = trace(lambda kv, q: q > kv, MASK).expr
    assert one == two
    assert one.source != two.source
    assert isinstance(one.source, Source)
