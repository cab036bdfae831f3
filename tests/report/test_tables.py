"""Tables of text: readable within the width of the console."""

from io import StringIO

from selfreg.evaluation.measures import MEASURES, Difference
from selfreg.report.tables import Cell, TextTable, difference_cell, markdown_table, print_table
from selfreg.terminal import PlainConsole

LONG = MEASURES["missed_unit_rate"]


def printed(table: TextTable, width: int = 80) -> list[str]:
    console = PlainConsole(file=StringIO(), width=width)
    print_table(table, console)
    return str(console.file.getvalue()).splitlines()  # type: ignore[attr-defined]


def study(arms: int) -> TextTable:
    cells = [Cell(f"{60 + arm}.0 ± 1.4", "+1.0 to +2.0") for arm in range(arms)]
    return TextTable("val", ("", *(f"arm {arm}" for arm in range(arms))), [(Cell(f"{LONG.title} ↓"), *cells)])


def test_a_table_of_many_arms_keeps_every_number_whole_within_80_columns() -> None:
    for arms in (1, 2, 4, 6, 11):
        lines = printed(study(arms))
        assert max(map(len, lines)) <= 80
        text = "\n".join(lines)
        assert all(f"{60 + arm}.0 ± 1.4" in text for arm in range(arms))
        assert text.count("+1.0 to +2.0") == arms


def test_a_row_title_that_is_too_long_is_broken_before_columns_are() -> None:
    text = "\n".join(printed(study(3)))
    assert text.count("arm 2") == 1
    assert "missed" in text


def test_names_of_any_length_stay_within_the_width() -> None:
    table = TextTable("val", ("", "a" * 70, "[red]b" * 20), [(Cell("mIoU"), Cell("1.0"), Cell("[bold]2.0"))])
    lines = printed(table)
    assert max(map(len, lines)) <= 80
    assert "[bold]2.0" in "\n".join(lines)


def test_only_differences_that_exclude_zero_are_bold_in_markdown() -> None:
    cells = [difference_cell(Difference(LONG, -0.05, low, 0.01 * sign)) for low, sign in ((-0.1, -1), (-0.1, 1))]
    lines = markdown_table(TextTable("d", ("", "a", "b"), [(Cell("missed"), *cells)]))
    assert lines[-1] == "| missed | **-5.0** (-10.0 to -1.0) | -5.0 (-10.0 to +1.0) |"
    assert difference_cell(None).text == "-"
