"""Class maps of photographs of any size."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

from selfreg.inference import Predictor, find_images
from selfreg.run import Run
from tiny import selfreg, write_config

MEAN, STD = (0.5, 0.5, 0.5), (0.5, 0.5, 0.5)


class Brightness(nn.Module):
    """Class 1 where the normalised red channel is above 0, at the image's own size; no context at all."""

    def forward(self, image: Tensor) -> Tensor:
        return torch.cat([-image[:, :1], image[:, :1]], dim=1)


def picture(height: int, width: int) -> np.ndarray[tuple[int, ...], np.dtype[np.uint8]]:
    return np.random.default_rng(0).integers(0, 256, (height, width, 3)).astype(np.uint8)


@pytest.mark.parametrize("size", [(64, 96), (37, 53), (1, 1), (33, 200)])
def test_any_size_is_predicted_pixel_by_pixel(size: tuple[int, int]) -> None:
    image = picture(*size)
    assert np.array_equal(Predictor(Brightness(), MEAN, STD)(image), (image[..., 0] >= 128).astype(np.uint8))


def test_tiles_give_the_same_map_as_the_whole_where_no_context_is_needed() -> None:
    image = picture(300, 410)
    whole, tiled = Predictor(Brightness(), MEAN, STD)(image), Predictor(Brightness(), MEAN, STD, tile=128)(image)
    assert np.array_equal(whole, tiled)


def test_tiles_bound_what_the_network_sees() -> None:
    seen = []

    class Watch(Brightness):
        def forward(self, image: Tensor) -> Tensor:
            seen.append(max(image.shape[-2:]))
            return super().forward(image)

    Predictor(Watch(), MEAN, STD, tile=128)(picture(300, 410))
    assert max(seen) <= 128


def test_flip_and_scales_keep_the_place_of_things() -> None:
    image = np.zeros((96, 96, 3), np.uint8)
    image[:, 48:] = 255
    expected = (image[..., 0] > 0).astype(np.uint8)
    assert np.array_equal(Predictor(Brightness(), MEAN, STD, flip=True, scales=(0.5, 1.0, 2.0))(image), expected)


def test_a_short_side_resizes_before_the_network_and_back_after_it() -> None:
    sizes = []

    class Watch(Brightness):
        def forward(self, image: Tensor) -> Tensor:
            sizes.append(tuple(image.shape[-2:]))
            return super().forward(image)

    result = Predictor(Watch(), MEAN, STD, short_side=64)(picture(128, 192))
    assert sizes == [(64, 96)]
    assert result.shape == (128, 192)


@pytest.mark.parametrize("options", [{"tile": 16}, {"scales": ()}, {"scales": (0.0,)}])
def test_options_out_of_range_are_refused(options: dict[str, object]) -> None:
    with pytest.raises(ValueError):
        Predictor(Brightness(), MEAN, STD, **options)  # type: ignore[arg-type]


@pytest.mark.parametrize("options", [{"short_side": 100_000}, {"scales": (1.0, 10_000.0)}, {"short_side": 16}])
def test_an_image_is_not_enlarged_beyond_any_memory(options: dict[str, Any]) -> None:
    strip = picture(1, 2**20) if options == {"short_side": 16} else picture(64, 64)
    with pytest.raises(ValueError, match=r"would be enlarged to .* choose a smaller data\.short_side"):
        Predictor(Brightness(), MEAN, STD, **options)(strip)


def test_images_that_would_share_a_name_are_refused(tmp_path: Path) -> None:
    for name in ("a.jpg", "a.png"):
        Image.new("RGB", (8, 8)).save(tmp_path / name)
    with pytest.raises(ValueError, match="rename"):
        find_images(tmp_path)


@pytest.mark.parametrize("name", ["absent", "empty"])
def test_a_folder_without_images_is_refused(tmp_path: Path, name: str) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match=name):
        find_images(tmp_path / name)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    folder = tmp_path_factory.mktemp("run")
    assert selfreg("train", write_config(folder, training={"epochs": 1}), "--out", folder / "run", "--no-page") == 0
    return Run.open(folder / "run")


def test_predict_writes_palette_masks_of_the_inputs_own_size(run: Run, tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    sizes = {"one.jpg": (70, 50), "two.png": (33, 64)}
    for name, size in sizes.items():
        Image.fromarray(picture(size[1], size[0])).save(tmp_path / "photos" / name)
    assert selfreg("predict", run.folder, tmp_path / "photos", "-o", tmp_path / "out", "--overlay") == 0
    for name, size in sizes.items():
        with Image.open(tmp_path / "out" / f"{Path(name).stem}.png") as mask:
            assert mask.mode == "P"
            assert mask.size == size
            assert int(np.asarray(mask).max()) < run.info().num_classes
            assert mask.getpalette()[: 3 * 9] == [value for colour in run.info().palette[:9] for value in colour]  # type: ignore[index]
    assert sorted(path.name for path in (tmp_path / "out").glob("*.png")) == ["one.png", "two.png"]
    assert sorted(path.name for path in (tmp_path / "out" / "overlays").iterdir()) == ["one.jpg", "two.jpg"]


def test_predicting_a_truncated_photograph_names_it(
    run: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    Image.fromarray(picture(64, 64)).save(tmp_path / "cut.png")
    (tmp_path / "cut.png").write_bytes((tmp_path / "cut.png").read_bytes()[:200])
    assert selfreg("predict", run.folder, tmp_path / "cut.png", "-o", tmp_path / "out") == 2
    assert "cut.png" in capsys.readouterr().err
    assert not list((tmp_path / "out").glob("*")) if (tmp_path / "out").exists() else True


def test_a_class_count_unlike_the_checkpoints_is_refused(
    run: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    import json
    import shutil

    copy = tmp_path / "copy"
    shutil.copytree(run.folder, copy)
    info = json.loads((copy / "run.json").read_text())
    info["class_names"] = info["class_names"][:4]
    (copy / "run.json").write_text(json.dumps(info))
    Image.fromarray(picture(64, 64)).save(tmp_path / "a.png")
    assert selfreg("predict", copy, tmp_path / "a.png", "-o", tmp_path / "out") == 2
    assert "holds 9 classes, but the run's data have 4" in capsys.readouterr().err


def test_a_folder_that_is_no_run_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert selfreg("evaluate", tmp_path) == 2
    assert "no config.yaml" in capsys.readouterr().err
