"""What Dynamo cannot trace, in the words of a user of attngen: the line, the reason, the nearest form that lifts."""

from __future__ import annotations

import re
from typing import Any

from attngen.errors import AttngenError, LiftError
from attngen.frontend import positions

LINE = re.compile(r'File "(.+?)", line (\d+)')
BRANCH = "a branch depends on the data of a tensor; write torch.where, or decide outside of the function"


def in_users_words(error: Any) -> AttngenError | None:
    """The error to raise in place of one of Dynamo's; None for those that have nothing to do with lifting."""
    inner = getattr(error, "inner_exception", None)
    if inner is not None:
        return inner if isinstance(inner, AttngenError) else None
    text = str(error)
    found = [place for place in LINE.findall(text) if "/torch/" not in place[0]]
    source = positions.of_line(found[-1][0], int(found[-1][1])) if found else None
    reason = BRANCH if re.search("data.dependent", text.lower()) else text.strip().splitlines()[0]
    return LiftError(f"fullgraph=True: {reason}", source=source)
