"""The files of a run of a study, and the claim that lets several processes share one study folder."""

from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from uuid import uuid4

from selfreg.files import LockedError, locked, write_text
from selfreg.input_files import read_end
from selfreg.run import Run


@dataclass(frozen=True)
class PlannedRun:
    """A run to be trained.

    Attributes:
        name: Name in messages.
        folder: Folder of the run.
        config_path: Configuration of its arm.
        seed: Seed that overrides the one of the configuration.
    """

    name: str
    folder: Path
    config_path: Path
    seed: int

    @property
    def log_path(self) -> Path:
        """Output of the training process."""
        return self.folder.with_name(f"{self.folder.name}.log")

    @property
    def scores_path(self) -> Path:
        """Scores computed after training."""
        return self.folder.with_name(f"{self.folder.name}.npz")

    @property
    def finished(self) -> bool:
        """Whether training has finished."""
        return Run.exists(self.folder) and Run.open(self.folder).summary() is not None

    @property
    def busy(self) -> bool:
        """Whether a process is training in the folder, which may have outlived its study."""
        if not Run.exists(self.folder):
            return False
        try:
            with Run.open(self.folder).lock():
                return False
        except LockedError:
            return True

    def claim(self) -> ExitStack | None:
        """Claim the run for this process.

        Returns:
            A context that holds the claim until it is closed, or None if another process has the run. The operating
            system releases the claim of a process that was killed.
        """
        held = ExitStack()
        try:
            held.enter_context(locked(self._claim_folder, f"working on {self.name}"))
        except LockedError:
            return None
        if self.busy:
            held.close()
            return None
        return held

    def note_failure(self, words: str) -> None:
        """Record a failed training for the other processes of the study."""
        write_text(self._failure_path, f"{uuid4().hex}\n{words}\n")

    def failure(self) -> tuple[str, str] | None:
        """The last record of `note_failure`: an identifier that is new for each failure, and the message."""
        try:
            mark, _, words = read_end(self._failure_path).strip().partition("\n")
        except (OSError, ValueError):
            return None
        return mark, words

    @property
    def _claim_folder(self) -> Path:
        return self.folder.with_name(f".{self.folder.name}.claim")

    @property
    def _failure_path(self) -> Path:
        return self._claim_folder / "failure.txt"
