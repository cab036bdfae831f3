"""What scripts rely on: JSON alone on the standard output, exit statuses, no colour where none is wanted."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from fixtures.folder import write_folder
from processes import Command
from selfreg.termination import Interrupted, end_well
from tiny import QUICK_TO_EXPORT, selfreg, write_config


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("trained")
    config = write_config(folder, network=QUICK_TO_EXPORT, training={"epochs": 1})
    assert selfreg("train", config, "--out", folder / "run", "--no-page") == 0
    shutil.copytree(folder / "run", folder / "other")
    return folder


@pytest.mark.parametrize(
    ("arguments", "keys"),
    [
        (["train", "{tiny.yaml}", "--out", "{run}", "--resume"], {"run", "epochs", "last_miou", "skipped_batches"}),
        (["train", "{tiny.yaml}", "--dry-run"], {"parameters", "taps", "loss", "total_seconds"}),
        (["evaluate", "{run}"], {"miou", "per_class_iou", "intervals"}),
        (["compare", "{run}", "{other}", "--html", "{page.html}"], {"runs", "differences"}),
        (["export", "{run}", "{model.pt2}", "--format", "torch-export"], {"path", "max_difference", "agreement"}),
        (["taps", "smp:FPN/tu-mobilenetv3_small_050", "--image-size", "64", "64"], {"taps", "parameters"}),
        (["check-data", "{data}", "-o", "{data.json}"], {"splits"}),
    ],
)
def test_with_json_the_output_is_json_and_nothing_else(
    trained: Path, capfd: pytest.CaptureFixture[str], arguments: list[str], keys: set[str]
) -> None:
    if not (trained / "data").exists():
        write_folder(trained / "data")
    words = [str(trained / word[1:-1]) if word.startswith("{") else word for word in arguments]
    assert selfreg(*words, "--json") == 0
    content = json.loads(capfd.readouterr().out, parse_constant=lambda name: pytest.fail(f"{name} is no JSON"))
    assert keys <= set(content)


def test_a_study_prints_the_json_that_it_writes(trained: Path, capfd: pytest.CaptureFixture[str]) -> None:
    out = trained / "study"
    # the run that is there is the study's only one
    shutil.copytree(trained / "run", out / "full" / "seed-3")
    arguments: list[str | Path] = ["--arms", "full", "--seeds", "1", "--out", out, "--json"]
    assert selfreg("study", trained / "tiny.yaml", *arguments) == 0
    assert json.loads(capfd.readouterr().out) == json.loads((out / "study.json").read_text(encoding="utf-8"))


def test_no_color_is_honoured(trained: Path, tmp_path: Path) -> None:
    plain = {"FORCE_COLOR": "1", "TERM": "xterm-256color", "NO_COLOR": "1"}
    evaluate = Command(tmp_path, "evaluate", trained / "run", environment=plain)
    assert evaluate.wait() == 0
    words = [sys.executable, "-m", "selfreg.cli", "--help"]
    told = subprocess.run(words, env={**os.environ, **plain}, capture_output=True, text=True, check=True).stdout
    for printed in (evaluate.stdout, told):
        assert printed
        assert not re.search(r"\x1b\[[0-9;]*3[0-9]", printed)


def test_completion_scripts_are_there() -> None:
    command = [sys.executable, "-m", "selfreg.cli", "--show-completion", "bash"]
    environment = {**os.environ, "_TYPER_COMPLETE_TEST_DISABLE_SHELL_DETECTION": "1"}
    ended = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr
    assert "complete" in ended.stdout


def _raise(error: BaseException) -> Any:
    raise error


@pytest.mark.parametrize(
    ("error", "status", "line"),
    [
        (ValueError("data.root is not set"), 2, "error: data.root is not set"),
        (PermissionError(13, "Permission denied", "out"), 3, "error: out: Permission denied"),
        (OSError("the disk is gone"), 3, "error: the disk is gone"),
        (MemoryError("no room"), 3, "error: out of memory: no room"),
        (KeyboardInterrupt(), 130, "interrupted; "),
        (SystemExit(4), 4, ""),
    ],
)
def test_every_way_of_ending_has_its_status_and_its_line(
    error: BaseException, status: int, line: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert end_well(lambda: _raise(error)) == status
    said = capsys.readouterr().err
    assert said.startswith(line)
    assert said.count("\n") == (1 if line else 0)


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_is_the_end_whatever_fails_on_the_way_out(
    number: int, status: int, capsys: pytest.CaptureFixture[str]
) -> None:
    def command() -> None:
        try:
            signal.raise_signal(number)
        except Interrupted:
            raise RuntimeError("a loading process is gone") from None

    before = signal.getsignal(number)
    assert end_well(command) == status
    assert "RuntimeError" not in capsys.readouterr().err
    assert signal.getsignal(number) is before


def test_a_fault_of_the_package_is_not_hidden() -> None:
    with pytest.raises(ZeroDivisionError):
        end_well(lambda: _raise(ZeroDivisionError("a bug")))


def test_the_last_line_of_a_loading_process_is_what_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    text = "Caught ValueError in DataLoader worker process 0.\nOriginal Traceback (most recent call last):\n  File\n"
    text = text.replace("Original ", "") + "ValueError: a.jpg: no such file\n"
    assert end_well(lambda: _raise(ValueError(text))) == 2
    assert capsys.readouterr().err == "error: a.jpg: no such file\n"


def test_workers_end_with_a_parent_that_is_killed(tmp_path: Path) -> None:
    script = tmp_path / "pool.py"
    script.write_text(
        "import os, time\n"
        "from concurrent.futures import ProcessPoolExecutor\n"
        "from multiprocessing import get_context\n"
        "from selfreg.termination import follow_parent\n"
        "if __name__ == '__main__':\n"
        "    with ProcessPoolExecutor(1, get_context('forkserver'), follow_parent) as pool:\n"
        "        print(pool.submit(os.getpid).result(), flush=True)\n"
        "        time.sleep(600)\n",
        encoding="utf-8",
    )
    parent = subprocess.Popen([sys.executable, str(script)], stdout=subprocess.PIPE, text=True)
    assert parent.stdout is not None
    worker = int(parent.stdout.readline())
    parent.kill()
    parent.communicate()
    while _is_running(worker):
        time.sleep(0.02)


def _is_running(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    status = Path(f"/proc/{process}/stat")
    return not status.exists() or status.read_text().rpartition(")")[2].split()[0] != "Z"
