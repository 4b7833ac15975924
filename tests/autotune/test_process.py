"""Workers that crash, hang or never begin: what was at fault is known, and the next one is a new process."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from attngen.autotune.process import Lost, Worker

STUB = """
import json, os, signal, sys, time
print(json.dumps({"done": {}}), flush=True)
for line in sys.stdin:
    job = json.loads(line)
    text = job.get("prepare") or job["rounds"][-1]
    print(json.dumps({"trying": text}), flush=True)
    if text == "crash": os.kill(os.getpid(), signal.SIGSEGV)
    if text == "exit":
        print("out of luck", file=sys.stderr)
        sys.exit(3)
    if text == "hang": time.sleep(600)
    answer = {"error": os.getpid()} if "prepare" in job else {name: [1.0] * job["count"] for name in job["rounds"]}
    print(json.dumps({"done": answer}), flush=True)
"""


class NoWork:
    def save(self, path: Path) -> None:
        path.write_text("")


@pytest.fixture
def worker(tmp_path: Path) -> Any:
    (tmp_path / "stub.py").write_text(STUB)
    work: Any = NoWork()
    with Worker(work, 1.0, (str(tmp_path / "stub.py"),)) as found:
        yield found


@pytest.mark.parametrize(
    ("text", "reason"),
    [("crash", "its process ended with SIGSEGV"), ("hang", "no answer within 1 s"),
     ("exit", "its process ended with exit status 3: out of luck")],
)  # fmt: skip
def test_a_candidate_that_takes_its_process_along(worker: Worker, text: str, reason: str) -> None:
    first = worker.prepare("good")
    with pytest.raises(Lost, match=reason) as problem:
        worker.rounds(["good", text], 2)
    assert problem.value.candidate == text
    again = worker.prepare("good")
    assert again["error"] != first["error"]
    assert worker.rounds(["a", "b"], 2) == {"a": [1.0, 1.0], "b": [1.0, 1.0]}


def test_a_process_that_never_begins(tmp_path: Path) -> None:
    (tmp_path / "stub.py").write_text("raise SystemExit('no torch here')")
    work: Any = NoWork()
    with Worker(work, 1.0, (str(tmp_path / "stub.py"),)) as found:
        with pytest.raises(Lost, match="its process ended with exit status 1: no torch here") as problem:
            found.prepare("x")
        assert problem.value.candidate is None
