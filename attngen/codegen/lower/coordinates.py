"""The coordinates of packed sequences, as a kernel over one long sequence reads them: looked up by the query token.

Everything that belongs to a sequence (its number, where its queries and keys lie) is the same for all keys of a row, so
it is looked up once for each row.
"""

from __future__ import annotations

from dataclasses import dataclass

from attngen.codegen.analysis.build import plus
from attngen.ir.expr import Expr, Load, Op, Sym, const, load, op, rebuild, sym
from attngen.ir.nodes import Input, Spec


@dataclass(frozen=True, slots=True)
class Names:
    """The int inputs that lowering adds. For each token of q: the number of its sequence, and where the queries and the
    keys of that sequence begin and end. `count`: one entry, the number of sequences. `units`: table of a `Division`."""

    number: str
    q_begin: str
    q_end: str
    k_begin: str
    k_end: str
    count: str
    units: str

    def inputs(self) -> tuple[Input, ...]:
        """Their declarations, in this order."""
        fields = (self.number, self.q_begin, self.q_end, self.k_begin, self.k_end, self.count, self.units)
        return tuple(Input(name, ("?",), "int") for name in fields)


def names_for(spec: Spec) -> Names:
    """Names that no input of the spec has."""
    prefix = "packed"
    while any(i.name.startswith(f"{prefix}.") for i in spec.inputs):
        prefix += "_"
    parts = ("sequence", "q_begin", "q_end", "k_begin", "k_end", "sequences", "units")
    return Names(*(f"{prefix}.{part}" for part in parts))


@dataclass(frozen=True, slots=True)
class Coordinates:
    """The sequence of the query token `at`. `axes` are the labels of the axes of every input, by name."""

    names: Names
    axes: dict[str, tuple[str, ...]]
    at: Expr

    def look_up(self, name: str) -> Load:
        """An entry of an added input."""
        return load(name, (self.at,), "int")

    @property
    def q_begin(self) -> Expr:
        return self.look_up(self.names.q_begin)

    @property
    def k_begin(self) -> Expr:
        return self.look_up(self.names.k_begin)

    @property
    def n_q(self) -> Expr:
        return op("sub", self.look_up(self.names.q_end), self.q_begin)

    @property
    def n_k(self) -> Expr:
        return op("sub", self.look_up(self.names.k_end), self.k_begin)

    def sizes(self, packed_keys: bool) -> dict[str, Expr]:
        """What is the same for the whole sequence. Keys that are not packed keep their own number."""
        found: dict[str, Expr] = {
            "b": self.look_up(self.names.number),
            "n_b": load(self.names.count, (const(0),), "int"),
            "n_q": self.n_q,
        }
        return found | ({"n_k": self.n_k} if packed_keys else {})

    def pair(self, packed_keys: bool) -> dict[str, Expr]:
        """Positions count from the start of the sequence."""
        kv = op("sub", sym("kv"), self.k_begin) if packed_keys else sym("kv")
        return self.sizes(packed_keys) | {"q": op("sub", sym("q"), self.q_begin), "kv": kv}

    def written(self, expr: Expr, values: dict[str, Expr]) -> Expr:
        """The expression with `values` for its symbols. Along axes "q" and "kv" an input lies as q and k do, so what
        counts from the start of the sequence moves by where that lies."""

        def change(node: Expr) -> Expr | None:
            match node:
                case Sym(name=name):
                    return values.get(name)
                case Load(tensor=tensor, indices=indices, type=kind):
                    moved = tuple(map(self._moved, indices, self.axes[tensor]))
                    return load(tensor, moved, kind, node.source)
                case Op(name="uniform", args=(seed,)):
                    where = (values["b"], sym("h"), values["q"], values["kv"])
                    return op("uniform_at", seed, *where, source=node.source)
                case _:
                    return None

        return rebuild(expr, change)

    def _moved(self, index: Expr, axis: str) -> Expr:
        match axis:
            case "q":
                return plus(index, self.q_begin)
            case "kv":
                return plus(index, self.k_begin)
            case _:
                return index
