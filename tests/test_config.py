"""The configuration: defaults, overrides, and what is refused."""

import re
import subprocess
import sys
from dataclasses import asdict, fields
from pathlib import Path

import pytest
import yaml

from selfreg.config import Config, dump_config, known_keys, load_config
from selfreg.config.hints import _OTHER_NAMES, nearest_key
from selfreg.regulation.options import MethodOptions


def write(folder: Path, text: str) -> Path:
    path = folder / "config.yaml"
    path.write_text(text, encoding="utf-8")
    return path


def test_an_empty_file_gives_the_defaults(tmp_path: Path) -> None:
    assert load_config(write(tmp_path, "")) == Config()


def test_what_is_dumped_loads_as_the_same_configuration(tmp_path: Path) -> None:
    config = load_config(
        write(tmp_path, "data: {root: somewhere, crop_size: [96, 128]}\nmethod: {taps: [layer1, layer2]}")
    )
    assert load_config(write(tmp_path, dump_config(config))) == config


@pytest.mark.parametrize(
    ("override", "section", "key", "value"),
    [
        ("training.epochs=3", "training", "epochs", 3),
        ("training.learning_rate=1e-3", "training", "learning_rate", 1e-3),
        ("data.crop_size=[64, 96]", "data", "crop_size", (64, 96)),
        ("method.taps=[layer1]", "method", "taps", ["layer1"]),
        ("data.options.masks=masks_objects", "data", "options", {"masks": "masks_objects"}),
    ],
)
def test_an_override_sets_one_key(tmp_path: Path, override: str, section: str, key: str, value: object) -> None:
    config = load_config(write(tmp_path, ""), [override])
    assert getattr(getattr(config, section), key) == value


def test_an_override_wins_over_the_file(tmp_path: Path) -> None:
    assert load_config(write(tmp_path, "seed: 1"), ["seed=2"]).seed == 2


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("trainning: {epochs: 1}", "unknown key 'trainning'; did you mean 'training'?"),
        ("training: {epoch: 1}", "unknown key 'training.epoch'; did you mean 'training.epochs'?"),
        ("epochs: 1", "unknown key 'epochs'; did you mean 'training.epochs'?"),
        ("training: {epochs: many}", "training.epochs: "),
        ("training: {epochs: 0}", "training.epochs: "),
        ("training: {loss: [dice, cross_entropy]}", "training.loss: give one of cross_entropy, ohem"),
        ("data: {scale: [2, 1]}", "smallest"),
        ("data: {crop_size: [4, 4]}", "crop_size"),
        ("[1, 2]", "mapping"),
        ("a: [", "cannot be read as YAML"),
        ("!!python/object/apply:os.system ['true']", "cannot be read as YAML"),
    ],
)
def test_a_bad_file_is_refused_in_one_line_that_names_it(tmp_path: Path, text: str, message: str) -> None:
    path = write(tmp_path, text)
    with pytest.raises(ValueError) as caught:
        load_config(path)
    assert str(path) in str(caught.value)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("override", ["training.epochs", "=3", "seed.x=1"])
def test_an_override_that_cannot_be_applied_is_refused(tmp_path: Path, override: str) -> None:
    with pytest.raises(ValueError, match="--set"):
        load_config(write(tmp_path, "seed: 0"), [override])


def test_a_missing_file_is_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="absent.yaml"):
        load_config(tmp_path / "absent.yaml")


@pytest.mark.parametrize(
    "override",
    ["training.early_stopping=true", "training.accumulate=true", "seed=true", "method.warm_up=yes", "training.ema=on"],
)
def test_a_switch_is_no_number(tmp_path: Path, override: str) -> None:
    key = override.partition("=")[0]
    with pytest.raises(ValueError, match=f"{key}: give a number .found True."):
        load_config(write(tmp_path, ""), [override])


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("method.taps=encoder", "method.taps: Input should be 'auto', or should be a valid list (found 'encoder')"),
        ("training.devices=many", "training.devices: Input should be a valid integer"),
        ("validation.scales=[1000]", "at most 16"),
        ("data.crop_size=[100000, 64]", "at most 16384"),
        ("data.short_side=100000", "data.short_side"),
        ("training.threads=100000", "training.threads"),
        ("training.epochs=1e20", "training.epochs"),
    ],
)
def test_a_value_that_cannot_be_meant_is_refused_with_its_key_alone(
    tmp_path: Path, override: str, message: str
) -> None:
    with pytest.raises(ValueError, match=re.escape(message)) as refused:
        load_config(write(tmp_path, ""), [override])
    assert "literal" not in str(refused.value)


def test_every_key_is_documented() -> None:
    text = (Path(__file__).parents[1] / "docs" / "configuration.md").read_text(encoding="utf-8")
    leaves = {key.rsplit(".", 1)[-1] for key in known_keys()} - {
        "data",
        "network",
        "method",
        "training",
        "validation",
        "classifier",
        "cam",
    }
    assert not {leaf for leaf in leaves if f"{leaf}`" not in text}


@pytest.mark.parametrize(
    "path", sorted((Path(__file__).parents[1] / "configs").glob("*.yaml")), ids=lambda path: path.name
)
def test_every_configuration_of_the_repository_is_valid(path: Path) -> None:
    assert yaml.safe_load(path.read_text(encoding="utf-8"))
    load_config(path)


def test_every_option_of_the_objective_is_a_key_with_the_same_default(tmp_path: Path) -> None:
    method = load_config(write(tmp_path, "")).method
    assert {f"method.{field.name}" for field in fields(MethodOptions)} < set(known_keys())
    assert method.objective_options() == asdict(MethodOptions())


def test_a_configuration_is_read_and_refused_without_torch(tmp_path: Path) -> None:
    path = write(tmp_path, "method: {temprature: 2}")
    program = f"""
import sys
from selfreg.config import load_config
try:
    load_config({str(path)!r})
except ValueError as error:
    print(error)
assert "torch" not in sys.modules
"""
    answer = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert "did you mean 'method.temperature'?" in answer.stdout


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("training.early_stop", "training.early_stopping"),
        ("training.patience", "training.early_stopping"),
        ("training.ema_decay", "training.ema"),
        ("training.freeze_backbone", "training.freeze"),
        ("training.grad_accumulation", "training.accumulate"),
        ("training.accumulate_grad_batches", "training.accumulate"),
        ("training.iterations", "training.max_steps"),
        ("training.warm_up_steps", "training.linear_warm_up_steps"),
        ("training.warmup", "training.linear_warm_up_steps"),
        ("method.warmup", "method.warm_up"),
        ("training.seed", "seed"),
        ("training.amp", "training.precision"),
        ("training.Learning-Rate", "training.learning_rate"),
        ("training.arm", "method.arm"),
        ("network.weights", "network.pretrained"),
        ("data.augment", "data.augmentation"),
        ("model.backbone", "network.name"),
        ("training.lr_backbone", "training.backbone_learning_rate_factor"),
        ("training.freeze_bn", "training.freeze"),
        ("training.grad_clip_norm", "training.gradient_clip"),
        ("training.loss_weight", "training.loss"),
        ("training.eval_every", "training.validate_every"),
        ("validation.every", "training.validate_every"),
    ],
)
def test_the_hint_for_an_unknown_key_is_near_in_meaning(written: str, meant: str) -> None:
    assert nearest_key(written, list(known_keys())) == meant


@pytest.mark.parametrize("written", ["training.cosine", "training.ohem_threshold", "data.zzz", "experiment.name_of_it"])
def test_nothing_near_is_no_hint(written: str) -> None:
    assert nearest_key(written, list(known_keys())) is None


def test_other_tools_names_lead_to_keys_that_exist() -> None:
    keys = list(known_keys())
    assert all(nearest_key(f"nothing.{name}", keys) in keys for name in _OTHER_NAMES)
