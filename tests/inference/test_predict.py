"""`selfreg predict`: folders with folders in them, splits, probabilities, overlays, unreadable files, ONNX files."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import selfreg as package
from fixtures.folder import photograph, write_folder
from selfreg.inference.photographs import find_images, output_names
from selfreg.run import Run
from tiny import QUICK_TO_EXPORT, selfreg, write_config

SIZE = (64, 96)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data set in `data`, a run on it in `run`, and the run exported to `model.onnx`."""
    place = tmp_path_factory.mktemp("place")
    write_folder(place / "data", splits={"train": 4, "val": 2}, size=SIZE)
    data = {"kind": "folder", "root": str(place / "data"), "options": {}}
    config = write_config(place, data=data, network=QUICK_TO_EXPORT, training={"epochs": 1})
    assert selfreg("train", config, "--out", place / "run", "--no-page") == 0
    assert selfreg("export", place / "run", place / "model.onnx") == 0
    return place


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """Two photographs of one name in two folders, and one beside the folders."""
    for seed, name in enumerate(("a/0001.jpg", "b/0001.jpg", "top.png")):
        path = tmp_path / "photos" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(photograph(*SIZE, seed)).save(path)
    return tmp_path / "photos"


def read(path: Path) -> np.ndarray[tuple[int, ...], np.dtype[np.uint8]]:
    with Image.open(path) as picture:
        return np.asarray(picture)


def test_class_maps_keep_the_folders_of_their_photographs(place: Path, photos: Path, tmp_path: Path) -> None:
    assert selfreg("predict", place / "run", photos, "-o", tmp_path / "out") == 0
    written = sorted(path.relative_to(tmp_path / "out").as_posix() for path in (tmp_path / "out").rglob("*.png"))
    assert written == ["a/0001.png", "b/0001.png", "top.png"]
    model = package.load(place / "run")
    for name in ("a/0001", "b/0001"):
        assert np.array_equal(read(tmp_path / "out" / f"{name}.png"), model.predict(photos / f"{name}.jpg"))


@pytest.mark.parametrize("names", [("a.jpg", "a.png"), ("x/a.jpg", "x/a.tif"), ("a.JPG", "a.jpeg")])
def test_photographs_of_one_name_in_one_folder_are_refused(tmp_path: Path, names: tuple[str, str]) -> None:
    for name in names:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (8, 8)).save(path)
    with pytest.raises(ValueError, match="rename"):
        find_images(tmp_path)


def test_listed_photographs_of_one_name_need_a_common_root(tmp_path: Path) -> None:
    paths = [tmp_path / "a" / "1.jpg", tmp_path / "b" / "1.jpg"]
    assert output_names(paths, tmp_path) == ["a/1", "b/1"]
    with pytest.raises(ValueError, match="rename"):
        output_names(paths)


def test_two_images_of_one_id_in_a_split_are_refused(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = Run.open(place / "run").source("val")
    monkeypatch.setattr(source, "ids", ("v0", "v0"))
    monkeypatch.setattr(Run, "source", lambda *_, **__: source)
    assert selfreg("evaluate", place / "run") == 2


def test_predictions_below_the_photographs_are_not_photographs(place: Path, photos: Path) -> None:
    for _ in range(2):
        assert selfreg("predict", place / "run", photos, "-o", photos / "masks", "--overlay") == 0
    assert sorted(path.name for path in (photos / "masks").glob("*")) == ["a", "b", "overlays", "top.png"]


def test_a_photograph_is_never_overwritten(place: Path, photos: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = (photos / "top.png").read_bytes()
    capsys.readouterr()
    assert selfreg("predict", place / "run", photos, "-o", photos) == 2
    assert "would replace this photograph" in capsys.readouterr().err
    assert (photos / "top.png").read_bytes() == before


def test_unreadable_photographs_are_skipped_counted_and_named(
    place: Path, photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (photos / "b" / "cut.png").write_bytes((photos / "top.png").read_bytes()[:100])
    (photos / "b" / "text.jpg").write_text("no picture", encoding="utf-8")
    capsys.readouterr()
    assert selfreg("predict", place / "run", photos, "-o", tmp_path / "out") == 1
    printed = capsys.readouterr()
    assert "3 masks" in printed.out
    assert "cut.png" in printed.err
    assert "text.jpg" in printed.err
    assert "2 images could not be read" in printed.err
    assert len(list((tmp_path / "out").rglob("*.png"))) == 3


def test_probabilities_sum_to_one_and_agree_with_the_class_map(place: Path, photos: Path, tmp_path: Path) -> None:
    for form in ("npy", "png"):
        arguments: list[str | Path] = [
            "predict",
            place / "run",
            photos,
            "-o",
            tmp_path / form,
            "--probabilities",
            form,
            "--tile",
            "128",
        ]
        assert selfreg(*arguments) == 0
    probabilities = np.load(tmp_path / "npy" / "probabilities" / "a" / "0001.npy")
    assert probabilities.dtype == np.float16
    assert probabilities.shape == (3, *SIZE)
    assert np.allclose(probabilities.astype(np.float32).sum(0), 1, atol=2e-3)
    mask = read(tmp_path / "npy" / "a" / "0001.png")
    chosen = np.take_along_axis(probabilities, mask[None].astype(np.int64), 0)[0]
    assert np.all(chosen >= probabilities.max(0) - 1e-3)
    for index in range(3):
        plane = read(tmp_path / "png" / "probabilities" / "a" / "0001" / f"{index:03d}.png")
        assert np.abs(plane / 255 - probabilities[index].astype(np.float32)).max() < 0.51 / 255 + 1e-3


def test_probabilities_of_several_views_sum_to_one(place: Path, photos: Path) -> None:
    model = package.load(place / "run", flip=True, scales=(0.5, 1.0))
    probabilities = model.probabilities(photos / "top.png").astype(np.float32)
    assert np.allclose(probabilities.sum(0), 1, atol=2e-3)


def test_an_overlay_leaves_the_photograph_visible_and_names_its_classes(
    place: Path, photos: Path, tmp_path: Path
) -> None:
    assert selfreg("predict", place / "run", photos / "top.png", "-o", tmp_path / "out", "--overlay") == 0
    overlay, image = read(tmp_path / "out" / "overlays" / "top.jpg"), read(photos / "top.png")
    mask = read(tmp_path / "out" / "top.png")
    assert overlay.shape[1] == SIZE[1]
    assert overlay.shape[0] > SIZE[0]
    blended = 0.55 * image + 0.45 * Run.open(place / "run").info().palette_array()[mask]
    assert np.abs(overlay[: SIZE[0]] - blended).mean() < 12
    legend = overlay[SIZE[0] :].reshape(-1, 3).astype(int)
    for index in np.unique(mask):
        colour = Run.open(place / "run").info().palette_array()[index].astype(int)
        assert np.abs(legend - colour).sum(1).min() < 40


def test_a_split_is_predicted_under_its_ids_with_or_without_masks(place: Path, tmp_path: Path) -> None:
    assert selfreg("predict", place / "run", "--split", "val", "-o", tmp_path / "val") == 0
    assert sorted(path.name for path in (tmp_path / "val").iterdir()) == ["v0.png", "v1.png"]
    root = tmp_path / "unlabelled"
    for number in range(2):
        path = root / "images" / "test" / "city" / f"{number}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(photograph(*SIZE, number)).save(path)
    (root / "labels.json").write_text(json.dumps({"classes": ["sky", "road", "car"], "void": 255}), encoding="utf-8")
    (root / "masks" / "test").mkdir(parents=True)
    arguments: list[str | Path] = ["--split", "test", "--set", f"data.root={root}", "-o", tmp_path / "test"]
    assert selfreg("predict", place / "run", *arguments) == 0
    assert sorted(path.name for path in (tmp_path / "test" / "city").iterdir()) == ["0.png", "1.png"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "give photographs, or --split"),
        (["{photos}", "--split", "val"], "give photographs, or --split"),
        (["{photos}", "--set", "data.root=x"], "no effect without --split"),
        (["--split", "val", "--set", "network.name=bogus"], "has no effect on `selfreg predict`"),
        (["{photos}", "--probabilities", "jpg"], "use npy or png"),
        (["{photos}/nope.jpg"], "no such file or folder"),
    ],
)
def test_what_predict_cannot_do_is_refused_in_one_line(
    place: Path, photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], message: str
) -> None:
    words = [word.replace("{photos}", str(photos)) for word in arguments]
    capsys.readouterr()
    assert selfreg("predict", place / "run", *words, "-o", tmp_path / "out") == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1


def test_an_onnx_file_predicts_as_its_run_does(place: Path, photos: Path, tmp_path: Path) -> None:
    assert selfreg("predict", place / "run", photos, "-o", tmp_path / "run") == 0
    assert selfreg("predict", place / "model.onnx", photos, "-o", tmp_path / "onnx") == 0
    for path in (tmp_path / "run").rglob("*.png"):
        found = read(tmp_path / "onnx" / path.relative_to(tmp_path / "run"))
        assert (found == read(path)).mean() > 0.999
        with Image.open(path) as one, Image.open(tmp_path / "onnx" / path.relative_to(tmp_path / "run")) as other:
            assert one.getpalette()[:9] == other.getpalette()[:9]  # type: ignore[index]
    assert package.load(place / "model.onnx").class_names == ("sky", "road", "car")


@pytest.mark.parametrize("content", [b"", b"no model", None])
def test_an_onnx_file_of_somebody_else_is_refused_by_name(
    photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], content: bytes | None
) -> None:
    path = tmp_path / "x.onnx"
    if content is not None:
        path.write_bytes(content)
    capsys.readouterr()
    assert selfreg("predict", path, photos, "-o", tmp_path / "out") == 2
    assert "x.onnx" in capsys.readouterr().err


def test_arrays_pictures_and_paths_give_one_map(place: Path, photos: Path) -> None:
    model = package.load(place / "run")
    expected = model.predict(photos / "top.png")
    with Image.open(photos / "top.png") as picture:
        assert np.array_equal(model.predict(picture), expected)
        assert np.array_equal(model.predict(np.asarray(picture)), expected)
    assert np.array_equal(model.predict(str(photos / "top.png")), expected)
    assert model.picture(expected, photos / "top.png").size == SIZE[::-1]
    with pytest.raises(ValueError, match="float64"):
        model.predict(np.zeros((4, 4, 3)))
