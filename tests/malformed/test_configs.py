"""Configurations."""

from pathlib import Path

import pytest

from malformed.pieces import Write, content, dangling, folder, loop, refusal, text
from selfreg.config import Config, load_config

BOMB = "\n".join(["a0: &a0 [x, x]", *(f"a{n}: &a{n} [*a{n - 1}, *a{n - 1}]" for n in range(1, 60))])

RIGHT: dict[str, Write] = {
    "empty": text(""),
    "comments alone": text("# nothing\n"),
    "end of document": text("---\n...\n"),
    "byte order mark": content("\ufeffseed: 0\n".encode()),
    "Windows lines": text("seed: 0\r\ntraining:\r\n  epochs: 50\r\n"),
    "JSON": text('{"seed": 0, "training": {"epochs": 50}}'),
    "empty sections": text("data: {}\ntraining: {}\n"),
    "an anchor that nobody uses": text("training: &t {epochs: 50}\n"),
    "a number in words of YAML": text("seed: 0x0\n"),
}


@pytest.mark.parametrize("name", RIGHT)
def test_an_odd_configuration_is_read(tmp_path: Path, name: str) -> None:
    path = tmp_path / "c.yaml"
    RIGHT[name](path)
    assert load_config(path) == Config()


YAML = "cannot be read as YAML"

REFUSED: dict[str, tuple[Write, str]] = {
    "UTF-16": (content("seed: 1".encode("utf-16")), YAML),
    "Latin-1": (content("network: {name: Straße}".encode("latin-1")), YAML),
    "zeros": (content(bytes(64)), YAML),
    "control characters": (content(b"seed: \x07\x1b[2J"), YAML),
    "noise": (content(bytes(range(255, 0, -1))), YAML),
    "a picture": (content(b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR"), YAML),
    "tabs": (text("data:\n\tkind: folder\n"), YAML),
    "an open bracket": (text("data: {kind: folder\n"), YAML),
    "an open quote": (text("data: {kind: 'folder\n"), YAML),
    "two documents": (text("seed: 1\n---\nseed: 2\n"), YAML),
    "lists 10,000 deep": (text("[" * 10_000), "nested too deeply"),
    "closed lists 10,000 deep": (text("seed: " + "[" * 10_000 + "]" * 10_000), "nested too deeply"),
    "mappings 2,000 deep": (text("".join(" " * n + "a:\n" for n in range(2000))), "nested too deeply"),
    "aliases that stand for 2**60 values": (text(BOMB), "aliases"),
    "an alias that holds itself": (text("data: &d {options: {x: *d}}"), "aliases"),
    "a merge of an alias": (text("data: &d {kind: folder}\nnetwork:\n  <<: *d\n"), "aliases"),
    "an alias of nothing": (text("seed: *nothing"), YAML),
    "a key twice": (text("seed: 1\nseed: 2\n"), "a key occurs twice"),
    "a section twice": (text("data: {kind: voc}\ntraining: {}\ndata: {root: x}\n"), "a key occurs twice"),
    "a key twice in a section": (text("training: {epochs: 1, epochs: 2}\n"), "a key occurs twice"),
    "a list as key": (text("? [a, b]\n: 1\n"), YAML),
    "code": (text("!!python/object/apply:os.system ['true']"), YAML),
    "a name of code": (text("seed: !!python/name:os.system"), YAML),
    "a module of code": (text("seed: !!python/module:os"), YAML),
    "a tag of nobody": (text("seed: !mine 1"), YAML),
    "a whole number that is none": (text("seed: !!int x"), YAML),
    "a whole number of nothing": (text('seed: !!int ""'), YAML),
    "a truth that is none": (text("data: {flip: !!bool maybe}"), YAML),
    "a date that is none": (text("seed: 2020-13-45"), YAML),
    "a timestamp that is none": (text("seed: !!timestamp soon"), YAML),
    "bytes that are none": (text("seed: !!binary ä"), YAML),
    "a number of 10,000 digits": (text("seed: " + "9" * 10_000), YAML),
    "list": (text("[1, 2]"), "a configuration must be a mapping"),
    "word": (text("train"), "a configuration must be a mapping"),
    "number": (text("1"), "a configuration must be a mapping"),
    "date": (text("2020-01-01"), "a configuration must be a mapping"),
    "set": (text("!!set {a, b}"), "a configuration must be a mapping"),
    "a number as key": (text("1: 2"), "1"),
    "nothing as key": (text("~: 2"), "None"),
    "an unknown key of 1,000 letters": (text("x" * 1000 + ": 1"), "unknown key"),
    "an unknown key of two lines": (text('"a\\nb": 1'), "unknown key"),
    "a section as list": (text("data: [kind, folder]"), "data: "),
    "a section as word": (text("training: fast"), "training: "),
    "a section as nothing": (text("method:"), "method: "),
    "a value of 100,000 words": (text("seed: [" + "x, " * 100_000 + "x]"), "seed: "),
    "a word of 100,000 letters": (text("seed: " + "x" * 100_000), "seed: "),
    "seed below 0": (text("seed: -1"), "seed: "),
    "seed of 2**40": (text(f"seed: {2**40}"), "seed: "),
    "seed of a fraction": (text("seed: 1.5"), "seed: "),
    "learning rate of NaN": (text("training: {learning_rate: .nan}"), "training.learning_rate: "),
    "learning rate of infinity": (text("training: {learning_rate: .inf}"), "training.learning_rate: "),
    "weight of infinity": (text("method: {sr_f_weight: .inf}"), "method.sr_f_weight: "),
    "weight below 0": (
        text("method: {sr_f_weight: -1}"),
        "method: sr_f_weight must be finite and at least 0",
    ),
    "temperature of 0": (text("method: {temperature: 0}"), "method: temperature must be finite and above 0, not 0.0"),
    "warm-up above 1": (text("method: {warm_up: 25}"), "method: warm_up must be a fraction of training"),
    "an unknown option of the method": (text("method: {temprature: 2}"), "did you mean 'method.temperature'"),
    "mean of NaN": (text("data: {mean: [.nan, 0, 0]}"), "data.mean.0: "),
    "mean of two": (text("data: {mean: [0, 0]}"), "data.mean"),
    "standard deviation of 0": (text("data: {std: [1, 0, 1]}"), "std"),
    "scale of NaN": (text("data: {scale: [.nan, 1]}"), "data.scale.0: "),
    "crop of one side": (text("data: {crop_size: 512}"), "data.crop_size: "),
    "crop below 0": (text("data: {crop_size: [-512, 512]}"), "crop_size"),
    "crop of 10^10 pixels": (text("data: {crop_size: [100000, 100000]}"), "crop_size"),
    "short side of 100,000": (text("data: {short_side: 100000}"), "data.short_side: "),
    "classifier's crop of 10^10 pixels": (text("classifier: {crop_size: [16, 100000]}"), "crop_size"),
    "zoom of 1,000": (text("cam: {scales: [1000]}"), "scales"),
    "no epochs": (text("training: {epochs: 0}"), "training.epochs: "),
    "workers in words": (text("training: {workers: many}"), "training.workers: "),
    "an arm of nobody": (text("method: {arm: half}"), "method.arm: "),
    "options as a list": (text("data: {options: [masks]}"), "data.options: "),
    "folder": (folder, YAML),
    "dangling link": (dangling, "no such configuration file"),
    "link to itself": (loop, YAML),
    "nothing": (str, "no such configuration file"),
}


@pytest.mark.timeout(30)
@pytest.mark.parametrize("name", REFUSED)
def test_a_broken_configuration_is_refused_by_name(tmp_path: Path, name: str) -> None:
    path = tmp_path / "c.yaml"
    write, message = REFUSED[name]
    write(path)
    assert message in refusal(lambda: load_config(path), path)


@pytest.mark.parametrize(
    "override",
    ["seed=[", "seed=*x", "seed=!!int x", "=1", "seed", "data..kind=1", "seed.x=1", "seed=" + "[" * 5000, "seed=\x07"],
    ids=["bracket", "alias", "number", "no key", "no value", "dots", "no section", "nested", "control character"],
)
def test_a_broken_override_is_refused(tmp_path: Path, override: str) -> None:
    path = tmp_path / "c.yaml"
    path.write_text("seed: 1", encoding="utf-8")
    with pytest.raises(ValueError, match="--set") as caught:
        load_config(path, [override])
    assert type(caught.value) is ValueError
    assert len(str(caught.value).splitlines()) == 1
