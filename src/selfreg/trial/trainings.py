"""The trainings of a try: ordinary runs in the folder of a study, trained in this process one after another."""

import time
from collections.abc import Callable, Mapping
from pathlib import Path

from selfreg.config import Config
from selfreg.data import Source
from selfreg.evaluation.scores import Floats
from selfreg.files import LockedError
from selfreg.run import Run
from selfreg.study.arms import StudyArm, load_arm
from selfreg.study.planned import PlannedRun
from selfreg.study.score_cache import digest_of_source, kept_scores
from selfreg.study.study import plan_run, write_configs
from selfreg.training import train
from selfreg.trial.looks import MOST_PAIRS

_SECONDS_BETWEEN_LINES = 10.0

PLAIN, BALANCED, FULL = "base", "balanced", "full"
ARMS = {
    PLAIN: StudyArm(PLAIN, ("method.arm=base",)),
    BALANCED: StudyArm(BALANCED, ("method.arm=base", "training.class_weights=balanced")),
    FULL: StudyArm(FULL, ("method.arm=full",)),
}
"""Arms of a try by name; the better one of the first two is the base."""

IN_WORDS = {PLAIN: "plain training", BALANCED: "plain training with class weights", FULL: "self-regulation"}
"""What each arm is called in sentences and above pictures."""


class StudyTrainings:
    """Trains and scores the arms of a try; implements `Trainings`.

    Args:
        folder: Folder of the try, which is that of a study.
        config_path: Configuration of the try.
        source: The validation split.
        tell: Called with lines for the user.

    Raises:
        ValueError: If a run in the folder was started with another configuration.
    """

    def __init__(self, folder: Path, config_path: Path, source: Source, tell: Callable[[str], None]) -> None:
        self.source = source
        self._tell = tell
        self._configs: dict[StudyArm, Config] = {arm: load_arm(config_path, (), arm) for arm in ARMS.values()}
        first = self._configs[ARMS[FULL]].seed
        self._planned = {
            arm: [plan_run(folder, arm, config, first + index) for index in range(MOST_PAIRS)]
            for arm, config in self._configs.items()
        }
        write_configs(self._planned, self._configs)
        self._told = 0.0
        self._digest = ""
        self._scores: dict[PlannedRun, dict[str, Floats]] = {}

    def run(self, arm: str, seed: int) -> PlannedRun:
        """The files of a training; `seed` is the index of its pair."""
        return self._planned[ARMS[arm]][seed]

    def finished(self, arm: str, seed: int) -> bool:
        """Whether a training has finished."""
        return self.run(arm, seed).finished

    def require_finished(self, base: str, pairs: int) -> None:
        """Raise ValueError if a training of the finished pairs was removed."""
        for seed in range(pairs):
            lost = [self.run(arm, seed).folder for arm in (base, FULL) if not self.finished(arm, seed)]
            if lost:
                raise ValueError(f"{lost[0]}: was removed or changed after the try had counted it; use another --out")

    def train(self, arm: str, seed: int) -> None:
        """Train an arm, or finish its training.

        Raises:
            ValueError: If another process has the run, or the data do not fit.
            OutOfTime: If the budget is spent before.
        """
        planned = self.run(arm, seed)
        if planned.finished:
            return
        held = planned.claim()
        if held is None:
            raise LockedError(f"{planned.folder}: another process is training here; wait for it")
        config = self._configs[ARMS[arm]].model_copy(update={"seed": planned.seed})
        with held:
            train(
                config,
                planned.folder,
                resume=True,
                allow_code=True,
                progress_bar=False,
                announce=lambda line: self._announce(f"{planned.name}: {line}"),
            )

    def _announce(self, line: str) -> None:
        """Tell a line of a training, but no more than one in `_SECONDS_BETWEEN_LINES`."""
        if time.monotonic() - self._told >= _SECONDS_BETWEEN_LINES:
            self._told = time.monotonic()
            self._tell(line)

    def scores(self, arm: str, seed: int) -> Mapping[str, Floats]:
        """The scores of a finished training, computed once."""
        planned = self.run(arm, seed)
        if planned not in self._scores:
            self._digest = self._digest or digest_of_source(self.source)
            run = Run.open(planned.folder, allow_code=True)
            self._scores[planned] = kept_scores(planned, run, self.source, self._digest)
            miou = 100 * float(self._scores[planned]["miou"][0])
            self._tell(f"{planned.name}: evaluated, mIoU {miou:.1f} %")
        return self._scores[planned]
