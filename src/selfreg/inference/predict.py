"""`selfreg predict`: class maps of a photograph, of a folder of them, or of a split of a data set."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from selfreg.config import check_overrides
from selfreg.data import Source, read_image
from selfreg.data.reading import RGB, ImageFormat
from selfreg.data.source import HasFiles
from selfreg.files import leads_out, output_folder, whole_file
from selfreg.inference.model import Model
from selfreg.inference.overlays import write_overlay
from selfreg.inference.photographs import IMAGE_SUFFIXES, find_images, output_names, refuse_overwriting, share_of
from selfreg.inference.predictor import Predictor
from selfreg.terminal import progress_over

__all__ = ["IMAGE_SUFFIXES", "Outputs", "Predicted", "find_images", "predict_images", "predict_split", "share_of"]

Probabilities = Literal["npy", "png"]


@dataclass(frozen=True)
class Outputs:
    """What is written for every image, below one folder.

    `FOLDER/NAME.png` is always written: 8-bit class indices with the palette, in the size of the image.

    Attributes:
        folder: The folder.
        palette: (256, 3) uint8 RGB.
        class_names: Names for the legend of the overlays.
        overlay: Write `FOLDER/overlays/NAME.jpg` too.
        probabilities: Write `FOLDER/probabilities/NAME.npy`, (K, H, W) float16, or with "png" one grey 8-bit picture
            per class, `FOLDER/probabilities/NAME/000.png` and so on, 255 for a probability of 1.
        image_format: Bands and range of the images.
    """

    folder: Path
    palette: NDArray[np.uint8]
    class_names: Sequence[str] = ()
    overlay: bool = False
    probabilities: Probabilities | None = None
    image_format: ImageFormat = RGB

    def __post_init__(self) -> None:
        if self.probabilities not in (None, "npy", "png"):
            raise ValueError(f"--probabilities {self.probabilities}: use npy or png")

    def write(self, name: str, image: NDArray[Any], predictor: Predictor) -> None:
        """Predict one image and write its files."""
        with output_folder(self.folder):
            if self.probabilities is None:
                classes = predictor(image)
            else:
                classes, probabilities = predictor.classes_and_probabilities(image)
                self._write_probabilities(name, probabilities)
            save_index_png(prediction_path(self.folder, name), classes, self.palette)
            if self.overlay:
                shown = self.image_format.to_rgb(image)
                path = self.folder / "overlays" / f"{name}.jpg"
                write_overlay(path, shown, classes, self.palette, self.class_names)

    def _write_probabilities(self, name: str, probabilities: NDArray[np.float16]) -> None:
        folder = self.folder / "probabilities"
        if self.probabilities == "npy":
            with whole_file(folder / f"{name}.npy") as temporary:
                np.save(temporary, probabilities)
            return
        for index, plane in enumerate(probabilities):
            grey = Image.fromarray((plane.astype(np.float32) * 255).round().astype(np.uint8))
            with whole_file(folder / name / f"{index:03d}.png") as temporary:
                grey.save(temporary, format="PNG")


@dataclass
class Predicted:
    """How many images were predicted, and the messages for those that could not be read."""

    written: int = 0
    unreadable: list[str] = field(default_factory=list)


def predict_images(
    predictor: Predictor,
    images: Sequence[Path],
    folder: Path,
    palette: NDArray[np.uint8],
    *,
    root: Path | None = None,
    class_names: Sequence[str] = (),
    overlay: bool = False,
    probabilities: Probabilities | None = None,
    image_format: ImageFormat = RGB,
    skip_unreadable: bool = False,
    progress: Callable[[Sequence[Path]], Iterable[Path]] = lambda items: items,
) -> Predicted:
    """Predict photographs and write the class maps, each whole or not at all.

    Args:
        predictor: The network with its preprocessing.
        images: The photographs.
        folder: Where the class maps go; see `Outputs` for its layout.
        palette: (256, 3) uint8 RGB.
        root: Folder of the photographs: class maps keep the paths below it. Without it they keep the file names.
        class_names: Names for the legend of the overlays.
        overlay: Write blended pictures too.
        probabilities: Write class probabilities too, as "npy" or "png".
        image_format: Bands and range of the photographs.
        skip_unreadable: Go on after a photograph that cannot be read.
        progress: Wraps the list of photographs, for a progress bar.

    Returns:
        How many class maps were written, and what could not be read.

    Raises:
        ValueError: Before anything is written, if two photographs would be written under one name or a class map would
            replace a photograph; and for a photograph that cannot be read, unless `skip_unreadable` is set.
    """
    outputs = Outputs(folder, palette, class_names, overlay, probabilities, image_format)
    names = dict(zip(images, output_names(images, root), strict=True))
    refuse_overwriting(images, [prediction_path(folder, name) for name in names.values()])
    result = Predicted()
    for path in progress(images):
        # a function of its own, so that nothing of one image is held while the next is read
        read = partial(read_image, path, image_format)
        _predict_one(predictor, names[path], read, outputs, result, skip_unreadable)
    return result


def predict_split(predictor: Predictor, source: Source, outputs: Outputs, share: slice = slice(None)) -> Predicted:
    """Predict the images of a split, under their ids; masks are not read, and need not exist.

    Images that cannot be read are skipped; see `Predicted`.
    """
    result = Predicted()
    for index in progress_bar(range(len(source))[share]):
        _predict_one(
            predictor, source.ids[index], partial(image_of, source, outputs.image_format, index), outputs, result, True
        )
    return result


def image_of(source: Source, image_format: ImageFormat, index: int) -> NDArray[Any]:
    """The image at `index` of a source, without its mask where it lies in a file of its own."""
    if isinstance(source, HasFiles):
        return read_image(source.files(index).image, image_format)
    return source.read(index).image


def _predict_one(
    predictor: Predictor,
    name: str,
    read: Callable[[], NDArray[Any]],
    outputs: Outputs,
    result: Predicted,
    skip_unreadable: bool,
) -> None:
    try:
        image = read()
    except ValueError as error:
        if not skip_unreadable:
            raise
        result.unreadable.append(str(error))
        return
    outputs.write(name, image, predictor)
    result.written += 1


def progress_bar(items: Sequence[Any]) -> Iterable[Any]:
    """A progress bar on the standard error."""
    return progress_over(items, "predicting")


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


def predict_with_model(
    model: Model,
    images: Path | None,
    out: Path,
    *,
    split: str | None = None,
    overlay: bool = False,
    probabilities: Probabilities | None = None,
    shard: str = "1/1",
    overrides: Sequence[str] = (),
) -> Predicted:
    """Predict a photograph, a folder of them, or a split of the run's data.

    Args:
        model: The trained network.
        images: A photograph or a folder, searched with the folders below it; None with `split`.
        out: Where the class maps go; see `Outputs`.
        split: A split of the data that the run was trained on; masks need not exist.
        overlay: Write blended pictures too.
        probabilities: Write class probabilities too, as "npy" or "png".
        shard: The part `I/N` of the images; the rest is left to other processes.
        overrides: `section.key=value` for the data of the split.

    Returns:
        How many class maps were written, and what could not be read. A single photograph that cannot be read is an
        error, and one of many is skipped.

    Raises:
        ValueError: If neither or both of `images` and `split` are given, or as `predict_images`.
    """
    outputs = Outputs(out, model.palette, model.class_names, overlay, probabilities, model.image_format)
    if (images is None) == (split is None):
        raise ValueError("give photographs, or --split with the name of a split of the run's data")
    if split is not None:
        if model.run is None:
            raise ValueError("--split needs a run; an ONNX file names no data")
        check_overrides(overrides, ("data.kind", "data.root", "data.options"), "predict")
        source = model.run.source(split, overrides, masks=False)
        refuse_repeated_ids(source)
        return predict_split(model.predictor, source, outputs, share_of(shard))
    if overrides:
        raise ValueError(f"--set {overrides[0]}: has no effect without --split")
    assert images is not None
    found = find_images(images, leave_out=out)
    return predict_images(
        model.predictor,
        found[share_of(shard)],
        out,
        model.palette,
        root=images if images.is_dir() else None,
        class_names=model.class_names,
        overlay=overlay,
        probabilities=probabilities,
        image_format=model.image_format,
        skip_unreadable=images.is_dir(),
        progress=progress_bar,
    )


def refuse_repeated_ids(source: Source) -> None:
    """Raise ValueError if two images of a split have one id: they would share a prediction."""
    if len(set(source.ids)) == len(source):
        return
    seen: set[str] = set()
    for image_id in source.ids:
        if image_id in seen:
            raise ValueError(
                f"two images of the split have the id {image_id!r}, so they would share a prediction; "
                "rename one of them"
            )
        seen.add(image_id)
