"""A comparison in the terminal: a row for each dictionary, then the differences in each measure."""

from typing import TYPE_CHECKING

from sae.dashboard.comparison import ComparisonView, MeasureTable
from sae.dashboard.measured import Measured

if TYPE_CHECKING:
    from rich.table import Table


def dictionaries_table(view: ComparisonView) -> "Table":
    """Every dictionary with its scores, and whether another one beats it."""
    from rich import box
    from rich.table import Table

    labels = ["", "dictionary", *(name for name, _ in view.columns), "front"]
    table = Table(*labels, title=f"{len(view.rows)} dictionaries", caption=view.caption, box=box.SIMPLE)
    table.columns[1].min_width = table.columns[-1].min_width = 16
    for column in table.columns[2:-1]:
        column.justify, column.no_wrap = "right", True
    for row in view.rows:
        name = f"{row.name}\n{row.hash}" if row.name else row.hash
        table.add_row(str(row.number), name, *map(_cell, row.cells), row.standing.replace("; ", "\n"))
    return table


def measure_table(measure: MeasureTable) -> "Table":
    """The pairs of one measure."""
    from rich import box
    from rich.table import Table

    title = f"{measure.name}: {measure.n_real} of {measure.n_pairs} differences are more than noise"
    labels = ("pair", f"difference, {measure.unit}", "detectable", "p, adjusted", "")
    table = Table(*labels, title=title, caption=measure.note or None, box=box.SIMPLE)
    for column in table.columns[1:4]:
        column.justify = "right"
    for row in measure.rows:
        table.add_row(row.pair, f"{row.difference.value} {row.difference.interval}", row.detectable, row.p, row.words)
    return table


def _cell(cell: Measured) -> str:
    return f"{cell.value}\n{cell.interval}" if cell.interval else cell.value
