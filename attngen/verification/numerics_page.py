"""A part of the report on numerics, and how a terminal shows it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.table import Table

    from attngen.verification.report import Check

WIDTH = 120
"""Of a table where the output is no terminal."""


@dataclass(frozen=True, slots=True)
class Section:
    """A table, and the verdicts on what it shows. Rows whose first cell is empty belong to the one above."""

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    checks: tuple[Check, ...]

    def table(self) -> Table:
        """The columns and rows for a rich console."""
        from rich.table import Table

        made = Table(box=None, pad_edge=False)
        for i, column in enumerate(self.columns):
            made.add_column(column, justify="left" if i < 2 else "right", no_wrap=True)
        for row in self.rows:
            made.add_row(*row)
        return made


def show(section: Section) -> None:
    """Prints the table and a line for each verdict."""
    from rich.console import Console

    console = Console(highlight=False, markup=False)
    if not console.is_terminal:
        console.width = WIDTH
    console.print(section.title, style="bold", soft_wrap=True)
    console.print(section.table())
    console.print()
    for check in section.checks:
        console.print(str(check), style="bold red" if check.outcome == "FAILED" else None, soft_wrap=True)
    console.print()


def number(value: float) -> str:
    """An error, or a dash where there is none."""
    return "-" if value != value else f"{value:.1e}"
