"""`selfreg pseudo` from start to end: what it leaves, what it does not look at, how it goes on, and training on it."""

import json
import shutil
import signal
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from processes import Command
from selfreg.config import load_config
from selfreg.data import PseudoLabels
from selfreg.files import locked
from selfreg.inference.evaluate import evaluate_folders
from selfreg.opening import build_from_config, open_training_split
from selfreg.run import Run
from selfreg.study import study
from selfreg.training.loaders import training_loader
from selfreg.training.preparation import describe
from selfreg.training.task import SegmentationTask
from selfreg.weak import classifier, pipeline, refine
from selfreg.weak.pipeline import PseudoResult, make_pseudo_masks
from selfreg.weak.stages import Stage, data_key
from selfreg.weak.tagged import open_tagged
from tiny import selfreg
from weak.tagged_folder import write_tagged_folder, write_weak_config


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tagged_folder(tmp_path_factory.mktemp("data") / "set")


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory, data: Path) -> Path:
    """The folder that the command leaves when nothing interrupts it."""
    folder = tmp_path_factory.mktemp("made")
    config = write_weak_config(folder, data)
    assert selfreg("pseudo", config, "--out", folder / "out", "--sweep") == 0
    return folder / "out"


def contents(folder: Path) -> dict[str, bytes]:
    """Name and bytes of the masks and confidences."""
    paths = [*folder.glob("pseudo/*.png"), *folder.glob("confidence/*.png")]
    return {str(path.relative_to(folder)): path.read_bytes() for path in paths}


def test_every_training_image_gets_a_mask_and_a_confidence_of_its_size(made: Path, data: Path) -> None:
    assert len(contents(made)) == 16
    tags = json.loads((data / "labels.json").read_text())["image_labels"]
    for number in range(8):
        mask = np.asarray(Image.open(made / "pseudo" / f"train{number}.png"))
        confidence = np.asarray(Image.open(made / "confidence" / f"train{number}.png"))
        assert mask.shape == confidence.shape == (64, 96)
        own = {["background", "red", "green", "blue"].index(name) for name in tags[f"train{number}"]}
        assert set(np.unique(mask).tolist()) <= own | {0, 255}
        assert (mask[confidence / 255 < 0.095] == 255).all()


def test_an_image_without_tags_is_background_with_certainty(made: Path) -> None:
    assert (np.asarray(Image.open(made / "pseudo" / "train4.png")) == 0).all()
    assert (np.asarray(Image.open(made / "confidence" / "train4.png")) == 255).all()


def test_each_stage_is_scored_and_the_threshold_swept(made: Path) -> None:
    scores = json.loads((made / "scores.json").read_text())
    assert set(scores["scores"]) == {"CAM", "pamr", "pseudo"}
    assert scores["scores"]["CAM"]["coverage"] == 1
    assert 0 < scores["scores"]["pseudo"]["miou_of_all"] <= scores["scores"]["pseudo"]["miou"] <= 1
    assert scores["sweep"]["0.15"] == scores["scores"]["CAM"]
    assert len(scores["sweep"]) == 12


def test_photographs_replaced_under_the_same_names_and_sizes_are_other_data(data: Path, tmp_path: Path) -> None:
    copy = tmp_path / "set"
    shutil.copytree(data, copy)
    config = load_config(write_weak_config(tmp_path, copy))
    before = data_key(open_tagged(config))
    image = next(iter(sorted((copy / "images" / "train").iterdir())))
    content = bytearray(image.read_bytes())
    content[len(content) // 2] ^= 1
    image.write_bytes(content)
    assert data_key(open_tagged(config)) != before


def test_masks_that_are_void_throughout_give_no_number(data: Path, made: Path, tmp_path: Path) -> None:
    copy, out = tmp_path / "set", tmp_path / "out"
    shutil.copytree(data, copy)
    shutil.copytree(made, out)
    for path in copy.glob("masks/train/*.png"):
        Image.fromarray(np.full((64, 96), 255, dtype=np.uint8)).save(path)
    assert selfreg("pseudo", write_weak_config(tmp_path, copy), "--out", out) == 0
    assert json.loads((out / "scores.json").read_text())["scores"]["pseudo"]["miou"] is None


def test_json_is_all_that_is_printed(
    made: Path, data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(made, tmp_path / "out")
    assert selfreg("pseudo", write_weak_config(tmp_path, data), "--out", tmp_path / "out", "--json") == 0
    assert json.loads(capsys.readouterr().out)["scores"]["pseudo"]["coverage"] <= 1


def test_the_page_shows_the_masks_and_the_scores(made: Path) -> None:
    page = (made / "index.html").read_text()
    assert "mIoU of pamr" in page
    assert "train7" in page


def test_the_score_of_the_masks_is_that_of_selfreg_evaluate(made: Path, data: Path) -> None:
    expected = evaluate_folders(made / "pseudo", data / "masks" / "train", 4, background=0)
    scores = json.loads((made / "scores.json").read_text())["scores"]["pseudo"]
    assert scores["miou_of_all"] == pytest.approx(expected["miou"])


def test_unreadable_masks_cost_the_scores_alone(data: Path, made: Path, tmp_path: Path) -> None:
    copy = tmp_path / "set"
    shutil.copytree(data, copy)
    for path in copy.glob("masks/train/*.png"):
        path.write_bytes(b"nobody reads me")
    config = write_weak_config(tmp_path, copy)
    assert selfreg("pseudo", config, "--out", tmp_path / "out") == 0
    assert contents(tmp_path / "out") == contents(made)
    assert "unreadable" in json.loads((tmp_path / "out" / "scores.json").read_text())["not_scored"]
    pseudo = f"data.pseudo={tmp_path / 'out'}"
    assert selfreg("train", config, "--set", pseudo, "--out", tmp_path / "run", "--quiet") == 0
    shutil.rmtree(copy / "masks" / "train")
    assert selfreg("pseudo", config, "--out", tmp_path / "out") == 0


@pytest.mark.parametrize("stage", ["classifier", "cam", "1-pamr", "pseudo"])
def test_a_command_killed_in_any_stage_goes_on_to_the_same_bits(
    stage: str, made: Path, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = load_config(write_weak_config(tmp_path, data))
    targets: dict[str, tuple[Any, str]] = {
        "classifier": (classifier, "tag_loss"),
        "cam": (sys.modules["selfreg.weak.cam"], "activation_maps"),
        "1-pamr": (refine, "save_scores"),
        "pseudo": (sys.modules["selfreg.weak.pseudo_masks"], "save_index_png"),
    }
    module, name = targets[stage]
    function, calls = getattr(module, name), []

    def count(*arguments: Any, **options: Any) -> Any:
        calls.append(name)
        return function(*arguments, **options)

    def fail_at_the_fourth_call(*arguments: Any, **options: Any) -> Any:
        calls.append(name)
        if len(calls) == 4:
            raise KeyboardInterrupt
        return function(*arguments, **options)

    with monkeypatch.context() as patch:
        patch.setattr(module, name, fail_at_the_fourth_call)
        with pytest.raises(KeyboardInterrupt):
            make_pseudo_masks(config, tmp_path / "out")
    assert not (tmp_path / "out" / "pseudo.json").exists()
    calls.clear()
    monkeypatch.setattr(module, name, count)
    make_pseudo_masks(config, tmp_path / "out")
    # the classifier goes on after the first of its six epochs of two steps, the others after three images of eight
    assert len(calls) == (10 if stage == "classifier" else 5)
    assert contents(tmp_path / "out") == contents(made)


def test_a_killed_process_leaves_a_folder_that_the_next_one_finishes(made: Path, data: Path, tmp_path: Path) -> None:
    config = write_weak_config(tmp_path, data)
    out = tmp_path / "out"
    command = Command(tmp_path, "pseudo", config, "--out", out)
    deadline = time.monotonic() + 200
    while not list(out.glob("stages/*/*")) and time.monotonic() < deadline and command.running:
        time.sleep(0.01)
    command.signal_group(signal.SIGKILL)
    command.wait()
    assert list(out.glob("stages/*/*"))
    make_pseudo_masks(load_config(config), out)
    assert contents(out) == contents(made)


def computed(out: Path, config: Path, monkeypatch: pytest.MonkeyPatch, *overrides: str) -> set[str]:
    """The stages that the command computes anything of, with some keys overridden."""
    names: set[str] = set()
    finish = Stage.finish

    def note(stage: Stage) -> None:
        names.add(stage.name)
        finish(stage)

    with monkeypatch.context() as patch:
        patch.setattr(Stage, "finish", note)
        make_pseudo_masks(load_config(config, overrides), out)
    return names


def test_a_changed_option_computes_what_depends_on_it_and_no_more(
    made: Path, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out"
    shutil.copytree(made, out)
    config = write_weak_config(tmp_path, data)
    before = contents(out)
    assert computed(out, config, monkeypatch) == set()
    assert computed(out, config, monkeypatch, "pseudo.certain=0.5") == set()
    assert contents(out) != before
    assert computed(out, config, monkeypatch, "cam.background_threshold=0.4") == {"1-pamr"}
    assert computed(out, config, monkeypatch, "cam.flip=false") == {"cam", "1-pamr"}
    assert computed(out, config, monkeypatch, "refinement=[]") == set()
    assert computed(out, config, monkeypatch, "classifier.epochs=1") == {"classifier", "cam", "1-pamr"}
    assert computed(out, config, monkeypatch) == set()
    assert contents(out) == before


def test_data_that_changed_are_seen_and_data_that_moved_are_not(
    made: Path, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out, copy = tmp_path / "out", tmp_path / "elsewhere"
    shutil.copytree(made, out)
    shutil.copytree(data, copy)
    config = write_weak_config(tmp_path, copy)
    assert computed(out, config, monkeypatch) == set()
    content = json.loads((copy / "labels.json").read_text())
    content["image_labels"]["train0"] = ["blue"]
    (copy / "labels.json").write_text(json.dumps(content))
    assert "classifier" in computed(out, config, monkeypatch)


def test_training_takes_the_masks_the_true_tags_and_the_confidence(made: Path, data: Path, tmp_path: Path) -> None:
    config = load_config(write_weak_config(tmp_path, data, data={"pseudo": str(made)}))
    source = open_training_split(config)
    assert isinstance(source, PseudoLabels)
    tags = json.loads((data / "labels.json").read_text())["image_labels"]
    for index, image_id in enumerate(source.ids):
        named = {source.labels.class_names[number] for number in np.flatnonzero(source.tags(index))}
        assert named == {"background", *tags[image_id]}
    batch = next(iter(training_loader(config, source, describe(config, source))))
    assert set(batch) == {"image", "mask", "index", "tags", "confidence"}
    plain = config.model_copy(update={"data": config.data.model_copy(update={"confidence": False})})
    assert "confidence" not in next(iter(training_loader(plain, open_training_split(plain), describe(plain, source))))


@pytest.mark.parametrize("arm", ["base", "full"])
def test_tags_change_the_classification_term_and_confidence_the_segmentation_term(
    arm: str, made: Path, data: Path, tmp_path: Path
) -> None:
    config = load_config(write_weak_config(tmp_path, data, data={"pseudo": str(made)}, method={"arm": arm}))
    source = open_training_split(config)
    batch = next(iter(training_loader(config, source, describe(config, source))))
    task = SegmentationTask(config, build_from_config(config, 4), 4, total_steps=10).eval()
    if arm == "full":
        task.model.training = True
    with torch.no_grad():
        raw = task.loss_of(batch, 0.0)[1]
        other_tags = task.loss_of({**batch, "tags": 1 - batch["tags"]}, 0.0)[1]
        unsure = batch["confidence"] * torch.rand_like(batch["confidence"])
        other_confidence = task.loss_of({**batch, "confidence": unsure}, 0.0)[1]
    assert other_tags["segmentation"] == raw["segmentation"]
    assert other_confidence["segmentation"] != raw["segmentation"]
    if arm == "full":
        assert other_tags["classification"] != raw["classification"]
        assert other_confidence["classification"] == raw["classification"]


def test_a_run_on_pseudo_masks_is_measured_on_true_ones(made: Path, data: Path, tmp_path: Path) -> None:
    config = write_weak_config(tmp_path, data)
    assert selfreg("train", config, "--set", f"data.pseudo={made}", "--out", tmp_path / "run", "--quiet") == 0
    assert selfreg("evaluate", tmp_path / "run", "--split", "train") == 0
    source = Run.open(tmp_path / "run").source("train")
    assert np.array_equal(source.read(0).mask, np.asarray(Image.open(data / "masks" / "train" / "train0.png")))


def test_a_study_needs_no_training_masks(made: Path, data: Path, tmp_path: Path) -> None:
    shutil.copytree(data, tmp_path / "set")
    shutil.rmtree(tmp_path / "set" / "masks" / "train")
    config = write_weak_config(tmp_path, tmp_path / "set")
    assert len(study.open_evaluated_split(load_config(config, [f"data.pseudo={made}"]))) == 4
    with pytest.raises(ValueError, match="masks"):
        study.open_evaluated_split(load_config(config))


def test_training_without_the_masks_says_which_is_missing(data: Path, tmp_path: Path) -> None:
    config = load_config(write_weak_config(tmp_path, data, data={"pseudo": str(tmp_path / "nothing")}))
    with pytest.raises(ValueError, match=r"train0\.png: no such pseudo mask \(8 of 8 missing\): run `selfreg pseudo`"):
        open_training_split(config)


def test_a_folder_that_another_process_works_in_is_refused(data: Path, tmp_path: Path) -> None:
    config = load_config(write_weak_config(tmp_path, data))
    (tmp_path / "out").mkdir()
    with (
        locked(tmp_path / "out", "making pseudo masks"),
        pytest.raises(ValueError, match="another process is making pseudo masks here"),
    ):
        make_pseudo_masks(config, tmp_path / "out")


def test_masks_of_somebody_else_are_not_overwritten(data: Path, made: Path, tmp_path: Path) -> None:
    config = load_config(write_weak_config(tmp_path, data))
    shutil.copytree(made, tmp_path / "out")
    (tmp_path / "out" / "pseudo.key").unlink()
    with pytest.raises(ValueError, match="was not made by this command"):
        make_pseudo_masks(config, tmp_path / "out")


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("refinement=[pmar]", "refinement"),
        ("refinement=[{name: pamr, options: {iteration: 3}}]", "iteration"),
        ("classifier.taps=[backbone.stages.9]", "stages.9"),
        ("classifier.backbone=resnet51", "resnet51"),
        ("classifier.epoch=3", "classifier.epochs"),
        ("classifier.batch_size=9", "batch_size"),
        ("data.kind=scenes", "no image-level tags"),
    ],
)
def test_what_does_not_fit_is_refused_in_one_line(
    override: str, message: str, data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = write_weak_config(tmp_path, data)
    assert selfreg("pseudo", config, "--set", override, "--out", tmp_path / "out") == 2
    last = capsys.readouterr().err.strip().splitlines()[-1]
    assert last.startswith("error: ")
    assert message in last


def test_exits_of_the_classifier_take_part(data: Path, tmp_path: Path) -> None:
    options = {"taps": ["backbone.stages.3"], "epochs": 1}
    config = load_config(
        write_weak_config(tmp_path, data, classifier=options, cam={"depths": 2, "scales": [1.0]}, refinement=[])
    )
    result: PseudoResult = make_pseudo_masks(config, tmp_path / "out")
    assert set(result.scores) == {"CAM", "pseudo"}
    pipeline.print_result(result)
