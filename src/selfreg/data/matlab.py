"""Class numbers in MATLAB files, of SBD and PASCAL-Context."""

import io
import zlib
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from selfreg.data.pictures import MAX_PIXELS
from selfreg.input_files import MEBIBYTE, read_bytes
from selfreg.messages import one_line

_MATRIX, _COMPRESSED = 14, 15
# SBD's have three levels; the reader of SciPy ends the whole process after some thousands
_DEEPEST = 8
_FILE_LIMIT = 64 * MEBIBYTE
_CONTENT_LIMIT = 256 * MEBIBYTE


def read_mat(path: Path, variable: str) -> Any:
    """Read one variable of a MATLAB file of version 5.

    Raises:
        ValueError: If the file is missing or unreadable, lacks the variable, is nested deeply, or holds more values
            than a picture may have pixels.
    """
    from scipy.io import loadmat, whosmat  # slow to import, and only two data sets need it

    if not path.is_file():
        raise ValueError(f"{path}: no such mask: restore it, or remove it from the list")
    data = read_bytes(path, _FILE_LIMIT)
    _check_nesting(data, path)
    stream: Any = io.BytesIO(data)  # the stubs of SciPy know only names
    try:
        shapes = [shape for name, shape, _ in whosmat(stream) if name == variable]
        if any(np.prod(shape, dtype=float) > MAX_PIXELS for shape in shapes):
            raise ValueError(f"{variable} has the shape {shapes[0]}, more than {MAX_PIXELS} values")
        stream.seek(0)
        content = loadmat(stream, variable_names=[variable])
    except Exception as error:  # scipy raises whatever the broken bytes lead it to
        raise ValueError(f"{path}: unreadable or truncated mask ({one_line(error)}): replace the file") from error
    if variable not in content:
        raise ValueError(f"{path}: has no variable '{variable}': give the data set's own MATLAB files")
    return content[variable]


def whole_numbers(values: Any, path: Path) -> NDArray[np.integer[Any]]:
    """Values of a mask as integers (H, W); nothing is rounded or cut.

    Args:
        values: What a MATLAB file holds.
        path: The file, for the message.

    Raises:
        ValueError: If they are not whole numbers in two dimensions.
    """
    array = np.asarray(values)
    if array.ndim != 2 or array.dtype.kind not in "buif":
        raise ValueError(f"{path}: the mask has the shape {array.shape} and type {array.dtype}: replace the file")
    if array.dtype.kind == "f" and not (np.isfinite(array) & (array == np.rint(array)) & (abs(array) < 2**31)).all():
        raise ValueError(f"{path}: the mask holds numbers that are not whole: replace the file")
    return array.astype(np.int64) if array.dtype.kind == "f" else array


def _check_nesting(data: bytes, path: Path) -> None:
    """Raise ValueError for matrices within matrices (cells, structures) beyond a depth that no mask needs."""
    if len(data) < 136:
        raise ValueError(f"{path}: unreadable or truncated mask: replace the file")
    order = "little" if data[126:128] == b"IM" else "big"
    total = 0
    for kind, begin, end in _elements(data, 128, len(data), order):
        content = data[begin:end]
        if kind == _COMPRESSED:
            inflater = zlib.decompressobj()
            try:
                content = inflater.decompress(content, _CONTENT_LIMIT - total)
            except zlib.error as error:
                raise ValueError(f"{path}: unreadable or truncated mask ({error}): replace the file") from None
            if inflater.unconsumed_tail:
                raise ValueError(f"{path}: a mask of more than {_CONTENT_LIMIT} bytes: replace the file")
        if kind not in (_MATRIX, _COMPRESSED):
            continue
        total += len(content)
        inside = [(0, len(content), 0 if kind == _COMPRESSED else 1)]
        while inside:
            begin, end, depth = inside.pop()
            if depth > _DEEPEST:
                raise ValueError(f"{path}: a mask in more than {_DEEPEST} cells or structures: replace the file")
            inside += [
                (first, last, depth + 1)
                for inner, first, last in _elements(content, begin, end, order)
                if inner == _MATRIX
            ]


def _elements(data: bytes, begin: int, end: int, order: Any) -> list[tuple[int, int, int]]:
    """Type, begin and end of the content of each data element between two positions; small ones are left out."""
    found = []
    while begin + 8 <= end:
        kind, size = (int.from_bytes(data[begin + at : begin + at + 4], order) for at in (0, 4))
        if kind >> 16:  # a small element has its content in the same eight bytes
            begin += 8
            continue
        found.append((kind, begin + 8, min(begin + 8 + size, end)))
        # a compressed element is not padded
        begin += 8 + (size if kind == _COMPRESSED else -(-size // 8) * 8)
    return found
