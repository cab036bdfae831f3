"""A share of these inputs through the command, as users meet them: exit status 2, one line, the file by its name."""

import json
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from safetensors.torch import load_file, save_file

from fixtures.folder import write_folder
from malformed.pieces import CLASSES, COLOURS, Write, content, cut, dangling, folder, loop, png, saved, text, turned
from selfreg.run import Run
from tiny import selfreg, write_config

Arguments = Sequence[str | Path]


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("trained")
    assert selfreg("train", write_config(place, training={"epochs": 1}), "--out", place / "run", "--quiet") == 0
    return place / "run"


@pytest.fixture
def run(trained: Path, tmp_path: Path) -> Path:
    """A copy of the run, to be broken."""
    return Path(shutil.copytree(trained, tmp_path / "run"))


def assert_refused(arguments: Arguments, path: Path, capsys: pytest.CaptureFixture[str]) -> str:
    """Exit status 2, and one line on stderr that names the file."""
    capsys.readouterr()
    assert selfreg(*arguments) == 2
    said = capsys.readouterr().err.strip()
    assert len(said.splitlines()) == 1
    assert said.startswith("error: ")
    assert str(path) in said
    assert "Traceback" not in said
    return said


PHOTOGRAPHS: dict[str, Write] = {
    "cut PNG": content(cut(saved(COLOURS, "PNG"), 0.5)),
    "cut JPEG": content(cut(saved(COLOURS, "JPEG"), 0.7)),
    "empty": content(b""),
    "text": text("x"),
    "bomb": content(png(100_000, 100_000, b"\0")),
    "16 bits": content(saved(np.zeros((4, 4), np.uint16), "PNG")),
    "animation": content(saved(COLOURS, "GIF", save_all=True, append_images=[Image.fromarray(COLOURS[::-1].copy())])),
    "folder without images": folder,
    "dangling link": dangling,
    "link to itself": loop,
}


@pytest.mark.parametrize("name", PHOTOGRAPHS)
def test_predict_refuses_a_broken_photograph(
    trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    path = tmp_path / "x.png"
    PHOTOGRAPHS[name](path)
    assert_refused(["predict", trained, path, "-o", tmp_path / "out"], path, capsys)
    assert not (tmp_path / "out").exists()


SOUND: dict[str, bytes] = {
    "one pixel": saved(COLOURS[:1, :1].copy(), "PNG"),
    "one row": saved(COLOURS[:1].copy(), "PNG"),
    "grey": saved(CLASSES * np.uint8(80), "PNG"),
    "alpha": saved(Image.fromarray(COLOURS).convert("RGBA"), "PNG"),
    "CMYK": saved(Image.fromarray(COLOURS).convert("CMYK"), "JPEG"),
    "turned": saved(COLOURS, "JPEG", exif=turned(6)),
}


@pytest.mark.parametrize("name", SOUND)
def test_predict_takes_an_odd_photograph(trained: Path, tmp_path: Path, name: str) -> None:
    path = tmp_path / "x.jpg"
    path.write_bytes(SOUND[name])
    assert selfreg("predict", trained, path, "-o", tmp_path / "out", "--overlay") == 0
    with Image.open(path) as picture, Image.open(tmp_path / "out" / "x.png") as mask:
        size = picture.size[::-1] if name == "turned" else picture.size
        assert mask.size == size
    with Image.open(tmp_path / "out" / "overlays" / "x.jpg") as overlay:
        # the legend of the classes lies below the photograph
        assert overlay.width == size[0]
        assert overlay.height > size[1]


def _nan(run: Path) -> Path:
    path = Run(run).weights_path("last")
    weights = load_file(path)
    next(value for value in weights.values() if value.is_floating_point()).view(-1)[0] = float("nan")
    save_file(weights, path)
    return path


def _lacking(run: Path) -> Path:
    path = Run(run).weights_path("last")
    weights = load_file(path)
    weights.popitem()
    save_file(weights, path)
    return path


def _written(place: str, write: Write) -> Callable[[Path], Path]:
    def change(run: Path) -> Path:
        path = run / place
        if path.is_dir():
            shutil.rmtree(path)
        path.unlink(missing_ok=True)
        write(path)
        return path

    return change


def _class_less(run: Path) -> Path:
    path = run / "run.json"
    info = json.loads(path.read_text(encoding="utf-8"))
    path.write_text(json.dumps({**info, "class_names": []}), encoding="utf-8")
    return path


RUNS: dict[str, Callable[[Path], Path]] = {
    "NaN in its weights": _nan,
    "a weight that lacks": _lacking,
    "empty weights": _written("checkpoints/last.safetensors", content(b"")),
    "weights of text": _written("checkpoints/last.safetensors", text("x")),
    "a folder for weights": _written("checkpoints/last.safetensors", folder),
    "no classes": _class_less,
    "a description of text": _written("run.json", text("x")),
    "a description 100,000 deep": _written("run.json", text("[" * 100_000)),
    "a configuration of bytes": _written("config.yaml", content(bytes(range(256)))),
    "a configuration of aliases": _written("config.yaml", text("seed: &a [1]\ndata: *a\n")),
    "a folder for its configuration": _written("config.yaml", folder),
}


@pytest.mark.parametrize("name", RUNS)
def test_evaluate_refuses_a_broken_run(run: Path, capsys: pytest.CaptureFixture[str], name: str) -> None:
    path = RUNS[name](run)
    shutil.rmtree(run / "evaluation", ignore_errors=True)
    assert_refused(["evaluate", run], path, capsys)


CONFIGURATIONS: dict[str, Write] = {
    "text": text("train it"),
    "bytes": content(bytes(64)),
    "UTF-16": content("seed: 1".encode("utf-16")),
    "nested": text("[" * 10_000),
    "aliases": text("seed: &a [1]\ndata: *a\n"),
    "key twice": text("seed: 1\nseed: 2\n"),
    "NaN": text("training: {learning_rate: .nan}\n"),
    "unknown key": text("trainig: {epochs: 1}\n"),
    "folder": folder,
    "link to itself": loop,
    "nothing": str,
}


@pytest.mark.parametrize("name", CONFIGURATIONS)
def test_train_refuses_a_broken_configuration(tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str) -> None:
    path = tmp_path / "c.yaml"
    CONFIGURATIONS[name](path)
    assert_refused(["train", path, "--out", tmp_path / "run"], path, capsys)
    assert not (tmp_path / "run").exists()


DATA: dict[str, tuple[str, Write]] = {
    "no labels": ("labels.json", str),
    "labels of text": ("labels.json", text("x")),
    "labels of one word": ("labels.json", text('{"classes": "sky"}')),
    "a void that is a class": ("labels.json", text('{"classes": ["sky", "road", "car"], "void": 0}')),
    "a mask of colours": ("masks/train/t0.png", content(saved(COLOURS, "PNG"))),
    "a mask of another size": ("masks/train/t0.png", content(saved(np.zeros((3, 3), np.uint8), "PNG"))),
    "a mask with a value of no class": ("masks/train/t0.png", content(saved(np.full((24, 32), 9, np.uint8), "PNG"))),
    "a cut mask": ("masks/train/t0.png", content(cut(saved(CLASSES, "PNG"), 0.6))),
    "a JPEG for a mask": ("masks/train/t0.png", content(saved(CLASSES, "JPEG"))),
    "a cut image": ("images/train/t0.jpg", content(cut(saved(COLOURS, "JPEG"), 0.6))),
    "a file for the images": ("images/train", text("x")),
}


@pytest.mark.parametrize("name", DATA)
def test_train_refuses_broken_data(tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str) -> None:
    root = write_folder(tmp_path / "data")
    place, write = DATA[name]
    path = root / place
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink()
    write(path)
    data = {"kind": "folder", "root": str(root), "options": {}, "crop_size": [32, 32]}
    config = write_config(tmp_path, data=data, training={"batch_size": 2})
    assert_refused(["train", config, "--out", tmp_path / "run", "--quiet"], path, capsys)


@pytest.mark.parametrize("options", [{"size": 5}, {"length": "many"}, {"length": 4, "size": "big"}, {"colour": "blue"}])
def test_train_refuses_options_of_the_wrong_kind(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], options: dict[str, object]
) -> None:
    config = write_config(tmp_path, data={"options": options})
    assert_refused(["train", config, "--out", tmp_path / "run", "--quiet"], Path("data.options"), capsys)


@pytest.mark.parametrize("split", ["../x", "/x", "a/../../x"])
def test_evaluate_writes_nowhere_but_into_its_run(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], split: str
) -> None:
    assert_refused(["evaluate", run, "--split", split], Path(split), capsys)
    assert not (tmp_path / "x.json").exists()
    assert not (run / "x.json").exists()
