"""Reading files that may come from anybody: regular files only, each of a limited size."""

import os
import stat
from pathlib import Path

MEBIBYTE = 2**20

CONFIGURATION_LIMIT = 16 * MEBIBYTE
"""Largest configuration, run description, list of classes, split list or log, in bytes."""

ANNOTATION_LIMIT = 2048 * MEBIBYTE
"""Largest JSON of annotations, in bytes; COCO's largest has 450 MiB."""

PICTURE_LIMIT = 2048 * MEBIBYTE
"""Largest image or mask, in bytes."""

SCORES_LIMIT = 2048 * MEBIBYTE
"""Largest file of arrays, in bytes."""

WEIGHTS_LIMIT = 65536 * MEBIBYTE
"""Largest file of weights or training state, in bytes."""


def check_file(path: Path, limit: int) -> int:
    """Make sure that a library may open `path`: a regular file, or a link to one, of at most `limit` bytes.

    Returns:
        Its size in bytes.

    Raises:
        ValueError: If it is a device, a pipe, a socket or a folder, or too large.
        OSError: If it is missing or cannot be looked at.
    """
    return _check(path, path.stat(), limit)


def read_bytes(path: Path, limit: int = CONFIGURATION_LIMIT) -> bytes:
    """Read a whole file.

    Raises:
        ValueError: As `check_file`.
        OSError: If it is missing or cannot be read.
    """
    # without O_NONBLOCK, opening a pipe waits for somebody to write into it
    handle = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
    with os.fdopen(handle, "rb") as file:
        _check(path, os.fstat(handle), limit)
        content = file.read(limit + 1)
    if len(content) > limit:
        raise ValueError(_too_large(path, len(content), limit))
    return content


def read_text(path: Path, limit: int = CONFIGURATION_LIMIT, *, encoding: str = "utf-8", errors: str = "strict") -> str:
    """Read a whole text file, with `\\n` as line end.

    Raises:
        ValueError: As `check_file`, or if the bytes are no such text.
        OSError: If it is missing or cannot be read.
    """
    return read_bytes(path, limit).decode(encoding, errors).replace("\r\n", "\n").replace("\r", "\n")


def read_end(path: Path, size: int = MEBIBYTE // 16) -> str:
    """The last `size` bytes of a text file such as a log; what is not UTF-8 is replaced.

    Raises:
        ValueError: As `check_file`, but for the size.
        OSError: If it is missing or cannot be read.
    """
    handle = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
    with os.fdopen(handle, "rb") as file:
        whole = _check(path, os.fstat(handle), None)
        file.seek(max(0, whole - size))
        return file.read(size).decode("utf-8", "replace")


def _check(path: Path, status: os.stat_result, limit: int | None) -> int:
    if not stat.S_ISREG(status.st_mode):
        raise ValueError(f"{path}: is not a regular file; give a file")
    if limit is not None and status.st_size > limit:
        raise ValueError(_too_large(path, status.st_size, limit))
    return status.st_size


def _too_large(path: Path, size: int, limit: int) -> str:
    return f"{path}: has {size} bytes or more, the limit for such a file is {limit}; give the right file"
