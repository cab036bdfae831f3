"""Every exit is watched: its terms in training, its mIoU on the validation split, on the pages."""

import csv
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from selfreg.inference import Predictor
from selfreg.regulation import MultiExit
from selfreg.report.depth import depth_curve
from selfreg.run import Run
from selfreg.study.arms import StudyArm
from selfreg.study.planned import PlannedRun
from selfreg.study.study import arm_result
from selfreg.training.watching import ExitPredictors
from tiny import selfreg, write_config


class ThreeStages(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Conv2d(3, 8, 3, 2, 1), nn.Conv2d(8, 8, 3, 2, 1)
        self.head = nn.Conv2d(8, 4, 1)

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.head(self.second(self.first(images)).relu())
        return logits


class OneExit(nn.Module):
    def __init__(self, model: MultiExit, index: int) -> None:
        super().__init__()
        self.model, self.index = [model], index

    def forward(self, images: Tensor) -> Tensor:
        return self.model[0].exit_outputs(images).class_maps[self.index]


@pytest.mark.parametrize(
    "options", [{}, {"scales": (1.0, 0.5), "flip": True}, {"tile": 128}, {"short_side": 48}], ids=str
)
def test_every_exit_is_predicted_as_it_would_be_alone(options: dict[str, Any]) -> None:
    torch.manual_seed(0)
    model = MultiExit(ThreeStages(), 4, ["first", "second"], image_size=(32, 48)).eval()
    options = {"mean": (0.0,), "std": (1.0,), "device": None, **options}
    predictors = ExitPredictors(model, **options)
    for _ in range(2):
        image = torch.randn(2, 3, 150, 170)
        assert torch.equal(predictors.own.class_maps(image), Predictor(model.network, **options).class_maps(image))
        found = [predictor.class_maps(image) for predictor in predictors.of_exits()]
        assert len(found) == 2
        for index, class_map in enumerate(found):
            assert torch.equal(class_map, Predictor(OneExit(model, index), **options).class_maps(image))


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Run]:
    folder = tmp_path_factory.mktemp("runs")
    config = write_config(folder, method={"warm_up": 0.5, "variant": "verified"})
    for arm in ("base", "full"):
        assert selfreg("train", config, "--out", folder / arm, "--no-page", "--set", f"method.arm={arm}") == 0
    return {arm: Run.open(folder / arm) for arm in ("base", "full")}


def test_a_run_keeps_the_miou_of_every_exit_and_epoch(runs: dict[str, Run]) -> None:
    run = runs["full"]
    exits = [run.history(f"val/miou_exit_{number}") for number in range(1, 6)]
    assert [sorted(history) for history in exits] == [[0, 1]] * 4 + [[]]
    assert all(0 <= value <= 1 for history in exits for value in history.values())
    assert run.miou_by_depth() == [history[1] for history in exits[:4]] + [run.history("val/miou")[1]]
    assert runs["base"].miou_by_depth() == []


def test_the_log_holds_the_terms_of_every_exit_and_what_the_teachers_do(runs: dict[str, Run]) -> None:
    with (runs["full"].attempts()[-1] / "metrics.csv").open(encoding="utf-8") as file:
        rows = [row for row in csv.DictReader(file) if row["loss"]]
    last = {name: float(value) for name, value in rows[-1].items() if value}
    for term in ("segmentation", "classification", "local_presence", "sr_f", "sr_l"):
        exits = {number for number in range(1, 6) if f"terms/{term}_exit_{number}" in last}
        assert exits == {"sr_f": {2, 3, 4, 5}, "sr_l": {1, 2, 3, 4}}.get(term, {1, 2, 3, 4, 5})
        total = sum(last[f"terms/{term}_exit_{number}"] for number in exits)
        assert last[f"terms/{term}"] == pytest.approx(total, rel=1e-4)
    for term, students in (("sr_f", range(2, 6)), ("sr_l", range(1, 5))):
        assert 0 <= last[f"teacher_accuracy/{term}"] <= 1
        assert all(0 <= last[f"gate_open/{term}_exit_{number}"] <= 1 for number in students)
    assert not any("exit" in name for name in runs["base"].attempts()[-1].joinpath("metrics.csv").open().readline())


def test_the_compare_page_shows_miou_by_depth(runs: dict[str, Run], tmp_path: Path) -> None:
    page = tmp_path / "page.html"
    folders = [run.folder for run in runs.values()]
    assert selfreg("compare", *folders, "--html", page) == 0
    assert "mIoU of every exit" in page.read_text(encoding="utf-8")


def test_runs_of_other_depths_are_drawn_from_the_networks_output_backwards() -> None:
    (curve,) = depth_curve({"four": [0.1, 0.2, 0.3, 0.4], "two": [0.5, 0.6], "base": []})
    assert curve.x == (-3, -2, -1, 0)
    assert curve.lines["two"] == pytest.approx((None, None, 50, 60))
    assert "validation split, last epoch" in curve.title


def test_a_study_draws_no_depth_where_a_log_lacks_the_exits(
    runs: dict[str, Run], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    planned = [PlannedRun("full", runs["full"].folder, tmp_path / "config.yaml", seed) for seed in (0, 1)]
    depths = iter([[0.1, 0.2], []])
    monkeypatch.setattr(Run, "miou_by_depth", lambda _: next(depths))
    result = arm_result(StudyArm("full", ()), planned, {each: {} for each in planned})
    assert result.miou_by_depth == ()
