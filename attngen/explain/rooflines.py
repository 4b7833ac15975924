"""How fast GPUs could be at best: visible pairs alone, every operand moved once, all units at work at the same time."""

from __future__ import annotations

from attngen.codegen.costs import ELEMENT, pair_costs
from attngen.codegen.devices import DEVICES, predict
from attngen.explain.explanation import KeySetFacts, Roofline
from attngen.explain.facts import Setting
from attngen.explain.work import moved


def rooflines(setting: Setting, facts: tuple[KeySetFacts, ...]) -> tuple[Roofline, ...]:
    """One for each device of the table; none for float64, which GPUs have no tiles for."""
    element = ELEMENT[setting.plan.problem.dtype]
    if element > 4:
        return ()
    keysets = [(branch, keyset) for branch in setting.plan.branches for keyset in branch.keysets]
    found = []
    for device in DEVICES:
        total: dict[str, float] = {}
        for (branch, keyset), fact in zip(keysets, facts, strict=True):
            exps, fmas = pair_costs(branch, keyset)
            # Earlier passes compute the scores again.
            scores = 2 if branch.passes else 1
            parts = predict(
                device,
                pairs=sum(fact.pairs) / 2,
                d=scores * sum(dot.width for dot in keyset.dots),
                dv=branch.width,
                moved=moved(setting) / len(keysets),
                element_bytes=element,
                exps=exps,
                fmas=fmas,
            ).parts
            for unit, seconds in parts.items():
                total[unit] = total.get(unit, 0.0) + seconds
        bound = max(total, key=lambda unit: total[unit])
        found.append(Roofline(device.name, total[bound], bound))
    return tuple(found)
