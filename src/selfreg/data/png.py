"""Check that a PNG contains all the rows of its header: Pillow leaves missing rows black without an error."""

import zlib
from collections.abc import Iterator
from pathlib import Path

from selfreg.input_files import PICTURE_LIMIT, read_bytes

_CHANNELS = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}
# first column and row, and the steps between columns and rows, of the seven passes of an interlaced PNG
_PASSES = ((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2))
_BLOCK = 2**20


def is_whole(path: Path) -> bool:
    """Inflate the pixels of a PNG and compare their number with the header, using 1 MiB of memory."""
    data = read_bytes(path, PICTURE_LIMIT)
    header = data[16:29]
    width, height = int.from_bytes(header[:4], "big"), int.from_bytes(header[4:8], "big")
    bits = header[8] * _CHANNELS[header[9]]
    passes = _PASSES if header[12] else ((0, 0, 1, 1),)
    expected = 0
    for left, top, across, down in passes:
        columns, rows = -(-(width - left) // across), -(-(height - top) // down)
        expected += rows * (1 + -(-columns * bits // 8)) if columns > 0 and rows > 0 else 0
    return _inflated(data) >= expected


def _inflated(data: bytes) -> int:
    inflater, count = zlib.decompressobj(), 0
    try:
        for part in _pixel_chunks(data):
            while part and not inflater.eof:
                count += len(inflater.decompress(part, _BLOCK))
                part = inflater.unconsumed_tail
        return count + len(inflater.flush())
    except zlib.error:
        return 0


def _pixel_chunks(data: bytes) -> Iterator[bytes]:
    place = 8
    while place + 8 <= len(data):
        length, kind = int.from_bytes(data[place : place + 4], "big"), data[place + 4 : place + 8]
        if kind == b"IDAT":
            yield data[place + 8 : place + 8 + length]
        place += length + 12
