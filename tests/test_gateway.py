"""Every write, deletion, process and opening of files goes through one place, and none can be directed elsewhere."""

import importlib
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import selfreg as package
from fixtures.folder import write_folder
from places import places
from tiny import QUICK_TO_EXPORT, selfreg, write_config
from weak.tagged_folder import write_tagged_folder, write_weak_config

SOURCE = Path(package.__file__).parent


@dataclass(frozen=True)
class Command:
    """A command, and how a folder that it is given looked before it began."""

    arguments: Callable[[Path, Path], list[str | Path]]
    before: str = ""
    """Folder with what the output folder holds already, of the prepared ones."""


_ONE_RUN = ("--arms", "full", "--seeds", "1")
COMMANDS = {
    "train": Command(lambda given, out: ["train", given / "tiny.yaml", "--out", out, "--resume", "--no-page"]),
    "page": Command(lambda given, out: ["train", given / "tiny.yaml", "--out", out, "--resume"], "run"),
    "evaluate": Command(lambda _, out: ["evaluate", out], "run"),
    "predict": Command(lambda given, out: ["predict", given / "run", given / "photo.png", "-o", out, "--overlay"]),
    "compare": Command(lambda given, out: ["compare", out, given / "other"], "run"),
    "study": Command(lambda given, out: ["study", given / "tiny.yaml", "--out", out, *_ONE_RUN], "study"),
    "pseudo": Command(lambda given, out: ["pseudo", given / "weak.yaml", "--out", out]),
}


@pytest.fixture(scope="module")
def given(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Configurations, a trained run, a study whose only run has been trained, and a photograph."""
    folder = tmp_path_factory.mktemp("given")
    data = {"options": {"length": 4, "evaluation_length": 2, "size": [64, 64]}}
    config = write_config(folder, data={**data, "kind": "scenes"}, network=QUICK_TO_EXPORT, training={"epochs": 1})
    assert selfreg("train", config, "--out", folder / "run", "--no-page") == 0
    shutil.copytree(folder / "run", folder / "other")
    shutil.copytree(folder / "run", folder / "study" / "full" / "seed-3")
    root = write_tagged_folder(folder / "set", train=4, val=2, size=(64, 64))
    write_weak_config(folder, root, classifier={"epochs": 1}, cam={"scales": [1.0]})
    Image.fromarray(np.zeros((64, 64, 3), np.uint8)).save(folder / "photo.png")
    return folder


def _places(command: Command, given: Path, folder: Path) -> list[str]:
    """Files and folders that a command makes below its output folder, one of each kind."""
    out = _start(command, given, folder / "undisturbed")
    before = {path.relative_to(out) for path in out.rglob("*")}
    assert selfreg(*command.arguments(given, out)) == 0
    made = sorted({path.relative_to(out) for path in out.rglob("*")} - before)
    kinds = {
        (place.parent, place.suffix, (out / place).is_dir(), place.stem.strip("0123456789")): place for place in made
    }
    return [str(place) for place in kinds.values()]


def _start(command: Command, given: Path, out: Path) -> Path:
    if command.before:
        shutil.copytree(given / command.before, out)
    return out


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("name", COMMANDS)
def test_a_planted_link_on_any_path_that_a_command_writes_is_not_followed(
    name: str, given: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = COMMANDS[name]
    places = _places(command, given, tmp_path)
    assert places
    for number, place in enumerate(places):
        outside, out = tmp_path / f"outside-{number}", tmp_path / f"out-{number}"
        outside.mkdir()
        # where a command deletes what it made before, it might take these for its own
        precious = [outside / f"{stem}.png" for stem in ("precious", "train0", "train1", "0")]
        for path in precious:
            path.write_text("precious")
        _start(command, given, out)
        (out / place).parent.mkdir(parents=True, exist_ok=True)
        is_folder = (tmp_path / "undisturbed" / place).is_dir()
        (out / place).symlink_to(outside if is_folder else outside / "new")
        capsys.readouterr()
        status = selfreg(*command.arguments(given, out))
        said = capsys.readouterr().err.strip()
        assert status in (0, 2), f"{place}: {said}"
        assert status == 0 or said.splitlines()[-1].startswith("error: "), f"{place}: {said}"
        assert sorted(outside.iterdir()) == sorted(precious), place
        assert all(path.read_text() == "precious" for path in precious), place


def test_a_planted_log_of_a_study_is_not_followed(given: Path, tmp_path: Path) -> None:
    for place in ("base", "base/seed-3", "base/seed-3.log"):
        outside, out = tmp_path / f"outside-{place.count('/')}{len(place)}", tmp_path / f"out{len(place)}"
        outside.mkdir()
        (out / place).parent.mkdir(parents=True, exist_ok=True)
        (out / place).symlink_to(outside / "new" if place.endswith(".log") else outside)
        assert selfreg("study", given / "tiny.yaml", "--out", out, "--arms", "base", "--seeds", "1") in (1, 2)
        assert not list(outside.iterdir()), place


@pytest.mark.parametrize("verb", ["export", "check-data", "compare"])
def test_a_link_at_a_file_that_the_user_names_is_replaced_not_followed(verb: str, given: Path, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    (tmp_path / "new.file").symlink_to(outside)
    root = write_folder(tmp_path / "data")
    run = shutil.copytree(given / "run", tmp_path / "run")
    arguments: dict[str, list[str | Path]] = {
        "export": [run, tmp_path / "new.file", "--format", "torch-export"],
        "check-data": [root, "-o", tmp_path / "new.file"],
        "compare": [run, given / "run", "--html", tmp_path / "new.file"],
    }
    assert selfreg(verb, *arguments[verb]) == 0
    assert not outside.exists()
    assert not (tmp_path / "new.file").is_symlink()


@pytest.mark.parametrize("target", ["dangling", "folder"])
def test_a_link_in_the_place_of_a_new_data_set_is_refused(target: str, tmp_path: Path) -> None:
    export = tmp_path / "export"
    for folder, name in (("JPEGImages", "a.jpg"), ("SegmentationClass", "a.png")):
        (export / folder).mkdir(parents=True)
        Image.fromarray(np.zeros((8, 8), np.uint8)).save(export / folder / name)
    outside = tmp_path / "outside"
    if target == "folder":
        outside.mkdir()
    (tmp_path / "new").symlink_to(outside)
    assert selfreg("import", export, tmp_path / "new") == 2
    assert not outside.exists() or not list(outside.iterdir())


@pytest.mark.parametrize("split", ["../../../.config/settings", "/tmp/settings", "..", "a/../../b"])
def test_the_name_of_a_split_leads_nowhere_else(
    split: str, given: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = shutil.copytree(given / "run", tmp_path / "a" / "b" / "run")
    before = sorted(tmp_path.rglob("*"))
    assert selfreg("evaluate", run, "--split", split) == 2
    config = run / "config.yaml"
    config.write_text(config.read_text(encoding="utf-8").replace("val_split: val", f"val_split: {split}"))
    assert selfreg("evaluate", run) == 2
    assert selfreg("train", given / "tiny.yaml", "--out", tmp_path / "x", "--set", f"data.train_split={split}") == 2
    for line in capsys.readouterr().err.strip().splitlines():
        assert line.startswith("error: ")
    assert sorted(tmp_path.rglob("*")) == before


def test_a_folder_keeps_what_this_program_did_not_write(given: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    strangers = [out / ".settings.tmpl", out / ".x.123.tmp.json", out / "pseudo.txt"]
    for path in strangers:
        path.write_text("mine")
    assert selfreg("pseudo", given / "weak.yaml", "--out", out) == 0
    (out / "pseudo" / "cat.png").write_text("mine")
    assert selfreg("pseudo", given / "weak.yaml", "--out", out, "--set", "pseudo.certain=0.3") == 0
    assert all(path.read_text() == "mine" for path in [*strangers, out / "pseudo" / "cat.png"])


@pytest.mark.slow
def test_no_process_imports_from_the_current_folder(given: Path, tmp_path: Path) -> None:
    """In a folder with a module of every name that can be imported, each of which says so when it is."""
    for module in ("selfreg.study.study", "selfreg.training", "selfreg.checking.report", "multiprocessing.forkserver"):
        importlib.import_module(module)
    names = {name.partition(".")[0] for name in [*sys.modules, *sys.stdlib_module_names]}
    assert {"typer", "torch", "lightning", "multiprocessing", "yaml", "numpy", "json"} <= names
    folder, marker = tmp_path / "data", tmp_path / "code-has-run"
    folder.mkdir()
    for name in (names | {"sitecustomize", "usercustomize"}) - {"__main__", "builtins", "sys"}:
        (folder / f"{name}.py").write_text(f"open({str(marker)!r}, 'a').write(__file__ + chr(10))\n")
    command = Path(sys.executable).with_name("selfreg")
    assert command.exists(), "the package is not installed"
    environment = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "PYTHONSAFEPATH")}
    root = write_folder(tmp_path / "set", splits={"train": 20, "val": 2})
    commands: tuple[list[str | Path], ...] = (
        ["check-data", root, "-o", tmp_path / "data.json"],
        ["study", given / "tiny.yaml", "--out", tmp_path / "study", *_ONE_RUN, "--set", "training.workers=1"],
    )
    for arguments in commands:
        ended = subprocess.run([command, *arguments], cwd=folder, env=environment, capture_output=True, text=True)
        assert ended.returncode == 0, ended.stderr
    assert not marker.exists(), marker.read_text()


GATEWAY = {"files.py", "input_files.py"}
ALLOWED = {
    ("study/runner.py", "subprocess.Popen"): "the one command that is started, with -P",
    ("config/loading.py", "yaml.load"): "a text, read by the gateway",
    ("study/runner.py", "os"): "looks for a function that not every system has",
    ("weights.py", "save"): "to memory",
    ("data/matlab.py", "loadmat"): "bytes, read by the gateway",
    ("inference/export.py", "onnx.save"): "the temporary file of the gateway",
    ("inference/export.py", "onnxruntime.InferenceSession"): "the file that was just written",
    ("inference/export.py", "torch.export.load"): "the file that was just written",
    ("inference/export.py", "torch.export.save"): "the temporary file of the gateway",
    ("report/rendering.py", "(folder / name).read_text"): "a template of this package",
    ("report/rendering.py", "(folder / 'page.css').read_text"): "a template of this package",
    ("importing/labelme.py", "Image.open"): "bytes, read by the gateway",
    ("importing/writing.py", "Image.open"): "bytes, read by the gateway",
    ("importing/writing.py", "place.parent.mkdir"): "in the new folder of the gateway",
    ("importing/writing.py", "target.parent.mkdir"): "in the new folder of the gateway",
    ("importing/writing.py", "picture.save"): "in the new folder of the gateway",
    ("importing/writing.py", "place.write_bytes"): "in the new folder of the gateway",
    ("importing/writing.py", "shutil.copyfile"): "an image that was opened by the gateway, into its new folder",
    ("seals.py", "os.open"): "the user's key, which no other process may read or replace",
    ("seals.py", "os.fdopen"): "the user's key",
    ("seals.py", "os.link"): "the user's key",
    ("study/score_cache.py", "np.load"): "bytes, read by the gateway and sealed",
    ("training/checkpoints.py", "trainer.save_checkpoint"): "of a process that does not write",
    ("workers.py", "get_context"): "the one process pool",
    ("workers.py", "ProcessPoolExecutor"): "the one process pool",
}


def test_every_place_that_opens_writes_deletes_or_starts_goes_through_the_gateway() -> None:
    """Writes: `selfreg.files`. Reads: `selfreg.input_files`, or `check_file` before a library opens the file."""
    found = [place for place in places(SOURCE) if place[0] not in GATEWAY]
    assert len(found) > 20, "the search finds nothing any more"
    past = [
        f"{name}: {expression}" for name, expression, good in found if not good and (name, expression) not in ALLOWED
    ]
    assert not past, "past the gateway: " + ", ".join(past)
    assert set(ALLOWED) <= {(name, expression) for name, expression, _ in found}, "ALLOWED names a place that is gone"


PLANTED = """
import os; os.open(path, 0)
import os as system; system.remove(path)
from os import open as opened; opened(path, 0)
import os; list(map(os.unlink, paths))
import os; getattr(os, "remove")(path)
import os; os.system(words)
import os; os.execvp(path, words)
import os; os.posix_spawn(path, words, {})
import os; os.truncate(path, 0)
import shutil; shutil.copy2(path, other)
from shutil import rmtree; rmtree(path)
import shutil; shutil.make_archive(path, "zip")
open(path)
opened = open; opened(path)
list(map(open, paths))
import io; io.open(path)
import codecs; codecs.open(path)
import gzip; gzip.open(path)
path.write_text("")
write = path.write_bytes; write(b"")
path.rename(other)
path.replace(other)
path.rmdir()
path.open()
import numpy as np; np.save(path, array)
from numpy import save; save(path, array)
import numpy as np; np.savetxt(path, array)
import numpy as np; np.load(path)
import numpy; numpy.lib.format.open_memmap(path)
import torch; torch.save(state, path)
from torch import load; load(path)
import torch; torch.hub.load(path, name)
picture.save(path)
from PIL import Image; Image.open(path)
import PIL.Image; PIL.Image.open(path)
import subprocess; subprocess.run(words)
from subprocess import Popen; Popen(words)
import subprocess; subprocess.getoutput(words)
import multiprocessing; multiprocessing.Process(target=work)
from multiprocessing import Process; Process(target=work)
import torch.multiprocessing as mp; mp.spawn(work)
from concurrent.futures import ProcessPoolExecutor; ProcessPoolExecutor(2)
import asyncio; asyncio.create_subprocess_exec(path)
import tempfile; tempfile.mkstemp()
import pickle; pickle.loads(content)
import zipfile; zipfile.ZipFile(path)
archive.extractall(path)
table.to_csv(path)
import json; json.dump(content, other)
from urllib.request import urlretrieve; urlretrieve(address, path)
from safetensors.torch import save_file; save_file(state, path)
import logging; logging.FileHandler(path)
import sqlite3; sqlite3.connect(path)
import ctypes; ctypes.CDLL(path)
import runpy; runpy.run_path(path)
exec(words)
"""


@pytest.mark.parametrize("line", PLANTED.strip().splitlines())
def test_the_search_finds_every_way_past_the_gateway(line: str, tmp_path: Path) -> None:
    (tmp_path / "module.py").write_text(line, encoding="utf-8")
    assert not all(good for _, _, good in places(tmp_path))


def test_the_search_leaves_alone_what_touches_no_file(tmp_path: Path) -> None:
    lines = ["import os; os.path.lexists(path)", "import io; io.BytesIO()", "text.replace('a', 'b')", "compile = 1"]
    (tmp_path / "module.py").write_text("\n".join(lines), encoding="utf-8")
    assert not list(places(tmp_path))
