"""A whole try through the command, tiny: generated scenes, a small network, trainings of a few steps."""

import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from fixtures.exports import write_roboflow
from fixtures.folder import write_folder
from selfreg.config import load_config
from selfreg.run import Run
from selfreg.trial import data, measuring, trial
from selfreg.trial.budget import Budget
from selfreg.trial.facts import Cost, Device, Times
from selfreg.trial.trainings import StudyTrainings
from tiny import selfreg
from trial.fakes import Clock

NETWORK = "smp:FPN/tu-test_efficientnet"
CLOCK = Clock()


class TimedTrainings(StudyTrainings):
    """Trainings that take five minutes each by the clock of the tests."""

    def train(self, arm: str, seed: int) -> None:
        """Train, and advance the clock."""
        if not self.finished(arm, seed):
            super().train(arm, seed)
            CLOCK.now += 300


@pytest.fixture(scope="module", autouse=True)
def short() -> Iterator[None]:
    """Small scenes, trainings of two steps, untrained weights, and a clock that only trainings advance."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(data, "SCENES", {"size": [64, 64], "length": 8, "evaluation_length": 4})
        patch.setattr(trial, "Budget", lambda seconds, spent: Budget(seconds, spent, clock=CLOCK))
        patch.setattr(trial, "StudyTrainings", TimedTrainings)
        cost = Cost(1.0, 1.0, (Times(64, 1.0, 1.0, 1.0),))
        patch.setattr(measuring, "measure_cost", lambda *_: (cost, Device("CPU")))
        for name, value in {"FEWEST_STEPS": 1, "STEPS_PER_CLASS": 0, "UNTRAINED_FACTOR": 1, "LONGEST": 2}.items():
            patch.setattr(f"selfreg.trial.rules.{name}", value)
        patch.setattr(measuring, "_with_weights", lambda _: [])
        yield


@pytest.fixture(scope="module")
def tried(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a try in whose budget two pairs fit."""
    folder = tmp_path_factory.mktemp("try")
    assert selfreg("try", "--budget", "30m", "--network", NETWORK, "--out", folder / "out") == 0
    return folder


def test_it_leaves_a_verdict_a_page_and_a_network(tried: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tried / "out"
    content = json.loads((out / "try.json").read_text(encoding="utf-8"))
    sentence = content["verdict"]["sentence"]
    assert sentence.startswith("generated scenes: ")
    assert content["progress"]["pairs"] == 2
    assert list(content["progress"]["levels"]) == ["2"]
    assert content["spent_seconds"] == 1500
    assert sentence.split(":")[1] in (out / "index.html").read_text(encoding="utf-8")
    assert sentence in (out / "study.md").read_text(encoding="utf-8")
    pictures = (out / "pictures.html").read_text(encoding="utf-8")
    assert "<img" in pictures
    assert "self-regulation minus plain training" in pictures
    # the first pair alone decides nothing
    assert sentence.split(":")[1] in pictures
    assert not re.search('<(strong|small|li) class="[^"]*(better|worse)"', pictures)
    assert (out / "cases.png").exists()
    assert Run.open(out / "best").evaluation_path("val").exists()
    assert selfreg("evaluate", out / "best") == 0
    assert "mIoU" in capsys.readouterr().out


def test_the_configuration_is_that_of_the_trainings(tried: Path) -> None:
    config = load_config(tried / "out" / "try.yaml")
    run = Run.open(tried / "out" / "full" / "seed-1").config()
    assert config.network.name == NETWORK
    assert run.model_copy(update={"seed": 0}) == config
    assert Run.open(tried / "out" / "base" / "seed-1").config().method.arm == "base"


def test_the_same_command_repeats_the_verdict_without_training(
    tried: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    before = json.loads((tried / "out" / "try.json").read_text(encoding="utf-8"))
    monkeypatch.setattr("selfreg.trial.trainings.train", lambda *_, **__: pytest.fail("trained"))
    assert selfreg("try", "--budget", "30m", "--network", NETWORK, "--out", tried / "out") == 0
    assert before["verdict"]["sentence"] in capsys.readouterr().out
    after = json.loads((tried / "out" / "try.json").read_text(encoding="utf-8"))
    assert after["progress"] == before["progress"]


@pytest.mark.parametrize(
    ("there", "damage"),
    [
        ('"rules"', '"nothing"'),
        ('"levels"', '"nothing"'),
        ('"candidates"', '"nothing"'),
        ('"question"', '"nothing"'),
        ('"data_digest"', '"nothing"'),
        ('"pairs": 2', '"pairs": 11'),
        ('"base": "', '"base": "un'),
        ('"spent_seconds": ', '"spent_seconds": -'),
        ('"expected_pair": ', '"expected_pair": -'),
    ],
)
def test_a_damaged_record_is_refused_in_one_line(
    there: str, damage: str, tried: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text = (tried / "out" / "try.json").read_text(encoding="utf-8")
    assert there in text
    (tmp_path / "try.json").write_text(text.replace(there, damage), encoding="utf-8")
    (tmp_path / "try.yaml").write_bytes((tried / "out" / "try.yaml").read_bytes())
    assert selfreg("try", "--network", NETWORK, "--out", tmp_path) == 2
    assert "use another --out" in capsys.readouterr().err


@pytest.mark.parametrize(("option", "value"), [("--network", "smp:Unet/resnet18"), ("--seed", "3")])
def test_another_question_needs_another_folder(
    tried: Path, option: str, value: str, capsys: pytest.CaptureFixture[str]
) -> None:
    network = () if option == "--network" else ("--network", NETWORK)
    assert selfreg("try", "--out", tried / "out", option, value, *network) == 2
    assert "use another --out" in capsys.readouterr().err


def test_a_mistake_in_the_question_can_be_corrected_as_long_as_nothing_was_made_for_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root, out = write_folder(tmp_path / "data"), tmp_path / "out"
    assert selfreg("try", root, "--out", out, "--network", "smp:Nothing/at-all") == 2
    interrupt(monkeypatch, root, "--out", out)


def test_data_with_errors_are_refused_with_the_findings_of_check_data(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = write_folder(tmp_path / "data")
    next((root / "masks" / "train").iterdir()).write_bytes(b"no image")
    assert selfreg("try", root, "--out", tmp_path / "out", "--network", NETWORK) == 2
    error = capsys.readouterr().err
    assert "errors in the data" in error.splitlines()[-1]
    assert "selfreg check-data" in error.splitlines()[-1]


def test_data_without_a_validation_split_are_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root = write_folder(tmp_path / "data", splits={"train": 4})
    assert selfreg("try", root, "--out", tmp_path / "out", "--network", NETWORK) == 2
    assert "no validation split" in capsys.readouterr().err


def test_data_of_one_class_are_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root = write_folder(tmp_path / "data", classes=("thing",), void=None)
    assert selfreg("try", root, "--out", tmp_path / "out", "--network", NETWORK) == 2
    assert "has the single class 'thing'" in capsys.readouterr().err


@pytest.mark.parametrize("splits", [{"train": 3, "val": 1}, {"train": 1, "val": 3}])
def test_a_split_of_one_image_is_refused_before_anything_is_measured(
    splits: dict[str, int], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = write_folder(tmp_path / "data", splits=splits)
    assert selfreg("try", root, "--out", tmp_path / "out", "--network", NETWORK) == 2
    assert f"the split {min(splits, key=splits.__getitem__)} has one image" in capsys.readouterr().err


@pytest.mark.parametrize(
    "arguments",
    [
        ("nowhere",),
        ("--budget", "soon"),
        ("--budget", ""),
        ("--budget", "9" * 30 + "h"),
        ("--network", "smp:Nothing/at-all"),
        ("--network", ""),
        ("--seed", "-1"),
        ("--seed", str(2**32 - 1)),
    ],
)
def test_mistakes_are_one_line(arguments: tuple[str, ...], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert selfreg("try", *arguments, "--out", tmp_path / "out") == 2
    assert capsys.readouterr().err.strip().splitlines()[-1].startswith("error: ")


def test_an_interrupted_try_continues_and_does_not_train_again_what_is_finished(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    trained: list[tuple[str, int]] = []
    real = TimedTrainings.train

    def train_one(self: TimedTrainings, arm: str, seed: int) -> None:
        if not self.finished(arm, seed):
            if trained:
                raise KeyboardInterrupt
            trained.append((arm, seed))
        real(self, arm, seed)

    arguments = ("try", "--budget", "10m", "--network", NETWORK, "--out", tmp_path / "out")
    monkeypatch.setattr(TimedTrainings, "train", train_one)
    assert selfreg(*arguments) == 130
    trained.clear()
    assert selfreg(*arguments) == 130
    assert trained == [("balanced", 0)]
    assert "continuing the try" in capsys.readouterr().out
    spent = json.loads((tmp_path / "out" / "try.json").read_text(encoding="utf-8"))["spent_seconds"]
    assert 300 <= spent <= 600


def interrupt(monkeypatch: pytest.MonkeyPatch, *arguments: str | Path, while_looking: bool = False) -> None:
    """Start a try and interrupt it at its first training, or when it looks at the data."""

    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        if while_looking:
            patch.setattr(trial, "inspect_data", stop)
        else:
            patch.setattr(TimedTrainings, "train", stop)
        assert selfreg("try", *arguments, "--network", NETWORK, "--budget", "30m") == 130


def test_data_that_changed_between_two_commands_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    root, out = write_folder(tmp_path / "data"), tmp_path / "out"
    interrupt(monkeypatch, root, "--out", out)
    labels = root / "labels.json"
    labels.write_text(labels.read_text(encoding="utf-8").replace("road", "street"), encoding="utf-8")
    assert selfreg("try", root, "--out", out, "--network", NETWORK, "--budget", "1h") == 2
    assert "data: has changed since the try" in capsys.readouterr().err
    assert not (out / "full" / "seed-0").exists()


def test_a_folder_with_other_files_is_left_alone(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root, out = write_folder(tmp_path / "data"), tmp_path / "out"
    out.mkdir()
    (out / "index.html").write_text("mine", encoding="utf-8")
    (tmp_path / "file").write_text("mine", encoding="utf-8")
    for folder, error in ((out, "holds no try, but index.html"), (root, "holds no try"), (tmp_path / "file", "a file")):
        assert selfreg("try", root, "--out", folder, "--network", NETWORK) == 2
        assert error in capsys.readouterr().err
    assert [path.name for path in out.iterdir() if not path.name.startswith(".")] == ["index.html"]


def test_an_export_that_changed_after_its_import_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    write_roboflow(tmp_path / "boats")
    out = tmp_path / "boats" / "runs"
    for imported in (True, False):
        interrupt(monkeypatch, tmp_path / "boats", "--out", out, while_looking=True)
        assert ("imported from yolo" in capsys.readouterr().out) == imported
    next((tmp_path / "boats").rglob("labels/*.txt")).unlink()
    assert selfreg("try", tmp_path / "boats", "--out", out, "--network", NETWORK) == 2
    assert "boats: has changed since the try" in capsys.readouterr().err


def test_an_export_of_a_labelling_tool_is_imported_once(tmp_path: Path) -> None:
    write_roboflow(tmp_path / "export")
    place = data.find_data(tmp_path / "export", tmp_path / "out")
    assert (place.kind, place.root, place.name) == ("folder", (tmp_path / "out" / "data").resolve(), "export")
    assert "imported from yolo" in data.import_data(place)[0]
    again = data.find_data(tmp_path / "export", tmp_path / "out")
    assert (again.root, again.name, data.import_data(again)) == (place.root, "export", ())


def test_a_data_set_is_read_where_it_is(tmp_path: Path) -> None:
    root = write_folder(tmp_path / "data", splits={"train": 4, "val": 2})
    place = data.find_data(root, tmp_path / "out")
    facts = data.inspect_data(place, tmp_path / "out", seed=5, tell=lambda _: None)
    assert (place.kind, facts.num_train, facts.num_val, facts.num_classes, facts.seed) == ("folder", 4, 2, 3, 5)
    assert (facts.height, facts.width) == (24, 32)
    assert not (tmp_path / "out").exists()


def test_the_demonstration_is_a_try_on_generated_scenes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[object, ...]] = []
    monkeypatch.setattr(
        "selfreg.trial.trial.run_try",
        lambda *given, **options: asked.append((*given, options["budget"], options["seed"])),
    )
    assert selfreg("demo", "--out", tmp_path) == 0
    assert selfreg("try", "--out", tmp_path) == 0
    assert asked == [(None, tmp_path, "4m", 0)] * 2
