"""Two processes, started by the real command, train what one process trains."""

import os
import re
import shutil
import signal
import sys
from pathlib import Path

import lightning as L
import pytest
import torch
from lightning.pytorch.strategies import FSDPStrategy
from safetensors.torch import load_file
from timm.layers import BatchNormAct2d
from torch import Tensor, nn
from torch.nn.functional import relu

from processes import Command
from selfreg.config import load_config
from selfreg.opening import open_split
from selfreg.regulation import MultiExit
from selfreg.run import Run
from selfreg.training.loaders import training_loader, validation_loader
from selfreg.training.preparation import describe
from selfreg.training.processes import check_strategy, share_batch_norm
from tiny import selfreg, write_config

TWO = ("--set", "training.devices=2", "--set", "training.strategy=ddp")


def command(folder: Path, *arguments: str | Path, **environment: str) -> Command:
    """Call the command in a process of its own, which starts the second one; wait for its end."""
    paths = [str(Path(__file__).parent), *filter(None, sys.path)]
    started = Command(folder, *arguments, environment={"PYTHONPATH": os.pathsep.join(paths), **environment})
    started.wait()
    return started


def small_config(folder: Path) -> Path:
    """All losses from the first step on, class weights, 3 steps in each of 2 epochs, and 5 images to validate on."""
    return write_config(
        folder,
        data={"options": {"length": 12, "evaluation_length": 5, "size": [64, 96]}},
        network={"name": "group_norm_network:GroupNormNetwork", "options": {}},
        method={"arm": "full", "taps": ["auxiliary"], "warm_up": 0.0},
        training={"class_weights": "balanced"},
    )


@pytest.fixture(scope="module")
def one(tmp_path_factory: pytest.TempPathFactory) -> Run:
    folder = tmp_path_factory.mktemp("one")
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(Path(__file__).parent)
        assert selfreg("train", small_config(folder), "--out", folder / "run", "--no-page") == 0
    return Run.open(folder / "run")


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory) -> tuple[Run, Command]:
    folder = tmp_path_factory.mktemp("two")
    ended = command(folder, "train", small_config(folder), "--out", folder / "run", *TWO)
    assert ended.wait() == 0, ended.stderr
    return Run.open(folder / "run"), ended


@pytest.mark.slow
def test_two_processes_train_the_weights_that_one_process_trains(one: Run, two: tuple[Run, Command]) -> None:
    expected, found = load_file(one.weights_path("last")), load_file(two[0].weights_path("last"))
    for name, tensor in expected.items():
        torch.testing.assert_close(found[name], tensor, rtol=1e-4, atol=1e-6, msg=name)


@pytest.mark.slow
def test_two_processes_log_and_validate_what_one_process_does(one: Run, two: tuple[Run, Command]) -> None:
    for name in (
        "loss",
        "terms/segmentation",
        "terms/classification",
        "terms/local_presence",
        "terms/sr_f",
        "terms/sr_l",
    ):
        assert two[0].history(name) == pytest.approx(one.history(name), rel=1e-4), name
    for name in ("val/miou", "val/pixel_accuracy"):
        assert two[0].history(name) == pytest.approx(one.history(name), abs=1e-4), name


@pytest.mark.slow
def test_only_the_first_process_writes(two: tuple[Run, Command]) -> None:
    run, ended = two
    assert ended.stdout.count("2 epochs, last val mIoU") == 1
    lines = ended.stdout.splitlines()
    # what is trained, two epochs, and four lines at the end
    assert len(lines) == len(set(lines)) == 7
    assert [line.split("  ")[0] for line in lines[1:3]] == ["epoch 1/2", "epoch 2/2"]
    assert [path.name for path in run.attempts()] == ["attempt_0"]
    files = {str(path.relative_to(run.folder)) for path in run.folder.rglob("*") if path.is_file()}
    assert not any(".tmp" in name for name in files)
    assert sum("events.out" in name for name in files) == 1
    summary = run.summary()
    assert summary is not None
    assert summary["steps"] == 6


@pytest.mark.slow
def test_a_process_that_fails_ends_all_and_the_run_resumes_to_the_same_weights(
    two: tuple[Run, Command], tmp_path: Path
) -> None:
    run = Run(tmp_path / "run")
    config = small_config(tmp_path)
    failed = command(tmp_path, "train", config, "--out", run.folder, "--no-page", *TWO, FAILING_RANK="1")
    status = failed.wait()
    assert status != 0
    assert "the loss is not finite at step 4" in failed.stderr
    # the process at fault has two of the four images of the step
    assert re.search(r"segmentation broke \(.*; images train_\d+, train_\d+\)", failed.stderr)
    # Lightning kills process 0 where it sees the end of process 1 before process 0 has told its own
    assert "another process broke" in failed.stderr or status == -signal.SIGKILL
    assert "Traceback" not in failed.stderr
    assert run.summary() is None
    resumed = command(tmp_path, "train", config, "--out", run.folder, "--resume", "--no-page", *TWO)
    assert resumed.wait() == 0, resumed.stderr
    expected, found = load_file(two[0].weights_path("last")), load_file(run.weights_path("last"))
    assert all(torch.equal(found[name], expected[name]) for name in expected)
    summary = run.summary()
    assert summary is not None
    assert summary["resumed"]


@pytest.mark.slow
def test_batches_that_one_process_cannot_use_are_left_out_by_all(tmp_path: Path) -> None:
    config = small_config(tmp_path)
    weights = []
    for name, processes, failing in (("one", (), "0"), ("two", TWO, "1")):
        run = Run(tmp_path / name)
        skipping = ("--no-page", "--set", "training.skip_non_finite=2", *processes)
        ended = command(tmp_path, "train", config, "--out", run.folder, *skipping, FAILING_RANK=failing)
        assert ended.wait() == 0, ended.stderr
        assert "skipped a batch whose loss is not finite (2 of 2)" in ended.stderr
        summary = run.summary()
        assert summary is not None
        assert (summary["steps"], summary["skipped_batches"]) == (6, 2)
        weights.append(load_file(run.weights_path("last")))
    for key, tensor in weights[0].items():
        torch.testing.assert_close(weights[1][key], tensor, rtol=1e-4, atol=1e-6, msg=key)


@pytest.mark.slow
def test_processes_extend_a_run_together(two: tuple[Run, Command], tmp_path: Path) -> None:
    shutil.copytree(two[0].folder, tmp_path / "run")
    ended = command(tmp_path, "train", small_config(tmp_path), "--out", tmp_path / "run", *TWO, "--extend", "1")
    assert ended.wait() == 0, ended.stderr
    summary = Run.open(tmp_path / "run").summary()
    assert summary is not None
    assert (summary["epochs"], summary["resumed"]) == (3, True)


@pytest.mark.slow
def test_the_number_of_processes_is_not_held_against_a_run(two: tuple[Run, Command], tmp_path: Path) -> None:
    assert selfreg("train", small_config(tmp_path), "--out", two[0].folder, "--resume") == 0


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["devices=3", "batch_size=4"], "choose a multiple of their number"),
        (["devices=4", "batch_size=4"], "3 images to validate on do not give each of 4 processes one"),
        (["devices=2", "strategy=ddp_spawn"], "use ddp"),
        (["strategy=fsdp"], "fsdp"),
        (["strategy=dpd"], "dpd"),
    ],
)
def test_what_processes_cannot_share_is_refused_before_anything_is_written(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], overrides: list[str], message: str
) -> None:
    sets = [part for override in overrides for part in ("--set", f"training.{override}")]
    status = selfreg(
        "train", write_config(tmp_path), "--out", tmp_path / "run", "--set", "data.options.evaluation_length=3", *sets
    )
    error = capsys.readouterr().err.strip()
    assert status == 2
    assert message in error
    assert error.count("\n") == 0
    assert not (tmp_path / "run").exists()


def test_a_strategy_that_shards_is_refused() -> None:
    trainer = L.Trainer(accelerator="cpu", logger=False, enable_checkpointing=False)
    check_strategy(trainer, "auto")
    trainer._accelerator_connector.strategy = FSDPStrategy()
    with pytest.raises(ValueError, match=r"training.strategy 'this'.*use ddp"):
        check_strategy(trainer, "this")


@pytest.mark.slow
def test_processes_share_each_batch_and_each_validation_image_once(tmp_path: Path) -> None:
    config = load_config(small_config(tmp_path))
    source = open_split(config, "train")
    info = describe(config, source)
    whole = [batch["image"] for batch in training_loader(config, source, info)]
    shares = [training_loader(config, source, info, rank=rank, world_size=2) for rank in range(2)]
    joint = [torch.cat([batch["image"] for batch in batches]) for batches in zip(*shares, strict=True)]
    assert all(torch.equal(first, second) for first, second in zip(whole, joint, strict=True))
    validation = [validation_loader(config, source, info, rank=rank, world_size=5) for rank in range(5)]
    seen = [int(index) for loader in validation for (batch,) in loader for index in batch["index"]]
    assert sorted(seen) == list(range(12))


def test_shared_batch_norms_keep_the_activations_and_the_names_of_timm() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(3, 8, 3), BatchNormAct2d(8), nn.Conv2d(8, 4, 1), nn.BatchNorm2d(4))
    images = torch.randn(2, 3, 8, 8)
    expected, names = model(images), list(model.state_dict())
    shared = share_batch_norm(model)
    assert sum(isinstance(module, nn.SyncBatchNorm) for module in shared.modules()) == 2
    # without other processes the statistics are those of this one
    assert torch.equal(shared(images), expected)
    assert list(shared.state_dict()) == names


def test_shared_batch_norms_keep_the_hooks_of_taps() -> None:
    class Functional(nn.Module):
        """Activates in its forward pass, so that what can be tapped is the batch norm."""

        def __init__(self) -> None:
            super().__init__()
            self.conv1, self.bn1 = nn.Conv2d(3, 8, 3, 2, 1), nn.BatchNorm2d(8)
            self.conv2, self.bn2 = nn.Conv2d(8, 8, 3, 2, 1), nn.BatchNorm2d(8)
            self.head = nn.Conv2d(8, 4, 1)

        def forward(self, images: Tensor) -> Tensor:
            logits: Tensor = self.head(relu(self.bn2(self.conv2(relu(self.bn1(self.conv1(images)))))))
            return logits

    model = MultiExit(Functional(), 4, ["bn1", "bn2"], image_size=(32, 32))
    images = torch.randn(2, 3, 32, 32)
    expected = model(images)
    shared = share_batch_norm(model)
    assert isinstance(shared, MultiExit)
    assert sum(isinstance(module, nn.SyncBatchNorm) for module in shared.network.modules()) == 2
    for found, wanted in zip(shared(images).class_maps, expected.class_maps, strict=True):
        torch.testing.assert_close(found, wanted)
    released = shared.release()
    assert not any(module._forward_hooks for module in released.modules())
