"""The page about one or several runs: numbers with intervals, classes, cases and curves in one HTML file."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from selfreg.files import write_text
from selfreg.report.charts import forests, lay_out
from selfreg.report.content import CASE_KINDS, Box, Case, Number, Page, RunPair, is_missing
from selfreg.report.embed import LEVELS, Album, outline_path, zoom_window
from selfreg.report.pictures import columns_of, outcome_words, outcomes
from selfreg.report.rendering import decimals, render

LARGEST_PAGE = 9_500_000
"""Size limit of a page in bytes; pictures are stored more coarsely to stay below it."""


@dataclass(frozen=True)
class Tile:
    """One picture of a card: keys of the photograph and of the map above it, as (whole image, zoom)."""

    view: str
    caption: str
    alt: str
    photo: tuple[str, str]
    mask: tuple[str, str] | None
    context: bool = False
    pair: str | None = None


@dataclass(frozen=True)
class Card:
    """A case with its pictures. Boxes are SVG view boxes; `classes` are the indices that the class filter matches."""

    case: Case
    title: str
    direction: str
    classes: list[int]
    tiles: list[Tile]
    outline: str
    whole_box: str
    zoom_box: str
    zoom: Box | None

    @property
    def columns(self) -> int:
        """Number of pictures shown side by side; only one of the difference pictures counts."""
        return sum(tile.view != "difference" for tile in self.tiles) + any(t.view == "difference" for t in self.tiles)


def write_page(page: Page, path: Path, *, largest: int = LARGEST_PAGE) -> Path:
    """Write a page as one self-contained HTML file, whole or not at all.

    Args:
        page: Content. Cases are sorted by the absolute value of their change, then by severity.
        path: Where the page is written.
        largest: Size limit in bytes. Pictures are stored as finely as it allows, but not coarser than the last of
            `embed.LEVELS`.

    Returns:
        `path`.
    """
    ordered = sorted(page.cases, key=lambda case: (-abs(case.change), -case.severity))
    outlines = ["" if case.outline is None else outline_path(case.outline) for case in ordered]
    text = ""
    for level in LEVELS:
        album = Album(level, page.palette, page.ignore_index)
        cards = []
        for case, outline in zip(ordered, outlines, strict=True):
            cards.append(_card(case, outline, page, album))
            if album.size > largest and level is not LEVELS[-1]:
                break
        else:
            text = _text(page, cards, album)
            if len(text.encode()) <= largest:
                break
    write_text(path, text)
    return path


def _text(page: Page, cards: list[Card], album: Album) -> str:
    kinds = {kind: count for kind in CASE_KINDS if (count := sum(card.case.kind == kind for card in cards))}
    counted = [
        (index, name, sum(index in card.classes for card in cards)) for index, name in enumerate(page.class_names)
    ]
    labelled = any(case.label is not None for case in page.cases)
    colours = ["#{:02x}{:02x}{:02x}".format(*colour) for colour in page.palette[: len(page.class_names)].tolist()]
    return render(
        "page.html.j2",
        page=page,
        cards=cards,
        kinds=kinds,
        class_choices=[choice for choice in counted if choice[2]],
        pictures=album.pictures,
        ranked=any(case.change for case in page.cases),
        graded=any(case.severity for case in page.cases),
        zoomable=any(card.zoom for card in cards),
        outlined=any(card.outline for card in cards),
        fewest=all(card.columns <= 3 for card in cards),
        numbers=[(number, decimals(number.values, number.unit)) for number in page.numbers],
        pairs=page.shown_pairs,
        places_of=[forests(pair.numbers) for pair in page.shown_pairs],
        with_intervals=any(n.difference_interval or any(n.intervals) for n in page.numbers),
        confusion={run: matrix.tolist() for run, matrix in page.confusion.items()},
        image_rows=[[row.image_id, row.right, row.missed, row.invented] for row in page.images],
        charts=[lay_out(curve) for curve in page.curves],
        class_rows=_class_rows(page),
        outcome_words={outcome.name.lower(): text for outcome, text in outcome_words(page.run_names, labelled).items()},
        colours=colours,
        class_colours=[[name, colour] for name, colour in zip(page.class_names, colours, strict=True)],
    )


def _class_rows(page: Page) -> list[dict[str, object]]:
    """For each class its index, its name, the IoU of each run and the difference of each pair."""
    rows: list[dict[str, object]] = []
    if not page.per_class:
        return rows
    for index, name in enumerate(page.class_names):
        values = [_known(page.per_class.get(run), index) for run in page.run_names]
        gaps = [_class_gap(pair, values, index) for pair in page.shown_pairs]
        absent = bool(page.labelled_classes) and not page.labelled_classes[index]
        rows.append({"index": index, "name": name, "values": values, "gaps": gaps, "absent": absent})
    return rows


def _class_gap(pair: RunPair, values: Sequence[float | None], index: int) -> Number | None:
    """Difference of one class between two runs; without an interval if only the two values are known."""
    if pair.class_differences:
        return pair.class_differences[index]
    first, second = values[pair.first], values[pair.second]
    return None if first is None or second is None else Number("", "%", True, (), (), 100 * (second - first))


def _known(values: Sequence[float | None] | None, index: int) -> float | None:
    value = None if values is None else values[index]
    return None if is_missing(value) else value


def _card(case: Case, outline: str, page: Page, album: Album) -> Card:
    height, width = case.image.shape[:2]
    zoom = None if case.box is None else zoom_window(case.box, height, width)
    whole_box = f"0 0 {width} {height}"
    zoom_box = whole_box if zoom is None else f"{zoom[1]} {zoom[0]} {zoom[3] - zoom[1]} {zoom[2] - zoom[0]}"
    direction = "same"
    if len(page.run_names) > 1 and case.change:
        direction = "gained" if case.change > 0 else "lost"
    if case.class_index is not None:
        classes = [case.class_index]
    else:
        shown = case.predictions[-1] if case.label is None else case.label
        classes = [index for index in np.unique(shown).tolist() if index < len(page.class_names)]
    tiles = _tiles(case, page, album, zoom)
    return Card(case, _title(case, page), direction, classes, tiles, outline, whole_box, zoom_box, zoom)


def _title(case: Case, page: Page) -> str:
    if case.class_index is None:
        return case.image_id
    name = page.class_names[case.class_index]
    return name if case.wrong_class is None else f"{name} predicted as {page.class_names[case.wrong_class]}"


def _tiles(case: Case, page: Page, album: Album, zoom: Box | None) -> list[Tile]:
    photo_whole = album.add_photo(case.image)
    photo = (photo_whole, photo_whole if zoom is None else album.add_photo(case.image, zoom))
    subject = "" if case.class_index is None else f", zoomed to a {case.kind} of class {_title(case, page)}"
    tiles = []
    if zoom is not None:
        alt = f"Photograph {case.image_id}, the {case.kind} marked"
        tiles.append(Tile("context", "Whole picture", alt, (photo_whole, photo_whole), None, context=True))
    captions = columns_of(page.run_names, case.label is not None)
    tiles.append(Tile("photo", captions[0], f"Photograph {case.image_id}{subject}", photo, None))
    maps = [] if case.label is None else [("label", "Label", case.label)]
    maps += [(f"run{run}", page.run_names[run], prediction) for run, prediction in enumerate(case.predictions)]
    for view, caption, mask in maps:
        whole = album.add_mask(mask)
        keys = (whole, whole if zoom is None else album.add_mask(mask, zoom))
        what = "Label" if view == "label" else f"Prediction of {caption}"
        tiles.append(Tile(view, caption, f"{what} for {case.image_id}{subject}", photo, keys))
    if case.label is not None or len(case.predictions) > 1:
        last = len(case.predictions) - 1
        for first, second in [(pair.first, pair.second) for pair in page.shown_pairs] or [(0, last)]:
            compared = case.predictions if last == 0 else (case.predictions[first], case.predictions[second])
            result = outcomes(case.label, compared, page.ignore_index)
            whole = album.add_outcomes(result)
            keys = (whole, whole if zoom is None else album.add_outcomes(result, zoom))
            alt = f"{captions[-1]} for {case.image_id}{subject}"
            pair = f"{first}-{second}" if last else None
            tiles.append(Tile("difference", captions[-1], alt, photo, keys, pair=pair))
    return tiles
