"""Pictures of label maps as arrays and PNG files: colours, overlays, differences, contact sheets."""

from collections.abc import Sequence
from enum import IntEnum
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from selfreg.files import whole_file
from selfreg.report.content import Case

HATCH = ((216, 216, 212), (238, 238, 235))
# pixels blended at a time: as floating-point numbers they take eight times the memory
_STRIP = 2**20
INK, FAINT, PAPER = (24, 26, 31), (106, 110, 120), (255, 255, 255)


class Outcome(IntEnum):
    """Change of a pixel between the first run and the last; the values of `outcomes`."""

    RIGHT = 0
    FIXED = 1
    BROKEN = 2
    WRONG = 3
    VOID = 4


OUTCOME_COLOURS: dict[Outcome, tuple[int, int, int]] = {
    Outcome.RIGHT: (255, 255, 255),
    Outcome.FIXED: (0, 158, 100),
    Outcome.BROKEN: (224, 49, 58),
    Outcome.WRONG: (128, 132, 142),
    Outcome.VOID: (238, 238, 235),
}


def colourise(mask: NDArray[np.uint8], palette: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Map class indices to colours.

    Args:
        mask: (H, W) uint8.
        palette: (256, 3) uint8.

    Returns:
        (H, W, 3) uint8.
    """
    coloured: NDArray[np.uint8] = palette[mask]
    return coloured


def overlay(
    image: NDArray[np.uint8],
    mask: NDArray[np.uint8],
    palette: NDArray[np.uint8],
    alpha: float = 0.6,
    ignore_index: int | None = 255,
    out: NDArray[np.uint8] | None = None,
) -> NDArray[np.uint8]:
    """Blend the colours of a mask over an image; void pixels show the image alone.

    Args:
        image: (H, W, 3) uint8.
        mask: (H, W) uint8.
        palette: (256, 3) uint8.
        alpha: Opacity of the colours in [0, 1].
        ignore_index: Value of void.
        out: Array for the result; may be `image` itself to save memory.

    Returns:
        (H, W, 3) uint8.

    Raises:
        ValueError: If the sizes differ or `alpha` is out of range.
    """
    if image.shape[:2] != mask.shape:
        raise ValueError(f"the mask has size {mask.shape}, the image {image.shape[:2]}; give both the same size")
    if not 0 <= alpha <= 1:
        raise ValueError(f"alpha is {alpha}, expected 0 (image alone) to 1 (colours alone)")
    blended = np.empty_like(image) if out is None else out
    rows = max(1, _STRIP // max(1, mask.shape[1]))
    for top in range(0, len(mask), rows):
        pixels, classes = image[top : top + rows], mask[top : top + rows]
        mixed = (pixels * (1 - alpha) + palette[classes] * alpha).round().astype(np.uint8)
        shown = slice(None) if ignore_index is None else classes != ignore_index
        if blended is not image:
            blended[top : top + rows] = pixels
        blended[top : top + rows][shown] = mixed[shown]
    return blended


def outcomes(
    label: NDArray[np.uint8] | None, predictions: Sequence[NDArray[np.uint8]], ignore_index: int | None = 255
) -> NDArray[np.uint8]:
    """Compare the first prediction with the last, pixel by pixel.

    Args:
        label: (H, W) uint8, or None without ground truth: pixels on which the two predictions disagree are then WRONG.
        predictions: (H, W) uint8, one per run; with a single one every wrong pixel is BROKEN.
        ignore_index: Value of void.

    Returns:
        (H, W) uint8 with values of `Outcome`.
    """
    first, last = predictions[0], predictions[-1]
    result = np.full(first.shape, Outcome.RIGHT, np.uint8)
    if label is None:
        result[first != last] = Outcome.WRONG
        return result
    first_right, last_right = first == label, last == label
    if len(predictions) == 1:
        result[~last_right] = Outcome.BROKEN
    else:
        result[~first_right & last_right] = Outcome.FIXED
        result[first_right & ~last_right] = Outcome.BROKEN
        result[~first_right & ~last_right] = Outcome.WRONG
    if ignore_index is not None:
        result[label == ignore_index] = Outcome.VOID
    return result


def columns_of(run_names: Sequence[str], labelled: bool) -> list[str]:
    """Titles of the columns of a row of pictures: photograph, label, each run, difference."""
    last = ["Difference"] if len(run_names) > 1 else ["Errors"] if labelled else []
    return ["Photograph", *(["Label"] if labelled else []), *run_names, *last]


def contact_sheet(
    rows: Sequence[Case],
    path: Path,
    *,
    run_names: Sequence[str],
    palette: NDArray[np.uint8],
    ignore_index: int | None = 255,
    picture_width: int = 240,
) -> Path:
    """Write a PNG with one row per case: photograph, label, each run and the difference.

    Args:
        rows: Cases.
        path: Where the PNG is written.
        run_names: Names of the runs, as column titles.
        palette: (256, 3) uint8.
        ignore_index: Value of void.
        picture_width: Width of each picture in pixels.

    Raises:
        ValueError: If there is no row, or a row has not one prediction per run.
    """
    if not rows:
        raise ValueError("a contact sheet needs at least one row")
    if any(len(row.predictions) != len(run_names) for row in rows):
        raise ValueError(f"each row needs one prediction for each of the runs {', '.join(run_names)}")
    labelled = any(row.label is not None for row in rows)
    columns = columns_of(run_names, labelled)
    scale, gap, margin, heading, caption = picture_width / 240, 10, 24, 34, 26
    gap, margin, heading, caption = (round(value * scale) for value in (gap, margin, heading, caption))
    heights = [round(picture_width * row.image.shape[0] / row.image.shape[1]) for row in rows]
    legend = round(30 * scale) if columns[-1] == "Difference" and labelled else 0
    width = 2 * margin + len(columns) * picture_width + (len(columns) - 1) * gap
    height = margin + heading + sum(heights) + len(rows) * (caption + gap) + legend + margin - gap
    sheet = Image.new("RGB", (width, height), PAPER)
    draw = ImageDraw.Draw(sheet)
    bold, plain = _font(round(15 * scale)), _font(round(12 * scale))
    for column, name in enumerate(columns):
        left = margin + column * (picture_width + gap)
        draw.text((left, margin), _fitted(draw, name, bold, picture_width), INK, bold)
    top = margin + heading
    for row, row_height in zip(rows, heights, strict=True):
        for column, picture in enumerate(_row_pictures(row, palette, ignore_index, labelled)):
            left = margin + column * (picture_width + gap)
            if picture is not None:
                method = Image.Resampling.LANCZOS if column == 0 else Image.Resampling.NEAREST
                sheet.paste(Image.fromarray(picture).resize((picture_width, row_height), method), (left, top))
        words = [row.image_id] + [f"{name}: {score}" for name, score in zip(run_names, row.scores, strict=False)]
        line = _fitted(draw, "   ".join(words), plain, width - 2 * margin)
        draw.text((margin, top + row_height + round(5 * scale)), line, FAINT, plain)
        top += row_height + caption + gap
    if legend:
        _draw_legend(draw, (margin, top), plain, run_names, scale)
    with whole_file(path) as temporary:
        sheet.save(temporary, format="PNG", optimize=True)
    return path


def _row_pictures(
    row: Case, palette: NDArray[np.uint8], ignore_index: int | None, labelled: bool
) -> list[NDArray[np.uint8] | None]:
    hatch = _hatching(row.image.shape[0], row.image.shape[1])

    def coloured(mask: NDArray[np.uint8]) -> NDArray[np.uint8]:
        picture = colourise(mask, palette)
        return picture if ignore_index is None else np.where((mask == ignore_index)[..., None], hatch, picture)

    pictures: list[NDArray[np.uint8] | None] = [row.image]
    if labelled:
        pictures.append(None if row.label is None else coloured(row.label))
    pictures += [coloured(prediction) for prediction in row.predictions]
    if labelled or len(row.predictions) > 1:
        pictures.append(_outcome_picture(row, ignore_index))
    return pictures


def _outcome_picture(row: Case, ignore_index: int | None) -> NDArray[np.uint8]:
    grey = row.image.mean(axis=2, keepdims=True).repeat(3, axis=2)
    faded: NDArray[np.uint8] = (255 - (255 - grey) * 0.28).astype(np.uint8)
    result = outcomes(row.label, row.predictions, ignore_index)
    for outcome in (Outcome.FIXED, Outcome.BROKEN, Outcome.WRONG):
        faded[result == outcome] = OUTCOME_COLOURS[outcome]
    return faded


def _hatching(height: int, width: int) -> NDArray[np.uint8]:
    period = max(6, width // 40)
    stripe = (np.add.outer(np.arange(height), np.arange(width)) // (period // 2)) % 2
    hatching: NDArray[np.uint8] = np.array(HATCH, np.uint8)[stripe]
    return hatching


def _font(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(size)


def _fitted(
    draw: ImageDraw.ImageDraw, text: str, font: ImageFont.FreeTypeFont | ImageFont.ImageFont, width: float
) -> str:
    if draw.textlength(text, font) <= width:
        return text
    while text and draw.textlength(text + "…", font) > width:
        text = text[:-1]
    return text + "…"


def _draw_legend(
    draw: ImageDraw.ImageDraw,
    corner: tuple[int, int],
    font: ImageFont.FreeTypeFont | ImageFont.ImageFont,
    run_names: Sequence[str],
    scale: float,
) -> None:
    left, top = corner
    side = round(12 * scale)
    for outcome, words in outcome_words(run_names).items():
        draw.rectangle((left, top + 2, left + side, top + 2 + side), OUTCOME_COLOURS[outcome])
        draw.text((left + side + round(6 * scale), top), words, INK, font)
        left += side + round(30 * scale + draw.textlength(words, font))


def outcome_words(run_names: Sequence[str], labelled: bool = True) -> dict[Outcome, str]:
    """Legend of a difference picture for these runs."""
    if not labelled:
        return {Outcome.WRONG: "the runs disagree"} if len(run_names) > 1 else {}
    if len(run_names) == 1:
        return {Outcome.BROKEN: "wrong"}
    return {
        Outcome.FIXED: f"fixed by {run_names[-1]}",
        Outcome.BROKEN: f"broken by {run_names[-1]}",
        Outcome.WRONG: "both wrong",
    }
