"""Tables of text that fit the terminal."""

import io
import shutil
import sys
from collections.abc import Sequence

from rich.cells import cell_len
from rich.console import Console
from rich.table import Table

from recsys.errors import one_line

# Where nobody looks at a terminal, nothing is cut.
_WIDE = 10_000
_GAP = 2
_NARROWEST = 8


def table_lines(
    columns: Sequence[str], rows: Sequence[Sequence[object]], *, cut: str | None = None
) -> list[str]:
    """Return a table as lines, numbers at the right.

    Args:
        columns: their headings; that of a column of numbers begins with `>`, which is not shown.
        rows: the cells; None is shown as nothing.
        cut: the heading of the column whose text is cut where the terminal is too narrow.
    """
    names = [heading.removeprefix(">") for heading in columns]
    cells = [["" if cell is None else one_line(str(cell)) for cell in row] for row in rows]
    widths = [max(map(cell_len, column)) for column in zip(names, *cells, strict=True)]
    width = shutil.get_terminal_size().columns if sys.stdout.isatty() else _WIDE
    beyond = sum(widths) + _GAP * len(widths) - width
    table = Table(box=None, pad_edge=False, padding=(0, _GAP, 0, 0), header_style="")
    for heading, name, needed in zip(columns, names, widths, strict=True):
        shown = max(needed - max(beyond, 0), _NARROWEST) if name == cut else needed
        right = heading.startswith(">")
        table.add_column(
            name, justify="right" if right else "left", width=shown, overflow="ellipsis"
        )
        table.columns[-1].no_wrap = True
    for row in cells:
        table.add_row(*row)
    text = io.StringIO()
    # Titles are text: nothing in them is a style or an emoji.
    console = Console(file=text, width=_WIDE, markup=False, emoji=False, highlight=False)
    console.print(table)
    return [line.rstrip() for line in text.getvalue().splitlines()]
