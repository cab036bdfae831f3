"""Several processes on one study folder, some of them killed, with a stand-in for training that takes no time."""

import os
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import pytest

from selfreg.study import runner
from selfreg.study.planned import PlannedRun
from selfreg.study.runner import Place, train_all
from selfreg.terminal import PlainConsole

NAMES = ("a", "b", "c", "d")

TRAINING = """
import sys, time
from pathlib import Path
from selfreg.files import locked
folder = Path(sys.argv[1])
with locked(folder, "training"):
    with open(folder.parent / "begun.txt", "a") as file:
        file.write(folder.name + "\\n")
    (folder / "config.yaml").write_text("")
    time.sleep(SECONDS)
    (folder / "summary.json").write_text("{}")
"""

STUDY = """
import sys
from pathlib import Path
from selfreg.terminal import PlainConsole
from selfreg.study import runner
from selfreg.study.planned import PlannedRun
folder = Path(sys.argv[1])
runner._command = lambda run, place: [sys.executable, str(folder / "training.py"), str(run.folder)]
runs = [PlannedRun(name, folder / name, folder / "arm.yaml", 0) for name in sys.argv[2:]]
print(runner.train_all(runs, [runner.Place()], PlainConsole(file=sys.stdout, width=200)))
"""


def start(folder: Path, *names: str, seconds: float = 0.3) -> "subprocess.Popen[str]":
    """A study in a process of its own; the runs' folders, and what they printed, lie in `folder`."""
    (folder / "training.py").write_text(TRAINING.replace("SECONDS", str(seconds)), encoding="utf-8")
    command = [sys.executable, "-c", STUDY, str(folder), *names]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True, start_new_session=True)


def begun(folder: Path) -> list[str]:
    path = folder / "begun.txt"
    return path.read_text(encoding="utf-8").split() if path.exists() else []


def wait_until_begun(folder: Path) -> None:
    until = time.monotonic() + 120
    while not begun(folder) or not (folder / begun(folder)[0] / "config.yaml").exists():
        assert time.monotonic() < until
        time.sleep(0.02)


def runs(folder: Path) -> list[PlannedRun]:
    return [PlannedRun(name, folder / name, folder / "arm.yaml", 0) for name in NAMES]


@pytest.mark.slow
def test_two_processes_finish_what_a_killed_machine_had_begun_and_train_each_run_once(tmp_path: Path) -> None:
    killed = start(tmp_path, *NAMES, seconds=60)
    wait_until_begun(tmp_path)
    os.killpg(killed.pid, signal.SIGKILL)
    killed.communicate()
    both = [start(tmp_path, *NAMES), start(tmp_path, *NAMES)]
    printed = [process.communicate(timeout=200)[0] for process in both]
    assert [text.endswith("{}\n") for text in printed] == [True, True]
    assert all(run.finished for run in runs(tmp_path))
    assert Counter(begun(tmp_path)) == Counter({**dict.fromkeys(NAMES, 1), "a": 2})
    assert all(sum(f"{name}: trained in" in text for text in printed) == 1 for name in NAMES)


@pytest.mark.slow
def test_a_training_that_outlives_its_killed_study_is_waited_for(tmp_path: Path) -> None:
    killed = start(tmp_path, *NAMES, seconds=5)
    wait_until_begun(tmp_path)
    killed.kill()
    other = start(tmp_path, *NAMES)
    assert other.communicate(timeout=200)[0].endswith("{}\n")
    assert all(run.finished for run in runs(tmp_path))
    assert Counter(begun(tmp_path)) == Counter(NAMES)


def test_a_run_that_fails_in_another_process_is_told_and_not_tried_again(tmp_path: Path) -> None:
    first, second = runs(tmp_path)[:2]
    queue = runner._Queue([first, second])
    first.note_failure("no [such] thing")
    assert queue.drop_ended() == [(first, "no [such] thing")]
    assert queue.failures == {"a": "no [such] thing"}
    claimed = queue.claim()
    assert claimed is not None
    assert claimed[0] == second
    assert second.claim() is None
    claimed[1].close()


def test_a_failed_run_is_tried_again_by_the_next_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runner, "_command", lambda *_: [sys.executable, "-c", "import sys; sys.exit('no room')"])
    for _ in range(2):
        assert train_all(runs(tmp_path)[:1], [Place()], PlainConsole(quiet=True)) == {"a": "no room"}
    assert (tmp_path / "a.log").read_text(encoding="utf-8").split() == ["no", "room", "no", "room"]
