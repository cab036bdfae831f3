"""How long a run is: steps, early stopping, extension; averaged weights; what it prints."""

import csv
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from selfreg.config import load_config
from selfreg.evaluation import ConfusionMatrix
from selfreg.run import Run
from selfreg.training import train
from selfreg.training.progress import in_words
from selfreg.training.resuming import longer_config
from selfreg.training.task import SegmentationTask
from tiny import selfreg, write_config


def rates(run: Run) -> list[float]:
    """The backbone's learning rates that the last attempt logged, one per epoch."""
    with (run.attempts()[-1] / "metrics.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    return [float(value) for row in rows for name, value in row.items() if "backbone_decay_0.01" in name and value]


def test_max_steps_ends_within_an_epoch_and_sets_the_schedule(tmp_path: Path) -> None:
    lines: list[str] = []
    config = load_config(write_config(tmp_path, training={"max_steps": 3, "epochs": 40}))
    run = train(config, tmp_path / "run", progress_bar=False, announce=lines.append)
    summary = run.summary()
    assert summary is not None
    assert (summary["steps"], summary["epochs"]) == (3, 2)
    assert set(run.history("val/miou")) == {0, 1}
    assert "3 steps in 2 epochs" in lines[0]
    assert [line.split("  ")[0] for line in lines[1:]] == ["epoch 1/2", "epoch 2/2"]
    with pytest.raises(ValueError, match="ended within an epoch, after 1 of its 2 steps"):
        train(config, tmp_path / "run", extra_epochs=1, progress_bar=False)


@pytest.mark.parametrize("steps", [1, 2])
def test_a_run_of_max_steps_is_extended_by_whole_epochs_or_refused(tmp_path: Path, steps: int) -> None:
    config = load_config(write_config(tmp_path, training={"max_steps": steps}))
    train(config, tmp_path / "run", progress_bar=False)
    if steps == 1:
        with pytest.raises(ValueError, match="ended within an epoch, after 1 of its 2 steps"):
            train(config, tmp_path / "run", extra_epochs=1, progress_bar=False)
    else:
        summary = train(config, tmp_path / "run", extra_epochs=1, progress_bar=False).summary()
        assert summary is not None
        assert (summary["steps"], summary["epochs"]) == (4, 2)


def test_early_stopping_ends_after_so_many_validations_without_a_better_miou(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scores = iter([0.2, 0.3, 0.1, 0.25, 0.1, 0.9])
    compute = ConfusionMatrix.compute

    def scripted(self: ConfusionMatrix) -> dict[str, torch.Tensor]:
        return {**compute(self), "miou": torch.tensor(next(scores))}

    monkeypatch.setattr(ConfusionMatrix, "compute", scripted)
    # the arm without exits, each of which would take a number too
    config = load_config(write_config(tmp_path, method={"arm": "base"}, training={"early_stopping": 2, "epochs": 30}))
    run = train(config, tmp_path / "run", progress_bar=False)
    summary = run.summary()
    assert summary is not None
    assert (summary["epochs"], summary["best_epoch"]) == (4, 1)
    # an extension begins to count anew
    longer = train(config, tmp_path / "run", extra_epochs=2, progress_bar=False).summary()
    assert longer is not None
    assert (longer["epochs"], longer["best_epoch"]) == (6, 5)


def test_an_extended_run_is_the_longer_run_from_there_on(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config, folder = write_config(tmp_path, training={"epochs": 1}), tmp_path / "run"
    assert selfreg("train", config, "--out", folder, "--no-page") == 0
    capsys.readouterr()
    assert selfreg("train", config, "--out", folder, "--extend", "2", "--no-page") == 0
    printed = capsys.readouterr().out
    assert "going on after epoch 1, step 2 of 6" in printed
    assert "epoch 3/3" in printed
    run = Run.open(folder)
    assert run.config().training.epochs == 3
    summary = run.summary()
    assert summary is not None
    assert (summary["epochs"], summary["steps"]) == (3, 6)
    power = 0.9
    assert rates(run) == pytest.approx([1e-3 * (1 - step / 6) ** power for step in (2, 4)], rel=1e-3)
    assert selfreg("train", config, "--out", folder, "--extend", "0") == 2
    assert selfreg("train", config, "--out", folder, "--extend", "1", "--set", "training.weight_decay=0.5") == 2
    assert "training.weight_decay" in capsys.readouterr().err
    assert run.summary() == summary


def test_only_a_run_that_has_ended_is_extended(tmp_path: Path) -> None:
    config = load_config(write_config(tmp_path))
    with pytest.raises(ValueError, match="holds no run"):
        train(config, tmp_path / "run", extra_epochs=1)


@pytest.mark.slow
def test_averaged_weights_are_validated_saved_and_resumed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = load_config(write_config(tmp_path, training={"ema": 0.5, "epochs": 2}))
    steps: list[dict[str, torch.Tensor]] = []
    validated: list[dict[str, torch.Tensor]] = []

    def state(task: SegmentationTask) -> dict[str, torch.Tensor]:
        return {name: tensor.detach().clone() for name, tensor in task.network.named_parameters()}

    validate = SegmentationTask.validation_step

    def watched(self: SegmentationTask, batches: list[dict[str, torch.Tensor]], index: int) -> None:
        validated.append(state(self))
        validate(self, batches, index)

    with monkeypatch.context() as patch:
        patch.setattr(SegmentationTask, "on_train_batch_end", lambda self, *_: steps.append(state(self)))
        patch.setattr(SegmentationTask, "validation_step", watched)
        run = train(config, tmp_path / "whole", progress_bar=False)
    average = steps[0]
    for weights in steps[1:]:
        average = {name: 0.5 * average[name] + 0.5 * weights[name] for name in average}
    saved = load_file(run.weights_path("last"))
    for name, tensor in average.items():
        torch.testing.assert_close(saved[name], tensor, rtol=1e-5, atol=1e-6)
        torch.testing.assert_close(validated[-1][name], tensor, rtol=1e-5, atol=1e-6)

    step = SegmentationTask.training_step

    def fail_in_the_second_epoch(self: SegmentationTask, batch: dict[str, torch.Tensor], index: int) -> torch.Tensor:
        if self.current_epoch == 1:
            raise RuntimeError("power cut")
        return step(self, batch, index)

    with monkeypatch.context() as patch:
        patch.setattr(SegmentationTask, "training_step", fail_in_the_second_epoch)
        with pytest.raises(RuntimeError, match="power cut"):
            train(config, tmp_path / "cut", progress_bar=False)
    resumed = load_file(train(config, tmp_path / "cut", resume=True, progress_bar=False).weights_path("last"))
    assert all(torch.equal(resumed[name], saved[name]) for name in saved)


def test_the_command_prints_a_line_per_epoch_and_what_comes_next(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "run"
    assert selfreg("train", write_config(tmp_path), "--out", folder) == 0
    lines = capsys.readouterr().out.strip().splitlines()
    assert "random weights (network.pretrained: false)" in lines[0]
    for number, line in enumerate(lines[1:3], start=1):
        assert line.startswith(f"epoch {number}/2  loss ")
        terms = line[line.index("(") + 1 : line.index(")")]
        assert [term.split()[0] for term in terms.split(", ")] == [
            "segmentation",
            "classification",
            "local_presence",
            "sr_f",
            "sr_l",
        ][: len(terms.split(", "))]
        assert len(terms.split(", ")) >= 3
        assert " %" in line.split("mIoU")[1]
    assert lines[1].endswith(" left")
    assert "best" in lines[3]
    assert str(folder / "checkpoints" / "last.safetensors") in lines[4]
    assert "<html" in (folder / "index.html").read_text(encoding="utf-8")
    assert lines[6].startswith("next: selfreg ")
    assert len(lines) == 7
    assert (folder / "evaluation" / "val-last").is_dir()


def test_durations_are_told_in_words() -> None:
    told = [in_words(seconds) for seconds in (4.4, 90, 125, 3590, 3 * 3600 + 1200, 60 * 3600)]
    assert told == ["4 s", "90 s", "2 min", "1 h 0 min", "3 h 20 min", "2 d 12 h"]


@pytest.mark.parametrize("missing", ["state", "whole state", "strategy"])
def test_a_refused_extension_leaves_the_run_as_it_was(
    missing: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = write_config(tmp_path, training={"epochs": 2})
    command = ("train", config, "--out", tmp_path / "run", "--no-page", "--quiet")
    assert selfreg(*command) == 0
    run = Run.open(tmp_path / "run")
    state = run.checkpoint_path.read_bytes()
    if missing == "state":
        run.checkpoint_path.unlink()
    if missing == "whole state":
        run.checkpoint_path.write_bytes(state[: len(state) // 2])
    kept = [path for path in run.folder.rglob("*") if path.is_file() and "logs" not in path.parts]
    before = {path: path.read_bytes() for path in kept}
    options = ("--set", "training.strategy=foo") if missing == "strategy" else ()
    assert selfreg(*command, "--extend", "1", *options) == 2
    assert capsys.readouterr().err.count("\n") == 1
    assert {path: path.read_bytes() for path in kept} == before
    run.checkpoint_path.write_bytes(state)
    assert selfreg(*command, "--extend", "1") == 0
    summary = run.summary()
    assert summary is not None
    assert (summary["epochs"], summary["resumed"]) == (3, True)


def test_weights_without_a_state_are_not_replaced_by_a_training_from_the_beginning(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = write_config(tmp_path, training={"epochs": 2})
    command = ("train", config, "--out", tmp_path / "run", "--no-page", "--quiet")
    assert selfreg(*command) == 0
    run = Run.open(tmp_path / "run")
    run.checkpoint_path.unlink()
    (run.folder / "summary.json").unlink()
    weights = run.weights_path("last").read_bytes()
    assert selfreg(*command, "--resume") == 2
    assert "no state from which the training could go on" in capsys.readouterr().err
    assert run.weights_path("last").read_bytes() == weights


def test_another_process_takes_the_length_from_the_run_that_the_first_one_has_extended(tmp_path: Path) -> None:
    config = load_config(write_config(tmp_path, training={"epochs": 2}))
    run = train(config, tmp_path / "run", progress_bar=False, announce=lambda _line: None)
    longer = longer_config(run, config, 3)
    assert longer.training.epochs == 5
    assert longer_config(run, config, 3, first=False).training.epochs == 5
    run.extend(longer)
    assert longer_config(run, config, 3, first=False).training.epochs == 5
    with pytest.raises(ValueError, match="has not ended yet"):
        longer_config(run, config, 3)
