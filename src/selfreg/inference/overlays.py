"""Photographs with the class colours blended over them, and a legend of the classes that occur."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from selfreg.files import whole_file
from selfreg.report.pictures import overlay

SHADING = 0.45
"""Share of the colour in a blended pixel: the photograph stays recognisable."""

_INK, _PAPER = (24, 26, 31), (255, 255, 255)
# rows that are copied at a time: a large picture is held once
_ROWS = 256


def write_overlay(
    path: Path,
    image: NDArray[np.uint8],
    classes: NDArray[np.uint8],
    palette: NDArray[np.uint8],
    class_names: Sequence[str] = (),
) -> None:
    """Write a JPEG of the photograph under the colours of its classes, whole or not at all.

    Args:
        path: The file.
        image: (H, W, 3) uint8; blended in place if it is writeable.
        classes: (H, W) uint8 class indices.
        palette: (256, 3) uint8 RGB.
        class_names: Names for the legend below the photograph; without names there is no legend.
    """
    blended = overlay(image, classes, palette, alpha=SHADING, out=image if image.flags.writeable else None)
    present = [index for index in range(len(class_names)) if (classes == index).any()]
    legend = _legend(image.shape[1], [(class_names[index], palette[index]) for index in present])
    height, width = classes.shape
    canvas = Image.new("RGB", (width, height + (legend.height if legend else 0)), _PAPER)
    for top in range(0, height, _ROWS):
        canvas.paste(Image.fromarray(np.ascontiguousarray(blended[top : top + _ROWS])), (0, top))
    if legend:
        canvas.paste(legend, (0, height))
    with whole_file(path) as temporary:
        canvas.save(temporary, quality=92)


def _legend(width: int, entries: Sequence[tuple[str, NDArray[np.uint8]]]) -> Image.Image | None:
    """Colours and names in rows, as wide as the photograph."""
    if not entries:
        return None
    size = min(max(width // 50, 11), 40)
    font, gap, line = ImageFont.load_default(size), size // 2, size + size // 2
    measure = ImageDraw.Draw(Image.new("RGB", (1, 1)))
    places, left, top = [], gap, gap
    for name, _ in entries:
        needed = round(size + gap + measure.textlength(name, font) + 2 * gap)
        if left > gap and left + needed > width:
            left, top = gap, top + line
        places.append((left, top))
        left += needed
    legend = Image.new("RGB", (width, top + line), _PAPER)
    draw = ImageDraw.Draw(legend)
    for (name, colour), (left, top) in zip(entries, places, strict=True):
        red, green, blue = (int(value) for value in colour)
        draw.rectangle((left, top, left + size - 1, top + size - 1), (red, green, blue), _INK)
        draw.text((left + size + gap, top), name, _INK, font, anchor=None)
    return legend
