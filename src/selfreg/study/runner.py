"""Training of many runs, each in a separate process, several at a time."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from statistics import mean

from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn

from selfreg.config import Config
from selfreg.files import appended_file, refuse_links
from selfreg.input_files import read_end
from selfreg.study.planned import PlannedRun
from selfreg.terminal import PlainConsole
from selfreg.termination import SAFE_PATH, interruptible

_POLL_SECONDS = 0.2
_SECONDS_TO_END = 30
_SECONDS_BETWEEN_CLAIMS = 1.0


@dataclass(frozen=True)
class Place:
    """A GPU or a share of the cores for one run at a time: overrides and environment variables of its process."""

    overrides: tuple[str, ...] = ()
    environment: dict[str, str] = field(default_factory=dict)


@dataclass
class _Started:
    run: PlannedRun
    place: Place
    claim: ExitStack
    process: "subprocess.Popen[bytes]"
    since: float


def find_places(config: Config, jobs: int) -> list[Place]:
    """Choose a place for each of `jobs` simultaneous runs: one GPU each, or an equal share of the cores.

    If there are more jobs than GPUs, several jobs share a GPU.

    Raises:
        ValueError: If `jobs` is below 1, or simultaneous runs would use several devices each.
    """
    if jobs < 1:
        raise ValueError(f"--jobs {jobs}: give at least 1")
    training = config.training
    if training.devices != 1 or training.num_nodes != 1:
        if jobs > 1:
            raise ValueError(f"--jobs {jobs}: training.devices is {training.devices}; run one job, or one device each")
        return [Place()]
    gpus = [] if training.accelerator == "cpu" else _visible_gpus()
    if gpus:
        return [Place(environment={"CUDA_VISIBLE_DEVICES": gpus[slot % len(gpus)]}) for slot in range(jobs)]
    if training.threads:
        return [Place()] * jobs
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return [Place((f"training.threads={max(1, cores // jobs)}",))] * jobs


def _visible_gpus() -> list[str]:
    import torch

    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    named = os.environ.get("CUDA_VISIBLE_DEVICES")
    return named.split(",")[:count] if named else [str(index) for index in range(count)]


def train_all(runs: Sequence[PlannedRun], places: Sequence[Place], console: PlainConsole) -> dict[str, str]:
    """Train the runs that have not finished, one per place at a time, and wait until all have ended.

    Other processes may work on the same runs. Each run is claimed before it is trained; runs of other processes are
    waited for, and the run of a process that was killed is resumed from its last finished epoch. An interruption also
    ends the runs of this process that are in progress.

    Args:
        runs: All runs, in the order in which to start them.
        places: Where runs are computed, one run at a time each.
        console: Where progress is shown.

    Returns:
        The last line of output of each failed run, by its name. A failed run does not stop the others. Processes that
        were at work when it failed do not try it again.
    """
    queue = _Queue(runs)
    free, started = list(places), list[_Started]()
    durations: list[float] = []
    told = False
    with _display(console) as progress, _ended_together(started):
        bar = progress.add_task("", total=len(runs), completed=0, current="", remaining="")
        while queue.waiting or started:
            for run, words in queue.drop_ended():
                if words is not None:
                    console.print(f"{run.name}: failed elsewhere: {words}", style="red")
            while free and (claimed := queue.claim()):
                started.append(_start(*claimed, free.pop(0)))
            for each in [each for each in started if each.process.poll() is not None]:
                started.remove(each)
                free.append(each.place)
                seconds = time.monotonic() - each.since
                if each.process.returncode == 0 and each.run.finished:
                    durations.append(seconds)
                    console.print(f"{each.run.name}: trained in {_clock(seconds)}")
                elif each.run.busy:
                    # a training process of a killed study is still at work on this run
                    queue.waiting.append(each.run)
                else:
                    words = queue.fail(each.run, _last_words(each))
                    console.print(f"{each.run.name}: failed: {words}", style="red", end=" ", soft_wrap=True)
                    console.print(f"(see {each.run.log_path})", soft_wrap=True)
                each.claim.close()
            if queue.held_elsewhere and not started and not told:
                told = True
                names = ", ".join(run.name for run in queue.waiting)
                console.print(f"waiting for runs that other processes train: {names}")
            current = ", ".join(each.run.name for each in started)
            remaining = _remaining(durations, len(queue.waiting), started, len(places))
            completed = len(runs) - len(queue.waiting) - len(started)
            progress.update(bar, completed=completed, current=current, remaining=remaining)
            if queue.waiting or started:
                time.sleep(_POLL_SECONDS)
    return queue.failures


class _Queue:
    """The runs that still have to be trained, by this process or another one."""

    def __init__(self, runs: Sequence[PlannedRun]) -> None:
        self.waiting = [run for run in runs if not run.finished]
        self.failures: dict[str, str] = {}
        # failures of earlier commands; these runs are tried again
        self._known = {run.name: run.failure() for run in self.waiting}
        self._next_claim = 0.0

    @property
    def held_elsewhere(self) -> bool:
        """Whether the last attempt to claim a run found all of them held by other processes."""
        return bool(self.waiting) and time.monotonic() < self._next_claim

    def drop_ended(self) -> list[tuple[PlannedRun, str | None]]:
        """Remove and return the runs that other processes have ended, failed ones with their last line of output."""
        ended: list[tuple[PlannedRun, str | None]] = []
        for run in list(self.waiting):
            failure = run.failure()
            if run.finished:
                ended.append((run, None))
            elif failure is not None and failure != self._known[run.name]:
                self.failures[run.name] = failure[1]
                ended.append((run, failure[1]))
            else:
                continue
            self.waiting.remove(run)
        return ended

    def claim(self) -> tuple[PlannedRun, ExitStack] | None:
        """Claim the first run that no other process has."""
        if time.monotonic() < self._next_claim:
            return None
        for run in self.waiting:
            held = run.claim()
            if held is None:
                continue
            # another process may have ended it just before
            if run.finished or run.failure() != self._known[run.name]:
                held.close()
                continue
            self.waiting.remove(run)
            return run, held
        self._next_claim = time.monotonic() + _SECONDS_BETWEEN_CLAIMS
        return None

    def fail(self, run: PlannedRun, words: str) -> str:
        """Record the failure of a run of this process."""
        run.note_failure(words)
        self.failures[run.name] = words
        return words


def _display(console: PlainConsole) -> Progress:
    columns = (
        SpinnerColumn(),
        BarColumn(bar_width=24),
        MofNCompleteColumn(),
        TextColumn("runs {task.fields[remaining]}"),
        TextColumn("{task.fields[current]}", markup=False),
    )
    return Progress(*columns, console=console, transient=True, disable=not console.is_terminal)


def _command(run: PlannedRun, place: Place) -> list[str]:
    command = [sys.executable, "-P", "-m", "selfreg.cli", "train", str(run.config_path), "--out", str(run.folder)]
    overrides = (f"seed={run.seed}", *place.overrides)
    return [
        *command,
        "--resume",
        "--quiet",
        "--no-page",
        *(part for override in overrides for part in ("--set", override)),
    ]


def _start(run: PlannedRun, claim: ExitStack, place: Place) -> _Started:
    refuse_links(run.folder)
    with appended_file(run.log_path) as log:
        process = subprocess.Popen(
            _command(run, place),
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            env={**os.environ, **SAFE_PATH, **place.environment},
        )
    return _Started(run, place, claim, process, time.monotonic())


def _last_words(ended: _Started) -> str:
    status = ended.process.returncode
    if status < 0:
        return f"ended by {signal.Signals(-status).name}"
    lines = [line.strip() for line in read_end(ended.run.log_path).splitlines()]
    return next((line for line in reversed(lines) if line), f"exit status {status}").removeprefix("error: ")


def _remaining(durations: Sequence[float], waiting: int, started: Sequence[_Started], places: int) -> str:
    if not durations:
        return ""
    usual, now = mean(durations), time.monotonic()
    seconds = waiting * usual + sum(max(usual - (now - each.since), 0.0) for each in started)
    return f"({_clock(seconds / min(places, max(len(started), 1)))} left)"


def _clock(seconds: float) -> str:
    whole = round(seconds)
    if whole < 3600:
        return f"{whole // 60}:{whole % 60:02d}"
    return f"{whole // 3600}:{whole // 60 % 60:02d}:{whole % 60:02d}"


@contextmanager
def _ended_together(started: list[_Started]) -> Iterator[None]:
    """Terminate the runs in progress together with this process, also on SIGTERM."""
    try:
        with interruptible():
            yield
    finally:
        for each in started:
            each.process.terminate()
        for each in started:
            try:
                each.process.wait(_SECONDS_TO_END)
            except subprocess.TimeoutExpired:
                each.process.kill()
                each.process.wait()
            each.claim.close()
