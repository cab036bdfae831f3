"""PASCAL VOC 2012, optionally with the SBD annotations, image-level tags, or a folder of pseudo masks."""

import xml.etree.ElementTree as ElementTree
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from selfreg.data.labels import Labels, voc_palette
from selfreg.data.masks import check_values, read_mask
from selfreg.data.matlab import read_mat, whole_numbers
from selfreg.data.pairs import FilePairs, first_folder, read_list
from selfreg.data.source import Files
from selfreg.input_files import read_bytes, user_path

VOC_LABELS = Labels(
    (
        *("background", "aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow"),
        *("diningtable", "dog", "horse", "motorbike", "person", "pottedplant", "sheep", "sofa", "train", "tvmonitor"),
    ),
    255,
    voc_palette(),
)
"""The 21 classes of PASCAL VOC; void (255) is the contour between objects."""


def voc(
    root: str | Path,
    split: str,
    *,
    sbd: str | Path | None = None,
    masks: str | Path | None = None,
    tags_only: bool = False,
    must_exist: bool = True,
) -> FilePairs:
    """PASCAL VOC 2012 as unpacked from its archive, with image-level tags from its XML annotations.

    Layout: `VOC2012/JPEGImages/ID.jpg`, `SegmentationClass/ID.png` (palette, void 255), `Annotations/ID.xml`,
    `ImageSets/Segmentation/SPLIT.txt`; and of SBD, `dataset/cls/ID.mat`, `img/ID.jpg`, `train.txt`, `val.txt`.

    Args:
        root: `VOC2012`, or a folder that contains it or `VOCdevkit/VOC2012`.
        split: "train" (1,464 images), "val" (1,449), "trainval", or "trainaug" (10,582): the images of VOC train and
            of both lists of SBD, without those of VOC val. SBD's own "train" overlaps VOC val and is never used. If VOC
            has a mask for an image, it is preferred to SBD's.
        sbd: The folder `dataset` of SBD's archive; by default it is searched for next to VOC.
        masks: A folder of index PNGs `ID.png` that replace the official masks, such as pseudo masks.
        tags_only: Weak supervision: `read` returns masks that are void throughout.
        must_exist: Raise now if files are missing.

    Raises:
        ValueError: If a folder, list or file is missing, or the training list contains images of VOC val.
    """
    root = user_path(root)
    given = None if masks is None else user_path(masks)
    home = first_folder([root / "VOCdevkit/VOC2012", root / "VOC2012", root], "VOC2012")
    lists = home / "ImageSets/Segmentation"
    archive = find_sbd(root) if sbd is None else first_folder(_sbd_places(user_path(sbd)), "SBD")
    ids = _split_ids(lists, split, archive)
    by_sbd = set(ids) - set(read_list(lists / "train.txt")) if archive and split == "trainaug" else set()

    def files(image_id: str) -> Files:
        image = home / f"JPEGImages/{image_id}.jpg"
        if archive and image_id in by_sbd and not image.is_file() and (archive / f"img/{image_id}.jpg").is_file():
            image = archive / f"img/{image_id}.jpg"
        if tags_only:
            return Files(image, None)
        if given is not None:
            return Files(image, given / f"{image_id}.png")
        if archive and image_id in by_sbd:
            return Files(image, archive / f"cls/{image_id}.mat")
        return Files(image, home / f"SegmentationClass/{image_id}.png")

    return FilePairs(
        VOC_LABELS,
        {image_id: files(image_id) for image_id in ids},
        read_voc_mask,
        where=lists / f"{split}.txt",
        image_tags=partial(read_voc_tags, home / "Annotations"),
        must_exist=must_exist,
    )


def trainaug_ids(voc_train: list[str], voc_val: list[str], sbd_train: list[str], sbd_val: list[str]) -> list[str]:
    """The sorted ids of "trainaug": all images of VOC train or SBD, without those of VOC val."""
    return sorted((set(voc_train) | set(sbd_train) | set(sbd_val)) - set(voc_val))


def read_voc_mask(path: Path) -> NDArray[np.uint8]:
    """Read a VOC mask as (H, W) uint8 with void 255, from VOC's palette PNG or SBD's MATLAB file.

    Raises:
        ValueError: If the file is missing, unreadable, or contains values that are neither a class nor void.
    """
    if path.suffix != ".mat":
        return read_mask(path, VOC_LABELS)
    content = read_mat(path, "GTcls")
    if "Segmentation" not in (content.dtype.names or ()) or content.size != 1:
        raise ValueError(f"{path}: GTcls has no field Segmentation: give SBD's own files")
    values = whole_numbers(content["Segmentation"].reshape(1)[0], path)
    return check_values(values, VOC_LABELS.table(), path, VOC_LABELS)


def read_voc_tags(annotations: Path, image_id: str) -> list[int]:
    """Sorted indices of the classes of all objects in an image's XML annotation.

    Raises:
        ValueError: If the annotation is missing or not valid XML.
    """
    path = annotations / f"{image_id}.xml"
    try:
        names = {element.text for element in ElementTree.fromstring(read_bytes(path)).iterfind("object/name")}
    except (OSError, ValueError, ElementTree.ParseError) as error:
        raise ValueError(f"{path}: unreadable annotation ({error}): restore it from the archive") from error
    return [index for index, name in enumerate(VOC_LABELS.class_names) if name in names]


def _split_ids(lists: Path, split: str, sbd: Path | None) -> list[str]:
    if split == "trainaug" and not (lists / "trainaug.txt").is_file():
        if sbd is None:
            raise ValueError(f"{lists.parent.parent}: trainaug needs SBD: give its folder 'dataset' as sbd")
        official = [read_list(lists / f"{name}.txt") for name in ("train", "val")]
        added = [read_list(sbd / f"{name}.txt") for name in ("train", "val")]
        return trainaug_ids(*official, *added)
    ids = read_list(lists / f"{split}.txt")
    if split == "trainaug":
        shared = set(ids) & set(read_list(lists / "val.txt"))
        if shared:
            raise ValueError(
                f"{lists / 'trainaug.txt'}: contains '{min(shared)}' of val ({len(shared)} such): remove them"
            )
    return ids


def find_sbd(root: Path) -> Path | None:
    """SBD's folder with `cls` and the lists, if it lies next to VOC or in a parent folder; otherwise None."""
    bases = [root, *root.parents[:2]]
    places = [
        place for base in bases for name in ("benchmark_RELEASE", "SBD", "sbd") for place in _sbd_places(base / name)
    ]
    return next((place for place in places if (place / "cls").is_dir()), None)


def _sbd_places(base: Path) -> list[Path]:
    return [base / "benchmark_RELEASE/dataset", base / "dataset", base]
