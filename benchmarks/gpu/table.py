"""table: the rows of the H200 table, every contender in turn, with the best configs that tune found."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any

from torch import Tensor

from attngen.autotune.timing import figures, interleave, timer
from attngen.errors import AttngenError
from benchmarks.gpu import peers
from benchmarks.gpu.candidates import every_backward, forward_candidates
from benchmarks.gpu.journal import Journal
from benchmarks.gpu.place import clocks
from benchmarks.gpu.rows import Row, rows, titled
from benchmarks.gpu.sampled import error, rows_of
from benchmarks.gpu.session import Result, Session, Unit, reason_of
from benchmarks.gpu.subjects import best, forced
from benchmarks.gpu.table_report import report as report

OWN = "own"
"""In place of a config: the one that the library takes by itself."""
LIMIT = 6.0
"""Seconds that the rounds of a row may take."""
NEEDS = {"forward": 45.0, "backward": 90.0}
"""Seconds that a row with FlexAttention may take, which is tuned and built in them; other rows need less."""
DENSE_NEEDS = 20.0
DRY_BACKWARD = ("causal", "neighborhood-2d")
AGREE = 3e-2
"""The error of a result beyond which its time is not compared."""

Call = Callable[[], Any]


@dataclass(frozen=True, slots=True)
class Setting:
    """The tensors of a row."""

    row: Row
    device: str
    q: Tensor
    k: Tensor
    v: Tensor
    dout: Tensor
    captured: dict[str, Tensor]

    @classmethod
    def of(cls, row: Row, device: str) -> Setting:
        return cls(row, device, *row.work.operands(device), row.work.captured(device))


def units(session: Session) -> Iterator[Unit]:
    """One unit a row. Another config that tune finds later makes another measurement. A dry run leaves out most of the
    backwards, which have no peer on the CPU."""
    tuned = Journal(session.options.out / "tune.jsonl").records
    for row in rows(session.dry):
        if session.dry and row.backward and row.work.name not in DRY_BACKWARD:
            continue
        found = best(session, tuned, titled(row.work, row.backward))
        needs = NEEDS[row.direction] if "flex" in row.peers else DENSE_NEEDS
        config = OWN if found is None else found[0]
        yield session.single(row.name, config, 0.0 if session.dry else needs, partial(measure, session, row, found))


def measure(session: Session, row: Row, tuned: tuple[str, str] | None) -> Result:
    """The times of all contenders of a row that run here; why the others do not."""
    setting = Setting.of(row, session.device)
    own, config = _own(setting, tuned, session.dry)
    if isinstance(own, dict) and not row.alone:
        return own
    contenders: dict[str, Result] = {}
    calls: dict[str, Call] = {}
    for peer in row.peers:
        try:
            calls[peer] = _peer(peer, setting)
        except Exception as problem:
            contenders[peer] = {"failed": reason_of(problem)}
    if isinstance(own, dict):
        contenders["attngen"] = own
    else:
        calls["attngen"] = own
    contenders |= _first_calls(setting, calls)
    before = clocks()
    limit, least = (0.0, 1) if session.dry else (LIMIT, 5)
    for name, times in interleave(calls, timer(session.device), limit, least).items():
        contenders[name] |= figures(times)
    found: Result = {"contenders": contenders, "clocks_before": before, "clocks_after": clocks()}
    found |= {"size": asdict(row.work.size), "flops": row.work.flops(row.backward)}
    return found | {"config": config, "tuned_at": None if tuned is None else tuned[1]}


def _own(setting: Setting, tuned: tuple[str, str] | None, dry: bool) -> tuple[Call | Result, str]:
    """The launch of attngen's kernel with the best config known, or why there is none; and the text of the config."""
    row = setting.row
    try:
        found = forced(row.work, setting.device, setting.q, setting.k, setting.v, captured=setting.captured)
        if not row.backward:
            chosen: Any = _chosen(tuned, forward_candidates(found.backend, found.plan, dry))
            return found.forward(chosen), str(chosen)
        found.refuse_backward()
        chosen = _chosen(tuned, every_backward(found.backend, found.plan))
        return found.backward(found.backend.configs(found.plan)[0], chosen, setting.dout), str(chosen)
    except AttngenError as problem:
        return {"refused": str(problem)}, ""
    except Exception as problem:
        return {"failed": reason_of(problem)}, ""


def _chosen(tuned: tuple[str, str] | None, offered: list[Any]) -> Any:
    """The config whose text tune noted, or the library's own."""
    return next((config for config in offered if tuned is not None and str(config) == tuned[0]), offered[0])


def _peer(name: str, setting: Setting) -> Call:
    row = setting.row
    q, k, v = setting.q, setting.k, setting.v
    if row.backward:
        q, k, v = (t.detach().clone() for t in (q, k, v))
    if name == "flex":
        call = peers.flex(row.work, q, k, v, setting.captured)
    else:
        call = peers.sdpa(name.removesuffix(" dense"), q, k, v, row.work.name == "causal" and "dense" not in name)
    return peers.backward(call, setting.dout, q, k, v) if row.backward else peers.forward(call)


def _first_calls(setting: Setting, calls: dict[str, Call]) -> dict[str, Result]:
    """Calls each once, where peers tune and build; drops those that fail or compute something else than they should."""
    row, work = setting.row, setting.row.work
    exact = None
    if not work.opaque and not row.backward:
        exact = rows_of(work, setting.q, setting.k, setting.v, setting.captured)
    found: dict[str, Result] = {}
    gradients: tuple[Tensor, ...] | None = None
    for name in list(calls):
        try:
            out = calls[name]()
            wrong = None
            if row.backward:
                # Of the first peer, which the others are held against.
                wrong = None if gradients is None else max(map(error, out, gradients))
                gradients = tuple(out) if gradients is None else gradients
            elif exact is not None and not name.endswith(" dense"):
                wrong = error(out[:, :, exact[1]], exact[0])
            if wrong is not None and not wrong <= AGREE:
                raise ArithmeticError(f"its result is off by {wrong:.1e}")
            found[name] = {"error": wrong}
        except Exception as problem:
            found[name] = {"failed": reason_of(problem)}
            del calls[name]
    return found
