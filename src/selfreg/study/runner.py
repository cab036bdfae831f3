"""Training many runs, each in a process of its own, a few at a time."""

import os
import signal
import subprocess
import sys
import time
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from statistics import mean

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn

from selfreg.config import Config
from selfreg.run import Run
from selfreg.termination import interruptible

_POLL_SECONDS = 0.2
_SECONDS_TO_END = 30


@dataclass(frozen=True)
class PlannedRun:
    """A run to be trained: its name for people, its folder, its configuration file, and the seed it overrides."""

    name: str
    folder: Path
    config_path: Path
    seed: int

    @property
    def log_path(self) -> Path:
        """What the run's process printed."""
        return self.folder.with_name(f"{self.folder.name}.log")

    @property
    def scores_path(self) -> Path:
        """What was measured of the run once it had ended."""
        return self.folder.with_name(f"{self.folder.name}.npz")

    @property
    def finished(self) -> bool:
        """Whether training has ended."""
        return Run.exists(self.folder) and Run.open(self.folder).summary() is not None


@dataclass(frozen=True)
class Place:
    """Where one run at a time computes: further overrides and environment variables of its process."""

    overrides: tuple[str, ...] = ()
    environment: dict[str, str] = field(default_factory=dict)


@dataclass
class _Started:
    run: PlannedRun
    place: Place
    process: "subprocess.Popen[bytes]"
    since: float


def find_places(config: Config, jobs: int) -> list[Place]:
    """One place for each of `jobs` runs at a time: a GPU each, or an equal share of the cores.

    More jobs than GPUs share them in turn. Raises ValueError for runs side by side that use several devices each.
    """
    if jobs < 1:
        raise ValueError(f"--jobs {jobs}: at least one")
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


def train_all(runs: Sequence[PlannedRun], places: Sequence[Place], console: Console) -> dict[str, str]:
    """Train those runs that have not ended yet, one per place at a time; finished ones are not touched.

    A run that fails does not stop the others: its name and its last words are given back. An interruption ends the
    runs in progress, which a later call takes up from their last finished epoch.
    """
    waiting = deque(run for run in runs if not run.finished)
    free, started = list(places), list[_Started]()
    failures: dict[str, str] = {}
    durations: list[float] = []
    with _display(console) as progress, _ended_together(started):
        bar = progress.add_task("", total=len(runs), completed=len(runs) - len(waiting), current="", remaining="")
        while waiting or started:
            while waiting and free:
                started.append(_start(waiting.popleft(), free.pop(0)))
            for each in [each for each in started if each.process.poll() is not None]:
                started.remove(each)
                free.append(each.place)
                seconds = time.monotonic() - each.since
                if each.process.returncode == 0 and each.run.finished:
                    durations.append(seconds)
                    progress.console.print(f"{escape(each.run.name)}: trained in {_clock(seconds)}")
                else:
                    failures[each.run.name] = _last_words(each)
                    progress.console.print(
                        f"[red]{escape(each.run.name)}: failed: {escape(failures[each.run.name])}[/] "
                        f"(see {escape(str(each.run.log_path))})",
                        soft_wrap=True,
                    )
                progress.advance(bar)
            current = ", ".join(each.run.name for each in started)
            progress.update(bar, current=current, remaining=_remaining(durations, len(waiting), started, len(places)))
            if started:
                time.sleep(_POLL_SECONDS)
    return failures


def _display(console: Console) -> Progress:
    columns = (
        SpinnerColumn(),
        BarColumn(bar_width=24),
        MofNCompleteColumn(),
        TextColumn("runs {task.fields[remaining]}"),
        TextColumn("{task.fields[current]}", markup=False),
    )
    return Progress(*columns, console=console, transient=True, disable=not console.is_terminal)


def _command(run: PlannedRun, place: Place) -> list[str]:
    command = [sys.executable, "-m", "selfreg.cli", "train", str(run.config_path), "--out", str(run.folder)]
    overrides = (f"seed={run.seed}", *place.overrides)
    return [
        *command,
        "--resume",
        "--quiet",
        "--no-page",
        *(part for override in overrides for part in ("--set", override)),
    ]


def _start(run: PlannedRun, place: Place) -> _Started:
    run.log_path.parent.mkdir(parents=True, exist_ok=True)
    with run.log_path.open("ab") as log:
        process = subprocess.Popen(
            _command(run, place),
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            env={**os.environ, **place.environment},
        )
    return _Started(run, place, process, time.monotonic())


def _last_words(ended: _Started) -> str:
    status = ended.process.returncode
    if status < 0:
        return f"ended by {signal.Signals(-status).name}"
    lines = [line.strip() for line in ended.run.log_path.read_text(encoding="utf-8", errors="replace").splitlines()]
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
    """End the runs in progress with this process, also when it receives SIGTERM."""
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
