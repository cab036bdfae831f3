"""The learned affinity as a stage of its own: seeds, caching, going on, and composition with the other refinements."""

from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import torch

from selfreg.config import load_config
from selfreg.weak import affinity
from selfreg.weak.affinity import seeds_of
from selfreg.weak.pipeline import make_pseudo_masks
from selfreg.weak.refinement import train_affinity
from selfreg.weak.scores import Scores
from tiny import selfreg
from weak.tagged_folder import write_tagged_folder, write_weak_config

OPTIONS = {"epochs": 2, "crop_size": [64, 64], "batch_size": 4, "log2_steps": 4}


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tagged_folder(tmp_path_factory.mktemp("data") / "set")


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory, data: Path) -> Path:
    steps: list[Any] = [{"name": "pamr", "options": {"iterations": 2}}, {"name": "affinity", "options": OPTIONS}]
    return write_weak_config(tmp_path_factory.mktemp("config"), data, refinement=steps)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory, config: Path) -> Path:
    folder = tmp_path_factory.mktemp("made") / "out"
    assert selfreg("pseudo", config, "--out", folder) == 0
    return folder


def masks(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.glob("pseudo/*.png")}


def test_seeds_are_the_certain_pixels_with_background_zero() -> None:
    values = torch.tensor([[[0.9, 0.1, 0.5, 0.3]], [[0.1, 0.9, 0.5, 0.7]]])
    assert seeds_of(Scores([0, 3], values), 0, 0.5).tolist() == [[0, 4, 255, 255]]
    assert seeds_of(Scores([0, 3], values), None, 0.3).tolist() == [[1, 4, 255, 4]]


def test_the_walk_follows_another_refinement(made: Path) -> None:
    stages = {path.name.rsplit("-", 1)[0] for path in (made / "stages").iterdir()}
    assert stages == {"classifier", "cam", "1-pamr", "2-affinity_network", "2-affinity"}
    assert len(masks(made)) == 8


def test_affinity_training_that_was_cut_off_goes_on_to_the_same_bits(
    made: Path, config: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    train = train_affinity

    def cut_off(*arguments: Any, on_epoch: Any, **options: Any) -> Any:
        def save_and_stop(epochs: int, state: dict[str, Any]) -> None:
            on_epoch(epochs, state)
            raise KeyboardInterrupt

        return train(*arguments, on_epoch=save_and_stop, **options)

    with monkeypatch.context() as patch:
        patch.setattr(affinity, "train_affinity", cut_off)
        with pytest.raises(KeyboardInterrupt):
            make_pseudo_masks(load_config(config), tmp_path / "out")
    states: list[Any] = []

    def note(*arguments: Any, state: Any, **options: Any) -> Any:
        states.append(state)
        return train(*arguments, state=state, **options)

    monkeypatch.setattr(affinity, "train_affinity", note)
    make_pseudo_masks(load_config(config), tmp_path / "out")
    assert [state["epochs"] for state in states] == [1]
    assert masks(tmp_path / "out") == masks(made)


def test_options_of_the_walk_do_not_train_the_network_again(
    made: Path, config: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(affinity, "train_affinity", None)
    changed = {"name": "affinity", "options": {**OPTIONS, "log2_steps": 2}}
    steps = [{"name": "pamr", "options": {"iterations": 2}}, changed]
    make_pseudo_masks(load_config(config, [f"refinement={steps}"]), made)


def test_unknown_options_are_refused_in_one_line(
    config: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    override = "refinement=[{name: affinity, options: {step: 3}}]"
    assert selfreg("pseudo", config, "--set", override, "--out", tmp_path / "out") == 2
    assert "option 'step'" in capsys.readouterr().err.strip().splitlines()[-1]


def test_the_crf_names_its_extra_or_does_its_work(
    made: Path, config: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    overrides = ("--set", "refinement=[crf]", "--set", "classifier.epochs=1")
    status = selfreg("pseudo", config, *overrides, "--out", tmp_path / "out")
    if find_spec("pydensecrf") is None:
        assert status == 2
        assert "selfreg[crf]" in capsys.readouterr().err
    else:
        assert status == 0
        assert masks(tmp_path / "out").keys() == masks(made).keys()
