"""`selfreg evaluate --format cityscapes`: class maps as the benchmark's server expects them."""

import re
from collections.abc import Sequence
from functools import partial
from pathlib import Path, PurePosixPath

import numpy as np
from PIL import Image

from selfreg.config import check_overrides
from selfreg.data import Source
from selfreg.data.cityscapes import label_ids
from selfreg.data.source import HasFiles
from selfreg.files import output_folder, whole_file
from selfreg.inference.evaluate import effective_keys
from selfreg.inference.photographs import refuse_overwriting
from selfreg.inference.predict import image_of, progress_bar
from selfreg.inference.predictor import predictor_of
from selfreg.opening import image_format
from selfreg.run import Run, Weights

# the server finds the map of an image by CITY_SEQUENCE_FRAME at the beginning of the file name
_IMAGE_NAME = re.compile(r"[A-Za-z-]+_\d+_\d+")


def write_cityscapes_submission(
    folder: Path,
    out: Path,
    *,
    split: str | None = None,
    which: Weights = "last",
    overrides: Sequence[str] = (),
    allow_code: bool = False,
) -> int:
    """Predict a split and write `OUT/CITY_SEQUENCE_FRAME_gtFine_labelIds.png` for every image.

    The files are 8-bit grey PNGs of Cityscapes labelIds (7 for road, 33 for bicycle) in the size of the images. Masks
    are not read and need not exist, as for the split "test".

    Args:
        folder: Folder of the run, which must have the 19 classes of Cityscapes, in any order.
        out: Folder for the PNGs.
        split: Split to predict; the validation split of the run by default.
        which: Weights of the `last` or the `best` epoch.
        overrides: `section.key=value`, as for `evaluate_run`.
        allow_code: Let a run whose network is `package.module:factory` import that code.

    Returns:
        Number of files.

    Raises:
        ValueError: Before anything is predicted, if the run has other classes, an image is not named as in Cityscapes,
            two files would have one name, or a file would replace an image or mask of the data.
    """
    check_overrides(overrides, effective_keys(split), "evaluate")
    run = Run.open(folder, allow_code=allow_code)
    config, class_names, ids_by_name = run.config(overrides), run.info().class_names, label_ids()
    strange = sorted(set(class_names) ^ set(ids_by_name))
    if strange:
        raise ValueError(
            f"{folder}: --format cityscapes needs a run of the {len(ids_by_name)} classes of Cityscapes, by their "
            f"names; this one has {len(class_names)} classes, and {strange[0]!r} is not in both"
        )
    table = np.array([ids_by_name[name] for name in class_names], dtype=np.uint8)
    source = run.source(split or config.data.val_split, overrides, masks=False)
    paths = _paths(source, out)
    predictor = predictor_of(run, which, **config.validation.model_dump())
    read = partial(image_of, source, image_format(config.data))
    with output_folder(out):
        for index in progress_bar(range(len(source))):
            with whole_file(paths[index]) as temporary:
                Image.fromarray(table[predictor(read(index))]).save(temporary, format="PNG")
    return len(source)


def _paths(source: Source, out: Path) -> list[Path]:
    """The file of each image. Raises ValueError for names that the server would not find, and for collisions."""
    paths: dict[Path, str] = {}
    for image_id in source.ids:
        found = _IMAGE_NAME.match(PurePosixPath(image_id).name)
        if found is None:
            raise ValueError(
                f"--format cityscapes: the image {image_id!r} is not named CITY_SEQUENCE_FRAME, such as "
                "frankfurt_000000_000294; the server would not find its class map"
            )
        path = out / f"{found[0]}_gtFine_labelIds.png"
        if path in paths:
            raise ValueError(f"{path}: would be written for {paths[path]!r} and for {image_id!r}; rename one of them")
        paths[path] = image_id
    if isinstance(source, HasFiles):
        files = [file for index in range(len(source)) for file in source.files(index) if file is not None]
        refuse_overwriting(files, list(paths))
    return list(paths)
