"""What a built kernel takes of the machine, read from its machine code: a static check with no device.

The main loops are the innermost loops that multiply matrices. A loop is a strongly connected part of the flow graph:
a backward branch alone proves none, because waiting loops stand out of line and branch back into the middle.
"""

from __future__ import annotations

import re
import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass

from attngen.codegen.backends.triton.ahead import Binary
from attngen.codegen.devices import Device
from attngen.errors import BuildError

_INSTRUCTION = re.compile(r"/\*[0-9a-f]{4,}\*/\s+(?:@(?P<guard>!?U?P\w+)\s+)?(?P<op>[A-Z][\w.]*)\s*(?P<rest>[^;]*);")
_LABEL = re.compile(r"^(\.L\w+):")
_TARGET = re.compile(r"\.L\w+")
_DOT = re.compile(r"\b(?:tt\.dot|ttng\.warp_group_dot|ttng\.tc_gen5_mma\w*|tt\.dot_scaled) ")
_WAIT = re.compile(r"\bttng\.wait_barrier .* deps ")
_SERIALIZED = re.compile(
    r"wgmma\.mma_async instructions are serialized due to (.*?)(?: in the function| in function|$)"
)
MOST_REGISTERS = 255
"""Of one thread, on every architecture."""


@dataclass(frozen=True, slots=True)
class Resources:
    """What one kernel takes. Bytes, and instructions counted where they stand, not as often as they run.

    `groups_in_loop` are batches of asynchronous work that the main loops start: matrix products on sm_90 and sm_100,
    copies on sm_80. `full_waits_in_loop` are waits for all of such work (on sm_100: for a product, each has a barrier).
    `dots_in_loop` are the matrix products that were written in the main loops. `serialized` is why the assembler gave
    up the overlap of matrix products, or "". `asked_specialized` and `specialized`: warps with roles of their own.
    """

    arch: str
    threads: int
    registers: int
    shared: int
    tensor_memory: int
    stack: int
    local_loads: int
    local_stores: int
    main_loops: int
    products_in_loop: int
    dots_in_loop: int
    groups_in_loop: int
    full_waits_in_loop: int
    serialized: str
    asked_specialized: bool
    specialized: bool


@dataclass(frozen=True, slots=True)
class _Instruction:
    guard: str
    op: str
    rest: str


def lint(binary: Binary) -> Resources:
    """The resources of a kernel, from its machine code. Raises `BuildError` where Nvidia's tools do not run."""
    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        file.write(binary.cubin)
        file.flush()
        usage = _run("cuobjdump", "--dump-resource-usage", file.name)
        sass = _run("nvdisasm", "-c", file.name)
    used = [(int(r), int(s)) for r, s in re.findall(r"REG:(\d+) STACK:(\d+)", usage)]
    blocks, flow = _flow(sass)
    body = [i for block in blocks for i in block]
    products = _products(body)
    loops = [[i for n in sorted(loop) for i in blocks[n]] for loop in _innermost(blocks, flow, products)]
    counts = [_counts(loop, products) for loop in loops]
    dots, waits_written = _written(binary.ttgir)
    groups = sum(c[1] for c in counts)
    # On sm_100 waits for a product and for a copy look alike; only Triton's own form tells them apart.
    waits = waits_written if products.startswith("UTC") else sum(c[2] for c in counts)
    serialized = _SERIALIZED.search(binary.log)
    # The assembler may unroll a loop; then the groups tell how many products it holds, one each. Serialised products
    # are groups for every instruction, and copies are no products.
    own_groups = products.startswith("HGMMA") and not serialized
    return Resources(
        arch=binary.arch,
        threads=32 * binary.num_warps,
        registers=max((registers for registers, _ in used), default=0),
        shared=binary.shared,
        tensor_memory=binary.metadata.get("tmem_size") or 0,
        stack=max((stack for _, stack in used), default=0),
        local_loads=sum(i.op.startswith("LDL") for i in body),
        local_stores=sum(i.op.startswith("STL") for i in body),
        main_loops=len(loops),
        products_in_loop=sum(c[0] for c in counts),
        dots_in_loop=groups if own_groups else dots,
        groups_in_loop=groups,
        full_waits_in_loop=waits,
        serialized=serialized[1] if serialized else "",
        asked_specialized=re.search(r"\btt\.warp_specialize\b|\bttg\.warp_specialize\(", binary.ttgir) is not None,
        specialized=any(i.op.startswith("USETMAXREG") for i in body),
    )


def complaints(resources: Resources, device: Device) -> list[str]:
    """What keeps the kernel from running well, or at all, on a device: a sentence each, none if it is fine."""
    r, told = resources, []
    if not device.runs(r.arch):
        told.append(f"It was built for {r.arch} and {device.name} runs {device.arch}: build it for {device.arch}.")
    if r.shared > device.shared_per_block:
        told.append(
            f"It takes {r.shared} bytes of shared memory and a block on {device.name} has {device.shared_per_block}: "
            "take fewer stages or smaller tiles."
        )
    if r.tensor_memory > device.tensor_memory:
        told.append(
            f"It takes {r.tensor_memory} columns of tensor memory and {device.name} has {device.tensor_memory}: "
            "take smaller tiles."
        )
    if r.registers > MOST_REGISTERS or r.registers * r.threads > device.registers:
        told.append(
            f"It takes {r.registers} registers in each of {r.threads} threads and {device.name} has {MOST_REGISTERS} "
            f"for a thread and {device.registers} for a block: take smaller tiles or fewer warps."
        )
    if r.local_loads or r.local_stores:
        told.append(
            f"Registers spill: {r.local_stores} stores to local memory (STL) and {r.local_loads} loads (LDL), with "
            f"{r.stack} bytes of stack, and none are allowed: take smaller tiles or more warps."
        )
    if r.serialized:
        told.append(
            f"The assembler runs the matrix products one after the other, due to {r.serialized}, and they have to "
            "overlap: take smaller tiles or more warps."
        )
    if r.full_waits_in_loop > r.dots_in_loop:
        told.append(
            f"The main loop has {r.full_waits_in_loop} full waits for {r.dots_in_loop} matrix products, and one for "
            "each is allowed: keep loads of single elements and branches out of the loop, or take smaller tiles."
        )
    if r.asked_specialized and not r.specialized:
        told.append(
            "Warp specialisation was asked for and dropped in silence (no USETMAXREG), and a kernel tuned for it is "
            "slow without: write one loop without a branch and take 4 warps, or do not ask for it."
        )
    return told


def _run(tool: str, *arguments: str) -> str:
    from triton import knobs

    path = getattr(knobs.nvidia, tool).path
    done = subprocess.run([path, *arguments], capture_output=True, text=True)
    if done.returncode:
        raise BuildError(f"{tool} refused the kernel: {done.stderr.strip() or f'exit status {done.returncode}'}")
    return done.stdout


def _flow(sass: str) -> tuple[list[list[_Instruction]], dict[int, set[int]]]:
    """The basic blocks of every function, and which may run after which."""
    blocks: list[list[_Instruction]] = [[]]
    labels: dict[str, int] = {}
    for line in sass.splitlines():
        if label := _LABEL.match(line):
            if blocks[-1]:
                blocks.append([])
            labels[label[1]] = len(blocks) - 1
        elif found := _INSTRUCTION.search(line):
            instruction = _Instruction(found["guard"] or "", found["op"], found["rest"])
            blocks[-1].append(instruction)
            if instruction.op.startswith(("BR", "BSYNC", "EXIT", "RET", "JM", "KILL")):
                blocks.append([])
    flow: dict[int, set[int]] = {}
    joins: dict[str, str] = {}
    for number, block in enumerate(blocks):
        for i in block:
            if i.op.startswith("BSSY"):
                register, _, label_of = i.rest.partition(",")
                joins[register.strip()] = label_of
        flow[number] = {n for n in _next(block, number, labels, joins) if n < len(blocks)}
    return blocks, flow


def _next(block: list[_Instruction], number: int, labels: dict[str, int], joins: dict[str, str]) -> Iterator[int]:
    last = block[-1] if block else _Instruction("", "NOP", "")
    if last.op.startswith(("EXIT", "RET", "KILL")) and not last.guard:
        return
    branch = last.op.startswith(("BR", "JM")) and not last.op.startswith("BREAK")
    before, _, _ = last.rest.partition(".L")
    # A branch on a uniform predicate has it as an operand: BRA.U !UP1, label.
    always = branch and not last.guard and re.search(r"U?P\d|\bUR\d", before) is None
    if not always:
        yield number + 1
    where = joins.get(last.rest.strip(), "") if last.op.startswith("BSYNC") else last.rest if branch else ""
    yield from (labels[name] for name in _TARGET.findall(where) if name in labels)


def _innermost(blocks: list[list[_Instruction]], flow: dict[int, set[int]], products: str) -> Iterator[set[int]]:
    """The loops with a matrix product that hold no smaller loop with one."""
    holding = {n for n, block in enumerate(blocks) if any(re.match(products, i.op) for i in block)}

    def within(nodes: set[int]) -> Iterator[set[int]]:
        for part in _components(nodes, flow):
            if not part & holding:
                continue
            # Without the blocks where a loop is entered, what still goes round is a loop inside it.
            entered = {n for m in set(flow) - part for n in flow[m] & part} or {min(part)}
            inner = list(within(part - entered))
            yield from inner or [part]

    yield from within(set(flow))


def _components(nodes: set[int], flow: dict[int, set[int]]) -> list[set[int]]:
    """The parts of a graph in which one can go round, by what can be reached both ways."""
    back: dict[int, set[int]] = {n: set() for n in nodes}
    for n in nodes:
        for m in flow[n] & nodes:
            back[m].add(n)
    left, found = set(nodes), []
    while left:
        start = left.pop()
        part = _reached(start, flow, nodes) & _reached(start, back, nodes)
        left -= part
        if part:
            found.append(part)
    return found


def _reached(start: int, edges: dict[int, set[int]], nodes: set[int]) -> set[int]:
    """What can be reached in at least one step."""
    seen: set[int] = set()
    waiting = [start]
    while waiting:
        for n in edges[waiting.pop()] & nodes - seen:
            seen.add(n)
            waiting.append(n)
    return seen


def _products(body: list[_Instruction]) -> str:
    """Which instructions multiply matrices here. A kernel may hold the small ones of sm_80 beside those of its own."""
    for pattern in (r"HGMMA|IGMMA|QGMMA", r"UTC\w*MMA", r"[HIDQ]MMA|OMMA"):
        if any(re.match(pattern, i.op) for i in body):
            return pattern
    return r"[HIDQ]MMA|OMMA"


def _counts(loop: list[_Instruction], products: str) -> tuple[int, int, int]:
    """Matrix instructions, groups and full waits of one loop."""
    count = sum(re.match(products, i.op) is not None for i in loop)
    if products.startswith("HGMMA"):
        groups = sum(re.match(products, i.op) is not None and "gsb0" in i.rest for i in loop)
        return count, groups, sum(i.op.startswith("WARPGROUP.DEPBAR") and "gsb0, 0x0" in i.rest for i in loop)
    if products.startswith("UTC"):
        return count, sum(i.op.startswith("UTCBAR") for i in loop), 0
    groups = sum(i.op.startswith("LDGDEPBAR") for i in loop)
    return count, groups, sum(i.op.startswith("DEPBAR.LE") and "SB0, 0x0" in i.rest for i in loop)


def _written(ttgir: str) -> tuple[int, int]:
    """Matrix products, and waits for one, in the innermost loops with products of Triton's own form of the kernel."""
    total_dots = total_waits = 0
    loops: list[list[int]] = []  # indentation, products, waits
    for line in ttgir.splitlines():
        indent = len(line) - len(line.lstrip())
        if "scf.for " in line or "scf.while " in line:
            loops.append([indent, 0, 0])
        elif loops and _DOT.search(line):
            loops[-1][1] += 1
        elif loops and _WAIT.search(line):
            loops[-1][2] += 1
        elif loops and indent == loops[-1][0] and line.lstrip().startswith("}") and "do {" not in line:
            _, dots, waits = loops.pop()
            if dots:
                total_dots, total_waits = total_dots + dots, total_waits + waits
                # The loops around this one are no innermost loops.
                loops = []
    return total_dots, total_waits
