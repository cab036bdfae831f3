"""Text tables with measures as rows: on the terminal, within its width, and in Markdown."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from rich.box import SIMPLE_HEAD
from rich.table import Table
from rich.text import Text

from selfreg.evaluation.measures import Difference, Verdict
from selfreg.messages import printable
from selfreg.terminal import PlainConsole

_COLOURS: dict[Verdict, str] = {"better": "green", "worse": "red", "not distinguishable": "dim"}
_WIDEST_HEADER = 16
_NARROWEST_TITLES = 24


@dataclass(frozen=True)
class Cell:
    """A cell: a number, the text below it (an interval), and the verdict if it is a difference."""

    text: str
    below: str = ""
    verdict: Verdict | None = None


@dataclass(frozen=True)
class TextTable:
    """A table: title, column headers (the first one is that of the row titles) and rows."""

    title: str
    header: tuple[str, ...]
    rows: Sequence[tuple[Cell, ...]]


def difference_cell(difference: Difference | None) -> Cell:
    """Cell of a difference with its interval; `-` if it is not known."""
    if difference is None:
        return Cell("-")
    return Cell(difference.text, difference.interval_text, difference.verdict)


def print_table(table: TextTable, console: PlainConsole) -> None:
    """Print a table; a table wider than the console is split into several blocks of columns."""
    widths = [_width(table, column) for column in range(len(table.header))]
    # long row titles wrap to two lines before columns are moved to another block
    titles = max(min(widths[0], _NARROWEST_TITLES), min(widths[0], console.width - sum(widths[1:]) - len(widths)))
    title: str | None = table.title
    for block in _blocks(widths, console.width - titles - 1):
        printed = Table(title=title, title_justify="left", box=SIMPLE_HEAD, padding=0, show_edge=False)
        printed.add_column(table.header[0], width=titles)
        for column in block:
            printed.add_column(table.header[column], justify="right", width=widths[column], overflow="fold")
        for row in table.rows:
            printed.add_row(_coloured(row[0]), *(_coloured(row[column]) for column in block))
        console.print(printed)
        console.print()
        title = None


def _width(table: TextTable, column: int) -> int:
    texts = [text for row in table.rows for text in (row[column].text, row[column].below)]
    return max([min(len(table.header[column]), _WIDEST_HEADER), *map(len, texts), 1])


def _blocks(widths: Sequence[int], room: int) -> Iterator[list[int]]:
    """Distribute the columns after the first to blocks of at most `room` characters, with at least one column each."""
    block: list[int] = []
    used = 0
    for column in range(1, len(widths)):
        if block and used + widths[column] + 1 > room:
            yield block
            block, used = [], 0
        block.append(column)
        used += widths[column] + 1
    yield block


def _coloured(cell: Cell) -> Text:
    text = "\n".join(printable(line) for line in (cell.text, cell.below) if line)
    return Text(text, style=_COLOURS[cell.verdict] if cell.verdict else "")


def markdown_table(table: TextTable) -> list[str]:
    """Format a table as Markdown lines; differences whose interval excludes 0 are bold."""
    lines = [f"**{table.title}**", "", _line(table.header), _line(["---", *["---:"] * (len(table.header) - 1)])]
    return [*lines, *(_line([_in_markdown(cell) for cell in row]) for row in table.rows)]


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _in_markdown(cell: Cell) -> str:
    text = f"**{cell.text}**" if cell.verdict in ("better", "worse") else cell.text
    return f"{text} ({cell.below})" if cell.below else text
