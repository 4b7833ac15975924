"""Launches never wait for a device: they run on tensors that hold nothing, of which nobody can read anything.

On the device "meta" there are shapes and no elements. Whatever a launch asks of what tensors hold raises, and so does
what would be brought there from the host. Kernels are noted, not run, so this needs no Triton.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor

import attngen
from attngen import masks
from attngen.codegen import on_device
from attngen.codegen.backend import Call
from attngen.codegen.backends.triton import launch, launch_backward, tables
from attngen.codegen.backends.triton.config import GradientConfig, TritonConfig
from attngen.codegen.calls import checks, guard
from attngen.codegen.calls import tables as host_tables
from attngen.codegen.calls.program import Program
from attngen.codegen.lower.lowered import lowered, lowered_backward, lowered_launch
from attngen.codegen.plan import make_plan
from attngen.codegen.saved import saved_columns
from attngen.errors import UnsupportedError
from attngen.ir.nodes import Paged, Segments
from tests.launches import FREE

CONFIG = TritonConfig(128, 64, 4, 2, "ieee")
TOKENS = 500


def there(*shape: int, dtype: torch.dtype = torch.float32) -> Tensor:
    return torch.empty(shape, dtype=dtype, device="meta")


def ids(*shape: int, dtype: torch.dtype = torch.int64) -> Tensor:
    return there(*shape, dtype=dtype)


class Kernels:
    """In the place of built kernels: what they would have been given."""

    def __init__(self) -> None:
        self.given: list[Sequence[Any]] = []

    def run(self, grid: Any, arguments: Sequence[Any]) -> None:
        self.given.append(arguments)


class NothingFromTheHost(torch.utils._python_dispatch.TorchDispatchMode):
    """Raises where a tensor of the host has a part in what is done, and notes what is work for a device."""

    def __init__(self) -> None:
        super().__init__()
        self.names: list[str] = []

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), options: Any = None) -> Any:
        found = function(*args, **(options or {}))
        for value in torch.utils._pytree.tree_leaves((args, options, found)):
            assert not (isinstance(value, Tensor) and value.device.type == "cpu"), function
        if not str(function).removeprefix("aten.").lstrip("_").startswith(FREE):
            self.names.append(str(function))
        return found


class Launched:
    """Forward and backward of a spec that reads `inputs`, each made anew by its function."""

    def __init__(self, spec: attngen.Spec, inputs: dict[str, Callable[[], Tensor]], shapes: Sequence[Any]) -> None:
        self.inputs, self.kernels = {i.name: inputs[i.name] for i in spec.ir.inputs}, Kernels()
        self.qkv = [there(*shape) for shape in shapes]
        engine = attngen.compile(spec).engine()
        made = self.made()
        sizes = engine.sizes(*self.qkv, made)
        plan = make_plan(spec.ir, engine.problem(*self.qkv, made, False))
        call = Call(sizes.n_b, sizes.n_h, sizes.n_q, sizes.n_k, "bhnd", (*self.qkv, *made))
        forward = partial(launch.prepare, self.kernels, CONFIG)
        backward = partial(
            launch_backward.prepare_backward,
            dict.fromkeys(("rows", "queries", "keys"), self.kernels),
            GradientConfig(CONFIG, CONFIG),
            wanted=frozenset(),
        )
        self.forward = lowered_launch(plan, call, forward)
        self.backward = lowered_backward(plan, call, backward, frozenset())
        self.rows = there(sizes.n_b, sizes.n_h, sizes.n_q, saved_columns(lowered(plan)))

    def made(self) -> list[Tensor]:
        return [make() for make in self.inputs.values()]

    def __call__(self) -> None:
        """Both directions, with tensors that nobody has seen before."""
        made = self.made()
        out, _, _ = self.forward(*self.qkv, made, (), True)
        self.backward(out, None, *self.qkv, self.rows, made, ())


def documents() -> Launched:
    made = {"ids": lambda: ids(TOKENS)}
    spec = attngen.Spec(mask=masks.document(made["ids"]()) & masks.causal())
    return Launched(spec, made, [(2, 4, TOKENS, 16)] * 3)


def documents_of_batches() -> Launched:
    made = {"ids": lambda: ids(2, TOKENS, dtype=torch.int32)}
    return Launched(attngen.Spec(mask=masks.document(made["ids"]())), made, [(2, 4, TOKENS, 16)] * 3)


def blocks() -> Launched:
    made = {"table": lambda: ids(2, 4, 8, 8, dtype=torch.int8)}
    table = made["table"]()
    spec = attngen.Spec(mask=lambda b, h, q, kv: table[b, h, q // 64, kv // 64] == 1)
    return Launched(spec, made, [(2, 4, TOKENS, 16)] * 3)


def kinds() -> Launched:
    made = {"allowed": lambda: ids(3, 3, dtype=torch.bool), "kind": lambda: ids(TOKENS)}
    allowed, kind = (make() for make in made.values())
    spec = attngen.Spec(mask=lambda q, kv: allowed[kind[q], kind[kv]])
    return Launched(spec, made, [(2, 4, TOKENS, 16)] * 3)


def learned() -> Launched:
    made = {"bias": lambda: there(7), "kind": lambda: ids(TOKENS)}
    bias, kind = (make() for make in made.values())
    spec = attngen.Spec(score=lambda score, q, kv: score + bias[kind[q]] * kind[kv])
    return Launched(spec, made, [(2, 4, TOKENS, 16)] * 3)


def packed() -> Launched:
    names = ("kv_lengths", "cu_seqlens_q", "cu_seqlens_k")
    made = {name: partial(ids, 9 - (name == "kv_lengths"), dtype=torch.int32) for name in names}
    spec = attngen.Spec(mask=masks.causal() & masks.lengths(made["kv_lengths"]()), space=Segments())
    return Launched(spec, made, [(1, 4, TOKENS, 16)] * 3)


def pages() -> Launched:
    made = {"ids": lambda: ids(2, 512), "page_table": lambda: ids(2, 8), "kv_lengths": lambda: ids(2)}
    spec = attngen.Spec(mask=masks.document(made["ids"]()), space=Paged(64))
    return Launched(spec, made, [(2, 4, 1, 16), (20, 4, 64, 16), (20, 4, 64, 16)])


CASES = {f.__name__: f for f in (documents, documents_of_batches, blocks, kinds, learned, packed, pages)}


@pytest.fixture
def warm(monkeypatch: pytest.MonkeyPatch) -> None:
    """As after a first call, of which the host has looked at what its tensors held."""
    init = guard.Guard.__init__

    def seen(self: guard.Guard, *arguments: Any) -> None:
        init(self, *arguments)
        self._seen = True

    monkeypatch.setattr(guard.Guard, "__init__", seen)


@pytest.mark.usefixtures("warm")
@pytest.mark.parametrize("name", CASES)
def test_nothing_is_read_and_nothing_is_brought(name: str, caplog: pytest.LogCaptureFixture) -> None:
    launched = CASES[name]()
    launched()  # constants are brought there
    before = len(launched.kernels.given)
    with NothingFromTheHost() as mode:
        launched()
    assert len(launched.kernels.given) == 2 * before == 8
    assert not caplog.records
    assert ("aten._assert_async.msg" in mode.names) == (name != "blocks")


@pytest.mark.usefixtures("warm")
@pytest.mark.parametrize("name", CASES)
def test_a_graph_holds_all_of_it(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """During a capture everything is made again, although the tensors are the same."""
    launched = CASES[name]()
    same = launched.made()
    monkeypatch.setattr(launched, "made", lambda: same)
    launched()
    with NothingFromTheHost() as kept:
        launched()
    for module in (on_device, guard):
        monkeypatch.setattr(module, "capturing", lambda device: True)
    with NothingFromTheHost() as captured:
        launched()
    assert "aten._assert_async.msg" not in kept.names
    assert len(captured.names) > len(kept.names) + 10


@pytest.mark.usefixtures("warm")
def test_few_operations_make_a_table(monkeypatch: pytest.MonkeyPatch) -> None:
    """Launches cost microseconds each."""
    counts: list[int] = []
    make = tables.DeviceTable.__call__

    def counted(self: tables.DeviceTable, tensors: Any) -> Any:
        with NothingFromTheHost() as mode:
            made = make(self, tensors)
        counts.append(len(mode.names))
        return made

    monkeypatch.setattr(tables.DeviceTable, "__call__", counted)
    # Of the forward, of the rows of the backward, and of its columns.
    documents()()
    assert len(counts) == 3
    assert max(counts) <= 30
    blocks()()
    assert len(counts) == 6
    assert max(counts[3:]) <= 26


@pytest.mark.usefixtures("warm")
@pytest.mark.parametrize(
    "wait", [Tensor.item, Tensor.cpu, Tensor.tolist, Tensor.nonzero, Tensor.numpy, Tensor.__bool__]
)
def test_who_waits_is_found(wait: Callable[[Tensor], Any], monkeypatch: pytest.MonkeyPatch) -> None:
    launched, run = documents(), Program.__call__

    def waits(self: Program, tensors: Any) -> Any:
        found = run(self, tensors)
        wait(found[0].sum())
        return found

    monkeypatch.setattr(Program, "__call__", waits)
    with pytest.raises((RuntimeError, NotImplementedError, TypeError)):
        launched()


@pytest.mark.usefixtures("warm")
def test_who_brings_constants_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    launched, run = documents(), Program.__call__
    launched()

    def brings(self: Program, tensors: Any) -> Any:
        return [each & torch.tensor(True).to("meta") for each in run(self, tensors)]

    monkeypatch.setattr(Program, "__call__", brings)
    with pytest.raises(AssertionError), NothingFromTheHost():
        launched()


@pytest.fixture
def capture(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """As while a CUDA graph is captured."""
    for module in (on_device, guard):
        monkeypatch.setattr(module, "capturing", lambda device: True)
    return


@pytest.mark.usefixtures("warm", "capture")
@pytest.mark.parametrize("name", ["documents", "learned", "packed"])
def test_a_capture_before_a_first_call_is_refused(name: str) -> None:
    with pytest.raises(UnsupportedError, match=r"cannot become part of a CUDA graph: .* before the capture"):
        CASES[name]()()


@pytest.mark.usefixtures("warm", "capture")
def test_a_table_that_the_host_makes_is_no_part_of_a_graph(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(host_tables, "MOST_TILES", 31)
    launched = documents()
    with monkeypatch.context() as patch:
        # What nobody may read is enough to see who would.
        for module in (on_device, guard):
            patch.setattr(module, "capturing", lambda device: False)
        with caplog.at_level(logging.WARNING), pytest.raises(NotImplementedError):
            launched()
    many = "32 tiles are too many to look at each of them"
    assert caplog.messages == [f"the host makes the block table of new tensors, and waits for the device: {many}"]
    with pytest.raises(UnsupportedError) as caught:
        launched()
    assert str(caught.value) == (
        f"this call cannot become part of a CUDA graph: the host makes its block table ({many})"
    )


def test_the_first_call_is_checked_by_the_host() -> None:
    """Which reads what tensors hold, and so cannot be on this device; where nothing is to be checked, it does not."""
    with pytest.raises(NotImplementedError):
        documents()()
    blocks()()
    assert checks.MOST_PAIRS
