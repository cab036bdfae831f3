"""`selfreg predict`: a photograph or a folder of them to index PNGs."""

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from rich.console import Console
from rich.progress import track

from selfreg.data import ImageFormat, read_image
from selfreg.data.pairs import leads_out
from selfreg.data.reading import RGB
from selfreg.files import whole_file
from selfreg.inference.predictor import Predictor, predictor_of
from selfreg.opening import image_format
from selfreg.report.pictures import overlay as blend
from selfreg.run import Run, Weights

IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".tif", ".tiff", ".webp")


def find_images(path: Path) -> list[Path]:
    """The photograph itself, or those directly in a folder, by name; hidden files are left out.

    Raises ValueError where there are none, or where two would be written under one name (a.jpg and a.png).
    """
    if path.is_file():
        return [path]
    if not path.is_dir():
        raise ValueError(f"{path}: no such file or folder")
    images = sorted(
        entry
        for entry in path.iterdir()
        if entry.suffix.lower() in IMAGE_SUFFIXES and entry.name[0] != "." and not entry.is_dir()
    )
    if not images:
        raise ValueError(f"{path}: holds no image ({', '.join(IMAGE_SUFFIXES)})")
    seen: dict[str, Path] = {}
    for image in images:
        if image.stem in seen:
            raise ValueError(f"{image}: would be written under the name of {seen[image.stem].name}; rename one of them")
        seen[image.stem] = image
    return images


def share_of(text: str) -> slice:
    """The part `I/N` of a list that N commands share out, I counted from 1: every Nth item from the Ith on.

    Raises ValueError for text of another form or I out of 1..N.
    """
    try:
        number, parts = (int(word) for word in text.split("/"))
    except ValueError:
        raise ValueError(f"--shard {text}: write it as I/N, e.g. 1/4") from None
    if not 1 <= number <= parts:
        raise ValueError(f"--shard {text}: I is one of 1..N")
    return slice(number - 1, None, parts)


def predict_images(
    predictor: Predictor,
    images: Sequence[Path],
    folder: Path,
    palette: NDArray[np.uint8],
    *,
    overlay: bool = False,
    image_format: ImageFormat = RGB,
    progress: Callable[[Sequence[Path]], Iterable[Path]] = lambda items: items,
) -> int:
    """Write `folder/NAME.png` for every image, and `folder/overlays/NAME.jpg` with `overlay`; return how many.

    Images are read as `image_format` says. A mask has the image's own size, 8-bit class indices and the palette
    (256, 3) of the data set. Files are written whole or not at all. Raises ValueError for an image that cannot be read;
    those before it are kept.
    """
    for path in progress(images):
        _predict_one(predictor, path, folder, palette, overlay, image_format)
    return len(images)


def _predict_one(
    predictor: Predictor,
    path: Path,
    folder: Path,
    palette: NDArray[np.uint8],
    overlay: bool,
    image_format: ImageFormat,
) -> None:
    # a function of its own, so that nothing of one image is held while the next is read
    image = read_image(path, image_format)
    classes = predictor(image)
    save_index_png(folder / f"{path.stem}.png", classes, palette)
    if overlay:
        with whole_file(folder / "overlays" / f"{path.stem}.jpg") as temporary:
            shown = image_format.to_rgb(image)
            blended = blend(shown, classes, palette, out=shown if shown.flags.writeable else None)
            Image.fromarray(blended).save(temporary, quality=92)


def prediction_path(folder: Path, image_id: str) -> Path:
    """Path of the class map of an image. Raises ValueError for an id that leads out of the folder."""
    if leads_out(image_id):
        raise ValueError(f"{folder}: the image id {image_id!r} leads out of this folder; rename the image")
    return folder / f"{image_id}.png"


def index_png(classes: NDArray[np.uint8], palette: NDArray[np.uint8]) -> Image.Image:
    """Class indices (H, W) uint8 as a palette picture."""
    picture = Image.fromarray(classes)
    picture.putpalette(palette.astype(np.uint8).tobytes())
    return picture


def save_index_png(path: Path, classes: NDArray[np.uint8], palette: NDArray[np.uint8]) -> None:
    """Write class indices (H, W) uint8 as a palette PNG, whole or not at all."""
    with whole_file(path) as temporary:
        index_png(classes, palette).save(temporary, format="PNG")


def predict_with_run(
    folder: Path,
    images: Path,
    out: Path,
    *,
    overlay: bool,
    which: Weights,
    scales: Sequence[float],
    flip: bool,
    tile: int | None,
    allow_code: bool = False,
    shard: str = "1/1",
) -> int:
    """Predict a photograph or a folder of them with a run's network; return how many masks were written.

    `shard` leaves all but a part of the folder to other processes (see `share_of`).
    """
    run = Run.open(folder, allow_code=allow_code)
    paths = find_images(images)[share_of(shard)]
    predictor = predictor_of(run, which, scales=scales, flip=flip, tile=tile)
    return predict_images(
        predictor,
        paths,
        out,
        run.info().palette_array(),
        overlay=overlay,
        image_format=image_format(run.config().data),
        progress=lambda items: track(items, description="predicting", console=Console(stderr=True), transient=True),
    )
