"""Stages on disk: one folder each, named by a hash of everything that the stage depends on.

    DIR/stages/classifier-KEY/     one folder for each stage and for each way that it was made
    DIR/stages/STAGE-KEY/done      written when the stage is complete

KEY is a hash of the stage's options, the data, and the KEY of the stage before. A changed option therefore makes new
folders from its own stage on; an option that is changed back finds the old ones.
"""

import hashlib
import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from selfreg.files import remove_leftovers, write_text
from selfreg.input_files import WEIGHTS_LIMIT, check_archive, check_file
from selfreg.messages import one_line
from selfreg.seals import digest_of_file
from selfreg.terminal import progress_over
from selfreg.weak.tagged import TaggedImages

Result = TypeVar("Result")

# to be increased whenever the files of a stage change their meaning
FORMAT = 1


@dataclass(frozen=True)
class Stage:
    """A stage of the pipeline, in a folder of its own."""

    name: str
    key: str
    folder: Path

    @property
    def done(self) -> bool:
        """Whether the stage is complete."""
        return (self.folder / "done").exists()

    def finish(self) -> None:
        """Mark the stage as complete."""
        write_text(self.folder / "done", f"{self.name} {self.key}\n")

    def path(self, name: str) -> Path:
        """A file of the stage."""
        return self.folder / name

    def for_each(self, ids: Iterable[str], suffix: str, make: Callable[[int, Path], None]) -> None:
        """Call `make(index, path)` for every image whose file `ID + suffix` is missing, with a progress bar.

        `make` must write its file atomically, so that an interrupted stage can continue.
        """
        if self.done:
            return
        remove_leftovers(self.folder)
        todo = [(index, path) for index, path in self._paths(ids, suffix) if not path.exists()]
        for index, path in progress_over(todo, self.name):
            make(index, path)
        self.finish()

    def _paths(self, ids: Iterable[str], suffix: str) -> list[tuple[int, Path]]:
        return [(index, self.folder / f"{image_id}{suffix}") for index, image_id in enumerate(ids)]


def make_stage(root: Path, name: str, *depends_on: Any) -> Stage:
    """Return the stage `name` under `root`; `depends_on` are JSON-like values that determine its content."""
    key = key_of(name, *depends_on)
    return Stage(name, key, root / "stages" / f"{name}-{key}")


def restored(path: Path, restore: Callable[[dict[str, Any]], Result]) -> Result:
    """Read the state of a training in a stage and restore it.

    Args:
        path: The file.
        restore: Restores what the file holds; it may fail in any way for a file with other content.

    Raises:
        ValueError: If the file is damaged, or its content does not fit.
    """
    import torch  # slow to import, and most stages need no state

    try:
        check_file(path, WEIGHTS_LIMIT)
        check_archive(path)
        return restore(torch.load(path, map_location="cpu", weights_only=True))
    except Exception as error:
        reason = f"KeyError: {one_line(error)}" if isinstance(error, KeyError) else one_line(error, first=True)
        raise ValueError(f"{path}: cannot be read ({reason}): delete {path.parent} and start again") from None


def key_of(*parts: Any) -> str:
    """Return a hash of JSON-like values, twelve hexadecimal digits."""
    text = json.dumps([FORMAT, *parts], sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def data_key(tagged: TaggedImages) -> str:
    """A key of the images and tags: names, tags and contents, so that a folder may be moved but not changed."""
    source: Any = tagged.source
    contents = [digest_of_file(source.files(index).image) for index in range(len(tagged))]
    tags = [tagged.classes_of(index) for index in range(len(tagged))]
    return key_of(tagged.labels.class_names, list(zip(tagged.ids, contents, tags, strict=True)))
