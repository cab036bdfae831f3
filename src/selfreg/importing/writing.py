"""Conversion of an export to a data set in folders, whole or not at all."""

import io
import os
import shutil
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from selfreg.data.labels import IGNORE_INDEX, voc_palette
from selfreg.data.listing import IMAGE_SUFFIXES
from selfreg.data.pairs import leads_out
from selfreg.data.pictures import opened, orientation
from selfreg.files import whole_folder, write_json
from selfreg.importing.formats import FORMATS, recognise
from selfreg.importing.items import Annotated, Export, Size, Unlabelled, refuse_several
from selfreg.importing.splitting import VAL_SHARE, choose_validation
from selfreg.input_files import user_path
from selfreg.workers import map_in_processes

_IMAGES_PER_PROCESS = 32
_TYPES = {"JPEG": ".jpg", "MPO": ".jpg", "PNG": ".png", "WEBP": ".webp", "BMP": ".bmp", "TIFF": ".tif"}


@dataclass(frozen=True)
class Imported:
    """Result of an import.

    Attributes:
        folder: The new data set.
        format: Format of the export.
        counts: Split to number of images.
        notes: Decisions and omissions, one line each.
    """

    folder: Path
    format: str
    counts: dict[str, int]
    notes: tuple[str, ...]


def import_export(
    source: str | Path,
    out: str | Path,
    *,
    format_name: str | None = None,
    val: float | None = None,
    seed: int | None = None,
    unlabelled: Unlabelled | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Imported:
    """Convert the export of a labelling tool to a data set in folders.

    `OUT/images/SPLIT`, `OUT/masks/SPLIT` and `OUT/labels.json` are written to a temporary folder next to `OUT`, which
    is renamed at the end. Images are copied unchanged; masks are palette PNGs with void 255.

    Args:
        source: Folder of the export.
        out: Folder to create; it must not exist.
        format_name: A key of `FORMATS`; detected by default.
        val: Fraction of the images for validation if the export has no validation split; 0 makes none. 0.2 by default.
        seed: Seed of that choice; 0 by default.
        unlabelled: Treatment of pixels outside all outlines (COCO, YOLO, Labelme); background by default.
        progress: Called with (images written, total number of images) after each image.

    Raises:
        ValueError: If the export has no known format or is malformed, or `out` exists.
    """
    source, out = user_path(source), user_path(out)
    if not source.is_dir():
        raise ValueError(f"{source}: no such folder: give the unpacked export")
    if os.path.lexists(out):
        raise ValueError(f"{out}: already exists; give the name of a new folder")  # before time is spent on reading
    if val is not None and not 0 <= val < 1:
        raise ValueError(f"--val {val}: give a share of the images of at least 0 and below 1")
    name = format_name or recognise(source)
    if name not in FORMATS:
        raise ValueError(f"--format {name}: known formats are {', '.join(FORMATS)}")
    if unlabelled is not None and not FORMATS[name].labels_objects:
        raise ValueError(f"--unlabelled: the masks of {name} label every pixel: leave the option out")
    unlabelled = unlabelled or "background"
    export = FORMATS[name].read(source, unlabelled)
    if not export.images:
        raise ValueError(f"{source}: no image with labels found; format {name} is {FORMATS[name].sign}")
    images, split_notes = _with_splits(export.images, val, seed)
    _refuse_names(images)
    with whole_folder(out) as temporary:
        left_out = _write(replace(export, images=images), temporary, unlabelled, progress)
    notes = [*export.notes, *split_notes]
    if left_out:
        first = images[left_out[0]].name
        notes.append(f"{len(left_out)} images without any labelled pixel were left out, such as {first}")
    kept = Counter(str(image.split) for image in images) - Counter(str(images[index].split) for index in left_out)
    return Imported(out, name, dict(sorted(kept.items())), tuple(notes))


def _with_splits(images: Sequence[Annotated], val: float | None, seed: int | None) -> tuple[list[Annotated], list[str]]:
    """Keep the splits of the export; make a validation split if there is none."""
    notes = []
    splits = {image.split for image in images}
    if None in splits and len(splits) > 1:
        strays = sum(image.split is None for image in images)
        notes.append(f"{strays} images belong to no split of the export: they were put into train")
    images = [replace(image, split=image.split or "train") for image in images]
    if "val" in splits:
        if val is not None or seed is not None:
            raise ValueError("--val and --seed make a validation split, but the export has one: leave them out")
        return images, notes
    share = VAL_SHARE if val is None else val
    candidates = [image.name for image in images if image.split == "train"]
    if share == 0 or len(candidates) < 2:
        return images, [*notes, "no validation split was made"]
    chosen, groups = choose_validation(candidates, share, seed or 0)
    by_group = f", whole groups of {groups} by their names" if groups < len(candidates) else ""
    notes.append(
        f"validation split made: {len(chosen)} of {len(candidates)} images at random (seed {seed or 0}{by_group})"
    )
    return [
        replace(image, split="val") if image.split == "train" and image.name in chosen else image for image in images
    ], notes


def _refuse_names(images: Sequence[Annotated]) -> None:
    """Reject names that point outside the data set, and duplicate names."""
    outside = [(image.origin, f"the image name {image.name!r} points outside the data set") for image in images]
    refuse_several([entry for entry, image in zip(outside, images, strict=True) if leads_out(image.name)], "rename it")
    seen: dict[tuple[str | None, str], Annotated] = {}
    for image in images:
        other = seen.setdefault((image.split, image.name), image)
        if other is not image:
            where = f"{image.origin} and {other.origin}"
            raise ValueError(f"{where}: two images would be called {image.split}/{image.name}: rename one of them")


def _write(
    export: Export, folder: Path, unlabelled: Unlabelled, progress: Callable[[int, int], None] | None
) -> list[int]:
    """Write the data set; return the indices of images that were left out because they have no labels."""
    palette = voc_palette() if export.palette is None else export.palette
    work = partial(_write_one, export.images, folder, palette.tobytes(), unlabelled)
    number = len(export.images)
    processes = min(os.cpu_count() or 1, number // _IMAGES_PER_PROCESS)
    left_out = []
    for done, empty in enumerate(map_in_processes(work, range(number), processes=processes), start=1):
        if empty:
            left_out.append(done - 1)
        if progress is not None:
            progress(done, number)
    if len(left_out) == number:
        raise ValueError("no image has a labelled pixel: use --unlabelled background, or label the images")
    content: dict[str, Any] = {"classes": list(export.class_names), "void": IGNORE_INDEX}
    if export.palette is not None:
        content["palette"] = palette[: len(export.class_names)].tolist()
    write_json(folder / "labels.json", content)
    return left_out


def _write_one(images: Sequence[Annotated], folder: Path, palette: bytes, unlabelled: Unlabelled, index: int) -> bool:
    """Write one image and its mask; returns whether it was left out."""
    image = images[index]
    embedded = None if isinstance(image.image, Path) else image.image()
    suffix, sizes = _inspect(image, embedded)
    mask = image.paint(sizes[0])
    if mask.shape not in sizes:
        shown = " or ".join(f"{width}x{height}" for height, width in dict.fromkeys(sizes))
        raise ValueError(
            f"{image.origin}: labels of an image of {mask.shape[1]}x{mask.shape[0]}, but {_name(image)} is {shown} "
            "(width x height): export the labels for this image"
        )
    if unlabelled == "void" and (mask == IGNORE_INDEX).all():
        return True
    place = folder / "images" / str(image.split) / f"{image.name}{suffix}"
    place.parent.mkdir(parents=True, exist_ok=True)
    if embedded is None:
        shutil.copyfile(image.image, place)  # type: ignore[arg-type]
    else:
        place.write_bytes(embedded)
    target = folder / "masks" / str(image.split) / f"{image.name}.png"
    target.parent.mkdir(parents=True, exist_ok=True)
    picture = Image.fromarray(np.ascontiguousarray(mask))
    picture.putpalette(palette)
    picture.save(target, format="PNG")
    return False


def _name(image: Annotated) -> str:
    return image.image.name if isinstance(image.image, Path) else "its embedded image"


def _inspect(image: Annotated, embedded: bytes | None) -> tuple[str, tuple[Size, Size]]:
    """The file type of an image, and its (height, width) as viewers show it and as stored."""
    if embedded is None:
        path = image.image
        assert isinstance(path, Path)
        with opened(path, "image") as picture:
            width, height = picture.size
            turned = orientation(picture) >= 5
        suffix = path.suffix.lower()
        if suffix not in IMAGE_SUFFIXES:
            raise ValueError(
                f"{path}: images of type {suffix} are not supported: save it as one of {', '.join(IMAGE_SUFFIXES)}"
            )
    else:
        try:
            with Image.open(io.BytesIO(embedded), formats=list(_TYPES)) as content:
                width, height = content.size
                turned, suffix = orientation(content) >= 5, _TYPES[str(content.format)]
        except Exception as error:  # Pillow raises whatever the broken bytes lead it to
            raise ValueError(f"{image.origin}: its embedded image cannot be read: save the annotation again") from error
    stored = (height, width)
    return suffix, ((width, height) if turned else stored, stored)
