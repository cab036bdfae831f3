"""A run from start to end, cut off and resumed."""

import shutil
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import torchvision
from lightning.pytorch.utilities import rank_zero_only
from safetensors.torch import load_file

from fixtures.shallow import shallow
from processes import Command
from selfreg.config import load_config
from selfreg.opening import build_from_config, input_statistics, open_split
from selfreg.regulation import SelfRegulation
from selfreg.run import Run
from selfreg.run_info import RunInfo
from selfreg.training import train
from selfreg.training.loaders import training_loader
from selfreg.training.preparation import describe
from selfreg.training.task import SegmentationTask
from tiny import selfreg, write_config


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A run of three epochs that nothing interrupted."""
    folder = tmp_path_factory.mktemp("whole")
    config = write_config(folder, training={"epochs": 3})
    assert selfreg("train", config, "--out", folder / "run", "--no-page") == 0
    return Run.open(folder / "run")


def test_a_run_leaves_weights_logs_and_a_summary(whole: Run) -> None:
    summary = whole.summary()
    assert summary is not None
    assert summary["epochs"] == 3
    assert summary["steps"] == 6
    assert whole.checkpoint_path.exists()
    assert set(whole.history("val/miou")) == {0, 1, 2}
    assert list(whole.attempts()[0].glob("events.out.tfevents.*"))
    for which in ("last", "best"):
        assert whole.weights_path(which).exists()


def test_the_weights_are_those_of_the_plain_network(whole: Run) -> None:
    network = whole.network()
    assert set(load_file(whole.weights_path("last"))) == set(network.state_dict())
    assert not network.training


def test_an_interrupted_run_resumes_and_ends_with_the_same_bits(
    whole: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = load_config(write_config(tmp_path, training={"epochs": 3}))
    step = SegmentationTask.training_step

    def fail_in_the_second_epoch(
        self: SegmentationTask, batch: dict[str, torch.Tensor], batch_index: int
    ) -> torch.Tensor | None:
        if self.current_epoch == 1 and batch_index == 1:
            raise RuntimeError("power cut")
        return step(self, batch, batch_index)

    with monkeypatch.context() as patch:
        patch.setattr(SegmentationTask, "training_step", fail_in_the_second_epoch)
        with pytest.raises(RuntimeError, match="power cut"):
            train(config, tmp_path / "run", progress_bar=False)
    run = train(config, tmp_path / "run", resume=True, progress_bar=False)
    resumed, expected = load_file(run.weights_path("last")), load_file(whole.weights_path("last"))
    assert all(torch.equal(resumed[key], expected[key]) for key in expected)
    assert set(run.history("val/miou")) == {0, 1, 2}


def test_the_last_epoch_is_validated_whatever_the_interval(tmp_path: Path) -> None:
    config = load_config(write_config(tmp_path, training={"epochs": 3, "validate_every": 2}))
    run = train(config, tmp_path / "run", progress_bar=False)
    assert set(run.history("val/miou")) == {1, 2}
    summary = run.summary()
    assert summary is not None
    assert summary["last_miou"] == pytest.approx(run.history("val/miou")[2])


def test_a_run_that_ended_is_not_trained_again(whole: Run) -> None:
    before = whole.weights_path("last").stat().st_mtime_ns
    train(whole.config(), whole.folder, resume=True, progress_bar=False)
    assert whole.weights_path("last").stat().st_mtime_ns == before


def test_a_killed_run_goes_on_from_its_last_epoch(tmp_path: Path) -> None:
    config = write_config(tmp_path, training={"epochs": 40})
    run = Run(tmp_path / "run")
    command = Command(tmp_path, "train", config, "--out", run.folder)
    deadline = time.monotonic() + 200
    while not run.checkpoint_path.exists() and time.monotonic() < deadline and command.running:
        time.sleep(0.05)
    command.signal_group(signal.SIGKILL)
    command.wait()
    assert run.checkpoint_path.exists()
    finished = int(torch.load(run.checkpoint_path, weights_only=True)["epoch"]) + 1
    short = load_config(config, [f"training.epochs={finished + 1}"])
    # the schedule of the shorter run differs; what is tested is that it goes on
    (run.folder / "config.yaml").unlink()
    Run.create(run.folder, short, run.info())
    train(short, run.folder, resume=True, progress_bar=False)
    summary = run.summary()
    assert summary is not None
    assert summary["resumed"]
    assert summary["steps"] == 2 * (finished + 1)


def test_every_arm_starts_from_the_same_network(tmp_path: Path) -> None:
    weights = []
    for arm in ("base", "mea", "full"):
        config = load_config(write_config(tmp_path, method={"arm": arm}))
        task = SegmentationTask(config, build_from_config(config, 9), 9, total_steps=1)
        weights.append(task.network.state_dict())
    for other in weights[1:]:
        assert all(torch.equal(other[key], weights[0][key]) for key in weights[0])


@pytest.mark.parametrize(
    ("arm", "regulating"),
    [
        ("mea", ()),
        ("mea+f", ("sr_f",)),
        ("mea+l", ("sr_l",)),
        ("mea+p", ("local_presence",)),
        ("sr", ("sr_f", "sr_l")),
        ("full", ("sr_f", "sr_l", "local_presence")),
    ],
)
def test_an_arm_trains_with_its_terms_and_no_others(tmp_path: Path, arm: str, regulating: tuple[str, ...]) -> None:
    weights = {"sr_f_weight": 2.0, "sr_l_weight": 3.0, "local_presence_weight": 4.0}
    presence = {"local_presence_window": 16, "local_presence_average": "pair"}
    config = load_config(write_config(tmp_path, method={"arm": arm, **weights, **presence}))
    objective = SelfRegulation(**config.method.objective_options())
    assert objective.local_presence_window == 16
    assert objective.local_presence_average == "pair"
    for term, weight in (("sr_f", 2.0), ("sr_l", 3.0), ("local_presence", 4.0)):
        assert getattr(objective, f"{term}_weight") == (weight if term in regulating else 0.0)


def test_arms_see_the_same_crops_in_the_same_order(tmp_path: Path) -> None:
    batches = []
    for workers in (0, 2):
        config = load_config(write_config(tmp_path, training={"workers": workers}))
        source = open_split(config, "train")
        assert describe(config, source).mean == input_statistics(config)[0]
        batches.append([batch["image"] for batch in training_loader(config, source, describe(config, source))])
    assert all(torch.equal(first, second) for first, second in zip(*batches, strict=True))


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("method.taps=[encoder.model.block]", "near names"),
        ("data.kind=scens", "did you mean 'scenes'"),
        ("data.options.lenght=3", "lenght"),
        ("network.name=smp:DeepLabV4/resnet50", "DeepLabV3"),
        ("training.batch_size=100", "train: 8 images do not fill one step of 100 (training.batch_size 100)"),
        ("training.accumulate=50", "(training.batch_size 4 times training.accumulate 50); choose a smaller batch or"),
        ("training.devices=-3", "training.accelerator, devices, num_nodes, strategy: `devices` selected"),
        ("training.strategy=foo", "training.accelerator, devices, num_nodes, strategy: You selected an invalid"),
        ("training.workers=100000", "training.workers: Input should be less than or equal to 256"),
        ("training.precision=16-mixed", "training.precision 16-mixed needs a GPU"),
        ("trainng.epochs=1", "did you mean 'training'"),
        ("data.kind=folder", "data.root"),
    ],
)
def test_what_cannot_work_is_refused_before_anything_is_written(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], override: str, message: str
) -> None:
    status = selfreg("train", write_config(tmp_path), "--out", tmp_path / "run", "--set", override)
    error = capsys.readouterr().err.strip()
    assert status == 2
    assert message in error
    assert error.count("\n") == 0
    assert not (tmp_path / "run").exists()


def test_a_second_start_needs_resume_and_the_same_configuration(whole: Run, capsys: pytest.CaptureFixture[str]) -> None:
    config = whole.folder / "config.yaml"
    assert selfreg("train", config, "--out", whole.folder) == 2
    assert "--resume" in capsys.readouterr().err
    status = selfreg("train", config, "--out", whole.folder, "--resume", "--set", "training.learning_rate=0.5")
    assert status == 2
    assert "training.learning_rate" in capsys.readouterr().err


def test_a_second_process_in_one_folder_is_refused(tmp_path: Path) -> None:
    config = load_config(write_config(tmp_path))
    run = Run.create(tmp_path / "run", config, _info())
    with run.lock(), pytest.raises(ValueError, match="another process"), run.lock():
        pass


def test_a_loss_that_is_not_finite_stops_the_run_and_names_the_term(tmp_path: Path) -> None:
    config = load_config(write_config(tmp_path, training={"learning_rate": 1e20}))
    with pytest.raises(ValueError, match=r"not finite.*segmentation.*images"):
        train(config, tmp_path / "run", progress_bar=False)


def _info() -> RunInfo:
    return RunInfo(("a", "b"), tuple((0, 0, 0) for _ in range(256)), (0.5, 0.5, 0.5), (0.5, 0.5, 0.5), {})


def test_plain_training_gives_the_auxiliary_head_of_torchvision_a_loss(tmp_path: Path) -> None:
    config = load_config(write_config(tmp_path, method={"arm": "base"}))
    with shallow():
        network = torchvision.models.segmentation.fcn_resnet50(
            weights=None, weights_backbone=None, num_classes=4, aux_loss=True
        )
    task = SegmentationTask(config, network, 4, total_steps=1)
    batch = {"image": torch.randn(2, 3, 64, 64), "mask": torch.randint(4, (2, 64, 64))}
    task.train().loss_of(batch, 0.0)[0].backward()  # type: ignore[no-untyped-call]
    assert all(parameter.grad is not None for parameter in network.aux_classifier.parameters())


def test_a_rank_in_the_environment_of_a_plain_command_changes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(rank_zero_only, "rank", 1)  # what Lightning makes of RANK=1 when it is imported
    for name, value in {"RANK": "1", "LOCAL_RANK": "1", "WORLD_SIZE": "2", "SLURM_PROCID": "1"}.items():
        monkeypatch.setenv(name, value)
    assert selfreg("train", write_config(tmp_path, training={"epochs": 1}), "--out", tmp_path / "run") == 0
    run = Run.open(tmp_path / "run")
    assert run.summary() is not None
    assert run.weights_path("last").exists()
    assert run.page_path.exists()
    assert set(run.history("val/miou")) == {0}
    assert "next: selfreg predict" in capsys.readouterr().out


def test_a_rank_that_would_wait_for_ever_or_is_none_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    config = write_config(tmp_path, training={"devices": 2})
    monkeypatch.setenv("LOCAL_RANK", "1")
    assert selfreg("train", config, "--out", tmp_path / "run") == 2
    assert "unset LOCAL_RANK" in capsys.readouterr().err
    monkeypatch.setenv("LOCAL_RANK", "first")
    assert selfreg("train", config, "--out", tmp_path / "run") == 2
    assert "LOCAL_RANK=first" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


def _of_another_network(state: dict[str, Any]) -> None:
    state["state_dict"] = {"weight": torch.zeros(2)}


DAMAGES: dict[str, Callable[[dict[str, Any]], Any]] = {
    "other content": dict.clear,
    "no optimiser": lambda state: state["optimizer_states"].clear(),
    "another network": _of_another_network,
    "a later step than the last": lambda state: state.update(epoch=0, global_step=99),
    "no loops": lambda state: state["loops"].update(fit_loop=3),
    "no results": lambda state: state.update(callbacks={"Checkpoints": 7}),
    "a version that is none": lambda state: state.update({"pytorch-lightning_version": "new"}),
}


def test_a_state_of_anything_else_is_refused_by_name(
    whole: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = shutil.copytree(whole.folder, tmp_path / "run")
    (folder / "summary.json").unlink()
    path = Run.open(folder).checkpoint_path
    config = write_config(tmp_path, training={"epochs": 3})
    for name, damage in DAMAGES.items():
        state = torch.load(whole.checkpoint_path, weights_only=True)
        damage(state)
        torch.save(state, path)
        assert selfreg("train", config, "--out", folder, "--resume", "--no-page") == 2, name
        said = capsys.readouterr().err.strip().splitlines()[-1]
        assert said.startswith(f"error: {path}: is no state of this training ("), name
