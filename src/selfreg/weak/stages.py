"""Stages on disk: a folder for each, named by what it was made from, so that nothing is made twice or mixed up.

    DIR/stages/classifier-KEY/     one folder for each stage and for each way that it was made
    DIR/stages/STAGE-KEY/done      written when the stage is whole

KEY is a hash of everything that the stage depends on: its own options, the data, and the KEY of the stage before. A
changed option therefore makes new folders from its own stage on, and an option changed back finds the old ones.
"""

import hashlib
import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import track

from selfreg.files import remove_leftovers, write_text
from selfreg.weak.tagged import TaggedImages

# changed whenever what a stage writes changes its meaning
FORMAT = 1


@dataclass(frozen=True)
class Stage:
    """A stage of the pipeline in a folder of its own."""

    name: str
    key: str
    folder: Path

    @property
    def done(self) -> bool:
        """Whether the stage is whole."""
        return (self.folder / "done").exists()

    def finish(self) -> None:
        """Note that the stage is whole."""
        write_text(self.folder / "done", f"{self.name} {self.key}\n")

    def path(self, name: str) -> Path:
        """A file of the stage."""
        return self.folder / name

    def for_each(self, ids: Iterable[str], suffix: str, make: Callable[[int, Path], None]) -> None:
        """Call `make(index, path)` for every image whose file `ID + suffix` is not there yet, with a progress bar.

        `make` must write its file whole or not at all, so that a stage killed at any moment goes on where it stood.
        """
        if self.done:
            return
        remove_leftovers(self.folder)
        todo = [(index, path) for index, path in self._paths(ids, suffix) if not path.exists()]
        for index, path in track(todo, self.name, console=Console(stderr=True), transient=True):
            make(index, path)
        self.finish()

    def _paths(self, ids: Iterable[str], suffix: str) -> list[tuple[int, Path]]:
        return [(index, self.folder / f"{image_id}{suffix}") for index, image_id in enumerate(ids)]


def make_stage(root: Path, name: str, *depends_on: Any) -> Stage:
    """The stage `name` under `root`, made from what `depends_on` (JSON-like) says."""
    key = key_of(name, *depends_on)
    return Stage(name, key, root / "stages" / f"{name}-{key}")


def key_of(*parts: Any) -> str:
    """Twelve hexadecimal digits that stand for JSON-like values."""
    text = json.dumps([FORMAT, *parts], sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def data_key(tagged: TaggedImages) -> str:
    """A key of the images and tags: names, tags and file sizes, so that a folder may be moved but not changed."""
    source: Any = tagged.source
    sizes = [source.files(index).image.stat().st_size for index in range(len(tagged))]
    tags = [tagged.classes_of(index) for index in range(len(tagged))]
    return key_of(tagged.labels.class_names, list(zip(tagged.ids, sizes, tags, strict=True)))
