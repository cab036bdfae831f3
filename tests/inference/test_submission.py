"""`selfreg evaluate --format cityscapes`, and the options of prediction of `evaluate`."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from fixtures.layouts import write_cityscapes
from selfreg.data import read_image
from selfreg.data.cityscapes import CITYSCAPES_LABELS, label_id_table
from selfreg.inference.predictor import predictor_of
from selfreg.run import Run
from tiny import selfreg, untrained_run

NAMES = CITYSCAPES_LABELS.class_names[::-1]


@pytest.fixture
def run(tmp_path: Path) -> Run:
    """A run of the classes of Cityscapes, in another order."""
    write_cityscapes(tmp_path / "data")
    return untrained_run(tmp_path / "run", NAMES, data={"kind": "cityscapes", "root": str(tmp_path / "data")})


def test_a_submission_holds_the_label_ids_of_the_predicted_classes(run: Run, tmp_path: Path) -> None:
    out = tmp_path / "out"
    options = ("--scales", "0.5,1", "--flip", "--tile", "128")
    assert selfreg("evaluate", run.folder, "--split", "train", "--format", "cityscapes", "-o", out, *options) == 0
    assert sorted(path.name for path in out.iterdir()) == [
        "aachen_000000_000019_gtFine_labelIds.png",
        "aachen_000001_000019_gtFine_labelIds.png",
        "ulm_000000_000019_gtFine_labelIds.png",
    ]
    predictor = predictor_of(run, scales=(0.5, 1.0), flip=True, tile=128)
    for path in out.iterdir():
        city, name = path.name.split("_")[0], path.name.removesuffix("_gtFine_labelIds.png")
        classes = predictor(read_image(tmp_path / f"data/leftImg8bit/train/{city}/{name}_leftImg8bit.png"))
        with Image.open(path) as picture:
            assert picture.mode == "L"
            train_ids = label_id_table()[np.asarray(picture)]
        assert np.array_equal(np.array(NAMES)[classes], np.array(CITYSCAPES_LABELS.class_names)[train_ids])


def test_a_submission_needs_no_masks(run: Run, tmp_path: Path) -> None:
    for mask in (tmp_path / "data/gtFine/val").rglob("*.png"):
        mask.unlink()
    assert selfreg("evaluate", run.folder, "--format", "cityscapes", "--out", tmp_path / "out") == 0
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["lindau_000000_000019_gtFine_labelIds.png"]
    assert not run.evaluation_path("val").exists()


def test_a_submission_never_replaces_the_ground_truth(
    run: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    masks = tmp_path / "data/gtFine/val/lindau"
    before = {path: path.read_bytes() for path in masks.iterdir()}
    assert selfreg("evaluate", run.folder, "--format", "cityscapes", "--out", masks) == 2
    assert "choose another --out" in capsys.readouterr().err
    assert {path: path.read_bytes() for path in masks.iterdir()} == before


def test_runs_of_other_classes_or_names_give_no_submission(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    scenes = untrained_run(tmp_path / "scenes", ("road", "sky"))
    assert selfreg("evaluate", scenes.folder, "--format", "cityscapes", "--out", tmp_path / "out") == 2
    assert "needs a run of the 19 classes of Cityscapes" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["--format", "cityscapes"], "--format cityscapes and --out FOLDER belong together"),
        (["--out", "out"], "--format cityscapes and --out FOLDER belong together"),
        (["--format", "voc", "--out", "out"], "--format voc: use cityscapes"),
        (["--scales", "a,b"], "--scales a,b: give numbers separated by commas"),
        (["--tile", "64"], "validation.tile"),
        (["--num-classes", "3"], "--num-classes: has no effect on the run"),
        (["--background", "0"], "--background: has no effect on the run"),
    ],
)
def test_options_that_do_not_fit_are_refused(
    run: Run, capsys: pytest.CaptureFixture[str], arguments: list[str], told: str
) -> None:
    assert selfreg("evaluate", run.folder, *arguments) == 2
    assert told in capsys.readouterr().err


@pytest.mark.parametrize("option", ["--num-classes=3", "--background=0", "--ignore-index=3", "--images=."])
def test_options_of_folders_are_refused_where_runs_are_compared(
    run: Run, capsys: pytest.CaptureFixture[str], option: str
) -> None:
    assert selfreg("compare", run.folder, run.folder, option) == 2
    assert f"{option.split('=')[0]}: has no effect on the run" in capsys.readouterr().err


@pytest.mark.parametrize("option", ["--split=val", "--set=data.root=x", "--weights=best"])
def test_options_of_runs_are_refused_where_folders_are_compared(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], option: str
) -> None:
    assert selfreg("compare", tmp_path, tmp_path, "--labels", tmp_path, "--num-classes", "2", option) == 2
    assert f"{option.split('=')[0]}: has no effect on folders of index PNGs" in capsys.readouterr().err


@pytest.mark.parametrize("option", ["--flip", "--split=val", "--set=data.root=x", "--weights=best", "--shard=1/2"])
def test_options_of_runs_are_refused_for_anybodys_maps(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], option: str
) -> None:
    folders = ("--predictions", tmp_path, "--labels", tmp_path, "--num-classes", "2")
    assert selfreg("evaluate", *folders, option) == 2
    assert "has no effect on folders of index PNGs" in capsys.readouterr().err
