"""What cannot be traced: the message, and the caret under the user's expression."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F

from attngen.errors import SpecError, TraceError
from attngen.frontend import MASK, MASK_OR_SCORE, PHI, SCORE, WEIGHT, Role, trace

TABLE = torch.rand(4, 9)
SLOPES = torch.rand(4)
ROW = "one number (one query, one key), not a row. What needs the whole row belongs in a normalizer"


class Config:
    window = 3
    names = ["a", "b"]  # noqa: RUF012


class Tanh(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Any) -> Any:
        return torch.tanh(x)


def unlearned(score: Any) -> Any:
    with torch.no_grad():
        return score * SLOPES[0]


def failed(function: Callable[..., Any], role: Role) -> TraceError:
    with pytest.raises(SpecError) as caught:
        trace(function, role)
    assert isinstance(caught.value, TraceError)
    return caught.value


def shown(error: TraceError) -> str:
    """The user's text above the caret."""
    source = error.source
    assert source is not None
    assert source.file == __file__
    return source.text[source.column - 1 : source.end_column - 1]


REDUCTIONS = [
    (lambda score: score.max(), "max", "score.max()"),
    (lambda score: torch.where(score >= score.max(), score, -1.0), "max", "score.max()"),
    (lambda score: torch.max(score, -1)[0], "max", "torch.max(score, -1)"),
    (lambda score: torch.softmax(score, -1), "softmax", "torch.softmax(score, -1)"),
    (lambda score: F.softmax(score, dim=-1), "softmax", "F.softmax(score, dim=-1)"),
    (lambda score: score.sum(-1, keepdim=True), "sum", "score.sum(-1, keepdim=True)"),
    (lambda score: score - score.mean(), "mean", "score.mean()"),
    (lambda score: torch.topk(score, 3).values, "topk", "torch.topk(score, 3)"),
    (lambda score: torch.argmax(score), "argmax", "torch.argmax(score)"),
    (lambda score: torch.cumsum(score, 0), "cumsum", "torch.cumsum(score, 0)"),
    (lambda score: torch.sort(score)[0], "sort", "torch.sort(score)"),
    (lambda score: score / score.norm(), "norm", "score.norm()"),
    (lambda score: torch.logsumexp(score, -1), "logsumexp", "torch.logsumexp(score, -1)"),
    (lambda score: F.layer_norm(score, (1,)), "layer_norm", "F.layer_norm(score, (1,))"),
]


@pytest.mark.parametrize(("function", "name", "text"), REDUCTIONS)
def test_reductions(function: Callable[..., Any], name: str, text: str) -> None:
    error = failed(function, SCORE)
    assert error.message.startswith(f"`{name}` over `score`: the score is {ROW}: normalizer=attngen.normalizers")
    assert shown(error) == text


@pytest.mark.parametrize(("function", "role", "message", "text"), [
    # what is returned
    (lambda q, kv: q - kv, MASK, "this mask returns an int and must return a bool (whether the query sees the key); "
     "compare it, as in `x != 0` or `x >= 0`; what is added to a score goes into score=", "q - kv"),
    (lambda h, q, kv: SLOPES[h] * (kv - q), MASK_OR_SCORE, "this mask or score returns a float and must return a "
     "bool (whether the "
     "query sees the key); compare it, as in `x != 0` or `x >= 0`; a score function takes `score` and returns the "
     "new score",
     "SLOPES[h] * (kv - q)"),
    (lambda score, q, kv: q >= kv, SCORE, "this score returns a bool and must return a number; what hides keys goes "
     "into mask=, or write torch.where(condition, score, float('-inf'))", "q >= kv"),
    (lambda score, q, kv: score if q >= kv else False, SCORE, "this score returns a bool and must return a number; ",
     "False"),
    (lambda q, kv: None, MASK, "this mask returns None and must return a bool (whether the query sees the key); is "
     "a `return` missing?", "None"),
    (lambda score: SLOPES, SCORE, "this score returns `SLOPES`, a tensor with 1 dimensions, and must return a "
     "number; index it: SLOPES[h]", "SLOPES"),
    (lambda score, h: TABLE[h], SCORE, "this score returns `TABLE[h]`, a tensor with 1 dimensions", "TABLE[h]"),
    (lambda score, q: (score, q), SCORE, "this score returns a tuple and must return a number", "(score, q)"),
    (lambda score: "text", SCORE, "this score returns str 'text' and must return a number", '"text"'),
    (lambda score: (yield score), SCORE, "this score is a generator or a coroutine and must return a number", None),
    (lambda s: s > 0, PHI, "this normalizer phi returns a bool and must return a number; write "
     "torch.where(condition, 1.0, 0.0)",
     "s > 0"),
    (lambda q, kv: q >= kv, WEIGHT, "this weight returns a bool and must return a number; write torch.where",
     "q >= kv"),
    # operators
    (lambda score, q, kv: (q >= kv) & score, MASK_OR_SCORE, "`&` does not take bool and float; for and, or, not "
     "compare first, as in `x != 0`", "(q >= kv) & score"),
    (lambda score: ~score, SCORE, "`~` does not take float; for and, or, not compare first", "~score"),
    (lambda score, q: torch.where(q, score, 0.0), SCORE, "`where` does not take int and float and float; for and, "
     "or, not compare first", "torch.where(q, score, 0.0)"),
    (lambda score: score @ score, SCORE, "a matrix product inside of a score; values here are single numbers",
     "score @ score"),
    (lambda score: score + "a", SCORE, "this score raised TypeError while it was traced: unsupported operand",
     'score + "a"'),
    (lambda score: score - [1], SCORE, "this score raised TypeError while it was traced: unsupported operand",
     "score - [1]"),
    # tensors
    (lambda score: score + SLOPES, SCORE, "`SLOPES` has 1 dimension, and values here are single numbers; index it, "
     "for example SLOPES[h]", "score + SLOPES"),
    (lambda score: SLOPES * score, SCORE, "`SLOPES` has 1 dimension, and values here are single numbers",
     "SLOPES * score"),
    (lambda score, q, kv: torch.where(q >= kv, TABLE, score), SCORE, "`TABLE` has 2 dimensions, and values here are "
     "single numbers; index it, for example TABLE[b, h]", "torch.where(q >= kv, TABLE, score)"),
    (lambda score, h: score + TABLE[h / 2, 0], SCORE, "an index of `TABLE` is a float (h / 2); indices are "
     "integers: use // instead of /, or .long()", "TABLE[h / 2, 0]"),
    (lambda score, q, kv: score + SLOPES[q >= kv], SCORE, "an index of `SLOPES` is a bool (q >= kv); indices are "
     "integers: use .long()", "SLOPES[q >= kv]"),
    (lambda score, h, q: score + SLOPES[h, q], SCORE, "`SLOPES` has 1 dimensions, got 2 indices", "SLOPES[h, q]"),
    (lambda score, h: score + SLOPES["h"], SCORE, "an index of `SLOPES` is 'h'; indices are integers", 'SLOPES["h"]'),
    (lambda score, h: score + torch.exp(TABLE[h])[0], SCORE, "`TABLE[h]` is a part of a tensor that depends on h; "
     "index all 2 dimensions first, and compute on the number that this gives", "torch.exp(TABLE[h])"),
    (lambda score, q: score + TABLE[:, :q].sum(), SCORE, "a slice of `TABLE`: `q` depends on q, and work on tensors "
     "is done before the kernel runs; index the tensor with it instead", "TABLE[:, :q]"),
    (lambda score, q: score + torch.arange(q)[0], SCORE, "`arange` cannot be used on one query and one key",
     "torch.arange(q)"),
    (lambda score: SLOPES.add_(1)[0], SCORE, "`add_` changes the captured `SLOPES` in place; a traced function must "
     "not change tensors: use the result of `add`", "SLOPES.add_(1)"),
    (lambda score: score + SLOPES.tolist()[0], SCORE, "`SLOPES.tolist`: a list of its numbers would be fixed when "
     "it is traced; index the tensor", "SLOPES.tolist"),
    (lambda score: score if SLOPES else 0.0, SCORE, "the truth of the whole tensor `SLOPES`; index it, or pass the "
     "answer as a Python bool", None),
    (lambda score: sum(score for i in range(int(SLOPES.max().item()))), SCORE, "an index, a range or a length: "
     "int(SLOPES.max()) is "
     "read from a tensor at every call, so it cannot steer the tracing; pass it as a Python number", None),
    (lambda score: score + SLOPES.sofmax(0)[0], SCORE, "the captured tensor `SLOPES` has no 'sofmax' (did you mean "
     "'softmax'?)",
     "SLOPES.sofmax"),
    (lambda q, kv: q in SLOPES, MASK, "`in SLOPES`: looks through a whole tensor; index it instead", "q in SLOPES"),
    (lambda score: torch.add(score, 1.0, out=SLOPES), SCORE, "`add(..., out=)`: a traced function must not change "
     "tensors; use the result", "torch.add(score, 1.0, out=SLOPES)"),
    # numbers are not tensors
    (lambda score: score[0], SCORE, "`score` is one number (one query, one key); it cannot be indexed. Only `q` and "
     "`kv` have coordinates, on a Grid", "score[0]"),
    (lambda score: score.add_(1), SCORE, "`.add_()` works in place; write x = x.add(...)", "score.add_"),
    (lambda score, q, kv: score.masked_fill_(q < kv, -1.0), SCORE, "`masked_fill_`: works in place; use the result: "
     "score = score.masked_fill(condition, value)", "score.masked_fill_(q < kv, -1.0)"),
    (lambda score: len(score), SCORE, "`score` is one number (one query, one key), it has no length", "len(score)"),
    (lambda score: [x + 1 for x in score][-1], SCORE, "`score` is one number (one query, one key), it cannot be "
     "iterated over", None),
    (lambda score: Tanh.apply(score), SCORE, "Tanh.apply: gradients are derived by attngen; call what its forward "
     "computes instead of an autograd.Function", "Tanh.apply"),
    (lambda score: unlearned(score), SCORE, "torch.no_grad: a score has no stop-gradient; detach the captured tensors "
     "instead", "torch.no_grad"),
    (lambda score: score.detach(), SCORE, "`detach`: a score has no stop-gradient; detach the captured tensors instead",
     "score.detach()"),
    (lambda score: score.sigmod(), SCORE, "`score` has no 'sigmod' (did you mean 'sigmoid'?)", "score.sigmod"),
    (lambda score: torch.erfinv(score), SCORE, "`erfinv` cannot be used on one query and one key (did you mean",
     "torch.erfinv(score)"),
    (lambda score: torch.stack([score, score]).max(), SCORE, "`stack`: values are single numbers; use torch.maximum",
     "torch.stack([score, score])"),
    (lambda score, q: torch.clamp(score, 0, 1, 2), SCORE, "`clamp` with these arguments is not known here: ",
     "torch.clamp(score, 0, 1, 2)"),
    (lambda score: score.to(torch.complex64), SCORE, "`score` cannot become torch.complex64; allowed: bool, integer "
     "and floating-point dtypes", "score.to(torch.complex64)"),
    (lambda score: score.view(1, 1), SCORE, "`score` is one number, without dimensions; it takes no shape but ()",
     "score.view(1, 1)"),
    (lambda q, kv: kv in {0, 1}, MASK, "a set, a dict or a cache (for a few values write `x in (0, 1)`): a plain "
     "Python number is needed here, and this value depends on kv", "kv in {0, 1}"),
    (lambda q, kv: all(kv > i for i in range(q)), MASK, "an index, a range or a length: a plain Python number is "
     "needed here, and this "
     "value depends on q: it is another one for each pair of query and key; loop over constants and select with "
     "torch.where",
     "range(q)"),
    (lambda score, h: score + Config.names[h], SCORE, "Config.names[h]: this list does not hold numbers; only "
     "numbers and tensors can be indexed by heads and positions", "Config.names[h]"),
    # random numbers, exceptions, side effects
    (lambda score: score + torch.rand(()), SCORE, "`rand`: random numbers drawn here would differ between forward "
     "and backward and between tilings; use weight=attngen.weights.dropout(p, seed)", "torch.rand(())"),
    (lambda score: F.dropout(score, 0.1), SCORE, "`dropout`: random numbers drawn here", "F.dropout(score, 0.1)"),
    (lambda score: score * random.random(), SCORE, "`random`: random numbers drawn here", "random.random()"),
    (lambda q, kv: q > 1 // 0, MASK, "this mask raised ZeroDivisionError while it was traced: integer division or "
     "modulo by zero",
     "1 // 0"),
    (lambda q, kv: q > NOWHERE, MASK, "this mask raised NameError while it was traced: name 'NOWHERE'",  # noqa: F821
     "NOWHERE"),
    (lambda q, kv: Config.names.append(q), MASK, "Config.names.append(): a traced function must not change what it "
     "captures",
     "Config.names.append"),
    (lambda q, kv: setattr(Config, "window", 3), MASK, "assigning Config.window: a traced function must not change "
     "what it captures",
     'setattr(Config, "window", 3)'),
    (lambda q, kv: q > Config.windw, MASK, "this mask raised AttributeError while it was traced: ", "Config.windw"),
])  # fmt: skip
def test_message_and_caret(function: Callable[..., Any], role: Role, message: str, text: str | None) -> None:
    error = failed(function, role)
    assert error.message.startswith(message)
    if text is not None:
        assert shown(error) == text


def test_assigning_into_tensors() -> None:
    def score(score, h):
        SLOPES[h] = score
        return score

    assert (
        failed(score, SCORE).message
        == "assigning into the captured `SLOPES`: a traced function must not change tensors"
    )

    def other(score, h):
        score[0] = 1.0
        return score

    assert failed(other, SCORE).message == (
        "assigning to an element is not possible here; write torch.where(condition, new, old)"
    )


def test_no_long_traceback() -> None:
    error = failed(lambda score: score.max(), SCORE)
    depth, traceback = 0, error.__traceback__
    while traceback is not None:
        depth, traceback = depth + 1, traceback.tb_next
    assert depth <= 5
    assert error.__cause__ is None
    assert error.__suppress_context__


def test_the_cause_of_a_foreign_exception_starts_at_the_users_line() -> None:
    def helper(window):
        raise KeyError("window")

    error = failed(lambda q, kv: q - kv < helper(q), MASK)
    assert error.message == "this mask raised KeyError while it was traced: 'window'"
    assert shown(error) == 'raise KeyError("window")'
    assert isinstance(error.__cause__, KeyError)
    traceback = error.__cause__.__traceback__
    assert traceback is not None
    assert traceback.tb_frame.f_code.co_filename == __file__


def test_missing_return_is_shown_at_the_function() -> None:
    def mask(q, kv):
        q >= kv  # noqa: B015

    error = failed(mask, MASK)
    assert error.message.endswith("is a `return` missing?")
    assert shown(error) == "q >= kv"


def test_whole_message_of_a_trace_error() -> None:
    error = failed(lambda score: score.softmax(-1), SCORE)
    assert error.source is not None
    lines = str(error).splitlines()
    assert lines[-3] == f'  File "{__file__}", line {error.source.line}'
    assert lines[-2].strip() == "error = failed(lambda score: score.softmax(-1), SCORE)"
    assert lines[-1].strip() == "^" * len("score.softmax(-1)")
    assert lines[-2].index("score.softmax") == lines[-1].index("^")
