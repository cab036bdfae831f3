"""Class maps of a split, kept in the folder of the run and computed again as soon as anything they depend on changes.

Every kept PNG carries a seal (see `selfreg.seals`) over the weights, the network's options, the preprocessing, the
prediction settings, the pixels of the photograph, and its own content. Replaced photographs, other weights, an edited
map, or a map that somebody else computed therefore do not count, whatever their names and times say.
"""

import importlib.util
import io
import json
import zlib
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from selfreg.config import DataConfig, ValidationConfig
from selfreg.data import Source
from selfreg.files import output_folder, whole_file, write_text
from selfreg.inference.predict import index_png, prediction_path, refuse_repeated_ids
from selfreg.inference.predictor import Predictor, predictor_of
from selfreg.input_files import PICTURE_LIMIT, read_bytes, read_text
from selfreg.networks import runs_own_code
from selfreg.run import Run, Weights
from selfreg.seals import digest_of_array, digest_of_file, is_sealed, seal
from selfreg.terminal import progress_over

_KEYWORD = b"selfreg seal\0"
_SEAL_LENGTH = 64
# length, type, content and checksum of a tEXt chunk; an IEND chunk ends every PNG
_CHUNK_LENGTH = 12 + len(_KEYWORD) + _SEAL_LENGTH
_END_LENGTH = 12


def predict_source(
    run: Run,
    source: Source,
    data: DataConfig,
    split: str,
    which: Weights = "last",
    share: slice = slice(None),
    settings: ValidationConfig | None = None,
) -> Path:
    """Predict a split into the folder of the run; kept class maps that are still right are not predicted again.

    Args:
        run: The run whose network predicts.
        source: The images.
        data: The configuration that `source` was opened from; it is written beside the class maps.
        split: Name of the split.
        which: Weights of the `last` or the `best` epoch.
        share: Which of the images, for several processes that share a split.
        settings: Scales, flips and tiles; the run's own (`validation`) by default.

    Returns:
        The folder of the index PNGs, named by the ids of the images.

    Raises:
        ValueError: If two images have one id, or an image or the weights cannot be read.
    """
    refuse_repeated_ids(source)
    folder = run.prediction_folder(split, which)
    settings = run.config().validation if settings is None else settings
    inputs = inputs_of(run, which, settings)
    palette = run.info().palette_array()
    predictor: Predictor | None = None
    indices = range(len(source))[share]
    with output_folder(run.folder):
        _note_data(run.predicted_data_path(split, which), data)
        for index in progress_over(indices, "predicting"):
            image, path = source.read(index).image, prediction_path(folder, source.ids[index])
            pixels = digest_of_array(image)
            if is_kept(path, inputs, pixels):
                continue
            if predictor is None:
                predictor = predictor_of(run, which, **settings.model_dump())
            _save_sealed(path, predictor(image), palette, inputs, pixels)
    return folder


def inputs_of(run: Run, which: Weights, settings: ValidationConfig) -> str:
    """Everything but the photograph that a class map of a run depends on, as text: the same text, the same maps."""
    config, info = run.config(), run.info()
    weights = run.weights_path(which)
    if not weights.is_file():
        raise ValueError(f"{weights}: no weights yet; train for at least one epoch")
    run.warn_unless_ended()
    content: dict[str, Any] = {
        "version": version("selfreg"),
        "weights": digest_of_file(weights),
        "network": config.network.model_dump(mode="json", exclude={"pretrained"}),
        "code": _digest_of_code(config.network.name),
        "classes": info.class_names,
        "mean": info.mean,
        "std": info.std,
        "short_side": config.data.short_side,
        "settings": settings.model_dump(mode="json"),
    }
    return json.dumps(content, sort_keys=True)


def data_settings(data: DataConfig) -> dict[str, Any]:
    """Identify the evaluated data set: kind, root and options."""
    root = None if data.root is None else str(data.root.resolve())
    return {"kind": data.kind, "root": root, "options": data.model_dump(mode="json")["options"]}


def _digest_of_code(network: str) -> str | None:
    """SHA-256 of the module of a network of the form `package.module:factory`; what it imports is not covered."""
    if not runs_own_code(network):
        return None
    try:
        found = importlib.util.find_spec(network.partition(":")[0])
    except (ImportError, ValueError, AttributeError):
        return None
    return digest_of_file(Path(found.origin)) if found and found.origin and Path(found.origin).is_file() else None


def _note_data(path: Path, data: DataConfig) -> None:
    text = json.dumps(data_settings(data), sort_keys=True) + "\n"
    if not path.exists() or read_text(path, errors="replace") != text:
        write_text(path, text)


def _save_sealed(path: Path, classes: NDArray[np.uint8], palette: NDArray[np.uint8], inputs: str, pixels: str) -> None:
    buffer = io.BytesIO()
    index_png(classes, palette).save(buffer, format="PNG")
    png = buffer.getvalue()
    text = b"tEXt" + _KEYWORD + seal(inputs, pixels, png).encode()
    chunk = (len(text) - 4).to_bytes(4, "big") + text + zlib.crc32(text).to_bytes(4, "big")
    with whole_file(path) as temporary:
        temporary.write_bytes(png[:-_END_LENGTH] + chunk + png[-_END_LENGTH:])


def is_kept(path: Path, inputs: str, pixels: str) -> bool:
    """Whether a class map was computed from these inputs (`inputs_of`) and the photograph with this digest."""
    if not path.is_file():
        return False
    content = read_bytes(path, PICTURE_LIMIT)
    begin, end = len(content) - _END_LENGTH - _CHUNK_LENGTH, len(content) - _END_LENGTH
    chunk = content[max(begin, 0) : end]
    if not chunk[4:].startswith(b"tEXt" + _KEYWORD):
        return False
    found = chunk[8 + len(_KEYWORD) : -4].decode("latin-1")
    return is_sealed(found, inputs, pixels, content[:begin] + content[end:])
