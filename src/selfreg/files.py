"""Writing files whole or not at all, and reading JSON strictly."""

import fcntl
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any


@contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """Give a temporary name beside `path`; what is written there takes the name `path` only if the block ends well.

    The data reach the disk before the name does. The parent folder is made where it is missing.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp{path.suffix}")
    try:
        yield temporary
        with temporary.open("rb") as written:
            os.fsync(written.fileno())
        temporary.replace(path)
    except OSError as error:
        if error.errno is not None and error.filename in (None, str(temporary)):
            # libraries leave the name out, and nobody knows the temporary one
            error.filename = str(path)
        raise
    finally:
        temporary.unlink(missing_ok=True)


def remove_leftovers(folder: Path) -> None:
    """Remove the temporary files that processes left in `folder` when they were killed; nobody may be writing there."""
    for temporary in folder.glob(".*.tmp*"):
        temporary.unlink(missing_ok=True)


@contextmanager
def locked(folder: Path, work: str) -> Iterator[None]:
    """Keep `folder` for this process, making it where it is missing; the lock goes with the process, however it ends.

    Raises ValueError where another process has it, and says what that one is at: `work`.
    """
    folder.mkdir(parents=True, exist_ok=True)
    handle = os.open(folder / ".lock", os.O_CREAT | os.O_RDWR)
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise ValueError(f"{folder}: another process is {work} here; wait for it or use another --out") from None
        yield
    finally:
        os.close(handle)


def write_text(path: Path, text: str) -> None:
    """Write UTF-8 text, whole or not at all."""
    with whole_file(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_json(path: Path, content: Any) -> None:
    """Write JSON, whole or not at all; NaN is refused, since JSON has none."""
    write_text(path, json.dumps(content, indent=2, allow_nan=False) + "\n")


def read_json(path: Path) -> dict[str, Any]:
    """Read a JSON object in UTF-8.

    Raises ValueError, naming the file, where it is missing, unreadable, no JSON, no object, or holds what JSON leaves
    open and readers take each in their own way: a key twice, NaN, infinity.
    """
    try:
        content = json.loads(
            path.read_text(encoding="utf-8-sig"), object_pairs_hook=_object, parse_constant=_refuse_constant
        )
    except FileNotFoundError:
        raise ValueError(f"{path}: no such file") from None
    except (OSError, ValueError, RecursionError) as error:
        raise ValueError(f"{path}: no valid JSON ({' '.join(str(error).split())}): mend it at that place") from None
    if not isinstance(content, dict):
        raise ValueError(f"{path}: holds a {type(content).__name__}: it must be an object, {{...}}")
    return content


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    content = dict(pairs)
    if len(content) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"the key {twice!r} occurs twice")
    return content


def _refuse_constant(name: str) -> Any:
    raise ValueError(f"{name} is no number of JSON")
