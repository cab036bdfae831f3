"""Numbers at their edges: losses that break, extreme logits, few and many classes, void, small images and batches."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from fixtures.folder import write_folder
from selfreg.regulation import ExitOutputs, SelfRegulation
from selfreg.run import Run
from selfreg.training.task import SegmentationTask
from selfreg.training.unread_loss import broken_loss
from tiny import selfreg, write_config

BreakLoss = Callable[[set[int]], None]


@pytest.fixture
def break_loss(monkeypatch: pytest.MonkeyPatch) -> BreakLoss:
    """Poison the images of the given training steps, so that the network's outputs are NaN."""

    def poison(steps: set[int]) -> None:
        loss_of, calls = SegmentationTask.loss_of, iter(range(10_000))

        def poisoned(self: SegmentationTask, batch: dict[str, Tensor], progress: float) -> Any:
            if next(calls) in steps:
                batch = {**batch, "image": torch.full_like(batch["image"], float("nan"))}
            return loss_of(self, batch, progress)

        monkeypatch.setattr(SegmentationTask, "loss_of", poisoned)

    return poison


def folder_config(tmp_path: Path, size: tuple[int, int] = (64, 64), **sections: dict[str, Any]) -> Path:
    """A configuration of a generated folder of four and two images."""
    root = write_folder(tmp_path / "data", splits={"train": 4, "val": 2}, size=size)
    data = {"kind": "folder", "root": str(root), "options": {}, **sections.pop("data", {})}
    training = {"epochs": 2, "batch_size": 2, **sections.pop("training", {})}
    return write_config(tmp_path, data=data, training=training, **sections)


def test_a_loss_that_breaks_names_the_files_and_the_terms(
    tmp_path: Path, break_loss: BreakLoss, capsys: pytest.CaptureFixture[str]
) -> None:
    break_loss({3})
    assert selfreg("train", folder_config(tmp_path), "--out", tmp_path / "run") == 2
    error = capsys.readouterr().err.strip()
    assert error.count("\n") == 0
    assert "not finite at step 3: segmentation and classification" in error
    # the batch of that step, by its files
    assert error.count(str(tmp_path / "data" / "images" / "train")) == 2


def test_weights_of_a_broken_loss_are_not_saved_in_an_epoch_without_validation(
    tmp_path: Path, break_loss: BreakLoss
) -> None:
    break_loss({1})  # the last step of the first of two epochs
    config = folder_config(tmp_path, training={"validate_every": 5})
    assert selfreg("train", config, "--out", tmp_path / "run") == 2
    assert not Run(tmp_path / "run").weights_path("last").exists()


def test_batches_whose_loss_breaks_are_skipped_as_often_as_asked_and_counted(
    tmp_path: Path, break_loss: BreakLoss, capsys: pytest.CaptureFixture[str]
) -> None:
    break_loss({1, 2})
    config = folder_config(tmp_path, training={"skip_non_finite": 2})
    assert selfreg("train", config, "--out", tmp_path / "run", "--json") == 0
    printed = capsys.readouterr()
    summary = json.loads(printed.out)
    assert summary["skipped_batches"] == 2
    assert printed.err.count("skipped a batch whose loss is not finite") == 2
    assert summary["steps"] == 4
    # neither weights nor the statistics of batch norm have taken harm
    assert all(bool(tensor.isfinite().all()) for tensor in Run.open(tmp_path / "run").network().state_dict().values())
    break_loss({0, 1, 2})
    assert selfreg("train", config, "--out", tmp_path / "other") == 2
    assert "after 2 skipped batches" in capsys.readouterr().err


def test_a_skipped_batch_changes_no_weight(tmp_path: Path, break_loss: BreakLoss) -> None:
    break_loss(set(range(100)))
    config = folder_config(tmp_path, training={"skip_non_finite": 100, "epochs": 1, "weight_decay": 0.5})
    assert selfreg("train", config, "--out", tmp_path / "run") == 0
    run = Run.open(tmp_path / "run")
    from selfreg.opening import build_from_config

    first = build_from_config(run.config(), 3).state_dict()
    last = run.network().state_dict()
    assert all(torch.equal(first[key], last[key]) for key in first if "num_batches" not in key)


@pytest.mark.parametrize("variant", ["authors", "distill", "feature", "verified"])
@pytest.mark.parametrize("num_classes", [2, 1000])
@pytest.mark.parametrize("scale", [1.0, 1e4, 1e18])
@pytest.mark.parametrize("labels", ["mixed", "one class", "void"])
def test_losses_and_gradients_stay_finite(variant: Any, num_classes: int, scale: float, labels: str) -> None:
    generator = torch.Generator().manual_seed(0)

    def noise(*shape: int) -> Tensor:
        return (scale * torch.randn(*shape, generator=generator)).requires_grad_()

    maps = [noise(2, num_classes, 4, 4), noise(2, num_classes, 2, 2), noise(2, num_classes, 8, 8)]
    tags = [noise(2, num_classes) for _ in maps]
    features = [torch.randn(2, 3, 4, 4, generator=generator, requires_grad=True) for _ in maps]
    masks = {
        "mixed": torch.randint(0, num_classes, (2, 16, 16), generator=generator),
        "one class": torch.full((2, 16, 16), num_classes - 1),
        "void": torch.full((2, 16, 16), 255),
    }[labels]
    objective = SelfRegulation(variant, ignore_index=255 if num_classes < 255 else -1, warm_up=0.0)
    if num_classes > 255 and labels == "void":
        masks = torch.full((2, 16, 16), -1)
    terms = objective(ExitOutputs(maps, tags, features), masks, 1.0)
    assert bool(torch.isfinite(terms.total))
    terms.total.backward()  # type: ignore[no-untyped-call]
    for tensor in (*maps, *tags):
        assert tensor.grad is None or bool(tensor.grad.isfinite().all())
    if labels == "void":
        assert float(terms.segmentation.detach()) == 0


def write_masks_of(folder: Path, value: int) -> None:
    for mask in (folder / "data" / "masks").rglob("*.png"):
        Image.fromarray(np.full((64, 64), value, np.uint8)).save(mask)


def test_a_data_set_of_nothing_but_one_class_trains(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = folder_config(tmp_path)
    write_masks_of(tmp_path, 1)
    assert selfreg("train", config, "--out", tmp_path / "run", "--json") == 0
    assert json.loads(capsys.readouterr().out)["last_miou"] is not None
    assert selfreg("evaluate", tmp_path / "run", "--json") == 0
    assert json.loads(capsys.readouterr().out)["num_images"] == 2


def test_a_data_set_of_nothing_but_void_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = folder_config(tmp_path)
    write_masks_of(tmp_path, 255)
    assert selfreg("train", config, "--out", tmp_path / "run", "--json") == 2
    assert "training data: no pixel is labelled" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("size", [(33, 40), (70, 17)])
def test_images_smaller_than_the_crop_train(tmp_path: Path, size: tuple[int, int]) -> None:
    config = folder_config(tmp_path, size, data={"crop_size": [96, 96], "scale": [0.5, 1.0]})
    assert selfreg("train", config, "--out", tmp_path / "run", "--set", "training.epochs=1") == 0


def test_a_batch_of_one_trains_where_the_network_allows_it_and_else_says_why(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = folder_config(tmp_path, training={"batch_size": 1, "epochs": 1})
    assert selfreg("train", config, "--out", tmp_path / "run") == 0
    capsys.readouterr()
    # DeepLabV3+ pools the image to one value per channel before a batch norm
    network = ("--set", "network={name: 'smp:DeepLabV3Plus/tu-mobilenetv3_small_050'}")
    assert selfreg("train", config, "--out", tmp_path / "other", *network) == 2
    error = capsys.readouterr().err.strip()
    assert error.count("\n") == 0
    assert "training.batch_size" in error


def test_a_process_whose_terms_are_finite_says_that_another_one_broke() -> None:
    def told(value: float) -> str:
        terms = {"segmentation": torch.tensor(value), "sr_f": torch.tensor(0.25)}
        return broken_loss(terms, step=4, skipped=0, images="a, b")

    assert told(float("nan")).startswith(
        "the loss is not finite at step 4: segmentation broke (segmentation nan, sr_f 0.25"
    )
    assert told(0.5).startswith("the loss is not finite at step 4: another process broke (segmentation 0.5,")
