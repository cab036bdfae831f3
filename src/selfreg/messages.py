"""One line for an exception, and text that cannot change what a terminal shows."""

import re
import shlex
import sys
import traceback
import unicodedata

# zero width non-joiner and joiner: invisible, but part of words in several scripts and of emoji
_KEPT = frozenset("\u200c\u200d")
_HIDDEN = frozenset({"Cc", "Cf", "Cs", "Zl", "Zp"})
_LONGEST = 600
_TRACEBACK = "Traceback (most recent call last)"


def one_line(error: BaseException | str, *, first: bool = False) -> str:
    """The message of an exception on one line, without control characters.

    Args:
        error: An exception, or its text. Without a message the name of its type is returned.
        first: Take the first line alone, where a library follows it with advice or a list.

    Returns:
        At most 600 characters for an exception; a text is not shortened. Of a text that holds the traceback of another
        process, the message of that exception.
    """
    text = str(error).strip() or ("" if isinstance(error, str) else type(error).__name__)
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    if any(line.startswith(_TRACEBACK) for line in lines):
        kind, colon, message = lines[-1].partition(": ")
        lines = [message if colon and kind.replace(".", "").isidentifier() else lines[-1]]
    line = printable(re.sub(r"\s+", " ", " ".join(lines[:1] if first else lines)))
    too_long = len(line) > _LONGEST and not isinstance(error, str)
    return f"{line[: _LONGEST - 4]} ..." if too_long else line


def raised_in(error: BaseException, *places: str) -> bool:
    """Whether an exception was raised in one of some modules or functions, for exceptions without a type of their own.

    Args:
        error: An exception that was caught.
        places: Names of modules, such as `torch.utils.data.dataloader`, or of functions.
    """
    frames = [frame for frame, _ in traceback.walk_tb(error.__traceback__)][-1:]
    return any(frame.f_globals.get("__name__") in places or frame.f_code.co_name in places for frame in frames)


def printable(text: str) -> str:
    r"""Text on one line, with control, formatting and undecodable characters written as `\x1b` or `\n`.

    Names of files, classes and keys come from other people's data; an escape sequence in one of them could move the
    cursor, hide text or show a link, and a line break could fake a message.
    """
    if text.isascii() and text.isprintable():
        return text
    return "".join(_escaped(character) for character in text)


def command_line(*words: object) -> str:
    """A command as it is typed: words with spaces or other characters of the shell are quoted."""
    return " ".join(shlex.quote(str(word)) for word in words)


def say(*lines: str, stderr: bool = False) -> None:
    """Print lines, each on one line whatever it contains: the `print` of this package."""
    print(*map(printable, lines), sep="\n", file=sys.stderr if stderr else sys.stdout, flush=True)


def _escaped(character: str) -> str:
    if character in _KEPT or unicodedata.category(character) not in _HIDDEN:
        return character
    return character.encode("unicode_escape", "surrogatepass").decode("ascii")
