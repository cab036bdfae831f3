"""Any data set by its kind, as a configuration names it."""

import difflib
import inspect
from collections.abc import Callable
from pathlib import Path
from typing import Any

from selfreg.data.folder import Folder
from selfreg.data.source import Source


def _open_scenes(_root: Path | None, split: str, **options: Any) -> Source:
    from selfreg.data.scenes import Scenes

    return Scenes(split, **options)


KINDS: dict[str, Callable[..., Source]] = {"folder": Folder, "scenes": _open_scenes}
"""Kind of data set to the callable (root, split, **options) that opens it."""


def open_source(kind: str, root: Path | None, split: str, **options: Any) -> Source:
    """Opens a split of a data set.

    Args:
        kind: a key of `KINDS`.
        root: its folder; None where it needs none.
        split: name of the split.
        options: of that kind; see its class.

    Raises:
        ValueError: an unknown kind (the nearest is named), a missing root, or an option that the kind does not have.
    """
    if kind not in KINDS:
        near = difflib.get_close_matches(kind, KINDS, n=1)
        hint = f"; did you mean {near[0]!r}?" if near else f"; known: {', '.join(KINDS)}"
        raise ValueError(f"data.kind {kind!r} is unknown{hint}")
    if kind != "scenes" and root is None:
        raise ValueError("data.root is not set: give the folder of the data set: --set data.root=FOLDER")
    try:
        return KINDS[kind](root, split, **options)
    except TypeError as error:
        known = [name for name in inspect.signature(KINDS[kind]).parameters if name not in ("root", "split")]
        raise ValueError(f"data.options: {error}; {kind} knows {', '.join(known) or 'none'}") from None
