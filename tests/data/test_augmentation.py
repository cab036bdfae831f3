"""Rotation, and augmentations of people's own: image, mask and confidence stay on one grid."""

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

from selfreg.data import Draw, Labels, Pair, Scenes, SeededSampler, TrainingSet
from selfreg.data.augmentation import Augmentation, rotate_crop, size_before_rotation
from tiny import selfreg, write_config

CODE = """
import random
import numpy as np

def mirrored():
    return lambda image, mask: {"image": image[:, ::-1], "mask": mask[:, ::-1]}

def random_row():
    def augment(image, mask):
        image = image.copy()
        image[:] = [random.randrange(256), np.random.randint(256), 0]
        return {"image": image, "mask": mask}
    return augment

def image_alone():
    return lambda image, mask: {"image": image}

def normalised():
    return lambda image, mask: {"image": image / np.float32(255), "mask": mask}

def blurred_mask():
    return lambda image, mask: {"image": image, "mask": mask // 2 + 100}

def no_callable():
    return 3

def fails_at_once():
    raise RuntimeError("no licence")

def fails_later():
    def augment(image, mask):
        raise KeyError("x")
    return augment
"""


@pytest.fixture(autouse=True)
def _own_code(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "own_augmentations.py").write_text(CODE, encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    sys.modules.pop("own_augmentations", None)


def plain_set(**options: Any) -> TrainingSet:
    return TrainingSet(Scenes("train", 4, (64, 96)), (64, 96), scale=(1, 1), flip=False, colour=0, **options)


@pytest.mark.parametrize("quarters", [0, 1, 2, -1])
def test_quarter_turns_are_those_of_numpy(quarters: int) -> None:
    chance = torch.Generator().manual_seed(0)
    image, mask = torch.rand(3, 20, 20, generator=chance), torch.randint(0, 5, (20, 20), generator=chance)
    sure = torch.rand(20, 20, generator=chance)
    turned = rotate_crop(image, mask, sure, 90.0 * quarters, (20, 20))
    for found, before in zip(turned, (image, mask, sure), strict=True):
        assert found is not None
        torch.testing.assert_close(found, torch.rot90(before, quarters, (-2, -1)), atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("angle", [-170.0, -30.0, 5.0, 45.0, 89.0, 180.0])
def test_the_larger_crop_covers_the_rotated_one(angle: float) -> None:
    size = size_before_rotation((40, 56), angle)
    image, mask, _ = rotate_crop(torch.ones(3, *size), torch.ones(size, dtype=torch.int64), None, angle, (40, 56))
    # the outermost row may blend with what lies outside
    assert bool((image[:, 1:-1, 1:-1] > 0.99).all())
    assert bool((mask[1:-1, 1:-1] == 1).all())


def test_image_and_mask_turn_together_and_what_lies_outside_is_void() -> None:
    mask = np.zeros((64, 96), np.uint8)
    mask[20:44, 30:66] = 1
    image = np.repeat(255 * mask[..., None], 3, axis=2)

    class Square(Scenes):
        def read(self, index: int) -> Pair:  # noqa: ARG002
            return Pair(image, mask)

    options: dict[str, Any] = {"scale": (1, 1), "flip": False, "colour": 0, "mean": (0.5,) * 3, "std": (0.5,) * 3}
    crops = TrainingSet(Square("train", 1, (64, 96)), (64, 96), rotation=40, **options)
    for seed in range(5):
        item = crops[Draw(0, seed)]
        assert item["image"].shape == (3, 64, 96)
        valid = item["mask"] != 255
        assert not valid.all()
        agreement = (item["image"][0] > 0) == (item["mask"] == 1)
        assert float(agreement[valid].float().mean()) > 0.98
        assert torch.equal(item["mask"], crops[Draw(0, seed)]["mask"])
    assert not torch.equal(crops[Draw(0, 0)]["mask"], crops[Draw(0, 1)]["mask"])


def test_without_rotation_nothing_changes() -> None:
    one, other = plain_set()[Draw(1, 7)], plain_set(rotation=0.0)[Draw(1, 7)]
    assert torch.equal(one["image"], other["image"])


def test_own_code_sees_image_and_mask_together() -> None:
    plain = plain_set()[Draw(0, 1)]
    mirrored = plain_set(augmentation=Augmentation("own_augmentations:mirrored"))[Draw(0, 1)]
    assert torch.equal(mirrored["image"], plain["image"].flip(-1))
    assert torch.equal(mirrored["mask"], plain["mask"].flip(-1))


def test_chance_in_own_code_follows_from_the_seed_of_the_draw() -> None:
    crops = plain_set(augmentation=Augmentation("own_augmentations:random_row"))
    state = torch.get_rng_state()
    assert torch.equal(crops[Draw(0, 5)]["image"], crops[Draw(1, 5)]["image"])
    assert not torch.equal(crops[Draw(0, 5)]["image"], crops[Draw(0, 6)]["image"])
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("own_augmentations:nothing", "has no attribute 'nothing'"),
        ("no_such_module:factory", "No module named"),
        ("own_augmentations:no_callable", "gave a int"),
        ("own_augmentations:image_alone", "must return a mapping with `image` and `mask`"),
        ("own_augmentations:normalised", "leave normalisation to selfreg"),
        ("own_augmentations:blurred_mask", "made label"),
        ("own_augmentations:fails_at_once", r"fails_at_once\(\) failed: RuntimeError: no licence \(.*, line 28\)"),
        ("own_augmentations:fails_later", r"the augmentation failed: KeyError: 'x' \(.*, line 32\)"),
    ],
)
def test_code_that_does_not_fit_is_told_in_one_line(spec: str, message: str) -> None:
    pair = Pair(np.zeros((8, 8, 3), np.uint8), np.zeros((8, 8), np.uint8))
    with pytest.raises(ValueError, match=f"data.augmentation {spec}.*{message}"):
        Augmentation(spec)(pair, 0, Labels(("a", "b")).num_classes)


def test_the_command_imports_code_only_where_it_is_allowed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = write_config(tmp_path, data={"augmentation": "own_augmentations:mirrored", "rotation": 10})
    assert selfreg("train", config, "--out", tmp_path / "run") == 2
    assert "--allow-code" in capsys.readouterr().err
    assert "own_augmentations" not in sys.modules
    fails = "data.augmentation=own_augmentations:fails_later"
    assert selfreg("train", config, "--out", tmp_path / "run", "--allow-code", "--set", fails) == 2
    assert "KeyError" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()
    options = ("--allow-code", "--no-page", "--set", "training.epochs=1")
    assert selfreg("train", config, "--out", tmp_path / "run", *options) == 0


def test_a_training_set_says_how_it_is_sampled() -> None:
    crops = plain_set()
    with pytest.raises(ValueError, match="needs a Draw.*SeededSampler"):
        next(iter(DataLoader(crops, batch_size=2, shuffle=True)))
    loader = DataLoader(crops, batch_size=2, sampler=SeededSampler(4, 0, batch_size=2))
    assert len(next(iter(loader))["image"]) == 2
