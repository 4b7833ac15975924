"""The other end of a worker: starts it, asks it, and knows what it was at when it is gone."""

from __future__ import annotations

import contextlib
import json
import os
import queue
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from attngen.autotune.workload import Workload

PATIENCE = 60.0
"""Seconds that one step of a candidate may take."""
MODULE = "attngen.autotune.worker"


class Lost(RuntimeError):
    """The worker is gone. `candidate` is what it was trying, None where it never began; the text says how it ended."""

    def __init__(self, candidate: str | None, reason: str) -> None:
        super().__init__(reason)
        self.candidate = candidate


class Worker:
    """A process that measures one workload; it is started when it is first asked, and anew after it was lost.

    After a `Lost` it has forgotten what it had prepared.
    """

    def __init__(self, work: Workload, patience: float = PATIENCE, command: Sequence[str] = ("-m", MODULE)) -> None:
        self._work, self._patience, self._command = work, patience, command
        self._folder = tempfile.TemporaryDirectory(prefix="attngen-tune-")
        self._path = Path(self._folder.name) / "workload.pt"
        self._process: subprocess.Popen[str] | None = None
        self._answers: queue.Queue[str | None] = queue.Queue()
        self._said: list[str] = []
        self._readers: list[threading.Thread] = []

    def prepare(self, text: str) -> dict[str, Any]:
        """{"error": E}, or {"wrong" | "refused" | "failed": REASON}. Raises `Lost`."""
        found: dict[str, Any] = self._ask({"prepare": text})
        return found

    def rounds(self, texts: Sequence[str], count: int) -> dict[str, list[float]]:
        """Seconds by config, of each round. Raises `Lost`."""
        found: dict[str, list[float]] = self._ask({"rounds": list(texts), "count": count})
        return found

    def _ask(self, job: dict[str, Any]) -> Any:
        process = self._process or self._start()
        assert process.stdin is not None
        try:
            print(json.dumps(job), file=process.stdin, flush=True)
        except OSError:
            raise self._lost(None) from None
        return self._answer()

    def _answer(self) -> Any:
        tried = None
        while True:
            try:
                line = self._answers.get(timeout=self._patience)
            except queue.Empty:
                raise self._lost(tried, f"no answer within {self._patience:g} s") from None
            if line is None:
                raise self._lost(tried)
            answer = json.loads(line)
            if "done" in answer:
                return answer["done"]
            tried = answer["trying"]

    def _start(self) -> subprocess.Popen[str]:
        if not self._path.exists():
            self._work.save(self._path)
        environment = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
        # A session of its own: Ctrl-C is for us, who keep what it has learned.
        self._process = process = subprocess.Popen(
            [sys.executable, *self._command, str(self._path)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=environment,
            start_new_session=True,
        )
        self._answers = queue.Queue()
        self._said = []
        self._readers = [
            threading.Thread(target=_forward, args=(process.stdout, self._answers), daemon=True),
            threading.Thread(target=_listen, args=(process.stderr, self._said), daemon=True),
        ]
        for reader in self._readers:
            reader.start()
        self._answer()
        return process

    def _lost(self, tried: str | None, reason: str = "") -> Lost:
        process = self._process
        if process is not None and not reason:
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(5)
            status = process.returncode
            how = signal.Signals(-status).name if status and status < 0 else f"exit status {status}"
            last = f": {self._said[-1]}" if self._said and (status or 0) > 0 else ""
            reason = f"its process ended with {how}{last}"
        self.stop()
        return Lost(tried, reason)

    def stop(self) -> None:
        """Ends the process, whatever it is at."""
        process, self._process = self._process, None
        if process is None:
            return
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        for reader in self._readers:
            reader.join(5)
        for stream in (process.stdin, process.stdout, process.stderr):
            with contextlib.suppress(OSError):  # what was never read
                if stream is not None:
                    stream.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()
        self._folder.cleanup()


def _forward(stream: Any, answers: queue.Queue[str | None]) -> None:
    for line in stream:
        answers.put(line)
    answers.put(None)


def _listen(stream: Any, said: list[str]) -> None:
    for line in stream:
        if line.strip():
            said[:] = [*said[-9:], line.strip()]
