"""The one way to write, lock and delete files, and reading JSON strictly.

Whatever is written appears whole or not at all. A command declares its output folder (`output_folder`, `locked`);
below it no link is followed, so a folder that somebody else prepared cannot direct a write to another place. Where the
folder itself lies is the user's choice, links included.
"""

import json
import os
import re
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePath
from typing import IO, Any

from selfreg.input_files import CONFIGURATION_LIMIT, read_text
from selfreg.messages import one_line

_TEMPORARY = re.compile(r"\.selfreg-[0-9a-f]{16}\.tmp(\.[^.]*)?")
_NO_LINK = getattr(os, "O_NOFOLLOW", 0)
_BINARY = getattr(os, "O_BINARY", 0)


_declared: list[Path] = []
"""The output folders of the command in progress."""


@contextmanager
def output_folder(folder: Path) -> Iterator[None]:
    """Declare the folder that a command writes into, named by the user: in the block, no link below it is followed."""
    _declared.append(folder)
    try:
        yield
    finally:
        _declared.remove(folder)


@contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """Give a temporary name beside `path`; what is written there takes the name `path` only if the block ends well.

    The data reach the disk before the name does. The parent folder is made where it is missing. A link at `path` is
    refused in a declared output folder, and elsewhere replaced.

    Raises:
        ValueError: If `path` is or passes a link below the output folder.
        OSError: If it cannot be written; the exception names `path`.
    """
    refuse_links(path)
    make_folder(path.parent)
    temporary = path.with_name(f".selfreg-{secrets.token_hex(8)}.tmp{path.suffix}")
    try:
        # created here, so that a library which opens it by name cannot meet a link
        os.close(os.open(temporary, os.O_CREAT | os.O_EXCL | os.O_WRONLY | _NO_LINK, 0o666))
        yield temporary
        with temporary.open("r+b") as written:
            os.fsync(written.fileno())
        temporary.replace(path)
    except OSError as error:
        if error.errno is not None and error.filename in (None, str(temporary)):
            # libraries leave the name out, and nobody knows the temporary one
            error.filename = str(path)
        raise
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def whole_folder(path: Path) -> Iterator[Path]:
    """Give a temporary folder beside `path`; it takes the name `path` only if the block ends well.

    Args:
        path: The folder to make; nothing may have this name, before or afterwards.

    Raises:
        ValueError: If something has this name.
        OSError: If it cannot be made.
    """
    _refuse_existing(path)
    make_folder(path.parent)
    temporary = path.with_name(f".selfreg-{secrets.token_hex(8)}.tmp")
    temporary.mkdir()
    try:
        yield temporary
        _refuse_existing(path)
        temporary.rename(path)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _refuse_existing(path: Path) -> None:
    if os.path.lexists(path):
        raise ValueError(f"{path}: exists already; give the name of a new folder")


def make_folder(folder: Path) -> None:
    """Make a folder and its parents where they are missing.

    Raises:
        ValueError: If it is or passes a link below the output folder.
        OSError: If it cannot be made.
    """
    refuse_links(folder)
    folder.mkdir(parents=True, exist_ok=True)


def refuse_links(path: Path) -> None:
    """Make sure that a path stays in the declared output folder that it is in.

    Raises:
        ValueError: If it is or passes a link below that folder, or leads out of it by `..`.
    """
    absolute = path.absolute()
    around = [folder.absolute() for folder in _declared if absolute.is_relative_to(folder.absolute())]
    root = min(around, key=lambda folder: len(folder.parts), default=absolute)
    parts = absolute.relative_to(root).parts
    if ".." in parts:
        raise ValueError(f"{path}: leads out of {root}; use names without '..'")
    place = root
    for part in parts:
        place = place / part
        if place.is_symlink() or getattr(place, "is_junction", bool)():
            raise ValueError(f"{place}: is a link; selfreg writes nothing through it: remove it, or use another folder")


def leads_out(name: str) -> bool:
    """Whether the name of a split, an id or a stem, put behind a folder, gives a path outside of it, or no path.

    Args:
        name: A relative path with `/` between its parts.
    """
    windows = os.name == "nt" and (":" in name or "\\" in name)
    return not name or name.startswith(("/", "\\")) or ".." in PurePath(name).parts or "\0" in name or windows


def check_split(split: str) -> None:
    """Raise ValueError if the name of a split would lead out of the folder of the data or of a run."""
    if leads_out(split):
        raise ValueError(f"split {split!r}: is no name inside a folder; use a relative one without '..'")


def remove_leftovers(folder: Path) -> None:
    """Remove the temporary files that killed processes left in `folder`, where nobody may be writing."""
    if folder.is_symlink() or not folder.is_dir():
        return
    for entry in os.scandir(folder):
        if _TEMPORARY.fullmatch(entry.name) and entry.is_file(follow_symlinks=False):
            remove_file(Path(entry.path))


def remove_file(path: Path) -> None:
    """Remove a file that this program wrote; one that is missing is no error.

    Raises:
        ValueError: If it is or passes a link below the output folder.
    """
    refuse_links(path)
    path.unlink(missing_ok=True)


class LockedError(ValueError):
    """Another process has locked the folder."""


@contextmanager
def locked(folder: Path, work: str) -> Iterator[None]:
    """Keep `folder` for this process, making it where it is missing; the lock ends with the process, however it ends.

    In the block it is a declared output folder.

    Args:
        folder: The output folder.
        work: What this process does there, for the message that another process gets.

    Raises:
        LockedError: If another process has the folder.
        ValueError: If a link is in the way.
    """
    from filelock import FileLock, Timeout  # slow to import

    with output_folder(folder):
        make_folder(folder)
        refuse_links(folder / ".lock")
        lock = FileLock(folder / ".lock", timeout=0)
        try:
            lock.acquire()
        except Timeout:
            raise LockedError(f"{folder}: another process is {work} here; wait for it or use another --out") from None
        try:
            yield
        finally:
            lock.release()


def is_locked(folder: Path) -> bool:
    """Whether a process holds `folder` by `locked`."""
    try:
        with locked(folder, "looking whether work is done"):
            return False
    except LockedError:
        return True


@contextmanager
def appended_file(path: Path) -> Iterator[IO[bytes]]:
    """Open a log to append to it, making it and its folder where they are missing.

    Raises:
        ValueError: If it is no regular file, or is or passes a link below the output folder.
    """
    refuse_links(path)
    make_folder(path.parent)
    if path.exists() and not path.is_file():
        raise ValueError(f"{path}: is not a regular file; remove it, or use another folder")
    handle = os.open(path, os.O_CREAT | os.O_APPEND | os.O_WRONLY | _NO_LINK | _BINARY, 0o666)
    with os.fdopen(handle, "ab") as file:
        yield file


def write_text(path: Path, text: str) -> None:
    """Write UTF-8 text, whole or not at all; bytes of names that are not UTF-8 are written as escapes."""
    with whole_file(path) as temporary:
        temporary.write_text(text, encoding="utf-8", errors="backslashreplace")


def write_json(path: Path, content: Any) -> None:
    """Write JSON, whole or not at all. Raises ValueError for NaN, which JSON lacks."""
    write_text(path, json.dumps(content, indent=2, allow_nan=False) + "\n")


def read_json(path: Path, limit: int = CONFIGURATION_LIMIT) -> dict[str, Any]:
    """Read a JSON object in UTF-8.

    Args:
        path: The file.
        limit: Its largest size in bytes.

    Raises:
        ValueError: If the file is missing, no regular file, too large, unreadable, no JSON or no object, or holds what
            readers of JSON understand differently: a key twice, NaN, infinity.
    """
    try:
        text = read_text(path, limit, encoding="utf-8-sig")
    except FileNotFoundError:
        raise ValueError(f"{path}: no such file") from None
    except UnicodeDecodeError as error:
        raise ValueError(f"{path}: invalid JSON ({one_line(error)}); save it as UTF-8") from None
    except OSError as error:
        raise ValueError(f"{path}: cannot be read ({error.strerror})") from None
    try:
        content = json.loads(text, object_pairs_hook=_object, parse_constant=_refuse_constant)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path}: invalid JSON ({one_line(error)}); fix it at that position") from None
    if not isinstance(content, dict):
        raise ValueError(f"{path}: contains a {type(content).__name__}; it must be an object, {{...}}")
    return content


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    content: dict[str, Any] = {}
    for key, value in pairs:
        if key in content:
            raise ValueError(f"the key {key!r} occurs twice")
        content[key] = value
    return content


def _refuse_constant(name: str) -> Any:
    raise ValueError(f"{name} is not a JSON number")
