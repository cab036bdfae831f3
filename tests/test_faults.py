"""Kills, signals, full disks, vanished files: a command ends in one clear line, and goes on from where it was."""

import errno
import multiprocessing
import os
import resource
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch

from fixtures.folder import write_folder
from processes import Command
from selfreg.files import locked
from selfreg.run import Run
from selfreg.training.task import SegmentationTask
from tiny import selfreg, write_config

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def cut_off(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A configuration, and a run of it that was cut off in its second epoch of three."""
    folder = tmp_path_factory.mktemp("cut")
    config = write_config(folder, training={"epochs": 3})
    with at_the_second_epoch(lambda: signal.raise_signal(signal.SIGTERM)):
        assert selfreg("train", config, "--out", folder / "run") == 143
    return folder


@pytest.fixture
def run(cut_off: Path, tmp_path: Path) -> Run:
    """A copy of the run that was cut off."""
    return Run.open(shutil.copytree(cut_off / "run", tmp_path / "run"))


@contextmanager
def at_the_second_epoch(happen: Callable[[], Any]) -> Iterator[None]:
    """Let something happen as the second epoch of a training starts."""
    step = SegmentationTask.training_step

    def training_step(self: SegmentationTask, batch: dict[str, torch.Tensor], batch_index: int) -> Any:
        if self.current_epoch == 1 and batch_index == 0:
            happen()
        return step(self, batch, batch_index)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(SegmentationTask, "training_step", training_step)
        yield


@contextmanager
def files_of_at_most(size: int) -> Iterator[None]:
    """Let every write beyond so many bytes of a file fail, as on a full disk."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def last_epoch(run: Run) -> int:
    """The last epoch that the run's state holds whole."""
    return int(torch.load(run.checkpoint_path, weights_only=True)["epoch"])


def only_line(capsys: pytest.CaptureFixture[str]) -> str:
    """What was said on the standard error, which is one line."""
    error = capsys.readouterr().err.strip()
    assert error.count("\n") == 0, error
    return error


def leftovers(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*.tmp*") if path.is_file()]


@pytest.mark.slow
def test_killed_commands_go_on_and_lose_nothing() -> None:
    command = [sys.executable, str(ROOT / "benchmarks" / "faults.py"), "--kills", "4", "--commands", "train,evaluate"]
    # with it a script would not find the file beside it
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONSAFEPATH"}
    ended = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert "4 kills, 0 losses" in ended.stdout


@pytest.mark.slow
def test_a_signal_ends_training_with_its_own_status_and_the_state_is_whole(tmp_path: Path) -> None:
    config = write_config(tmp_path, training={"epochs": 1000, "workers": 1})
    run = Run(tmp_path / "run")
    for number, status, word in ((signal.SIGTERM, 143, "ended by SIGTERM; "), (signal.SIGINT, 130, "interrupted; ")):
        run.checkpoint_path.unlink(missing_ok=True)
        command = Command(tmp_path, "train", config, "--out", run.folder, "--resume")
        while not run.checkpoint_path.exists() and command.running:
            time.sleep(0.05)
        # to the whole group, as a terminal and most schedulers send it
        command.signal_group(number)
        ended = command.wait()
        error = command.stderr.strip()
        assert ended == status, error
        assert error.startswith(word)
        assert error.count("\n") == 0
        assert last_epoch(run) >= 0
        assert not leftovers(run.folder)


def test_a_full_disk_ends_training_and_the_last_state_stays(
    run: Run, cut_off: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = run.checkpoint_path.read_bytes()
    with files_of_at_most(100_000):
        assert selfreg("train", cut_off / "tiny.yaml", "--out", run.folder, "--resume") == 3
    error = only_line(capsys)
    assert str(run.folder) in error
    assert "too large" in error
    assert run.checkpoint_path.read_bytes() == before
    assert not leftovers(run.folder)
    assert selfreg("train", cut_off / "tiny.yaml", "--out", run.folder, "--resume", "--no-page") == 0


def test_a_full_disk_leaves_no_half_mask(run: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    photo = next(iter(write_folder(tmp_path / "data", size=(64, 96)).glob("images/train/*.jpg")))
    commands: tuple[list[str | Path], ...] = (
        ["evaluate", run.folder],
        ["predict", run.folder, photo, "-o", tmp_path / "masks"],
    )
    for arguments in commands:
        with files_of_at_most(500):
            assert selfreg(*arguments) == 3
        assert ".png: File too large; make room" in only_line(capsys).replace(".tmp", "")
    assert not list(tmp_path.glob("masks/*"))
    assert [path.name for path in run.prediction_folder("val", "last").glob("*")] == ["data.json"]


@pytest.mark.parametrize("number", [errno.EROFS, errno.EACCES, errno.ENOSPC])
def test_a_folder_that_cannot_be_written_is_named(
    cut_off: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], number: int
) -> None:
    def refuse(path: Path, *_: object, **__: object) -> None:
        raise OSError(number, os.strerror(number), str(path))

    config, run, photo = cut_off / "tiny.yaml", cut_off / "run", tmp_path / "photo.png"
    shutil.copy(next(iter(write_folder(tmp_path / "data", size=(64, 96)).glob("masks/train/*.png"))), photo)
    with monkeypatch.context() as patch:
        patch.setattr(Path, "mkdir", refuse)
        commands: tuple[list[str | Path], ...] = (["train", config], ["predict", run, photo], ["study", config])
        for arguments in commands:
            assert selfreg(*arguments, "--out", tmp_path / "out") == 3
            assert f"{tmp_path}/out: {os.strerror(number)}" in only_line(capsys).replace("/base:", ":")


def test_an_output_that_is_a_file_is_named(cut_off: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "file").write_text("not a folder", encoding="utf-8")
    assert selfreg("train", cut_off / "tiny.yaml", "--out", tmp_path / "file" / "run") == 3
    assert "Not a directory" in only_line(capsys)


@pytest.mark.parametrize("workers", [0, 1])
def test_a_data_file_that_vanishes_is_named_and_the_last_state_stays(
    tmp_path: Path, workers: int, capsys: pytest.CaptureFixture[str]
) -> None:
    root = write_folder(tmp_path / "data", splits={"train": 4, "val": 2}, size=(64, 64))
    data = {"kind": "folder", "root": str(root), "options": {}}
    config = write_config(tmp_path, data=data, training={"epochs": 3, "batch_size": 2, "workers": workers})
    gone = root / "images" / "train" / "t1.jpg"

    def remove() -> None:
        if gone.exists():
            gone.unlink()

    with at_the_second_epoch(remove):
        assert selfreg("train", config, "--out", tmp_path / "run") == 2
    assert str(gone) in only_line(capsys)
    assert last_epoch(Run(tmp_path / "run")) in (0, 1)


def test_a_loading_process_that_dies_ends_training_and_the_last_state_stays(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = write_config(tmp_path, training={"epochs": 50, "workers": 1})

    def kill() -> None:
        for worker in multiprocessing.active_children():
            worker.kill()
            worker.join()

    with at_the_second_epoch(kill):
        assert selfreg("train", config, "--out", tmp_path / "run") == 3
    error = only_line(capsys)
    assert "a loading process died" in error
    assert "training.workers" in error
    assert last_epoch(Run(tmp_path / "run")) >= 0


def test_a_second_training_in_a_folder_is_refused(
    run: Run, cut_off: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = run.checkpoint_path.read_bytes()
    with run.lock():
        assert selfreg("train", cut_off / "tiny.yaml", "--out", run.folder, "--resume") == 2
    assert "another process is training here" in only_line(capsys)
    assert run.checkpoint_path.read_bytes() == before
    # one that has just begun and has written nothing yet
    with locked(tmp_path / "new", "training"):
        assert selfreg("train", cut_off / "tiny.yaml", "--out", tmp_path / "new") == 2
    assert "another process is training here" in only_line(capsys)


def test_leftovers_of_a_killed_process_are_removed_and_taken_for_nothing(run: Run, cut_off: Path) -> None:
    for folder, name in ((run.folder, "config.yaml"), (run.folder / "checkpoints", "last.ckpt")):
        (folder / f".selfreg-0123456789abcdef.tmp{Path(name).suffix}").write_bytes(b"half")
    assert selfreg("train", cut_off / "tiny.yaml", "--out", run.folder, "--resume", "--no-page") == 0
    assert not leftovers(run.folder)


def test_training_killed_after_its_last_state_still_gets_its_whole_summary(run: Run, cut_off: Path) -> None:
    config = cut_off / "tiny.yaml"
    assert selfreg("train", config, "--out", run.folder, "--resume", "--no-page") == 0
    whole = run.summary()
    assert whole is not None
    (run.folder / "summary.json").unlink()
    assert selfreg("train", config, "--out", run.folder, "--resume", "--no-page") == 0
    again = run.summary()
    assert again is not None
    times = {"seconds": 0, "resumed": True}
    assert {**again, **times} == {**whole, **times}
