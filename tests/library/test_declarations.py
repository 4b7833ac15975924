"""Declarations of one's own: what is lawful runs and equals its formula, what is not is refused with the reason."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch.nn.functional import elu, softplus

import attngen
from attngen import masks, normalizers
from attngen.errors import SpecError
from attngen.spec import Spec
from tests.library.dense import qkv, run, scores

TENSORS = qkv(h=3, n_q=7, n_k=9)
S, V = scores(TENSORS), TENSORS["v"]
SEEN = torch.arange(9) <= torch.arange(7)[:, None]
TAU = 2.0
HEADS = torch.tensor([0.5, 1.0, 2.0])


def mean(weight, mass=None):
    weight = torch.where(SEEN, weight, 0.0)
    total = weight if mass is None else torch.where(SEEN, mass, 0.0)
    return weight / total.sum(-1, keepdim=True) @ V


def own(**parts):
    return normalizers.streaming("mine", **parts)


def anchored(weight, **more):
    return own(phi=weight, psi=weight, anchor=lambda s: s, **more)


LAWFUL = {
    "a quotient": (anchored(lambda s, m: torch.exp(s) / torch.exp(m)), mean(S.exp())),
    "a square": (anchored(lambda s, m: torch.exp(s - m) ** 2), mean((2 * S).exp())),
    "powers of two": (anchored(lambda s, m: torch.exp2(1.5 * (s - m))), mean(torch.exp2(1.5 * S))),
    "a static temperature": (
        anchored(lambda s, m: torch.exp((s - m) / attngen.static(TAU))),
        mean((S / TAU).exp()),
    ),
    "a temperature in the anchor": (
        own(
            phi=lambda s, m: torch.exp(s / TAU - m), psi=lambda s, m: torch.exp(s / TAU - m), anchor=lambda s: s / TAU
        ),
        mean((S / TAU).exp()),
    ),
    "a temperature of each head": (
        own(
            phi=lambda s, m, h: torch.exp(s * HEADS[h] - m),
            psi=lambda s, m, h: torch.exp(s * HEADS[h] - m),
            anchor=lambda s, h: s * HEADS[h],
        ),
        mean((S * HEADS[:, None, None]).exp()),
    ),
    "a clamped difference": (
        anchored(lambda s, m: torch.exp(torch.clamp(s - m, max=0.0)), offset=0.25),
        mean(S.exp()),
    ),
    "expm1": (anchored(lambda s, m: torch.expm1(s - m) + 1), mean(S.exp())),
    "only positive scores": (
        own(
            phi=lambda s, m: torch.where(s > 0, torch.exp(s - m), 0.0),
            psi=lambda s, m: torch.exp(s - m),
            anchor=lambda s: s,
            jumps_ignored=(0,),
        ),
        mean(torch.where(S > 0, S.exp(), 0.0), S.exp()),
    ),
    "softplus of softplus": (own(phi=lambda s: softplus(softplus(s)), psi=lambda s: softplus(softplus(s))),
                             mean(softplus(softplus(S)))),
    "elu + 1": (own(phi=lambda s: elu(s) + 1, psi=lambda s: elu(s) + 1), mean(elu(S) + 1)),
    "a polynomial": (own(phi=lambda s: 1 + s + s * s / 2, psi=lambda s: 1 + s + s * s / 2), mean(1 + S + S * S / 2)),
    "squareplus": (
        own(phi=lambda s: (s + torch.sqrt(s * s + 4)) / 2, psi=lambda s: (s + torch.sqrt(s * s + 4)) / 2),
        mean((S + torch.sqrt(S * S + 4)) / 2),
    ),
    "a sum that bears any sign": (
        own(phi=lambda s: s, psi=lambda s: s, finalize=lambda acc, mass: acc / (1 + mass * mass)),
        torch.where(SEEN, S, 0.0) @ V / (1 + torch.where(SEEN, S, 0.0).sum(-1, keepdim=True) ** 2),
    ),
    "eps at the anchor": (
        anchored(lambda s, m: torch.exp(s - m), finalize=lambda acc, mass, m: acc / (mass + 0.5 * torch.exp(-m))),
        torch.where(SEEN, S.exp(), 0.0) @ V / (torch.where(SEEN, S.exp(), 0.0).sum(-1, keepdim=True) + 0.5),
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", LAWFUL)
def test_lawful(name):
    normalizer, expected = LAWFUL[name]
    torch.testing.assert_close(run(Spec(mask=masks.causal(), normalizer=normalizer), TENSORS), expected)


@pytest.mark.parametrize("name", [name for name in LAWFUL if LAWFUL[name][0].ir.anchor is not None])
def test_gradients_do_not_see_the_anchor(name):
    """Autograd through the running maximum, and with the maximum held: the law of invariance says that both agree."""
    import attngen.ir.reference_normalizers as reference

    spec = Spec(mask=masks.causal(), normalizer=LAWFUL[name][0])
    found = []
    for hold in (False, True):
        tensors = {key: tensor.clone().requires_grad_() for key, tensor in TENSORS.items()}
        with pytest.MonkeyPatch.context() as patch:
            original = reference._State._maximum
            if hold:
                patch.setattr(reference._State, "_maximum", lambda self, anchor, f=original: f(self, anchor).detach())
            out = run(spec, tensors)
        found.append(torch.autograd.grad((out * V[:, :, :7]).sum(), list(tensors.values())))
    torch.testing.assert_close(found[0], found[1])


@pytest.mark.parametrize("name", ["a square", "powers of two", "expm1", "a clamped difference", "eps at the anchor"])
def test_an_offset_changes_nothing(name):
    rule, expected = LAWFUL[name]
    moved = replace(rule, ir=replace(rule.ir, offset=0.375))
    torch.testing.assert_close(run(Spec(mask=masks.causal(), normalizer=moved), TENSORS), expected)


JOIN = (
    "; a gradient does not see a jump: join the pieces, or, where the published rule takes the derivative of the "
    "pieces, say so with jumps_ignored="
)
FINITE = "; a gradient would not be finite: take a power of at least 1, or guard it with torch.clamp"
NONNEGATIVE = ', or declare scores="nonnegative" where no score is below zero'
PIECES = ", so a gradient cannot pass through it; join the pieces, and keep divisors away from 0"
REFUSED = [
    (
        lambda: own(phi=lambda s: torch.where(s > 0.5, 1.0, 0.0)),
        f"phi jumps at s = 0.5: 0 to the left, 1 to the right{JOIN}(0.5,)",
    ),
    (
        lambda: own(phi=lambda s: torch.sigmoid(s), psi=lambda s: torch.where(s < 1, 1.0, 2.0)),
        f"psi jumps at s = 1: 1 to the left, 2 to the right{JOIN}(1,)",
    ),
    (
        lambda: own(
            phi=lambda s, m: torch.sign(s) * torch.exp(torch.abs(s) - m),
            psi=lambda s, m: torch.exp(torch.abs(s) - m),
            anchor=lambda s: torch.abs(s),
        ),
        f"phi jumps at s = 0: -1 to the left, 1 to the right{JOIN}(0,)",
    ),
    (
        lambda: own(phi=lambda s: torch.where((s > 0) | (s < -1), 1.0, 0.0), jumps_ignored=(0,)),
        f"phi jumps at s = -1: 1 to the left, 0 to the right{JOIN}(-1,)",
    ),
    (
        lambda: own(phi=lambda s, h: torch.where(s > HEADS[h], s, 0.0)),
        f"phi jumps at s = 0.5: 0 to the left, 0.5 to the right with HEADS[h] = 0.5{JOIN}(0.5,)",
    ),
    (
        lambda: own(phi=lambda s, q: torch.where(q > 20, torch.round(s), s)),
        f"phi jumps at s = 0.5: 0 to the left, 1 to the right with q = 21{JOIN}(0.5,)",
    ),
    (lambda: own(phi=lambda s: torch.floor(s)), f"phi jumps at s = 0: -1 to the left, 0 to the right{JOIN}(0,)"),
    (lambda: own(phi=lambda s: (s * 2).int()), f"phi jumps at s = 0.5: 0 to the left, 1 to the right{JOIN}(0.5,)"),
    (lambda: own(phi=lambda s: torch.relu(s) ** 0.5), f"phi has an infinite slope at s = 0{FINITE}"),
    (lambda: own(phi=lambda s: torch.sqrt(s * s)), f"phi has a slope that is not a number at s = 0{FINITE}"),
    (lambda: own(phi=lambda s: 1 / s), f"phi is infinite at s = 0{FINITE}"),
    (lambda: own(phi=lambda s: torch.log(s)), f"phi is not a number at s = -1{FINITE}{NONNEGATIVE}"),
    (lambda: own(phi=lambda s: torch.sqrt(s), scores="nonnegative"), f"phi has an infinite slope at s = 0{FINITE}"),
    (
        lambda: own(phi=lambda s: HEADS[s.int()]),
        "phi reads a table at an index that depends on s, so it is constant in pieces; a gradient does not see its "
        "steps: write it as a formula",
    ),
    (
        lambda: own(phi=lambda s: torch.sigmoid(s), finalize=lambda acc: torch.round(acc)),
        f"finalize jumps at acc = 0.5: 0 to the left, 1 to the right{PIECES}",
    ),
    (
        lambda: own(
            phi=lambda s: torch.exp(s), psi=lambda s: torch.exp(s), finalize=lambda acc, mass: acc / (mass - 2.0)
        ),
        f"finalize is infinite at mass = 2{PIECES}",
    ),
    (
        lambda: own(phi=lambda s: torch.sigmoid(s), finalize=lambda acc, vsum: torch.where(vsum > 0.25, acc, -acc)),
        f"finalize jumps at vsum = 0.25: -0.8 to the left, 0.8 to the right{PIECES}",
    ),
    (
        lambda: own(phi=lambda s: torch.sigmoid(s), jumps_ignored=[0.0]),
        None,
        "normalizer 'mine', jumps_ignored: there is no jump of phi at s = 0; leave it out",
    ),
    (
        lambda: own(
            phi=lambda s, m: torch.exp(torch.log(torch.relu(s)) - m),
            psi=lambda s, m: torch.exp(torch.log(torch.relu(s)) - m),
            anchor=lambda s: torch.log(torch.relu(s)),
        ),
        "the anchor is -inf at s = 0; its maximum over a row must be a number: use torch.clamp, or another anchor",
    ),
]


@pytest.mark.parametrize("case", REFUSED, ids=range(len(REFUSED)))
def test_refused(case):
    make, words, *whole = case
    with pytest.raises(SpecError) as error:
        make()
    assert error.value.message == (whole[0] if whole else f"normalizer 'mine': {words}")


def test_the_line_is_shown():
    with pytest.raises(SpecError) as error:
        own(phi=lambda s: torch.where(s > 0.5, 1.0, 0.0))
    assert "own(phi=lambda s: torch.where(s > 0.5, 1.0, 0.0))" in str(error.value)
    assert str(error.value).rstrip().endswith("^")


def test_numbers_are_taken_as_they_are_now():
    power = 3.0
    own(phi=lambda s: torch.relu(s) ** power)
    power = 0.5
    with pytest.raises(SpecError, match=r"phi has an infinite slope at s = 0 with power = 0.5"):
        own(phi=lambda s: torch.relu(s) ** power)


BAD_ARGUMENTS = [
    (lambda: own(phi=lambda s: s, scores="positive"), "scores: got 'positive'; allowed: real, nonnegative"),
    (
        lambda: own(phi=lambda s: s, jumps_ignored=0.0),
        "jumps_ignored: got 0.0; allowed: the scores at which there is a jump, such as (0.0,)",
    ),
    (lambda: own(phi=lambda s: s, jumps_ignored=("0",)), "jumps_ignored: got '0'; allowed: a finite number"),
    (
        lambda: anchored(lambda s, m: torch.exp(s - m), offset=0.75),
        "offset: got 0.75; allowed: a number in 0 .. 1/2",
    ),
    (
        lambda: normalizers.entmax(0.5),
        "alpha: got 0.5; allowed: a number > 1 (1 itself is softmax): only then does the sum of the weights fall as "
        "tau rises, so that it is 1 once",
    ),
]


@pytest.mark.parametrize(("make", "message"), BAD_ARGUMENTS, ids=range(len(BAD_ARGUMENTS)))
def test_bad_arguments(make, message):
    with pytest.raises(SpecError) as error:
        make()
    assert error.value.message == message


def ordered(weight=lambda s: torch.sigmoid(s), log_keep=lambda s: -softplus(s), **more):
    return normalizers.ordered("mine", "forward", weight, log_keep, **more)


def test_ordered():
    ordered(log_keep=lambda s: -torch.relu(s))
    ordered(log_keep=lambda s: torch.log1p(-0.5 * torch.sigmoid(s)))
    ordered(weight=lambda s: torch.where(s > 0, 1.0, 0.0), jumps_ignored=(0.0,))
    with pytest.raises(SpecError, match=r"here log_keep = 0.693147 at s = 0; write -softplus\(s\)"):
        ordered(log_keep=lambda s: softplus(s))
    with pytest.raises(SpecError, match="weight jumps at s = 0: 0 to the left, 1 to the right"):
        ordered(weight=lambda s: torch.where(s > 0, 1.0, 0.0))
    with pytest.raises(SpecError, match="log_keep has an infinite slope at s = 0"):
        ordered(log_keep=lambda s: -torch.sqrt(torch.relu(s)))


def test_chained():
    signed = own(phi=lambda s: s, psi=lambda s: s, finalize=lambda acc: acc)
    with pytest.raises(SpecError, match="normalizer 'two', pass 0: psi can be negative"):
        normalizers.chained("two", signed, normalizers.softmax())
    normalizers.chained("two", normalizers.softmax(), signed)
    normalizers.chained("two", normalizers.softmax(), normalizers.linear())


def test_linear_attention_needs_feature_maps():
    with pytest.raises(SpecError, match="those can be: the view of q has no feature map; give q and k feature maps"):
        Spec(normalizer="linear")
    assert attngen.mechanisms.linear("softmax").ir.branches[0].normalizer.scores == "nonnegative"
    Spec(normalizer="linear", score=lambda score: torch.relu(score) + 0.5)
    chained = normalizers.chained("two", normalizers.softmax(), normalizers.linear())
    Spec(normalizer=chained)
    with pytest.raises(SpecError, match="those are the weights of pass 0, whose phi can be"):
        Spec(normalizer=normalizers.chained("two", normalizers.cog(), normalizers.linear()))


def test_the_library_needs_no_algebra():
    """What the library declares is proven by structure: sympy, which takes a second to import, stays out."""
    code = (
        "import sys\n"
        "from attngen import normalizers as n\n"
        "for name in n.ALL:\n"
        "    args = {'affine': (0.5, 0.5), 'lssar': (3, 0.5)}.get(name, ())\n"
        "    n.ALL[name](*args)\n"
        "n.relu(2.5), n.linear(0.5), n.lssar(15, 0.5, 'n_visible'), n.softmax(sink=0.5, numerics='adjusted')\n"
        "sys.exit('sympy' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_the_example_runs():
    example = Path(attngen.__file__).parents[1] / "examples" / "normalizers.py"
    done = subprocess.run([sys.executable, example], capture_output=True, text=True, check=True)
    assert "bounded_softmax: out" in done.stdout
    assert "at s = 0, m = 6, t = 1 the left side is 0.01 and the right side 0.00367879" in done.stdout
