"""Digests of the data of a try, by which a later command notices that they have changed."""

import hashlib
from collections.abc import Iterable, Iterator
from pathlib import Path

from selfreg.data.kinds import open_source
from selfreg.data.label_files import LABEL_FILES
from selfreg.data.source import HasFiles
from selfreg.importing.items import find_files
from selfreg.seals import digest_of_file
from selfreg.trial.data import Place, find_pair_of_splits

_DESCRIPTIONS = (*LABEL_FILES, "annotations/*.json")
"""Files that hold the classes, or the outlines from which masks are drawn."""


def digest_of_export(export: Path, folder: Path) -> str:
    """SHA-256 of the names and contents of the files of an export, without those in the output folder `folder`."""
    inside = folder.resolve()
    found = (path for path in find_files(export.resolve()) if not path.is_relative_to(inside))
    return _digest((str(path), path) for path in found)


def digest_of_data(place: Place) -> str:
    """SHA-256 of the images, masks and classes of the training and the validation split.

    Raises:
        ValueError: If a split cannot be opened.
    """
    return _digest(_parts(place))


def _parts(place: Place) -> Iterator[tuple[str, Path | None]]:
    yield f"{place.kind} {sorted(place.options.items())}", None
    if place.root is not None:
        for pattern in _DESCRIPTIONS:
            yield from ((path.name, path) for path in sorted(place.root.glob(pattern)))
    for split in find_pair_of_splits(place):
        source = open_source(place.kind, place.root, split, **place.options)
        yield f"{split} {source.labels.class_names}", None
        if isinstance(source, HasFiles):
            for index, image_id in enumerate(source.ids):
                yield from ((f"{split}/{image_id}", path) for path in source.files(index))


def _digest(parts: Iterable[tuple[str, Path | None]]) -> str:
    code = hashlib.sha256()
    for name, path in parts:
        content = "" if path is None else digest_of_file(path)
        code.update(f"{name} {content}\n".encode("utf-8", "surrogatepass"))
    return code.hexdigest()
