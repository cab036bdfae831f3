"""Which photographs `selfreg predict` reads, and the names of what it writes. Loads no torch."""

from collections.abc import Sequence
from pathlib import Path, PurePath

IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".tif", ".tiff", ".webp")


def find_images(path: Path, *, leave_out: Path | None = None) -> list[Path]:
    """List the photographs in a folder and the folders below it, sorted by path; hidden files are left out.

    Args:
        path: A photograph, which is returned alone, or a folder.
        leave_out: A folder below `path` that is not searched: the one that predictions are written to.

    Raises:
        ValueError: If there are none, or two of them would be written under one name (`a.jpg` and `a.png`).
    """
    if path.is_file():
        return [path]
    if not path.is_dir():
        raise ValueError(f"{path}: no such file or folder")
    images = []
    for entry in sorted(path.rglob("*")):
        hidden = any(part.startswith(".") for part in entry.relative_to(path).parts)
        if entry.suffix.lower() not in IMAGE_SUFFIXES or hidden or entry.is_dir():
            continue
        if leave_out is not None and leave_out != path and leave_out in entry.parents:
            continue
        images.append(entry)
    if not images:
        raise ValueError(f"{path}: holds no image ({', '.join(IMAGE_SUFFIXES)})")
    output_names(images, path)
    return images


def output_names(images: Sequence[Path], root: Path | None = None) -> list[str]:
    """The names of the predictions, without suffix: paths below `root`, or the names of the files.

    Raises:
        ValueError: If two photographs would be written under one name.
    """
    names = [_name_below(image, root) for image in images]
    seen: dict[str, Path] = {}
    for name, image in zip(names, images, strict=True):
        if name in seen:
            raise ValueError(f"{image}: would be written under the name of {seen[name].name}; rename one of them")
        seen[name] = image
    return names


def refuse_overwriting(images: Sequence[Path], outputs: Sequence[Path]) -> None:
    """Raise ValueError if a prediction would take the place of a photograph."""
    photographs = {image.absolute() for image in images}
    for output in outputs:
        if output.absolute() in photographs:
            raise ValueError(f"{output}: the prediction would replace this photograph; choose another --out")


def share_of(text: str) -> slice:
    """The part `I/N` of a list that N commands share, I counted from 1: every Nth item from the Ith on.

    Raises:
        ValueError: If the text has another form, or I is not in 1..N.
    """
    try:
        number, parts = (int(word) for word in text.split("/"))
    except ValueError:
        raise ValueError(f"--shard {text}: write it as I/N, e.g. 1/4") from None
    if not 1 <= number <= parts:
        raise ValueError(f"--shard {text}: I is one of 1..N")
    return slice(number - 1, None, parts)


def _name_below(image: Path, root: Path | None) -> str:
    if root is None or not image.is_relative_to(root) or image == root:
        return image.stem
    return PurePath(image.relative_to(root)).with_suffix("").as_posix()
