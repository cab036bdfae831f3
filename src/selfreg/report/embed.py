"""Pictures inside a page: data URIs, zoom windows, and outlines as SVG paths."""

from base64 import b64encode
from dataclasses import dataclass, field
from hashlib import blake2b
from io import BytesIO

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from selfreg.report.content import Box
from selfreg.report.pictures import OUTCOME_COLOURS, Outcome

OUTCOME_PALETTE = np.zeros((256, 3), np.uint8)
for _outcome, _colour in OUTCOME_COLOURS.items():
    OUTCOME_PALETTE[_outcome] = _colour
VOID_STRIPES = np.array([(250, 250, 248, 200), (190, 192, 198, 150)], np.uint8)
"""Red, green, blue and opacity of the two stripes that stand for void."""

LONGEST_OUTLINE_SIDE = 192
"""Resolution of a traced region along its longer side: accurate to one screen pixel, small enough for 200 outlines."""


@dataclass(frozen=True)
class Level:
    """Resolution of the stored pictures: longest side in pixels of whole and of zoomed pictures, and JPEG quality."""

    whole_side: int
    zoom_side: int
    quality: int


LEVELS = (Level(640, 400, 82), Level(480, 320, 76), Level(400, 256, 68), Level(320, 208, 60), Level(224, 144, 50))
"""From the finest to the coarsest; a page uses the first one that keeps it within its size limit."""


@dataclass
class Album:
    """Pictures of one page. Each picture is stored once under a short key, however often it is shown.

    Attributes:
        level: Resolution.
        palette: (256, 3) uint8, the colour of each class index.
        ignore_index: Value of void.
        pictures: Data URI of each key.
        size: Total length of the URIs in characters.
    """

    level: Level
    palette: NDArray[np.uint8]
    ignore_index: int | None
    pictures: dict[str, str] = field(default_factory=dict)
    size: int = 0
    _known: dict[bytes, str] = field(default_factory=dict)

    def add_photo(self, image: NDArray[np.uint8], window: Box | None = None) -> str:
        """Store an (H, W, 3) photograph, or the `window` of it, as JPEG; return its key."""
        return self._add(image, window, "photo")

    def add_mask(self, mask: NDArray[np.uint8], window: Box | None = None) -> str:
        """Store an (H, W) class map as PNG with the palette, void hatched; return its key."""
        return self._add(mask, window, "mask")

    def add_outcomes(self, result: NDArray[np.uint8], window: Box | None = None) -> str:
        """Store an (H, W) map of `Outcome` as PNG, correct and void pixels transparent; return its key."""
        return self._add(result, window, "outcomes")

    def _add(self, array: NDArray[np.uint8], window: Box | None, form: str) -> str:
        side = self.level.whole_side if window is None else self.level.zoom_side
        if window is not None:
            top, left, bottom, right = window
            array = array[top:bottom, left:right]
        array = np.ascontiguousarray(array)
        mark = blake2b(array.tobytes() + f"{form} {array.shape} {side}".encode(), digest_size=16).digest()
        if mark not in self._known:
            uri = self._encode(array, side, form)
            self._known[mark] = f"p{len(self._known)}"
            self.pictures[self._known[mark]] = uri
            self.size += len(uri)
        return self._known[mark]

    def _encode(self, array: NDArray[np.uint8], side: int, form: str) -> str:
        picture = Image.fromarray(array)
        shrink = min(1.0, side / max(picture.size))
        size = (max(1, round(picture.width * shrink)), max(1, round(picture.height * shrink)))
        if form == "photo":
            return _uri(
                picture.resize(size, Image.Resampling.LANCZOS), "JPEG", quality=self.level.quality, optimize=True
            )
        index_map = np.asarray(picture.resize(size, Image.Resampling.NEAREST))
        opaque = np.full((256, 1), 255, np.uint8)
        if form == "outcomes":
            opaque[[Outcome.RIGHT, Outcome.VOID]] = 0
            return _palette_uri(index_map, np.hstack([OUTCOME_PALETTE, opaque]))
        return _palette_uri(*_hatched(index_map, np.hstack([self.palette, opaque]), self.ignore_index))


def _hatched(
    index_map: NDArray[np.uint8], colours: NDArray[np.uint8], ignore_index: int | None
) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Replace void by stripes in two half-transparent colours, using indices that do not occur in the map."""
    void = index_map == ignore_index
    if not void.any():
        return index_map, colours
    free = np.setdiff1d(np.arange(256), index_map[~void])
    stripes = np.add.outer(np.arange(void.shape[0]), np.arange(void.shape[1])) // max(2, void.shape[1] // 56) % 2
    striped = np.where(void, free[:2][stripes % len(free[:2])], index_map).astype(np.uint8)
    with_stripes = colours.copy()
    with_stripes[free[:2]] = VOID_STRIPES[: len(free[:2])]
    return striped, with_stripes


def _palette_uri(index_map: NDArray[np.uint8], colours: NDArray[np.uint8]) -> str:
    used = int(index_map.max()) + 1
    picture = Image.fromarray(index_map)
    picture.putpalette(colours[:used, :3].tobytes())
    return _uri(picture, "PNG", transparency=colours[:used, 3].tobytes())


def _uri(picture: Image.Image, form: str, **options: object) -> str:
    memory = BytesIO()
    picture.save(memory, format=form, **options)
    return f"data:image/{form.lower()};base64,{b64encode(memory.getvalue()).decode()}"


def zoom_window(box: Box, height: int, width: int, margin: float = 0.6, smallest: float = 0.16) -> Box:
    """Enlarge `box` to a window with the image's aspect ratio that lies inside the image.

    Args:
        box: (top, left, bottom, right) in pixels.
        height: Height of the image.
        width: Width of the image.
        margin: Margin on each side, as a fraction of the box.
        smallest: Smallest side of the window, as a fraction of the image's side.

    Returns:
        (top, left, bottom, right) in pixels.
    """
    top, left, bottom, right = box
    share = max((bottom - top) * (1 + 2 * margin) / height, (right - left) * (1 + 2 * margin) / width, smallest)
    share = min(share, 1.0)
    rows, columns = max(1, round(share * height)), max(1, round(share * width))
    first_row = min(max(round((top + bottom - rows) / 2), 0), height - rows)
    first_column = min(max(round((left + right - columns) / 2), 0), width - columns)
    return first_row, first_column, first_row + rows, first_column + columns


def outline_path(region: NDArray[np.bool_]) -> str:
    """Trace the borders of an (H, W) bool region, including holes, as an SVG path in image pixels; "" if empty."""
    rows, columns = np.nonzero(region.any(axis=1))[0], np.nonzero(region.any(axis=0))[0]
    if not len(rows):
        return ""
    top, left = int(rows[0]), int(columns[0])
    part = region[top : int(rows[-1]) + 1, left : int(columns[-1]) + 1]
    step = -(-max(part.shape) // LONGEST_OUTLINE_SIDE)
    if step > 1:
        padded = np.pad(part, [(0, -part.shape[0] % step), (0, -part.shape[1] % step)])
        cells = padded.reshape(padded.shape[0] // step, step, padded.shape[1] // step, step)
        part = cells.mean(axis=(1, 3)) >= 0.5
    pieces = []
    for loop in _loops(part):
        points = [(left + column * step, top + row * step) for row, column in loop]
        pieces.append("M" + "L".join(f"{x} {y}" for x, y in points) + "Z")
    return "".join(pieces)


def _loops(region: NDArray[np.bool_]) -> list[list[tuple[int, int]]]:
    """Chain pixel edges between inside and outside to loops of (row, column) corners, with the inside on the right."""
    padded = np.pad(region, 1).astype(np.int8)
    following: dict[tuple[int, int], list[tuple[int, int]]] = {}

    def connect(starts: NDArray[np.int64], row_step: int, column_step: int) -> None:
        for row, column in starts.tolist():
            following.setdefault((row, column), []).append((row + row_step, column + column_step))

    down = np.diff(padded, axis=0)[:, 1:-1]
    across = np.diff(padded, axis=1)[1:-1]
    connect(np.argwhere(down == 1), 0, 1)
    connect(np.argwhere(down == -1) + (0, 1), 0, -1)
    connect(np.argwhere(across == -1), 1, 0)
    connect(np.argwhere(across == 1) + (1, 0), -1, 0)

    loops = []
    while following:
        start = next(iter(following))
        loop, here, came = [start], start, (0, 0)
        while True:
            choices = following[here]
            turned = [choice for choice in choices if (choice[0] - here[0], choice[1] - here[1]) != came]
            there = (turned or choices)[0]
            choices.remove(there)
            if not choices:
                del following[here]
            step = (there[0] - here[0], there[1] - here[1])
            if step == came:
                loop.pop()
            loop.append(there)
            here, came = there, step
            if here == start:
                break
        loops.append(loop[:-1])
    return loops
