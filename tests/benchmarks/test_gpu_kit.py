"""The GPU kit without a GPU: a dry run of its commands, runs that were cut off, and what it counts. No times."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from attngen.autotune.timing import DeviceTimer, interleave
from benchmarks.gpu import tools
from benchmarks.gpu.__main__ import COMMANDS, folder
from benchmarks.gpu.candidates import every_backward, forward_candidates
from benchmarks.gpu.journal import Journal, Mark
from benchmarks.gpu.place import Place, commit
from benchmarks.gpu.rows import rows, works
from benchmarks.gpu.session import Options, Session, Unit
from benchmarks.gpu.subjects import best
from benchmarks.gpu.supervise import Watch, watch
from benchmarks.gpu.works import Work

ROOT = Path(__file__).parents[2]
needs_triton = pytest.mark.skipif(importlib.util.find_spec("triton") is None, reason="triton is not installed")


def kit(command: str, out: Path, *flags: str) -> str:
    """What a dry run of a command says."""
    environment = os.environ | {"ATTNGEN_COMMIT": "tested", "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    environment["TRITON_CACHE_DIR"] = str(out.parent / "triton")
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.gpu", command, "--dry-run", "--out", str(out), *flags],
        env=environment,
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def dry(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder that a dry run of all commands leaves."""
    out = tmp_path_factory.mktemp("gpu")
    for command in COMMANDS:
        said = kit(command, out, *(["--sanitize"] if command == "check" else []))
        assert said.endswith(f"{command}: all is measured\n"), said
    return out


def records(out: Path, command: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (out / f"{command}.jsonl").read_text().splitlines()]


@needs_triton
@pytest.mark.slow
class TestDryRun:
    def test_every_file_says_where_it_is_from(self, dry: Path) -> None:
        assert {file.name for file in dry.iterdir()} == {f"{c}.{e}" for c in COMMANDS for e in ("jsonl", "json", "md")}
        for command in COMMANDS:
            place = json.loads((dry / f"{command}.json").read_text())["place"]
            assert (place["commit"], place["torch"]) == ("tested", torch.__version__)
            assert all(record["place"] == place for record in records(dry, command))
            assert "commit tested" in (dry / f"{command}.md").read_text()
            # A file of results belongs to no machine's folders.
            for file in dry.glob(f"{command}.*"):
                assert str(Path.home()) + "/" not in file.read_text()
                assert str(dry) not in file.read_text()

    def test_kernels_agree_with_the_reference(self, dry: Path) -> None:
        found = {r["row"]: r["result"] for r in records(dry, "check")}
        cases = {name: result for name, result in found.items() if "good" in result}
        assert len(cases) >= 4
        assert all(result["good"] for result in cases.values()), cases
        assert set(found["larger, causal"]["gradients"]) in ({"q", "k", "v"}, {"refused"})
        assert found["calibration: exponentials"]["error"] < 1e-6
        for tool in ("compute-sanitizer", "ncu"):
            assert set(found[tool]) in ({"refused"}, {"errors", "said"}, {"counters"})

    def test_the_matrix_holds_what_passed_the_static_stage(self, dry: Path) -> None:
        found = records(dry, "tune")
        looked = {r["config"]: r["result"] for r in found if r["command"] == "static"}
        timed = {r["config"]: r["result"] for r in found if r["command"] == "tune"}
        assert looked
        assert {config for config, result in looked.items() if "refused" not in result} <= set(timed)
        assert all(result["resources"] for result in looked.values())
        assert all({"warm", "cold", "tflops", "beside_own"} <= set(result) for result in timed.values()), timed

    def test_the_table_compares_the_same_thing(self, dry: Path) -> None:
        found = {r["row"]: r["result"] for r in records(dry, "table")}
        for row in rows(dry=True):
            result = found.get(row.name)
            if result is None or "refused" in result:
                continue
            ours = result["contenders"]["attngen"]
            assert "warm" in ours, (row.name, ours)
            if not row.work.opaque and not row.backward:
                assert ours["error"] <= 1e-2, row.name
                assert all("warm" in result["contenders"][peer] for peer in row.peers), (row.name, result)
        # What tune found is what the table runs.
        tuned = {r["config"] for r in records(dry, "tune") if r["row"] == "causal, forward"}
        assert found["dense causal"]["config"] in tuned
        assert found["dense causal"]["tuned_at"] == "tested"

    def test_a_peer_that_throws_has_a_cell_that_says_so(self, dry: Path) -> None:
        text = (dry / "table.md").read_text()
        assert "not measured: failed: NotImplementedError: FlexAttention does not support backward on CPU" in text
        assert text.count("| not measured |") >= 1

    @pytest.mark.parametrize("command", COMMANDS)
    def test_a_second_run_measures_only_what_was_cut_off(self, dry: Path, command: str) -> None:
        journal = dry / f"{command}.jsonl"
        before = journal.read_bytes()
        lines = before.splitlines(keepends=True)
        journal.write_bytes(before[: -len(lines[-1]) // 2])  # as a process that was stopped leaves it
        cut = json.loads(lines[-1])
        said = kit(command, dry, *(["--sanitize"] if command == "check" else []))
        measured = [line for line in said.splitlines() if "]: " in line]
        assert len(measured) == 1, said
        assert measured[0].startswith(f"  {cut['row']} [{cut['config']}]: ")
        after = journal.read_bytes()
        assert after.startswith(b"".join(lines[:-1]))
        assert len(records(dry, command)) == len(lines)

    def test_no_time_means_no_measurement_but_a_report(self, tmp_path: Path) -> None:
        said = kit("check", tmp_path, "--budget", "0")
        assert "check: left for the next run: calibration: matrix products" in said
        assert not (tmp_path / "check.jsonl").exists()
        assert "Left for the next run: " in (tmp_path / "check.md").read_text()
        assert "| entmax | not measured |" in (tmp_path / "check.md").read_text()


# Runs that come to harm


def test_the_parent_outlives_its_children(tmp_path: Path) -> None:
    watch(Watch("table", tmp_path, [], time.monotonic(), 60.0), silence=1.0, module="tests.benchmarks.trouble")
    found = {r["row"]: r["result"] for r in records(tmp_path, "table")}
    assert found == {
        "dies": {"failed": "the process ended with SIGABRT"},
        "hangs": {"failed": "no answer within 1 s"},
        "loses the device": {"failed": "no device"},
        "works": {"ms": 1.0},
    }
    assert not (tmp_path / "table.running").exists()


def test_half_a_line_is_dropped(tmp_path: Path) -> None:
    path = tmp_path / "j.jsonl"
    Journal(path).append({"row": "one", "result": {"ms": float("inf"), "failed": "no file '/some/folder/k.py'"}})
    whole = path.read_bytes()
    path.write_bytes(whole + b'{"row": "two", "resu')
    journal = Journal(path)
    assert journal.records == [{"row": "one", "result": {"ms": "inf", "failed": "no file 'k.py'"}}]
    journal.append({"row": "two", "result": {}})
    assert path.read_bytes() == whole + b'{"row": "two", "result": {}}\n'
    assert [r["row"] for r in Journal(path).records] == ["one", "two"]


def test_a_mark_tells_what_is_tried(tmp_path: Path) -> None:
    mark = Mark(tmp_path / "m.running")
    assert mark.read() is mark.age() is None
    mark.set({"row": "one"})
    assert mark.read() == {"row": "one"}
    mark.clear()
    assert list(tmp_path.iterdir()) == []


def session(out: Path, **place: str) -> Session:
    given = {"commit": "c", "device": "d", "torch": "", "triton": "", "driver": ""} | place
    return Session(Options("table", out, 1e3), Place(**given), "cpu")


def test_results_of_another_commit_or_device_are_not_taken_for_this_one(tmp_path: Path) -> None:
    ran = []

    def run(wanted: list[str]) -> list[tuple[str, dict[str, Any]]]:
        ran.append(wanted)
        return [(config, {"ms": 1}) for config in wanted]

    unit = Unit("row", ("a", "b"), 0.0, run)
    for place in ({}, {"commit": "other"}, {"device": "other"}, {}):
        assert session(tmp_path, **place).measure([unit]) == []
    assert ran == [["a", "b"]] * 3


def test_units_that_need_more_time_are_left(tmp_path: Path) -> None:
    here = session(tmp_path)
    units = [
        Unit(name, ("c",), needs, lambda _: [("c", {})]) for name, needs in (("one", 0), ("two", 1e9), ("three", 0))
    ]
    assert here.measure(units) == ["two (table: 1)", "three (table: 1)"]
    assert [r["row"] for r in here.records()] == ["one"]


def test_a_run_can_be_for_some_rows(tmp_path: Path) -> None:
    here = Session(Options("table", tmp_path, 1e3, only="tw"), session(tmp_path).place, "cpu")
    assert here.measure([Unit(name, ("c",), 0.0, lambda _: [("c", {})]) for name in ("one", "two")]) == []
    assert [r["row"] for r in here.records()] == ["two"]


def test_an_error_is_a_result(tmp_path: Path) -> None:
    def fail() -> dict[str, Any]:
        raise RuntimeError("no kernel image\nin /usr/lib/x.so")

    here = session(tmp_path)
    here.measure([here.single("row", "c", 0.0, fail)])
    assert here.result("row", "c") == {"failed": "RuntimeError: no kernel image"}


def test_what_goes_wrong_between_attempts_is_the_result_of_the_rest(tmp_path: Path) -> None:
    def run(wanted: list[str]) -> Iterator[tuple[str, dict[str, Any]]]:
        yield "a", {"ms": 1}
        raise RuntimeError("lost")

    here = session(tmp_path)
    here.measure([Unit("row", ("a", "b", "c"), 0.0, run)])
    assert {r["config"]: r["result"] for r in here.records()} == {
        "a": {"ms": 1},
        "b": {"failed": "RuntimeError: lost"},
        "c": {"failed": "RuntimeError: lost"},
    }


# What is counted


def dense(work: Work) -> torch.Tensor:
    """The mask of a work, from the function that FlexAttention gets."""
    n = work.size.n
    at = torch.arange(n)
    assert work.mask is not None
    return work.mask(work.size, work.captured("cpu"))(0, 0, at[:, None], at[None, :]).expand(n, n)


@pytest.mark.parametrize("work", [w for w, back in works(True) if not (back or w.opaque)], ids=lambda w: w.name)
def test_useful_flops_are_those_of_visible_pairs(work: Work) -> None:
    seen = work.size.n**2 if work.mask is None else int(dense(work).sum())
    assert work.pairs(work.size, work.tensors(work.size)) == seen
    assert work.flops(False) == 4 * work.size.b * work.size.h * work.size.d * seen
    assert work.flops(True) == 2.5 * work.flops(False)


def test_both_tables_have_the_same_rows() -> None:
    tiny, real = rows(True), rows(False)
    assert len(tiny) == len(real) == 29
    assert [row.group for row in tiny] == [row.group for row in real]
    assert sum(row.group == "variants, forward" for row in real) == 10
    assert len({row.name for row in real}) == len(real)
    assert all(1 <= len(row.floors) <= len(row.peers) for row in real)


class Counted:
    """A timer whose calls take as long as they say."""

    def seconds(self, call: Callable[[], Any], cold: bool) -> float:
        return float(call()) + cold


def test_contenders_take_turns() -> None:
    order: list[str] = []

    def named(name: str, seconds: float) -> Callable[[], float]:
        return lambda: order.append(name) or seconds  # type: ignore[func-returns-value]

    found = interleave({"a": named("a", 1.0), "b": named("b", 2.0)}, Counted(), limit=1.0, least=2)
    assert order == ["a", "b", *"aabb", *"bbaa"]
    assert found["b"].rounds == 2
    assert (found["a"].warm.median, found["a"].cold.p80) == (1.0, 2.0)


def test_the_device_is_held_while_the_host_queues_a_call(monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[str] = []

    class Event:
        def __init__(self, enable_timing: bool) -> None:
            assert enable_timing

        def record(self) -> None:
            told.append("event")

        def elapsed_time(self, other: Event) -> float:
            return 3.0

    class Buffer:
        def zero_(self) -> None:
            told.append("flush")

    sizes: list[int] = []
    monkeypatch.setattr(torch.cuda, "Event", Event)
    monkeypatch.setattr(torch.cuda, "_sleep", lambda cycles: told.append("hold"))
    monkeypatch.setattr(torch.cuda, "synchronize", lambda: told.append("wait"))
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda: SimpleNamespace(L2_cache_size=60 << 20))
    monkeypatch.setattr(torch, "empty", lambda size, **_: sizes.append(size) or Buffer())
    clock = DeviceTimer()
    assert sizes[0] > 60 << 20
    assert clock.seconds(lambda: told.append("call"), cold=True) == 3e-3
    assert told == ["flush", "hold", "event", "call", "event", "wait"]
    told.clear()
    clock.seconds(lambda: told.append("call"), cold=False)
    assert told == ["call", "hold", "event", "call", "event", "wait"]


def test_the_best_config_is_of_this_commit_if_there_is_one(tmp_path: Path) -> None:
    def record(commit: str, config: str, beside: float, device: str = "d") -> dict[str, Any]:
        result = {"beside_own": beside, "tflops": beside}
        return {"place": {"commit": commit, "device": device}, "command": "tune", "row": "r", "config": config,
                "result": result}  # fmt: skip

    older = [record("old", "x", 1.5), record("old", "y", 1.2), record("old", "z", 9.0, "other")]
    here = session(tmp_path)
    assert best(here, older, "r") == ("x", "old")
    assert best(here, [*older, record("c", "y", 1.1), record("c", "own", 1.0)], "r") == ("y", "c")
    assert best(here, older, "another") is None


@needs_triton
def test_candidates_begin_with_the_librarys_own() -> None:
    import attngen
    from attngen.codegen.backends.triton.config import default, default_backward
    from tests.codegen.plans import plan_of

    class Backend:
        def configs(self, plan: Any) -> tuple[Any, ...]:
            return (default(plan),)

        def configs_backward(self, plan: Any) -> tuple[Any, ...]:
            return (default_backward(plan),)

    plan = plan_of(attngen.Spec(mask=attngen.masks.causal()), dtype="bf16", d=128, dv=128)
    backend: Any = Backend()
    for found in (forward_candidates(backend, plan, False), every_backward(backend, plan)):
        assert len(set(map(str, found))) == len(found) > 20
    assert forward_candidates(backend, plan, False)[0] == default(plan)
    assert every_backward(backend, plan)[0] == default_backward(plan)


def tool(folder: Path, name: str, said: str) -> None:
    """A program that says something and does nothing."""
    path = folder / name
    path.write_text(f"#!/bin/sh\ncat <<'END'\n{said}\nEND\n")
    path.chmod(0o755)


def test_what_the_tools_say(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", os.pathsep.join([str(tmp_path), "/usr/bin", "/bin"]))
    tool(tmp_path, "compute-sanitizer", "error 1.0e-03\n========= ERROR SUMMARY: 2 errors")
    assert tools.sanitizer() == {"errors": 2, "said": ["error 1.0e-03"]}
    tool(tmp_path, "compute-sanitizer", "========= Error: Device not supported\n========= ERROR SUMMARY: 0 errors")
    assert tools.sanitizer() == {
        "refused": "compute-sanitizer does not work here: ========= Error: Device not supported"
    }
    header, line = '"ID","Metric Name","Metric Unit","Metric Value"', '"0","gpu__time_duration.sum","us","12.5"'
    tool(tmp_path, "ncu", f"==PROF== Connected\nerror 1.0e-03\n{header}\n{line}")
    assert tools.profiler() == {"counters": {"gpu__time_duration.sum": "12.5 us"}}
    tool(tmp_path, "ncu", "==ERROR== Failed to initialize the profiler")
    assert tools.profiler() == {"refused": "ncu does not work here: ==ERROR== Failed to initialize the profiler"}
    (tmp_path / "ncu").unlink()
    assert tools.profiler() == {"refused": "ncu is not on the PATH"}


@pytest.mark.parametrize(
    ("name", "expected"),
    [("NVIDIA H200", "h200"), ("NVIDIA H100 80GB HBM3", "h100"), ("NVIDIA GeForce RTX 4090", "geforce-rtx-4090"),
     ("", "gpu")],
)  # fmt: skip
def test_folders_are_named_after_devices(name: str, expected: str) -> None:
    assert folder(name) == expected


def test_the_commit_may_be_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ATTNGEN_COMMIT", "abc")
    assert commit() == "abc"


def test_tools_belong_to_check() -> None:
    command = [sys.executable, "-m", "benchmarks.gpu", "table", "--sanitize"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 2
    assert "--sanitize belongs to check, not to table" in done.stderr
