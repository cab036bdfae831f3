"""Reading files that may come from anybody: regular files only, each of a limited size."""

import os
import stat
import zipfile
from pathlib import Path
from typing import BinaryIO

MEBIBYTE = 2**20

CONFIGURATION_LIMIT = 16 * MEBIBYTE
"""Largest configuration, run description, list of classes, split list or log, in bytes."""

LIST_LIMIT = 256 * MEBIBYTE
"""Largest list of images, in bytes."""

ANNOTATION_LIMIT = 2048 * MEBIBYTE
"""Largest JSON of annotations, in bytes; COCO's largest has 450 MiB."""

PICTURE_LIMIT = 2048 * MEBIBYTE
"""Largest image or mask, in bytes."""

SCORES_LIMIT = 512 * MEBIBYTE
"""Largest arrays of scores of one image, in bytes."""

WEIGHTS_LIMIT = 65536 * MEBIBYTE
"""Largest file of weights or training state, in bytes."""


def user_path(path: str | Path) -> Path:
    """A path from a user or a configuration, `~` at its beginning replaced by the home folder.

    Raises:
        ValueError: If there is no such user (`~nobody/data`).
    """
    try:
        return Path(path).expanduser()
    except RuntimeError:
        raise ValueError(f"{path}: no user has this name; write the whole path") from None


def check_file(path: Path, limit: int) -> int:
    """Make sure that a library may open `path`: a regular file, or a link to one, of at most `limit` bytes.

    Returns:
        Its size in bytes.

    Raises:
        ValueError: If it is a device, a pipe, a socket or a folder, or too large.
        OSError: If it is missing or cannot be looked at.
    """
    return _check(path, path.stat(), limit)


def check_archive(path: Path, limit: int | None = None) -> None:
    """Make sure that a ZIP archive, which `.npz` and `.pth` are, holds no more than it seems; other files pass.

    Args:
        path: A regular file.
        limit: Largest size of its content in bytes; the size of the file if not given (nothing is compressed then).

    Raises:
        ValueError: If its content is larger.
        OSError: If it cannot be read.
    """
    if not zipfile.is_zipfile(path):
        return
    try:
        with zipfile.ZipFile(path) as archive:
            content = sum(entry.file_size for entry in archive.infolist())
    except zipfile.BadZipFile as error:
        raise ValueError(f"{path}: is a damaged archive ({error})") from None
    if content > (path.stat().st_size if limit is None else limit):
        raise ValueError(f"{path}: holds {content} bytes, more than such a file may; give the right file")


def read_bytes(path: Path, limit: int = CONFIGURATION_LIMIT) -> bytes:
    """Read a whole file.

    Raises:
        ValueError: As `check_file`.
        OSError: If it is missing or cannot be read.
    """
    with _opened(path, limit) as file:
        # not `limit` bytes: a buffer of that size would be allocated
        size = os.fstat(file.fileno()).st_size
        content = file.read(size + 1)
    if len(content) > size:
        raise ValueError(f"{path}: grew while it was read; try again when it is complete")
    return content


def read_text(path: Path, limit: int = CONFIGURATION_LIMIT, *, encoding: str = "utf-8", errors: str = "strict") -> str:
    """Read a whole text file, with `\\n` as line end.

    Raises:
        ValueError: As `check_file`, or if the bytes are no such text.
        OSError: If it is missing or cannot be read.
    """
    return read_bytes(path, limit).decode(encoding, errors).replace("\r\n", "\n").replace("\r", "\n")


def read_start(path: Path, size: int) -> bytes:
    """The first `size` bytes of a file, fewer if it is shorter.

    Raises:
        ValueError: As `check_file`, but for the size.
        OSError: If it is missing or cannot be read.
    """
    with _opened(path, None) as file:
        return file.read(size)


def read_end(path: Path, size: int = MEBIBYTE // 16) -> str:
    """The last `size` bytes of a text file such as a log; what is not UTF-8 is replaced.

    Raises:
        ValueError: As `check_file`, but for the size.
        OSError: If it is missing or cannot be read.
    """
    with _opened(path, None) as file:
        file.seek(max(0, os.fstat(file.fileno()).st_size - size))
        return file.read(size).decode("utf-8", "replace")


def _opened(path: Path, limit: int | None) -> BinaryIO:
    # without O_NONBLOCK, opening a pipe waits for somebody to write into it
    handle = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
    try:
        _check(path, os.fstat(handle), limit)
        return os.fdopen(handle, "rb")
    except BaseException:
        os.close(handle)
        raise


def _check(path: Path, status: os.stat_result, limit: int | None) -> int:
    if not stat.S_ISREG(status.st_mode):
        raise ValueError(f"{path}: is not a regular file; give a file")
    if limit is not None and status.st_size > limit:
        raise ValueError(_too_large(path, status.st_size, limit))
    return status.st_size


def _too_large(path: Path, size: int, limit: int) -> str:
    return f"{path}: has {size} bytes or more, the limit for such a file is {limit}; give the right file"
