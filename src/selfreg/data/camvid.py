"""CamVid with 11 classes, in the layout of the SegNet tutorial."""

from functools import partial
from pathlib import Path

from selfreg.data.labels import Labels, full_palette
from selfreg.data.masks import read_mask
from selfreg.data.pairs import FilePairs, first_folder, list_pairs
from selfreg.input_files import user_path

_CLASSES = (
    ("sky", (128, 128, 128)),
    ("building", (128, 0, 0)),
    ("pole", (192, 192, 128)),
    ("road", (128, 64, 128)),
    ("pavement", (60, 40, 222)),
    ("tree", (128, 128, 0)),
    ("sign", (192, 128, 128)),
    ("fence", (64, 64, 128)),
    ("car", (64, 0, 128)),
    ("pedestrian", (64, 64, 0)),
    ("bicyclist", (0, 128, 192)),
)

CAMVID_LABELS = Labels(tuple(name for name, _ in _CLASSES), 11, full_palette([colour for _, colour in _CLASSES]))
"""The 11 classes of CamVid; void is 11 on disk."""


def camvid(root: str | Path, split: str, *, must_exist: bool = True) -> FilePairs:
    """CamVid as laid out for the SegNet tutorial.

    Layout: `SPLIT/ID.png` and `SPLITannot/ID.png` (class indices, void 11). CamVid with a `labels.json` is read by
    `Folder`.

    Args:
        root: The folder with `train`, `trainannot` and so on.
        split: "train" (367 images), "val" (101) or "test" (233).
        must_exist: Refuse missing masks now.

    Raises:
        ValueError: If the folder is missing or empty, two images have one id, or masks are missing.
    """
    root = user_path(root)
    images = first_folder([root / split], f"the images of CamVid {split}")
    masks = root / f"{split}annot"
    files, unread = list_pairs(images, lambda image: masks / f"{image.stem}.png", masks, suffix=".png")
    decode = partial(read_mask, labels=CAMVID_LABELS)
    return FilePairs(CAMVID_LABELS, files, decode, where=images, unread=unread, must_exist=must_exist)
