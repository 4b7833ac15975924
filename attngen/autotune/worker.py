"""The process that measures: a candidate that crashes it, or hangs, takes nothing else along.

    python -m attngen.autotune.worker WORKLOAD

takes jobs as lines of JSON on stdin, and answers on stdout: {"trying": TEXT} before each step that may not come back,
{"done": ...} at the end of a job.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any, TextIO

from attngen.autotune.contest import Contest, Wrong
from attngen.autotune.workload import Workload
from attngen.errors import AttngenError


def serve(path: Path, jobs: TextIO, answers: TextIO) -> None:
    """Does the jobs, one line each: {"prepare": TEXT} or {"rounds": [TEXT, ...], "count": N}."""

    def say(answer: dict[str, Any]) -> None:
        print(json.dumps(answer), file=answers, flush=True)

    contest = Contest(Workload.load(path))
    say({"done": {}})
    for line in jobs:
        job = json.loads(line)
        if "prepare" in job:
            say({"trying": job["prepare"]})
            say({"done": _prepared(contest, job["prepare"])})
        else:
            taken = contest.rounds(job["rounds"], job["count"], lambda text: say({"trying": text}))
            say({"done": taken})


def _prepared(contest: Contest, text: str) -> dict[str, Any]:
    try:
        return {"error": contest.prepare(text)}
    except Wrong as problem:
        return {"wrong": str(problem)}
    except AttngenError as problem:
        return {"refused": problem.message.partition("\n")[0]}
    except Exception as problem:
        return {"failed": f"{type(problem).__name__}: {problem}".partition("\n")[0]}


def main() -> None:
    """Answers have stdout for themselves: whatever a kernel prints goes to stderr."""
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "w")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    serve(Path(sys.argv[1]), sys.stdin, answers)


if __name__ == "__main__":
    main()
