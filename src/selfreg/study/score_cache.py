"""The scores of a study's runs, measured once and kept beside each run."""

import hashlib
from importlib.metadata import version
from zipfile import BadZipFile

import numpy as np

from selfreg.data import Source
from selfreg.evaluation import resampled_scores
from selfreg.evaluation.scores import Floats
from selfreg.files import whole_file
from selfreg.inference.evaluate import predict_source
from selfreg.inference.scoring import score_folder
from selfreg.run import Run
from selfreg.study.runner import PlannedRun

_STAMP = "stamp"


def kept_scores(planned: PlannedRun, run: Run, source: Source) -> dict[str, Floats]:
    """What `resampled_scores` gives for a run that has ended, from `OUT/ARM/seed-S.npz` where it is there.

    The file is used only if it was made by this version from these weights and images; otherwise the run is predicted
    and scored, and the file written anew.
    """
    stamp = _stamp_of(run, source)
    known = _read(planned, stamp)
    if known is not None:
        return known
    data = run.config().data
    predictions = predict_source(run, source, data, data.val_split)
    scores = resampled_scores(score_folder(source, predictions, description=f"scoring {planned.name}"))
    with whole_file(planned.scores_path) as temporary:
        np.savez_compressed(temporary, **{_STAMP: np.array(stamp)}, **scores)  # type: ignore[arg-type]
    return scores


def _stamp_of(run: Run, source: Source) -> str:
    weights = hashlib.sha256(run.weights_path("last").read_bytes()).hexdigest()
    images = hashlib.sha256("\n".join(source.ids).encode()).hexdigest()
    return f"selfreg {version('selfreg')}, weights {weights}, images {images}"


def _read(planned: PlannedRun, stamp: str) -> dict[str, Floats] | None:
    try:
        with np.load(planned.scores_path, allow_pickle=False) as file:
            content = dict(file)
    except (OSError, ValueError, EOFError, BadZipFile):
        return None
    return content if str(content.pop(_STAMP, "")) == stamp else None
