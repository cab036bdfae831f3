"""Printing with Rich: every string is shown as it is.

Names of classes, files and splits come from other people's data. Rich would obey markup in them (`[/sky]`,
`[link=URL]`, `:boom:`), and the terminal escape sequences. Whatever this package prints goes through here or through
`selfreg.messages`.
"""

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

from rich.console import Console
from rich.markup import escape
from rich.progress import Progress, track
from rich.text import Text

from selfreg.messages import printable

Item = TypeVar("Item")


class PlainConsole(Console):
    """Rich's console for lines without markup, also in cells and titles of tables; colours are styles."""

    def render_str(self, text: str, **options: Any) -> Text:
        """Make a `Text` of a string, its control characters and line breaks escaped."""
        return super().render_str(printable(text), **{**options, "markup": False, "emoji": False})


def progress_over(items: Iterable[Item], description: str, *, total: int | None = None) -> Iterable[Item]:
    """Iterate with a progress bar on the standard error, which disappears at the end.

    Without a terminal there is no bar, which would leave an empty line in a log.

    Args:
        items: What to iterate over.
        description: What is being done.
        total: Number of items, if `items` has no length.
    """
    console = PlainConsole(stderr=True)
    shown = escape(printable(description))
    hidden = not console.is_terminal
    return track(items, shown, total=total, console=console, transient=True, disable=hidden)


@contextmanager
def counted_progress(description: str) -> Iterator[Callable[[int, int], None]]:
    """Show a progress bar as `progress_over` does, for work that counts itself.

    Args:
        description: What is being done.

    Yields:
        A function that takes (items done, total number of items).
    """
    console = PlainConsole(stderr=True)
    with Progress(console=console, transient=True, disable=not console.is_terminal) as progress:
        task = progress.add_task(description, total=None)
        yield lambda done, total: progress.update(task, completed=done, total=total)
