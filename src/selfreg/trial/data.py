"""The data of a try: a data set as it is, the export of a labelling tool, or generated scenes."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from selfreg.checking import DataReport, check_data
from selfreg.checking.report import print_report
from selfreg.data.kinds import find_splits, guess_kind
from selfreg.importing import import_export
from selfreg.importing.formats import recognise
from selfreg.input_files import user_path
from selfreg.messages import command_line
from selfreg.terminal import PlainConsole, counted_progress
from selfreg.training.survey import balanced_weights
from selfreg.trial.facts import DataFacts

SCENES: dict[str, Any] = {"size": [96, 144], "length": 240, "evaluation_length": 48}
"""Options of the generated scenes."""

READ_AT_MOST = 1000
"""Images of each split that are checked at first; each training reads the others (see `selfreg.training.survey`)."""

_SCENES_LOOKED_AT = 24
_WARNINGS_SHOWN = 3
_VAL_SPLITS = ("val", "valid", "validation", "dev")


@dataclass(frozen=True)
class Place:
    """Where the data are.

    Attributes:
        kind: Kind of the data set.
        root: Its folder; None for generated scenes.
        options: Options of the kind.
        export: The export of a labelling tool that is imported into `root`, if the data come from one.
        format: Format of the export; empty if it was imported by an earlier command.
    """

    kind: str
    root: Path | None
    options: dict[str, Any]
    export: Path | None = None
    format: str = ""

    @property
    def name(self) -> str:
        """Name in texts."""
        given = self.export or self.root
        return given.resolve().name if given else "generated scenes"


def find_data(target: Path | None, folder: Path) -> Place:
    """Find a data set, or the export of a labelling tool, which belongs into `folder/data`.

    Args:
        target: Folder of a data set or of an export; None for generated scenes.
        folder: Output folder of the try. A try begins in an empty folder, so `folder/data` is what it imported.

    Raises:
        ValueError: If the folder is neither.
    """
    if target is None:
        return Place("scenes", None, SCENES)
    target, imported = user_path(target), (folder / "data").resolve()
    if imported.is_dir():
        return Place("folder", imported, {}, target.resolve())
    exported = _format_of(target)
    if exported is None:
        # names what was looked for and found, if it is no data set either
        return Place(guess_kind(target), target.resolve(), {})
    return Place("folder", imported, {}, target.resolve(), exported)


def import_data(place: Place) -> tuple[str, ...]:
    """Import an export that has not been imported yet; return what was done, one line each.

    Raises:
        ValueError: If it cannot be imported.
    """
    if place.export is None or place.root is None or place.root.is_dir():
        return ()
    with counted_progress("importing") as progress:
        found = import_export(place.export, place.root, format_name=place.format, progress=progress)
    counts = ", ".join(f"{count} in {split}" for split, count in found.counts.items())
    return f"imported from {found.format}: {counts}", *found.notes


def _format_of(target: Path) -> str | None:
    """The format of an export, or None for a data set that is read as it is."""
    if not target.is_dir():
        return None
    try:
        kind = guess_kind(target)
    except ValueError:
        kind = ""
    # masks of CVAT lie in the layout of VOC, with colours of their own
    if kind and not (kind == "voc" and _is_cvat_export(target)):
        return None
    try:
        return recognise(target)
    except ValueError:
        # what looks like no export either is explained by the reader of data sets
        return None


def _is_cvat_export(target: Path) -> bool:
    return any(target.rglob("labelmap.txt"))


def inspect_data(place: Place, folder: Path, seed: int, tell: Callable[[str], None]) -> DataFacts:
    """Check the data as `selfreg check-data` does, and collect what the rules use.

    Args:
        place: Where the data are.
        folder: Output folder of the try.
        seed: Seed of the first pair.
        tell: Called with lines for the user: the warnings of the check.

    Raises:
        ValueError: If `check-data` finds errors, there is no training or validation split, or a single class.
    """
    report, train, val = _check(place)
    if report.errors:
        print_report(report, PlainConsole(stderr=True))
        where = command_line("selfreg", "check-data", place.root, "--html", folder / "data.html")
        raise ValueError(
            f"{place.root}: errors in the data ({len(report.errors)}), such as {report.errors[0].message}; "
            f"`{where}` shows them all"
        )
    assert report.labels is not None
    if report.labels.num_classes < 2:
        raise ValueError(
            f"{place.root}: has the single class {report.labels.class_names[0]!r}, so every pixel is right whatever is "
            "trained; name the background as a class of its own"
        )
    for split in (train, val):
        # batch norm and intervals
        if report.splits[split].num_images < 2:
            raise ValueError(f"{place.root}: the split {split} has one image; a try needs two or more in each split")
    groups = [group for group in report.groups if group.level == "warning"]
    for group in groups[:_WARNINGS_SHOWN]:
        tell(f"warning: {group.line()}")
    if len(groups) > _WARNINGS_SHOWN:
        shown = command_line("selfreg", "check-data", place.root)
        tell(f"{len(groups) - _WARNINGS_SHOWN} more kinds of warnings: `{shown}` shows them all")
    items = [item for item in report.items if item.split == train]
    sizes = np.array([item.size for item in items if item.size is not None])
    height, width = (int(value) for value in np.median(sizes, axis=0))
    pixels = np.zeros(256, dtype=np.int64)
    objects = np.zeros(5, dtype=np.int64)
    for item in items:
        for value, count in item.pixels.items():
            pixels[value] += count
        for counts in item.objects.values():
            objects += np.array(counts)
    num_classes = report.labels.num_classes
    lengths = {split: len(source) for split, source in report.sources.items()}
    if place.kind == "scenes":
        lengths = {train: place.options["length"], val: place.options["evaluation_length"]}
    return DataFacts(
        kind=place.kind,
        root=None if place.root is None else str(place.root),
        train_split=train,
        val_split=val,
        options=place.options,
        num_train=lengths[train],
        num_val=lengths[val],
        num_classes=num_classes,
        height=height,
        width=width,
        # the first of the five classes of sizes is mostly noise of the labels, the second is small objects
        small_share=float(objects[1] / max(objects[1:].sum(), 1)),
        largest_weight=float(balanced_weights(pixels[:num_classes]).max()),
        seed=seed,
    )


def find_pair_of_splits(place: Place) -> tuple[str, str]:
    """Names of the training and the validation split. Raises ValueError if one of them is missing."""
    splits = find_splits(place.kind, place.root)
    train = next((split for split in splits if split.startswith("train")), None)
    val = next((split for split in splits if split in _VAL_SPLITS), None)
    if train is None or val is None:
        missing = "training" if train is None else "validation"
        raise ValueError(
            f"{place.root}: no {missing} split (found: {', '.join(splits)}); put about a fifth of the images and masks "
            "into images/val and masks/val, the others into images/train and masks/train"
        )
    return train, val


def _check(place: Place) -> tuple[DataReport, str, str]:
    train, val = find_pair_of_splits(place)
    options = dict(place.options)
    if place.kind == "scenes":
        # scenes are alike, so a few tell enough
        options |= {"length": _SCENES_LOOKED_AT, "evaluation_length": _SCENES_LOOKED_AT // 4}
    with counted_progress("checking the data") as progress:
        report = check_data(place.kind, place.root, [train, val], at_most=READ_AT_MOST, progress=progress, **options)
    return report, train, val
