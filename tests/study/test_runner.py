"""Many runs at a time, with a stand-in for training that takes no time."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from itertools import pairwise
from pathlib import Path

import pytest

from selfreg.config import parse_config
from selfreg.study import runner
from selfreg.study.planned import PlannedRun
from selfreg.study.runner import Place, find_places, train_all
from selfreg.terminal import PlainConsole
from selfreg.termination import Interrupted

FINISH = "from pathlib import Path; p = Path({folder!r}); p.mkdir(parents=True, exist_ok=True); "
FINISH += "(p / 'config.yaml').write_text(''); (p / 'summary.json').write_text('{{}}')"


def plan(folder: Path, *names: str) -> list[PlannedRun]:
    return [PlannedRun(name, folder / name, folder / "arm.yaml", 0) for name in names]


def pretend(monkeypatch: pytest.MonkeyPatch, code: str = FINISH) -> None:
    """Let a script stand for training; `{folder}` in it is the run's."""
    monkeypatch.setattr(
        runner, "_command", lambda run, _place: [sys.executable, "-c", code.format(folder=str(run.folder))]
    )


def test_the_command_is_the_ordinary_one(tmp_path: Path) -> None:
    command = runner._command(plan(tmp_path, "a")[0], Place(("training.threads=1",)))
    assert command[1:6] == ["-P", "-m", "selfreg.cli", "train", str(tmp_path / "arm.yaml")]
    assert "--resume" in command
    assert command[-4:] == ["--set", "seed=0", "--set", "training.threads=1"]


def test_a_failed_run_is_told_by_its_last_words_and_the_others_go_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    code = "import sys; 'bad' in {folder!r} and (print('error: no [such] thing', file=sys.stderr), sys.exit(2)); "
    pretend(monkeypatch, code + FINISH)
    runs = plan(tmp_path, "bad", "good")
    assert train_all(runs, [Place()], PlainConsole(quiet=True)) == {"bad": "no [such] thing"}
    assert [run.finished for run in runs] == [False, True]
    assert "no [such] thing" in runs[0].log_path.read_text(encoding="utf-8")


def test_a_process_that_is_alone_waits_for_no_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    pretend(monkeypatch)
    assert train_all(plan(tmp_path, "a", "b"), [Place()], PlainConsole()) == {}
    told = capsys.readouterr().out
    assert "b: trained in" in told
    assert "waiting" not in told


def test_a_run_that_ends_well_but_leaves_no_summary_has_failed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pretend(monkeypatch, "print('stopped early')")
    assert train_all(plan(tmp_path, "a"), [Place()], PlainConsole(quiet=True)) == {"a": "stopped early"}


def test_finished_runs_are_not_started(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pretend(monkeypatch, "print(1); " + FINISH)
    runs = plan(tmp_path, "a", "b")
    train_all(runs[:1], [Place()], PlainConsole(quiet=True))
    train_all(runs, [Place()], PlainConsole(quiet=True))
    assert runs[0].log_path.read_text(encoding="utf-8").split() == ["1"]
    assert runs[1].finished


def test_no_more_runs_than_places_at_a_time_each_with_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    code = "import json, os, time; began = time.time(); time.sleep(0.3); " + FINISH
    code += "; (p / 'times.json').write_text(json.dumps([began, time.time(), os.environ['CUDA_VISIBLE_DEVICES']]))"
    pretend(monkeypatch, code)
    runs = plan(tmp_path, *"abcde")
    places = [Place(environment={"CUDA_VISIBLE_DEVICES": str(device)}) for device in range(2)]
    assert train_all(runs, places, PlainConsole(quiet=True)) == {}
    times = [json.loads((run.folder / "times.json").read_text(encoding="utf-8")) for run in runs]
    for device in ("0", "1"):
        own = sorted(entry[:2] for entry in times if entry[2] == device)
        assert own
        assert all(first[1] <= second[0] for first, second in pairwise(own))


def test_runs_in_progress_end_with_the_study(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pretend(monkeypatch, "import time; print('here', flush=True); time.sleep(60)")
    children: list[subprocess.Popen[bytes]] = []
    start = subprocess.Popen.__init__

    def remember(self: subprocess.Popen[bytes], *arguments: object, **options: object) -> None:
        children.append(self)
        start(self, *arguments, **options)  # type: ignore[call-overload]

    monkeypatch.setattr(subprocess.Popen, "__init__", remember)
    threading.Timer(1.0, os.kill, (os.getpid(), signal.SIGTERM)).start()
    since = time.monotonic()
    with pytest.raises(Interrupted):
        train_all(plan(tmp_path, "a", "b"), [Place(), Place()], PlainConsole(quiet=True))
    assert time.monotonic() - since < 30
    assert [child.poll() is not None for child in children] == [True, True]


def test_cores_are_shared_out_and_gpus_given_one_by_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(8)), raising=False)
    config = parse_config({"training": {"accelerator": "cpu"}}, "test")
    assert find_places(config, 3) == [Place(("training.threads=2",))] * 3
    own = parse_config({"training": {"accelerator": "cpu", "threads": 5}}, "test")
    assert find_places(own, 2) == [Place(), Place()]
    monkeypatch.setattr(runner, "_visible_gpus", lambda: ["4", "6"])
    auto = find_places(parse_config({}, "test"), 3)
    assert [place.environment["CUDA_VISIBLE_DEVICES"] for place in auto] == ["4", "6", "4"]
    with pytest.raises(ValueError, match="--jobs 2"):
        find_places(parse_config({"training": {"devices": 2}}, "test"), 2)
    with pytest.raises(ValueError, match="at least 1"):
        find_places(config, 0)


def test_the_remaining_time_comes_from_runs_that_have_ended() -> None:
    assert runner._remaining([], 3, [], 2) == ""
    assert runner._remaining([90.0, 110.0], 3, [], 1) == "(5:00 left)"
    assert runner._clock(3725) == "1:02:05"
