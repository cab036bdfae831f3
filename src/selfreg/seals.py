"""Seals: proof that a kept result was computed by this user, from the inputs that it claims.

Class maps and scores are kept on disk, so that they are not computed twice. A run folder may come from somebody else,
and files in it may be edited, so neither names nor times nor a plain checksum say that a kept result is right. A seal
is an HMAC-SHA256 over the inputs and the result with a secret key of the user, `STATE/selfreg/seal-key`, where STATE
is the platform's folder for application state (`~/.local/state` on Linux). Results sealed by another user do not
verify and are computed again.
"""

import hashlib
import hmac
import os
import secrets
from functools import cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from platformdirs import user_state_path

from selfreg.files import make_folder
from selfreg.input_files import WEIGHTS_LIMIT, check_file, read_bytes

_KEY_BYTES = 32


def seal(*parts: bytes | str) -> str:
    """Seal the inputs and the content of a result.

    Args:
        parts: Whatever the result depends on, and the result itself; their order and their borders count.

    Returns:
        64 hexadecimal digits.
    """
    code = hmac.new(_key(), digestmod=hashlib.sha256)
    for part in parts:
        content = part.encode() if isinstance(part, str) else part
        code.update(len(content).to_bytes(8, "big"))
        code.update(content)
    return code.hexdigest()


def is_sealed(found: str, *parts: bytes | str) -> bool:
    """Whether `found` is the seal of these parts."""
    return hmac.compare_digest(found.encode(), seal(*parts).encode())


def digest_of_file(path: Path) -> str:
    """SHA-256 of the content of a file, as 64 hexadecimal digits."""
    check_file(path, WEIGHTS_LIMIT)
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def digest_of_array(array: NDArray[np.generic]) -> str:
    """SHA-256 of the values, shape and type of an array, as 64 hexadecimal digits."""
    code = hashlib.sha256(f"{array.dtype.str} {array.shape}".encode())
    code.update(np.ascontiguousarray(array).data)
    return code.hexdigest()


@cache
def _key() -> bytes:
    path = user_state_path("selfreg") / "seal-key"
    try:
        if not path.exists():
            _make_key(path)
        key = read_bytes(path, 2 * _KEY_BYTES) if path.is_file() else b""
    except (OSError, ValueError):
        key = b""
    # without a key on disk, results are computed again by every command
    return key if len(key) == _KEY_BYTES else secrets.token_bytes(_KEY_BYTES)


def _make_key(path: Path) -> None:
    make_folder(path.parent)
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(8)}.tmp")
    try:
        with os.fdopen(os.open(temporary, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600), "wb") as file:
            file.write(secrets.token_bytes(_KEY_BYTES))
        # a link, unlike a renaming, leaves the key of a process that was faster in place
        os.link(temporary, path)
    except FileExistsError:
        pass
    finally:
        temporary.unlink(missing_ok=True)
