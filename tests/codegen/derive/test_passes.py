"""The normal form of a normalizer: earlier passes, a scan, and one Streaming declaration over the first scores."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch

from attngen import normalizers
from attngen.codegen.derive.laws import shift_rate
from attngen.codegen.derive.passes import MOST_PASSES, expressions, last_declared, normal_form, sink_of
from attngen.errors import SpecError
from attngen.ir.evaluate import Environment, evaluate
from attngen.ir.expr import Expr, const, op, sym, symbols
from attngen.ir.normalizer import Streaming


def form(rule: Any) -> Any:
    return normal_form(rule.ir, shift_rate)


def value(expr: Expr, **values: float) -> float:
    """m_0 stands for m[0]."""
    names = {name: name.replace("_", "[") + "]" if "_" in name else name for name in values}
    given = {names[name]: torch.tensor(v, dtype=torch.float64) for name, v in values.items()}
    return float(evaluate(expr, Environment(given, {})))


def test_a_streaming_rule_is_its_own_last_pass() -> None:
    rule = normalizers.softmax()
    assert form(rule) == ((), None, rule.ir)


def test_a_chain_is_written_over_the_first_score() -> None:
    passes, scan, last = form(normalizers.lssar(2, 0.5))
    assert scan is None
    assert [(one.kind, one.anchor, one.term) for one in passes] == [("sum", None, op("softplus", sym("s")))]
    assert symbols(last.phi) == {"s", "m", "r[0]", "n_k"}
    assert symbols(last.anchor) == {"s", "r[0]", "n_k"}
    assert last.name == "lssar"


def test_a_chain_has_the_anchors_and_sums_of_each_pass() -> None:
    first = normalizers.softmax(numerics="adjusted")
    second = normalizers.streaming(
        "second", phi=lambda s, m: s * torch.exp(s - m), psi=lambda s, m: torch.exp(s - m), anchor=lambda s: s
    )
    passes, _, last = form(normalizers.chained("c", first, second, normalizers.none()))
    assert [symbols(one.term) for one in passes] == [{"s", "m[0]"}, {"s", "m[0]", "r[0]", "m[1]"}]
    assert [one.decay_rate for one in passes] == [1.0, 1.0]
    assert symbols(passes[1].anchor) == {"s", "m[0]", "r[0]"}
    assert last.finalize == sym("acc")
    # The weight of the first pass, then s exp(s) of it over the sum.
    share = math.exp(0.7 - 1.0 - first.ir.offset) / 3.0
    exact = share * math.exp(share - 0.4) / 5.0
    assert value(last.phi, s=0.7, m_0=1.0, r_0=3.0, m_1=0.4, r_1=5.0) == pytest.approx(exact, rel=1e-12)


def test_a_pass_without_mass_gives_weights_of_zero() -> None:
    _, _, last = form(normalizers.chained("c", normalizers.linear(), normalizers.none()))
    assert value(last.phi, s=0.7, r_0=0.0) == 0.0


@pytest.mark.parametrize("alpha", [1.05, 1.2, 1.3, 1.5, 2.0, 3.0])
def test_a_threshold_is_a_maximum_a_root_and_weights(alpha: float) -> None:
    passes, scan, last = form(normalizers.entmax(alpha))
    assert scan is None
    assert (passes[0].kind, passes[0].anchor, passes[0].term) == ("sum", sym("s"), None)
    root = passes[1]
    assert root.kind == "root"
    assert root.term == last.phi
    assert last.psi is None
    exact = max((alpha - 1) * (0.3 - 0.9) + 0.8, 0) ** (1 / (alpha - 1))
    assert value(last.phi, s=0.3, m_0=0.9, r_1=-0.8) == pytest.approx(exact, rel=1e-12)
    assert value(last.phi, s=0.3, m_0=0.9, r_1=0.0) == 0.0
    assert value(last.phi, s=0.9, m_0=0.9, r_1=-1.0) == pytest.approx(1.0)
    # n equal keys have 1 / n each at the upper bound; the largest alone has 1 at the lower one.
    assert value(root.low, count=7) == -1.0
    assert value(last.phi, s=0.9, m_0=0.9, r_1=value(root.high, count=7)) == pytest.approx(1 / 7, rel=1e-9)


def test_cheap_powers_of_thresholds() -> None:
    def operators(alpha: float) -> set[str]:
        from attngen.ir.expr import Op, postorder

        return {n.name for n in postorder(form(normalizers.entmax(alpha))[2].phi) if isinstance(n, Op)}

    assert not operators(2.0) & {"pow", "exp", "log", "sqrt", "where"}
    assert not operators(1.5) & {"pow", "exp", "log", "sqrt", "where"}
    assert not operators(3.0) & {"pow", "exp", "log"}
    assert not operators(1.2) & {"pow", "exp", "log", "sqrt", "where"}
    assert "pow" not in operators(1.3)


def test_an_order_is_a_scan() -> None:
    passes, scan, last = form(normalizers.stick_breaking())
    assert passes == ()
    assert scan is not None
    assert scan.direction == "backward"
    assert scan.keep == op("neg", op("softplus", sym("s")))
    assert last.phi == op("mul", op("sigmoid", sym("s")), op("exp", sym("before")))


def test_a_sink_meets_the_last_pass_as_it_was_declared() -> None:
    chain = normalizers.chained("c", normalizers.softplus_l1(), normalizers.softmax(sink=0.5))
    passes, _, last = form(chain)
    declared = last_declared(chain.ir)
    assert declared is not None
    sink = sink_of(declared)
    assert sink is not None
    assert "r[0]" in symbols(last.psi)
    assert symbols(sink.term, sink.anchor) == {"m"}
    assert passes[0].sink is None


def test_a_sink_of_an_inner_pass_counts_in_its_sum() -> None:
    passes, _, _ = form(normalizers.chained("c", normalizers.softmax(sink=0.5), normalizers.none()))
    sink = passes[0].sink
    assert sink is not None
    assert symbols(sink.term) == {"m[0]"}
    assert set(expressions(passes[0])) == {passes[0].term, passes[0].anchor, sink.score, sink.term, sink.anchor}


def test_too_many_passes() -> None:
    rules = [normalizers.softplus_l1()] * (MOST_PASSES + 2)
    with pytest.raises(SpecError, match=f"normalizer 'long': {MOST_PASSES + 2} passes; a kernel has up to"):
        form(normalizers.chained("long", *rules))


def test_an_inner_pass_needs_the_shift_law_too() -> None:
    bad = Streaming("bad", op("mul", sym("s"), sym("m")), sym("acc"), psi=sym("s"), anchor=sym("s"))
    from attngen.ir.normalizer import Chained

    with pytest.raises(SpecError, match="bad"):
        normal_form(Chained("c", (bad, Streaming("last", const(1.0), sym("acc")))), shift_rate)
