"""The time limit of algebra: it holds on any thread, and what is told to stop stops."""

from __future__ import annotations

import threading
import time

import pytest

from attngen.codegen.derive.deadline import Budget


def stubborn() -> None:
    """Works for ever, and catches what it can."""
    while True:
        try:
            sum(range(1000))
        except Exception:
            continue


class Deaf:
    """Loses what is raised while it goes."""

    def __del__(self) -> None:
        end = time.monotonic() + 0.3
        while time.monotonic() < end:
            sum(range(100))


def alive() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "attngen-algebra"]


def test_results_and_errors_come_back() -> None:
    budget = Budget(5.0)
    assert budget.spend(lambda: 3) == 3
    with pytest.raises(ZeroDivisionError):
        budget.spend(lambda: 1 // 0)


def test_work_without_end_is_stopped() -> None:
    with pytest.raises(TimeoutError, match=r"not done after 0.2 s"):
        Budget(0.2).spend(stubborn)
    assert not alive()


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_a_signal_that_is_lost_is_given_again() -> None:
    def work() -> None:
        Deaf()
        stubborn()

    with pytest.raises(TimeoutError):
        Budget(0.05).spend(work)
    assert not alive()


def test_it_holds_off_the_main_thread() -> None:
    found: list[str] = []

    def work() -> None:
        try:
            Budget(0.2).spend(stubborn)
        except TimeoutError as error:
            found.append(str(error))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join(20)
    assert found == ["not done after 0.2 s"]
    assert not alive()


def test_waiting_is_no_computing_but_it_ends() -> None:
    start = time.monotonic()
    with pytest.raises(TimeoutError):
        Budget(0.1).spend(lambda: time.sleep(3))
    assert time.monotonic() - start < 2.9


def test_a_budget_is_spent_once() -> None:
    budget = Budget(0.3)
    with pytest.raises(TimeoutError):
        budget.spend(stubborn)
    with pytest.raises(TimeoutError):
        budget.spend(stubborn)
    assert budget.left == 0


# Other libraries may have callbacks of the garbage collector: raised in one, the signal is lost once, with a warning.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_sympy_is_stopped() -> None:
    import sympy

    x = sympy.Symbol("x")
    hard = sympy.exp(sympy.sin(x)) * sympy.log(1 + x**7) / (sympy.cos(x) + x**3)
    with pytest.raises(TimeoutError):
        Budget(0.3).spend(lambda: sympy.simplify(sympy.integrate(hard, x)))
    assert sympy.simplify(sympy.sin(x) ** 2 + sympy.cos(x) ** 2) == 1
