"""Opening data sets by the kind that a configuration names."""

import difflib
import inspect
import reprlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

from selfreg.data.ade20k import ade20k
from selfreg.data.camvid import camvid
from selfreg.data.cityscapes import cityscapes
from selfreg.data.coco import Coco
from selfreg.data.folder import Folder
from selfreg.data.hints import known_layout, require_layout, require_split
from selfreg.data.pascal_context import pascal_context
from selfreg.data.scenes import Scenes
from selfreg.data.source import Source
from selfreg.data.voc import find_sbd, voc
from selfreg.files import check_split
from selfreg.input_files import user_path


def _open_scenes(
    _root: str | Path | None,
    split: str,
    length: int,
    size: tuple[int, int] = (128, 192),
    seed: int = 0,
    evaluation_length: int = 100,
) -> Source:
    # scenes cost nothing, so a short training can still be evaluated on many of them
    return Scenes(split, length if split == "train" else evaluation_length, (size[0], size[1]), seed)


KINDS: dict[str, Callable[..., Source]] = {
    "folder": Folder,
    "scenes": _open_scenes,
    "ade20k": ade20k,
    "camvid": camvid,
    "cityscapes": cityscapes,
    "coco": Coco,
    "pascal_context": pascal_context,
    "voc": voc,
}
"""Kind of data set to the callable (root, split, **options) that opens it."""

TAGGED_KINDS = ("folder", "voc", "coco")
"""The kinds with image-level tags that do not come from masks; they know the option `tags_only`."""


class DataOptionError(ValueError):
    """An error in the kind, root or options of a data set, not in the data."""


def open_source(kind: str, root: str | Path | None, split: str, **options: Any) -> Source:
    """Open a split of a data set.

    Args:
        kind: A key of `KINDS`.
        root: Folder of the data set; None if the kind needs none.
        split: Name of the split.
        **options: Options of the kind; see its class or function.

    Raises:
        DataOptionError: If the kind or an option is unknown, or the root is missing.
        ValueError: If the data set is invalid.
    """
    if kind not in KINDS:
        near = difflib.get_close_matches(kind, KINDS, n=1)
        hint = f"did you mean '{near[0]}'?" if near else f"known: {', '.join(KINDS)}"
        raise DataOptionError(f"data.kind '{kind}' is unknown: {hint}")
    if kind != "scenes" and root is None:
        raise DataOptionError("data.root is not set: give the folder of the data set: --set data.root=FOLDER")
    check_split(split)
    signature = inspect.signature(KINDS[kind])
    try:
        signature.bind(root, split, **options)
    except TypeError as error:
        known = [name for name in list(signature.parameters)[2:] if name not in ("must_exist", "image_format")]
        raise DataOptionError(f"data.options: {error}: {kind} knows {', '.join(known) or 'none'}") from None
    try:
        return KINDS[kind](root, split, **options)
    except TypeError as error:
        raise DataOptionError(
            f"data.options: a value of the wrong type ({error}) in {reprlib.repr(options)}"
        ) from error


def guess_kind(root: str | Path) -> str:
    """Detect the kind of the data set in a folder by the names in it.

    Raises:
        ValueError: If the folder is missing or has none of the known layouts.
    """
    root = user_path(root)
    kind = known_layout(root)
    if kind is None:
        require_layout(root)
    return kind or "folder"


def find_splits(kind: str, root: str | Path | None) -> list[str]:
    """List the splits of a data set on disk, training splits first; "test" is omitted if it has no labels.

    Raises:
        ValueError: If there is none.
    """
    base = user_path(root or ".")
    found = {
        "folder": [path.name for path in base.glob("images/*") if path.is_dir() and not path.name.startswith(".")],
        "camvid": [path.name.removesuffix("annot") for path in base.glob("*annot")],
        "cityscapes": [path.name for path in base.glob("leftImg8bit/*") if path.name != "test"],
        "coco": [path.stem.removeprefix("instances_")[:-4] for path in base.glob("annotations/instances_*2014.json")],
        "voc": ["trainaug" if find_sbd(base) else "train", "val"],
    }.get(kind, ["train", "val"])
    if not found:
        if kind == "folder":
            require_layout(base)
            require_split(base / "images" / "train")
        raise ValueError(f"{base}: no split of a {kind} data set found: check the root folder")
    return sorted(found, key=lambda split: (not split.startswith("train"), split))
