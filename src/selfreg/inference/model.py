"""A trained network that is ready to predict: of a run, or of an exported ONNX file."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from selfreg.data import ImageFormat, read_image
from selfreg.data.reading import RGB
from selfreg.inference.onnx_network import OnnxNetwork
from selfreg.inference.predictor import Predictor, predictor_of
from selfreg.opening import image_format
from selfreg.report.pictures import colourise, overlay
from selfreg.run import Run, Weights


@dataclass(frozen=True)
class Model:
    """A trained network with its class names, palette and preprocessing; `selfreg.load` gives it.

    Attributes:
        predictor: The network with its preprocessing.
        class_names: One name per class, by index.
        palette: (256, 3) uint8 RGB, the colour of each index.
        run: The run that it comes from, or None for an ONNX file.
        image_format: Bands and range of the images.

    Examples:
        >>> model = selfreg.load("runs/camvid")                     # doctest: +SKIP
        >>> mask = model.predict("photo.jpg")                       # doctest: +SKIP
        >>> model.class_names[mask[100, 200]]                       # doctest: +SKIP
        'road'
    """

    predictor: Predictor
    class_names: tuple[str, ...]
    palette: NDArray[np.uint8]
    run: Run | None = None
    image_format: ImageFormat = RGB

    def predict(self, image: Any) -> NDArray[np.uint8]:
        """The class map of one image.

        Args:
            image: A path, a PIL image, or an RGB array (H, W, 3) uint8.

        Returns:
            (H, W) uint8 class indices, of the size of the image.

        Raises:
            ValueError: If the file cannot be read, or the array has another shape or type.
        """
        return self.predictor(self._pixels(image))

    def probabilities(self, image: Any) -> NDArray[np.float16]:
        """The class probabilities (K, H, W) float16 of one image; see `predict`."""
        return self.predictor.classes_and_probabilities(self._pixels(image))[1]

    def picture(self, mask: NDArray[np.uint8], image: Any = None) -> Image.Image:
        """Show a class map in the colours of the classes, blended over `image` if it is given."""
        if image is None:
            return Image.fromarray(colourise(mask, self.palette))
        return Image.fromarray(overlay(self.image_format.to_rgb(self._pixels(image)), mask, self.palette, alpha=0.45))

    def _pixels(self, image: Any) -> NDArray[Any]:
        if isinstance(image, str | Path):
            return read_image(Path(image), self.image_format)
        if isinstance(image, Image.Image):
            image = np.array(image.convert("RGB"))
        pixels, bands = np.asarray(image), self.image_format.bands
        if pixels.dtype not in (np.uint8, np.uint16) or pixels.ndim != 3 or pixels.shape[2] != bands:
            raise ValueError(
                f"the image is {pixels.dtype} {pixels.shape}; give (H, W, {bands}) uint8, a PIL image or a path"
            )
        return pixels

    def __repr__(self) -> str:
        origin = "an ONNX file" if self.run is None else str(self.run.folder)
        return f"Model({origin}, classes: {', '.join(self.class_names)})"


def load(
    path: str | Path,
    *,
    weights: Weights = "last",
    scales: Sequence[float] = (1.0,),
    flip: bool = False,
    tile: int | None = None,
    allow_code: bool = False,
) -> Model:
    """Load a trained network for prediction.

    Args:
        path: Folder of a run, or an ONNX file that `selfreg export` wrote.
        weights: Weights of the "last" or the "best" epoch of a run.
        scales: Zooms over which the softmax is averaged.
        flip: Average over the mirror image too.
        tile: Predict larger images in windows of this side, in pixels, to bound memory.
        allow_code: Let a run whose network is `package.module:factory` import that code.

    Raises:
        ValueError: If there is no run, or its files cannot be read.
    """
    path, options = Path(path), {"scales": tuple(scales), "flip": flip, "tile": tile}
    if path.suffix.lower() == ".onnx":
        network = OnnxNetwork(path)
        info = network.metadata.info()
        predictor = Predictor(network, info.mean, info.std, short_side=network.metadata.short_side, **options)  # type: ignore[arg-type]
        return Model(predictor, info.class_names, info.palette_array(), image_format=_format_of(network))
    run = Run.open(path, allow_code=allow_code)
    info = run.info()
    predictor = predictor_of(run, weights, **options)
    return Model(predictor, info.class_names, info.palette_array(), run, image_format(run.config().data))


def _format_of(network: OnnxNetwork) -> ImageFormat:
    value_range = network.metadata.range
    pair = None if value_range is None else (value_range[0], value_range[-1])
    return ImageFormat(len(network.metadata.mean), pair)
