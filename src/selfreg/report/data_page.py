"""The page of `selfreg check-data`: findings, class frequencies, contact sheet (worst images first)."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from selfreg.files import write_text
from selfreg.report.charts import lay_out
from selfreg.report.content import Curve, is_missing
from selfreg.report.embed import LEVELS, Album
from selfreg.report.page import LARGEST_PAGE, Tile
from selfreg.report.rendering import render


@dataclass(frozen=True)
class Remark:
    """One finding about a data set.

    Attributes:
        severity: "fault" or "warning".
        words: What is wrong, without the name of a file.
        files: The files concerned.
    """

    severity: Literal["fault", "warning"]
    words: str
    files: Sequence[str] = ()


@dataclass(frozen=True, eq=False)
class Sample:
    """One image of the contact sheet.

    Attributes:
        image_id: Name of the image.
        image: (H, W, 3) uint8, or None if it cannot be read.
        mask: (H, W) uint8 of the same size, or None.
        faults: Errors, as text.
        warnings: Warnings, as text.
        stored_mask: (H, W, 3) uint8 of any size: an invalid mask as stored in its file.

    Raises:
        ValueError: If image and mask differ in size.
    """

    image_id: str
    image: NDArray[np.uint8] | None
    mask: NDArray[np.uint8] | None
    faults: Sequence[str] = ()
    warnings: Sequence[str] = ()
    stored_mask: NDArray[np.uint8] | None = None

    def __post_init__(self) -> None:
        if self.image is not None and self.mask is not None and self.image.shape[:2] != self.mask.shape:
            raise ValueError(
                f"sample {self.image_id!r}: the mask has size {self.mask.shape}, the image {self.image.shape[:2]}; "
                "leave the mask out and name the mismatch in its faults"
            )

    @property
    def kind(self) -> str:
        """ "fault", "warning" or "fine"."""
        return "fault" if self.faults else "warning" if self.warnings else "fine"


@dataclass(frozen=True, eq=False)
class DataPage:
    """Content of the page of a data check.

    Attributes:
        title: Heading.
        subtitle: Line below the heading.
        class_names: Names of the K classes.
        palette: (256, 3) uint8, the colour of each class index.
        ignore_index: Value of void in the masks, or None.
        facts: Names and values below the heading, e.g. ("images", "468").
        findings: Findings; faults are shown first.
        tree: Folders of the data set, one line each.
        pixel_shares: Fraction of each class among the valid pixels, in [0, 1], by split.
        image_counts: Number of images that contain each class, by split.
        samples: Images; faults are shown first, then warnings, each in the order given.
        curves: Charts.
        commands: Commands at the end of the page.
        notes: Notes at the end of the page.
        verdict: The result in one sentence, at the top of the page.

    Raises:
        ValueError: If a split has not one share or count per class.
    """

    title: str
    subtitle: str
    class_names: tuple[str, ...]
    palette: NDArray[np.uint8]
    ignore_index: int | None = 255
    facts: Sequence[tuple[str, str]] = ()
    findings: Sequence[Remark] = ()
    tree: Sequence[str] = ()
    pixel_shares: Mapping[str, Sequence[float | None]] = field(default_factory=dict)
    image_counts: Mapping[str, Sequence[int]] = field(default_factory=dict)
    samples: Sequence[Sample] = ()
    curves: Sequence[Curve] = ()
    commands: Sequence[str] = ()
    notes: Sequence[str] = ()
    verdict: str = ""

    def __post_init__(self) -> None:
        for name, table in {"pixel_shares": self.pixel_shares, "image_counts": self.image_counts}.items():
            for split, values in table.items():
                if len(values) != len(self.class_names):
                    raise ValueError(f"{name}[{split!r}] has {len(values)} values for {len(self.class_names)} classes")


@dataclass(frozen=True)
class SampleCard:
    """A sample with its pictures; `ratio` is width / height in CSS syntax."""

    sample: Sample
    classes: list[int]
    tiles: list[Tile]
    ratio: str
    whole_box: str


def write_data_page(page: DataPage, path: Path, *, largest: int = LARGEST_PAGE) -> Path:
    """Write the page of a data check as one self-contained HTML file, whole or not at all; return its path."""
    ranks = {"fault": 0, "warning": 1, "fine": 2}
    samples = sorted(page.samples, key=lambda sample: ranks[sample.kind])
    text = ""
    for level in LEVELS:
        album = Album(level, page.palette, page.ignore_index)
        cards = [_card(sample, page, album) for sample in samples]
        if album.size > largest and level is not LEVELS[-1]:
            continue
        text = _text(page, cards, album)
        if len(text.encode()) <= largest:
            break
    write_text(path, text)
    return path


def _card(sample: Sample, page: DataPage, album: Album) -> SampleCard:
    shape = next((array.shape for array in (sample.image, sample.mask) if array is not None), (3, 4))
    classes: list[int] = []
    tiles = []
    blank = album.add_photo(np.full((*shape[:2], 3), 236, np.uint8))
    if sample.image is not None:
        key = album.add_photo(sample.image)
        tiles.append(Tile("photo", "Photograph", f"Photograph {sample.image_id}", (key, key), None))
    if sample.mask is not None:
        under = blank if sample.image is None else album.add_photo(sample.image)
        key = album.add_mask(sample.mask)
        tiles.append(Tile("label", "Label", f"Label of {sample.image_id}", (under, under), (key, key)))
        classes = [index for index in np.unique(sample.mask).tolist() if index < len(page.class_names)]
    if sample.stored_mask is not None:
        key = album.add_photo(sample.stored_mask)
        tiles.append(Tile("label", "Mask file as stored", f"Mask file of {sample.image_id}", (key, key), None))
    return SampleCard(sample, classes, tiles, f"{shape[1]}/{shape[0]}", f"0 0 {shape[1]} {shape[0]}")


def _count(findings: Sequence[Remark], severity: str) -> int:
    """Number of errors or warnings, one for each file or, without a file, for the data set."""
    return sum(max(len(finding.files), 1) for finding in findings if finding.severity == severity)


def _text(page: DataPage, cards: Sequence[SampleCard], album: Album) -> str:
    counted = [
        (index, name, sum(index in card.classes for card in cards)) for index, name in enumerate(page.class_names)
    ]
    shares = [share for values in page.pixel_shares.values() for share in values if not is_missing(share)]
    return render(
        "data.html.j2",
        page=page,
        cards=cards,
        kinds={
            kind: count
            for kind in ("fault", "warning", "fine")
            if (count := sum(card.sample.kind == kind for card in cards))
        },
        class_choices=[choice for choice in counted if choice[2]],
        largest_share=max((share for share in shares if share), default=1.0),
        faults=_count(page.findings, "fault"),
        warnings=_count(page.findings, "warning"),
        charts=[lay_out(curve) for curve in page.curves],
        pictures=album.pictures,
        colours=["#{:02x}{:02x}{:02x}".format(*colour) for colour in page.palette[: len(page.class_names)].tolist()],
    )
