"""The last stage: masks with void where no class is certain, their confidences, and statistics.

    DIR/pseudo/ID.png        class indices with the data's palette, 255 where uncertain
    DIR/confidence/ID.png    8-bit grey, 255 for a confidence of 1
    DIR/pseudo.json          class names and statistics; written when all masks are there
    DIR/pseudo.key           what the masks were made from

`selfreg.data.PseudoLabels` reads this layout.
"""

from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from pydantic import TypeAdapter, ValidationError

from selfreg.config.weak import PseudoConfig
from selfreg.data import Labels, read_mask
from selfreg.data.pseudo_labels import CONFIDENCE_FOLDER, MASK_FOLDER, STATISTICS_FILE
from selfreg.files import leads_out, read_json, remove_file, remove_leftovers, whole_file, write_json, write_text
from selfreg.inference.predict import save_index_png
from selfreg.input_files import ANNOTATION_LIMIT, read_text
from selfreg.terminal import progress_over
from selfreg.weak.refine import ReadScores
from selfreg.weak.scores import VOID, class_map, confidence_map
from selfreg.weak.tagged import TaggedImages


@dataclass(frozen=True)
class MaskStatistics:
    """What the pseudo masks contain.

    Attributes:
        images: Number of masks.
        void_share: Share of void in all pixels, in [0, 1].
        pixel_share: Share of each class in the pixels that are not void.
        image_count: Number of images with each class.
        void_shares: Share of void by image id.
        lost_tags: By image id, the classes of the tags that have no pixel in the mask.
        class_names: Names of the classes, by the indices in the masks.
    """

    images: int
    void_share: float
    pixel_share: list[float]
    image_count: list[int]
    void_shares: dict[str, float]
    lost_tags: dict[str, list[str]]
    class_names: list[str] = field(default_factory=list)


def write_masks(root: Path, key: str, tagged: TaggedImages, scores: ReadScores, config: PseudoConfig) -> MaskStatistics:
    """Write the missing masks and confidences, and count what all of them contain.

    Masks that were made from something else are removed first.

    Raises:
        ValueError: If `DIR/pseudo` was not made by this command.
    """
    _clear_others(root, key, tagged)
    for folder in (root / MASK_FOLDER, root / CONFIDENCE_FOLDER):
        remove_leftovers(folder)
    todo = [index for index, image_id in enumerate(tagged.ids) if not mask_path(root, image_id).exists()]
    for index in progress_over(todo, "pseudo masks"):
        image_id = tagged.ids[index]
        of_image = scores(index)
        confidence = confidence_map(of_image)
        # the mask is written last: where it exists, the confidence does too
        save_grey(root / CONFIDENCE_FOLDER / f"{image_id}.png", (confidence * 255).round().astype(np.uint8))
        mask = uncertain_to_void(class_map(of_image), confidence, config.certain)
        save_index_png(mask_path(root, image_id), mask, tagged.labels.palette)
    report = root / STATISTICS_FILE
    # files of earlier versions lack the names of the classes
    if todo or not report.exists() or not _read_statistics(report).class_names:
        write_json(report, asdict(count_masks(root, tagged)))
    return _read_statistics(report)


def uncertain_to_void(mask: NDArray[np.uint8], confidence: NDArray[np.float32], certain: float) -> NDArray[np.uint8]:
    """Return the mask (H, W) with void where the confidence is below `certain`."""
    return np.where(confidence < certain, np.uint8(VOID), mask)


def mask_path(root: Path, image_id: str) -> Path:
    """Return the path of an image's pseudo mask."""
    return root / MASK_FOLDER / f"{image_id}.png"


def read_pseudo_mask(root: Path, image_id: str, labels: Labels) -> NDArray[np.uint8]:
    """Read a pseudo mask (H, W) uint8; 255 is uncertain, whatever the void of the data is."""
    return read_mask(mask_path(root, image_id), replace(labels, void=VOID))


def count_masks(root: Path, tagged: TaggedImages) -> MaskStatistics:
    """Read all masks and count what they contain."""
    pixels = np.zeros(256, dtype=np.int64)
    images = np.zeros(256, dtype=np.int64)
    void_shares: dict[str, float] = {}
    lost: dict[str, list[str]] = {}
    names = tagged.labels.class_names
    for index, image_id in enumerate(tagged.ids):
        counts = np.bincount(read_pseudo_mask(root, image_id, tagged.labels).ravel(), minlength=256)
        pixels += counts
        images += counts > 0
        void_shares[image_id] = float(counts[VOID] / counts.sum())
        missing = [names[class_index] for class_index in tagged.classes_of(index) if counts[class_index] == 0]
        if missing:
            lost[image_id] = missing
    valid = pixels[: len(names)]
    return MaskStatistics(
        len(tagged),
        float(pixels[VOID] / pixels.sum()),
        (valid / max(valid.sum(), 1)).tolist(),
        images[: len(names)].tolist(),
        void_shares,
        lost,
        list(names),
    )


def save_grey(path: Path, values: NDArray[np.uint8]) -> None:
    """Write (H, W) uint8 as a grey PNG, whole or not at all."""
    with whole_file(path) as temporary:
        Image.fromarray(values).save(temporary, format="PNG")


def _read_statistics(path: Path) -> MaskStatistics:
    content = read_json(path, ANNOTATION_LIMIT)
    try:
        return TypeAdapter(MaskStatistics).validate_python(content)
    except ValidationError as error:
        raise ValueError(f"{path}: {error.errors()[0]['msg']}; remove it, and start again") from None


def _clear_others(root: Path, key: str, tagged: TaggedImages) -> None:
    stamp = root / "pseudo.key"
    masks = root / MASK_FOLDER
    if not stamp.exists() and masks.exists():
        raise ValueError(f"{masks}: exists and was not made by this command; choose another --out")
    if stamp.exists() and read_text(stamp, errors="replace").strip() == key:
        return
    if stamp.exists():
        report = root / STATISTICS_FILE
        written = set(read_json(report, ANNOTATION_LIMIT).get("void_shares", ())) if report.exists() else set()
        for image_id in {name for name in written if not leads_out(name)} | set(tagged.ids):
            for folder in (masks, root / CONFIDENCE_FOLDER):
                remove_file(folder / f"{image_id}.png")
        remove_file(report)
    write_text(stamp, f"{key}\n")
