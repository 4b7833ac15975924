"""Tuning at the first call of its kind, where ATTNGEN_AUTOTUNE asks for it: one process tunes, all others wait and use
what it found."""

from __future__ import annotations

import logging
from collections.abc import Callable
from hashlib import sha256

from attngen.autotune import database as db
from attngen.autotune.identity import device_of, versions
from attngen.autotune.key import Key
from attngen.autotune.tune import tune
from attngen.autotune.workload import Workload
from attngen.codegen.cache_lock import locked
from attngen.errors import AttngenError
from attngen.settings import AutotuneMode

BUDGETS: dict[AutotuneMode, float] = {"quick": 10.0, "full": 120.0}
"""Seconds."""
MOST: dict[AutotuneMode, int] = {"quick": 8, "full": 48}
"""Candidates."""
log = logging.getLogger("attngen.autotune")
_tried: set[Key] = set()


def tune_first(mode: AutotuneMode, work: Workload, run: Callable[..., object] = tune) -> bool:
    """Tunes a call, unless that was done before for calls like it, here or in another process; whether there is
    something new to look up. What goes wrong is told, and the built-in config serves."""
    device = device_of(work.target)
    key = work.key
    if mode not in BUDGETS or device is None or key in _tried or _known(work, key, device):
        return False
    _tried.add(key)
    folder = db.folder_to_write()
    (folder / "locks").mkdir(mode=0o700, parents=True, exist_ok=True)
    with locked(folder, f"tune-{sha256(repr((key, device)).encode()).hexdigest()[:16]}"):
        db.forget()
        if _known(work, key, device):
            return True  # another rank was faster
        log.info("tuning %s for %g s: %s", work.spec.name, BUDGETS[mode], key)
        try:
            run(work, BUDGETS[mode], most=MOST[mode])
        except (AttngenError, RuntimeError, OSError) as problem:
            log.warning("%s was not tuned: %s", work.spec.name, problem)
    return True


def _known(work: Workload, key: Key, device: str) -> bool:
    known = db.database(device, lambda: versions(work.backend))
    found = known.look_up(key.head, lambda: key.sizes)
    return found is not None and found.exact and not found.verdict.stale
