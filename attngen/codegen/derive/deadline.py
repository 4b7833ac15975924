"""A time limit for algebra: sympy is pure Python and may think for hours about an expression of one line.

The work runs in a thread of its own, so a limit holds wherever it is asked for, not on the main thread alone. What
counts is the time that the thread computes, as far as the system tells: a busy machine refuses nothing.
"""

from __future__ import annotations

import contextlib
import ctypes
import threading
import time
from collections.abc import Callable
from typing import Generic, TypeVar

T = TypeVar("T")
PATIENCE = 4.0
"""How much longer than its limit a work may take by the clock on the wall."""
GLANCE = 0.05
GRACE = 1.0
"""Seconds that a thread has to end after it was told to. One call into C may last longer; nobody waits for it."""


class OutOfTime(SystemExit):
    """Raised inside of the work at the limit. No `Exception`, which the work could catch by accident; and a thread
    that ends with a `SystemExit` ends quietly."""


class Budget:
    """Seconds of computing for several pieces of work together."""

    def __init__(self, seconds: float) -> None:
        self.seconds = self.left = seconds

    def spend(self, function: Callable[[], T]) -> T:
        """What the function returns, or raises. Raises `TimeoutError` if it takes longer than what is left."""
        work = _Work(function)
        work.start()
        start = time.monotonic()
        try:
            while not work.ended.wait(GLANCE):
                if work.used() > self.left or time.monotonic() - start > PATIENCE * self.left:
                    self._end(work)
                    raise TimeoutError(f"not done after {self.seconds:g} s")
        finally:
            # Also where the wait was interrupted: no thread is left to work for nobody.
            work.stop()
            self.left = max(0.0, self.left - work.used())
        if work.error is not None:
            raise work.error
        return work.result  # type: ignore[return-value]

    @staticmethod
    def _end(work: _Work[T]) -> None:
        """Stops the work: again and again, for what is raised in a destructor or a callback is lost."""
        for _ in range(round(GRACE / GLANCE)):
            work.stop()
            if work.ended.wait(GLANCE):
                return


class _Work(threading.Thread, Generic[T]):
    def __init__(self, function: Callable[[], T]) -> None:
        super().__init__(name="attngen-algebra", daemon=True)
        self.function = function
        self.ended = threading.Event()
        self.started_at = time.monotonic()
        self.spent = 0.0
        self.clock: int | None = None
        self.result: T | None = None
        self.error: BaseException | None = None

    def run(self) -> None:
        try:
            # Asked for here, where the thread surely lives.
            if hasattr(time, "pthread_getcpuclockid"):
                self.clock = time.pthread_getcpuclockid(threading.get_ident())
            self.result = self.function()
        except BaseException as error:
            self.error = error
        self.spent = self.used()
        self.ended.set()

    def used(self) -> float:
        """Seconds that the thread has computed; on systems that do not tell, seconds since it was made."""
        if not self.ended.is_set():
            with contextlib.suppress(OSError):
                if self.clock is not None:
                    self.spent = time.clock_gettime(self.clock)
                elif not hasattr(time, "pthread_getcpuclockid"):
                    self.spent = time.monotonic() - self.started_at
        return self.spent

    def stop(self) -> None:
        """Raises `OutOfTime` in the thread, at its next step in Python."""
        if self.ident is not None and not self.ended.is_set():
            ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(self.ident), ctypes.py_object(OutOfTime))
