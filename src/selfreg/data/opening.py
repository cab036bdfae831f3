"""Any data set by its kind, as a configuration names it."""

import difflib
import inspect
from collections.abc import Callable
from pathlib import Path
from typing import Any

from selfreg.data.ade20k import ade20k
from selfreg.data.camvid import camvid
from selfreg.data.cityscapes import cityscapes
from selfreg.data.coco import Coco
from selfreg.data.folder import Folder
from selfreg.data.pascal_context import pascal_context
from selfreg.data.scenes import Scenes
from selfreg.data.source import Source
from selfreg.data.voc import voc


def _open_scenes(
    _root: str | Path | None, split: str, length: int, size: tuple[int, int] = (128, 192), seed: int = 0
) -> Source:
    return Scenes(split, length, (size[0], size[1]), seed)


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


def open_source(kind: str, root: str | Path | None, split: str, **options: Any) -> Source:
    """Opens a split of a data set.

    Args:
        kind: a key of `KINDS`.
        root: its folder; None where it needs none.
        split: name of the split.
        options: of that kind; see its class or function.

    Raises:
        ValueError: an unknown kind (the nearest is named), a missing root, an option that the kind does not have, or
            whatever is wrong with the data set itself.
    """
    if kind not in KINDS:
        near = difflib.get_close_matches(kind, KINDS, n=1)
        hint = f"did you mean '{near[0]}'?" if near else f"known: {', '.join(KINDS)}"
        raise ValueError(f"data.kind '{kind}' is unknown: {hint}")
    if kind != "scenes" and root is None:
        raise ValueError("data.root is not set: give the folder of the data set: --set data.root=FOLDER")
    signature = inspect.signature(KINDS[kind])
    try:
        signature.bind(root, split, **options)
    except TypeError as error:
        known = [name for name in list(signature.parameters)[2:] if name != "must_exist"]
        raise ValueError(f"data.options: {error}: {kind} knows {', '.join(known) or 'none'}") from None
    return KINDS[kind](root, split, **options)
