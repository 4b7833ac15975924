"""The normalizers on dense rows, from their declarations."""

from __future__ import annotations

from typing import TYPE_CHECKING, assert_never

from attngen.ir.evaluate import Environment, evaluate
from attngen.ir.expr import Expr
from attngen.ir.normalizer import Chained, Normalizer, Ordered, Streaming, Threshold
from attngen.ir.reference_rows import Rows, weighted_sum

if TYPE_CHECKING:
    from torch import Tensor

Result = tuple["Tensor", "Tensor | None"]
BISECTIONS = 64


def normalize(node: Normalizer, rows: Rows) -> Result:
    """The result (B, H, Nq, Dv) of a branch, and its log-sum-exp (B, H, Nq) if the normalizer has one."""
    match node:
        case Streaming():
            return _streaming(node, rows, rows.score)
        case Chained(passes=passes):
            score = rows.score
            for each in passes[:-1]:
                score = _weights(each, rows, score)
            return _streaming(passes[-1], rows, score)
        case Threshold(alpha=alpha):
            return _sum(_threshold(alpha, rows), rows), None
        case Ordered():
            return _sum(_ordered(node, rows), rows), None
        case _:
            assert_never(node)


def _sum(weights: Tensor, rows: Rows) -> Tensor:
    """sum of weights times values; the weight that a branch declares comes on top."""
    total = weights if rows.weight is None else weights * rows.weight
    return weighted_sum(total, rows.v, rows.present)


class _State:
    """The statistics of a streaming normalizer over rows of scores (B, H, Nq, N)."""

    def __init__(self, node: Streaming, rows: Rows, score: Tensor) -> None:
        import torch

        self.node, self.rows, present = node, rows, rows.present
        self.sink = None if node.sink is None else self._at_sink(node.sink)
        self.nonempty = present.any(-1, keepdim=True)
        self.has_mass = self.nonempty if self.sink is None else self.nonempty | (self.sink != -torch.inf)
        self.symbols: dict[str, Tensor] = {**rows.symbols, "s": score}
        if node.anchor is not None:
            self.symbols["m"] = self._maximum(node.anchor)
        self.phi = self._each(node.phi)
        self.mass: Tensor | None = None
        if node.psi is not None:
            mass = self._each(node.psi).sum(-1, keepdim=True)
            self.mass = mass if self.sink is None else mass + self._sink_mass(node.psi, self.sink)

    def _at_sink(self, sink: Expr) -> Tensor:
        value = evaluate(sink, Environment(self.rows.symbols, self.rows.inputs))
        return value.expand(*self.rows.present.shape[:3], 1)

    def _maximum(self, anchor: Expr) -> Tensor:
        """The anchor. It stays in the gradient: that is exact for every declaration, shift-invariant or not."""
        import torch

        node, present = self.node, self.rows.present
        values = evaluate(anchor, Environment(self.symbols, self.rows.inputs, present))
        values = torch.where(present, values, -torch.inf)
        if self.sink is not None:
            open_ = self.sink != -torch.inf
            at_sink = evaluate(anchor, Environment({**self.symbols, "s": self.sink}, self.rows.inputs, open_))
            values = torch.cat([values, torch.where(open_, at_sink, -torch.inf)], -1)
        if values.shape[-1] == 0:
            return values.new_zeros((*values.shape[:-1], 1))
        return torch.where(self.has_mass, values.amax(-1, keepdim=True), 0.0) + node.offset

    def _each(self, expr: Expr) -> Tensor:
        """The expression at every present key, 0 elsewhere."""
        import torch

        present = self.rows.present
        return torch.where(present, evaluate(expr, Environment(self.symbols, self.rows.inputs, present)), 0.0)

    def _sink_mass(self, psi: Expr, sink: Tensor) -> Tensor:
        import torch

        open_ = sink != -torch.inf
        value = evaluate(psi, Environment({**self.symbols, "s": sink}, self.rows.inputs, open_))
        return torch.where(open_, value, 0.0)

    def statistics(self) -> dict[str, Tensor]:
        """What a row knows in the end: its symbols, the count, and m and mass as far as they are declared."""
        found = {name: value for name, value in self.symbols.items() if name != "s"}
        found["count"] = self.rows.present.double().sum(-1, keepdim=True)
        return found if self.mass is None else {**found, "mass": self.mass}


def _streaming(node: Streaming, rows: Rows, score: Tensor) -> Result:
    import torch

    state = _State(node, rows, score)
    symbols = {
        **state.statistics(),
        "acc": _sum(state.phi, rows),
        "vsum": weighted_sum(rows.present.double(), rows.v, rows.present),
        "dim": torch.arange(rows.v.shape[-1], device=rows.v.device),
    }
    out = evaluate(node.finalize, Environment(symbols, rows.inputs, state.nonempty))
    out = torch.where(state.nonempty, out, 0.0).expand(symbols["acc"].shape)
    if node.lse is None:
        return out, None
    lse = evaluate(node.lse, Environment(state.statistics(), rows.inputs, state.has_mass))
    return out, torch.where(state.has_mass, lse, -torch.inf).squeeze(-1)


def _weights(node: Streaming, rows: Rows, score: Tensor) -> Tensor:
    """phi / mass of a pass: the scores of the next."""
    import torch

    state = _State(node, rows, score)
    assert state.mass is not None
    nothing = state.mass == 0
    return torch.where(rows.present & ~nothing, state.phi / torch.where(nothing, 1.0, state.mass), 0.0)


def _ordered(node: Ordered, rows: Rows) -> Tensor:
    import torch

    env = Environment({**rows.symbols, "s": rows.score}, rows.inputs, rows.present)
    weight = torch.where(rows.present, evaluate(node.weight, env), 0.0)
    keep = torch.where(rows.present, evaluate(node.log_keep, env), 0.0)
    if node.direction == "backward":
        keep = keep.flip(-1)
    before = torch.cat([torch.zeros_like(keep[..., :1]), keep[..., :-1]], -1).cumsum(-1)
    if node.direction == "backward":
        before = before.flip(-1)
    return torch.where(rows.present, weight * torch.exp(before), 0.0)


def _threshold(alpha: float, rows: Rows) -> Tensor:
    """entmax weights. tau solves sum p = 1; one differentiable Newton step carries its gradient."""
    import torch

    present, power = rows.present, 1.0 / (alpha - 1.0)
    if present.shape[-1] == 0:
        return torch.zeros_like(rows.score)
    scaled = torch.where(present, (alpha - 1.0) * rows.score, -torch.inf)
    # Weights depend on differences alone, so a constant shift by the maximum changes neither them nor a gradient.
    top = scaled.detach().amax(-1, keepdim=True)
    z = torch.where(present, (alpha - 1.0) * rows.score - torch.where(top == -torch.inf, 0.0, top), -torch.inf)
    tau = _sparsemax_tau(z.detach()) if alpha == 2 else _bisect_tau(z.detach(), power)
    support = z > tau
    distance = torch.where(support, z - tau, 1.0)
    with torch.no_grad():
        slope = torch.where(support, power * distance ** (power - 1.0), 0.0).sum(-1, keepdim=True)
        slope = torch.where(slope == 0, 1.0, slope)
    excess = torch.where(support, distance**power, 0.0).sum(-1, keepdim=True) - 1.0
    refined = tau + excess / slope
    distance = torch.where(support, z - refined, 1.0)
    return torch.where(support, distance.clamp(min=0.0) ** power, 0.0)


def _sparsemax_tau(z: Tensor) -> Tensor:
    """Exact, from the sorted row: the largest k with 1 + k z_k > z_1 + ... + z_k."""
    import torch

    ranked = z.sort(-1, descending=True).values
    total = torch.where(ranked == -torch.inf, 0.0, ranked).cumsum(-1)
    k = torch.arange(1, z.shape[-1] + 1, dtype=z.dtype, device=z.device)
    size = (1 + k * ranked > total).sum(-1, keepdim=True).clamp(min=1)
    return (total.gather(-1, size - 1) - 1.0) / size


def _bisect_tau(z: Tensor, power: float) -> Tensor:
    """Between max - 1, where the sum is at least 1, and max - n ** (1 - alpha), where it is at most 1."""
    import torch

    low = torch.full_like(z[..., :1], -1.0)
    high = torch.full_like(low, -(float(z.shape[-1]) ** (-1.0 / power)))
    for _ in range(BISECTIONS):
        middle = (low + high) / 2
        enough = ((z - middle).clamp(min=0.0) ** power).sum(-1, keepdim=True) >= 1.0
        low, high = torch.where(enough, middle, low), torch.where(enough, high, middle)
    return low
