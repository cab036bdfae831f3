"""Validation: images of one size together, in the precision of training, with the numbers of images alone."""

from pathlib import Path
from typing import Any

import lightning as L
import pytest
import torch
from torch import Tensor
from torch.utils.data import DataLoader

from selfreg.config import load_config
from selfreg.opening import build_from_config
from selfreg.training.loaders import batches_of_one_size
from selfreg.training.task import SegmentationTask
from tiny import write_config

SIZES = [(64, 96), (64, 96), (64, 96), (96, 64), (64, 96)]


def samples() -> list[dict[str, Any]]:
    generator = torch.Generator().manual_seed(0)
    return [
        {
            "image": torch.randn(3, *size, generator=generator),
            "mask": torch.randint(0, 4, size, generator=generator),
            "index": index,
        }
        for index, size in enumerate(SIZES)
    ]


def validated(folder: Path, batches: list[list[dict[str, Any]]], arm: str, precision: str = "32-true") -> Tensor:
    config = load_config(write_config(folder, method={"arm": arm}))
    torch.manual_seed(0)
    task = SegmentationTask(config, build_from_config(config, 4, pretrained=False), 4, total_steps=1)
    seen: list[torch.dtype] = []
    convolution = next(module for module in task.network.modules() if isinstance(module, torch.nn.Conv2d))
    convolution.register_forward_hook(lambda _module, _inputs, output: seen.append(output.dtype))
    matrices: list[Tensor] = []
    task.on_validation_epoch_end = lambda: matrices.append(task.confusion.matrix.clone())  # type: ignore[method-assign]
    quiet = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False}
    trainer = L.Trainer(accelerator="cpu", precision=precision, **quiet)  # type: ignore[arg-type]
    trainer.validate(task, DataLoader(batches, batch_size=None), verbose=False)  # type: ignore[arg-type]
    assert set(seen) == {torch.bfloat16 if precision == "bf16-mixed" else torch.float32}
    return matrices[0]


def test_consecutive_images_of_one_size_are_one_batch_up_to_the_pixels_that_fit() -> None:
    def indices(most_pixels: int) -> list[list[int]]:
        return [batch["index"].tolist() for batch in batches_of_one_size(samples(), most_pixels)]

    assert indices(10**6) == [[0, 1, 2], [3], [4]]
    assert indices(2 * 64 * 96) == [[0, 1], [2], [3], [4]]
    assert indices(1) == [[0], [1], [2], [3], [4]]


@pytest.mark.parametrize("arm", ["base", "full"])
def test_images_validated_together_are_counted_as_alone(tmp_path: Path, arm: str) -> None:
    alone = validated(tmp_path, [batches_of_one_size(samples(), 1)], arm)
    together = validated(tmp_path, [batches_of_one_size(samples(), 10**6)], arm)
    assert alone.sum() == len(SIZES) * 64 * 96
    # sums of convolutions differ in the last bits, which may decide single pixels
    assert (alone - together).abs().sum() <= 10


def test_validation_computes_in_the_precision_of_training(tmp_path: Path) -> None:
    batches = [batches_of_one_size(samples(), 10**6)]
    half = validated(tmp_path, batches, "base", "bf16-mixed")
    assert half.sum() == len(SIZES) * 64 * 96
