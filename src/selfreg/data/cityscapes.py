"""Cityscapes with the 19 classes of its benchmark."""

from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from selfreg.data.labels import IGNORE_INDEX, INVALID, Labels, full_palette
from selfreg.data.masks import read_mask
from selfreg.data.pairs import FilePairs, first_folder, list_pairs
from selfreg.input_files import user_path

# labelId on disk, name, colour; the order is that of the trainIds
_CLASSES = (
    (7, "road", (128, 64, 128)),
    (8, "sidewalk", (244, 35, 232)),
    (11, "building", (70, 70, 70)),
    (12, "wall", (102, 102, 156)),
    (13, "fence", (190, 153, 153)),
    (17, "pole", (153, 153, 153)),
    (19, "traffic light", (250, 170, 30)),
    (20, "traffic sign", (220, 220, 0)),
    (21, "vegetation", (107, 142, 35)),
    (22, "terrain", (152, 251, 152)),
    (23, "sky", (70, 130, 180)),
    (24, "person", (220, 20, 60)),
    (25, "rider", (255, 0, 0)),
    (26, "car", (0, 0, 142)),
    (27, "truck", (0, 0, 70)),
    (28, "bus", (0, 60, 100)),
    (31, "train", (0, 80, 100)),
    (32, "motorcycle", (0, 0, 230)),
    (33, "bicycle", (119, 11, 32)),
)
_NUM_LABEL_IDS = 34

CITYSCAPES_LABELS = Labels(tuple(row[1] for row in _CLASSES), 255, full_palette([row[2] for row in _CLASSES]))
"""The 19 classes that Cityscapes evaluates, in the order of their trainIds."""


def label_id_table() -> NDArray[np.uint8]:
    """(256,) uint8: Cityscapes labelId to trainId; labelIds that are not evaluated become 255."""
    table = np.full(256, INVALID, dtype=np.uint8)
    table[:_NUM_LABEL_IDS] = IGNORE_INDEX
    table[255] = IGNORE_INDEX  # the licence plate's -1, as some tools write it
    for train_id, (label_id, _, _) in enumerate(_CLASSES):
        table[label_id] = train_id
    return table


def label_ids() -> dict[str, int]:
    """The labelId of each of the 19 classes by name: the inverse of `label_id_table`."""
    return {name: label_id for label_id, name, _ in _CLASSES}


def cityscapes(root: str | Path, split: str, *, must_exist: bool = True) -> FilePairs:
    """Cityscapes, fine annotations, as unpacked from its two archives.

    Layout: `leftImg8bit/SPLIT/CITY/ID_leftImg8bit.png` and `gtFine/SPLIT/CITY/ID_gtFine_labelIds.png`. The masks on
    disk hold labelIds (0..33), in memory they hold trainIds (0..18, void 255).

    Args:
        root: The folder with `leftImg8bit` and `gtFine`.
        split: "train" (2,975 images), "val" (500) or "test" (its masks are void).
        must_exist: Refuse missing masks now.

    Raises:
        ValueError: If a folder is missing or empty, two images have one id, or masks are missing.
    """
    root = user_path(root)
    images = first_folder([root / "leftImg8bit" / split], f"the images of Cityscapes {split}")

    masks = root / "gtFine" / split

    def mask_of(image: Path) -> Path:
        name = image.name.removesuffix("_leftImg8bit.png")
        return masks / image.parent.name / f"{name}_gtFine_labelIds.png"

    files, unread = list_pairs(
        images,
        mask_of,
        masks,
        suffix=".png",
        ending="_leftImg8bit",
        mask_ending="_gtFine_labelIds",
        folders=True,
    )
    decode = partial(read_mask, labels=CITYSCAPES_LABELS, table=label_id_table())
    return FilePairs(CITYSCAPES_LABELS, files, decode, where=images, unread=unread, must_exist=must_exist)
