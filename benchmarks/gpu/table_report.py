"""The table in Markdown and JSON: a line for each contender, means of the groups, clocks."""

from __future__ import annotations

from statistics import geometric_mean
from typing import Any

from benchmarks.gpu.report import MISSING, excuse, spread, write
from benchmarks.gpu.report import table as markdown
from benchmarks.gpu.rows import GROUP_FLOORS, Peer, Row, rows
from benchmarks.gpu.session import Result, Session

HEADER = ["row", "contender", "warm ms (p20 - p80)", "cold ms (p20 - p80)", "TFLOP/s", "attngen x this, warm", "cold",
          "floor / goal", "config"]  # fmt: skip
NOTES = [
    "contenders take turns in one process; medians, and the bounds of the middle three fifths",
    "attngen x this: this contender's time over attngen's; floor / goal: what the design asks of Triton kernels, and "
    "what of it is reached",
    "TFLOP/s: visible pairs alone, of the warm time; a dense peer runs full attention on the same tensors, and has all "
    "pairs",
    "warm: the call was made just before; cold: a buffer larger than the L2 cache was written before",
    "attngen's times hold the block tables that it makes at every call; FlexAttention's block mask is made before",
    "a backward is timed alone, after one forward; gradients are those of q, k and v",
    "FlexAttention is compiled with max-autotune-no-cudagraphs; SDPA runs the backend that a row names and no other",
]


def report(session: Session, left: list[str]) -> None:
    """Writes what there is so far; of a row that was measured with several configs, the last."""
    latest = {r["row"]: r["result"] for r in session.records()}
    listed = rows(session.dry)
    lines = [line for row in listed for line in _lines(row, latest.get(row.name))]
    told = {name: _clocks(result) for name, result in latest.items() if "clocks_before" in result}
    if len(set(told.values())) > 1:
        clocks = [f"- {name}: {each}" for name, each in told.items()]
    else:
        clocks = [next(iter(told.values()), MISSING)]
    parts = [markdown(HEADER, lines), "## Clocks, before -> after", "\n".join(clocks)]
    notes = [*NOTES, *(_mean(group, listed, latest) for group in GROUP_FLOORS)]
    write(session, "Attention beside its peers, bf16", parts, notes, left, results=latest)


def ratio(result: Result | None, peer: str, kind: str = "warm") -> float | None:
    """The peer's time over attngen's."""
    found: dict[str, Any] = (result or {}).get("contenders", {})
    ours, other = found.get("attngen", {}).get(kind), found.get(peer, {}).get(kind)
    return other["median"] / ours["median"] if ours and other else None


def _lines(row: Row, result: Result | None) -> list[list[str]]:
    size = row.work.size
    grid = f", {' x '.join(map(str, size.grid))}" if size.grid else ""
    name = f"{row.name} (B {size.b}, H {size.h}, N {size.n}{grid}, D {size.d})"
    reason = excuse(result)
    if result is None or reason is not None:
        return [[name, "attngen", str(reason), *[""] * 4, _verdict(row, row.peers[0], None), ""]]
    lines = []
    verdicts = {"attngen": ""} | {str(peer): _verdict(row, peer, ratio(result, peer)) for peer in row.peers}
    for contender in ("attngen", *row.peers):
        found = result["contenders"].get(contender)
        why = excuse(found)
        verdict = verdicts[contender]
        if found is None or why is not None:
            lines.append([name, contender, str(why), *[""] * 4, verdict, ""])
            continue
        flops = 4.0 * size.b * size.h * size.n**2 * size.d if contender.endswith(" dense") else result["flops"]
        rate = f"{flops / found['warm']['median'] / 1e9:.0f}"
        times = [spread(found[kind]) for kind in ("warm", "cold")]
        if contender == "attngen":
            lines.append([name, contender, *times, rate, "", "", "", result["config"]])
            continue
        ratios = [_shown(ratio(result, contender, kind)) for kind in ("warm", "cold")]
        lines.append([name, contender, *times, rate, *ratios, verdict, ""])
    return lines


def _verdict(row: Row, peer: Peer, found: float | None) -> str:
    """What is asked beside a peer, and what of it was reached."""
    floor, goal = row.asked(peer)
    if floor is None:
        return ""
    told = f"{floor} / {'-' if goal is None else goal}"
    if found is None:
        return told
    return f"{told}: {'goal' if goal is not None and found >= goal else 'floor' if found >= floor else 'below'}"


def _shown(value: float | None) -> str:
    return MISSING if value is None else f"{value:.2f}"


def _mean(group: str, listed: list[Row], latest: dict[str, Result]) -> str:
    """The geometric mean of a group, over what is there."""
    members = [row for row in listed if row.group == group]
    known = [r for row in members if (r := ratio(latest.get(row.name), row.peers[0])) is not None]
    mean = f"{geometric_mean(known):.2f}, least {min(known):.2f}" if known else MISSING
    return f"{group}: geometric mean {mean} (asked: {GROUP_FLOORS[group]}), over {len(known)} of {len(members)}"


def _clocks(result: Result) -> str:
    return " -> ".join(", ".join(result[f"clocks_{when}"].values()) for when in ("before", "after"))
