"""The scores of a study's runs, computed once and stored next to each run."""

import hashlib
import io

import numpy as np

from selfreg.data import Source, in_class_order
from selfreg.evaluation import resampled_scores
from selfreg.evaluation.scores import Floats
from selfreg.files import whole_file
from selfreg.inference.kept_maps import inputs_of, predict_source
from selfreg.inference.scoring import score_folder
from selfreg.input_files import SCORES_LIMIT, read_bytes
from selfreg.run import Run
from selfreg.seals import digest_of_array, is_sealed, seal
from selfreg.study.planned import PlannedRun

_SEAL_LENGTH = 64
# an .npz file is a ZIP archive, which ends with a comment and, before it, the comment's length in two bytes
_NO_COMMENT, _SEAL_COMMENT = (0).to_bytes(2, "little"), _SEAL_LENGTH.to_bytes(2, "little")


def kept_scores(planned: PlannedRun, run: Run, source: Source, data: str) -> dict[str, Floats]:
    """Return the resampled scores of a finished run, from `OUT/ARM/seed-S.npz` if that file is valid.

    The file contains a seal (see `selfreg.seals`) over the version, the weights, the configuration, the images, the
    masks and its own content. If the seal does not match, the run is predicted and scored again and the file is
    replaced.

    Args:
        planned: Where the scores are stored.
        run: The finished run.
        source: The validation split.
        data: `digest_of_source(source)`.

    Returns:
        Scores as from `resampled_scores`.
    """
    config = run.config()
    source = in_class_order(source, run.info().class_names, f"{run.folder}: the run")
    inputs = inputs_of(run, "last", config.validation)
    known = _read(planned, inputs, data)
    if known is not None:
        return known
    predictions = predict_source(run, source, config.data, config.data.val_split)
    scores = resampled_scores(score_folder(source, predictions, description=f"scoring {planned.name}"))
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **scores)  # type: ignore[arg-type]
    archive = buffer.getvalue()
    with whole_file(planned.scores_path) as temporary:
        temporary.write_bytes(archive[:-2] + _SEAL_COMMENT + seal(inputs, data, archive).encode())
    return scores


def digest_of_source(source: Source) -> str:
    """SHA-256 of the names, images, masks and classes of a split."""
    code = hashlib.sha256(repr(tuple(source.labels.class_names)).encode())
    for index, image_id in enumerate(source.ids):
        image, mask = source.read(index)
        code.update(f"{image_id} {digest_of_array(image)} {digest_of_array(mask)}\n".encode("utf-8", "surrogatepass"))
    return code.hexdigest()


def _read(planned: PlannedRun, inputs: str, data: str) -> dict[str, Floats] | None:
    if not planned.scores_path.is_file():
        return None
    content = read_bytes(planned.scores_path, SCORES_LIMIT)
    archive, found = content[: -_SEAL_LENGTH - 2] + _NO_COMMENT, content[-_SEAL_LENGTH:].decode("latin-1")
    # check the seal before anything is unpacked
    if not is_sealed(found, inputs, data, archive):
        return None
    with np.load(io.BytesIO(archive), allow_pickle=False) as file:
        return dict(file)
