"""The examples of README.md and docs/ run, their commands exist, and their configurations are accepted.

The Python blocks of a page run in order and in one namespace, as a reader would type them, with what the page assumes
of its reader set up beforehand and its sizes made small. On pages of complete programs, each block runs after the first
one alone. In tutorials, commands run too, and YAML blocks are written to files. A block after
`<!-- not run: REASON -->` is only compiled.
"""

import functools
import re
import shlex
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import onnx
import pytest
import segmentation_models_pytorch as smp
import timm
import torch
import typer
import yaml
from PIL import Image

from fixtures.folder import write_folder
from processes import WARM
from selfreg.cli import app
from selfreg.config import parse_config
from selfreg.data.kinds import KINDS
from selfreg.inference.onnx_network import METADATA_KEY, OnnxMetadata
from tiny import selfreg

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
NAMES = [path.name for path in PAGES]

_BLOCK = re.compile(
    r"^(?P<marker><!-- not run: .+ -->\n)?(?P<indent> *)```(?P<language>\w*)\n(?P<code>.*?)^(?P=indent)```$",
    flags=re.MULTILINE | re.DOTALL,
)

# the smallest network of timm, which is exported in seconds
_SMALL = "smp:FPN/tu-test_resnet"

# written, smaller: what a page says of a real training is cut down to what a test can afford
SMALLER: dict[str, dict[str, str]] = {
    "data.md": {
        "(512, 512), scale": "(64, 64), scale",
        "num_workers=4": "num_workers=0",
        "batch_size=8": "batch_size=2",
        "range(50)": "range(2)",
    },
    "own_loop.md": {'Pictures("train", 16)': 'Pictures("train", 8)', "epochs, step = 2, 0": "epochs, step = 1, 0"},
    "networks.md": {"hrnet_w48": "hrnet_w18_small", "num_classes=19": "num_classes=5"},
}

TUTORIALS: dict[str, dict[str, str]] = {
    "tutorial_own_data.md": {
        "epochs: 12": "epochs: 1",
        "range(40)": "range(16)",
        "smp:FPN/tu-mobilenetv3_small_050": _SMALL,
    },
    "tutorial_study.md": {
        "--seeds 3": "--seeds 1",
        "smp:FPN/tu-mobilenetv3_small_050": _SMALL,
        "epochs: 8": "epochs: 1",
        "length: 64, evaluation_length: 32": "length: 8, evaluation_length: 4",
    },
    "tutorial_weak.md": {"epochs: 10": "epochs: 1", "epochs: 12": "epochs: 2", '("train", 48)': '("train", 8)'},
}
"""Tutorials, and what is made smaller in them."""
SMALLER |= TUTORIALS

COMPLETE_PROGRAMS = {"own_loop.md": ["mIoU ", "'val/pixel_accuracy': ", "'eval_loss': "]}
"""Pages whose blocks need only the first one, and what each of these programs prints."""


class Block(NamedTuple):
    """A fenced block: its language, its text, the line it begins on, and whether it is marked as not to be run."""

    language: str
    code: str
    line: int
    marked: bool


def blocks(path: Path) -> Iterator[Block]:
    text = path.read_text(encoding="utf-8")
    for match in _BLOCK.finditer(text):
        line = text.count("\n", 0, match.start("code"))
        yield Block(match["language"], match["code"], line, match["marker"] is not None)


# --- what a page assumes of its reader ---


def _loop() -> dict[str, Any]:
    batch = torch.randn(2, 3, 64, 64), torch.randint(21, (2, 64, 64))
    return {"loader": [batch, batch], "total_steps": 2}


def _maps() -> dict[str, Any]:
    chance = np.random.default_rng(0)
    from selfreg.evaluation import evaluate_image

    maps = [chance.integers(0, 3, (2, 40, 60), dtype=np.uint8).repeat(4, 1).repeat(4, 2) for _ in range(4)]
    others = [evaluate_image(label, label, num_classes=21, background=0) for _, label in maps]
    return {"pairs": maps, "others": others, "class_names": [f"class {index}" for index in range(21)]}


def _weights() -> dict[str, Any]:
    network = timm.create_model("mobilenetv2_100", pad_type="same")
    torch.save(network.state_dict(), "mobilenetv2_same.pth")
    return {}


def _exported() -> dict[str, Any]:
    """A file as `selfreg export` writes it, for the part of the page that needs nothing but ONNX Runtime."""
    image = onnx.helper.make_tensor_value_info("image", onnx.TensorProto.FLOAT, ["N", 3, "H", "W"])
    logits = onnx.helper.make_tensor_value_info("logits", onnx.TensorProto.FLOAT, ["N", 2, "H", "W"])
    weight = onnx.helper.make_tensor("weight", onnx.TensorProto.FLOAT, [2, 3, 1, 1], [0, 0, 0, 1, 1, 1])
    convolution = onnx.helper.make_node("Conv", ["image", "weight"], ["logits"])
    graph = onnx.helper.make_graph([convolution], "model", [image], [logits], [weight])
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 18)], ir_version=10)
    metadata = OnnxMetadata(class_names=["dark", "bright"], mean=[0.5, 0.5, 0.5], std=[0.2, 0.2, 0.2])
    onnx.helper.set_model_props(model, {METADATA_KEY: metadata.model_dump_json()})
    onnx.save(model, "model.onnx")
    return {}


SETUP: dict[str, Callable[[], dict[str, Any]]] = {
    "README.md": _loop,
    "index.md": _loop,
    "metrics.md": _maps,
    "networks.md": _weights,
    "notebook.md": _exported,
}


@pytest.fixture
def _as_a_reader(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An empty folder to work in, a home with a data set `~/mydata`, and no download of weights."""
    monkeypatch.setattr("selfreg.data.kinds.KINDS", dict(KINDS))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.syspath_prepend(tmp_path)
    write_folder(tmp_path / "mydata")
    build = smp.DeepLabV3Plus.__init__

    @functools.wraps(build)
    def without_download(self: Any, *arguments: Any, **options: Any) -> None:
        build(self, *arguments, **{**options, "encoder_weights": None})

    monkeypatch.setattr(smp.DeepLabV3Plus, "__init__", without_download)


@pytest.mark.slow
@pytest.mark.usefixtures("_as_a_reader")
@pytest.mark.parametrize("name", TUTORIALS)
def test_a_tutorial_runs_from_its_first_block_to_something_to_look_at(
    name: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("selfreg.study.runner.subprocess", WARM)
    namespace: dict[str, Any] = {"__name__": f"tutorial_{name}"}
    for block in blocks(ROOT / "docs" / name):
        code = block.code
        for written, smaller in TUTORIALS[name].items():
            code = code.replace(written, smaller)
        if block.language == "python":
            exec(compile("\n" * block.line + code, name, "exec"), namespace)
        elif block.language == "yaml":
            Path(re.match(r"# (\w+\.yaml)\n", code)[1]).write_text(code, encoding="utf-8")  # type: ignore[index]
        elif block.language == "console":
            for line in code.splitlines():
                assert selfreg(*shlex.split(line.removeprefix("$ selfreg "))) == 0, capsys.readouterr().err
    if name == "tutorial_study.md":
        assert "<h2>Measures" in Path("study/index.html").read_text(encoding="utf-8")
    else:
        with Image.open("look.png") as picture:
            assert len(np.unique(np.asarray(picture).reshape(-1, 3), axis=0)) > 10


@pytest.mark.usefixtures("_as_a_reader")
@pytest.mark.parametrize("path", [path for path in PAGES if path.name not in TUTORIALS], ids=lambda path: path.name)
def test_the_python_of_a_page_runs(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    namespace: dict[str, Any] = {"__name__": f"example_of_{path.stem}", **SETUP.get(path.name, dict)()}
    sys.modules.pop("my_networks", None)
    shared: dict[str, Any] = {}
    for number, block in enumerate(block for block in blocks(path) if block.language == "python"):
        if path.name in COMPLETE_PROGRAMS:
            namespace = dict(shared) if number else namespace
        code = block.code
        for written, smaller in SMALLER.get(path.name, {}).items():
            code = code.replace(written, smaller)
        file_name = re.match(r"# (\w+\.py)\n", code)
        if file_name:
            Path(file_name[1]).write_text(code, encoding="utf-8")
        program = compile("\n" * block.line + code, str(path), "exec")
        if not block.marked:
            exec(program, namespace)
        shared = shared or dict(namespace)
    printed = capsys.readouterr().out
    for result in COMPLETE_PROGRAMS.get(path.name, []):
        assert result in printed


@pytest.mark.parametrize(("page", "written"), [(page, text) for page, texts in SMALLER.items() for text in texts])
def test_what_is_made_smaller_is_still_written(page: str, written: str) -> None:
    assert any(written in block.code for block in blocks(ROOT / "docs" / page))


# --- commands ---


def commands(path: Path) -> Iterator[list[str]]:
    """Every `selfreg ...` in console blocks, indented blocks and inline code, as words."""
    text = re.sub(r"\\\n\s*", " ", path.read_text(encoding="utf-8"))
    lines = re.findall(r"^(?:\$ | {4})(?:[A-Z_]+=\S* )*selfreg (.+)$", text, flags=re.MULTILINE)
    for line in [*lines, *re.findall(r"`selfreg ([^`\n]+)`", text)]:
        yield shlex.split(re.sub(r"\s#.*", "", line))


@pytest.mark.parametrize("path", PAGES, ids=NAMES)
def test_the_commands_of_a_page_exist_with_their_options(path: Path) -> None:
    root: Any = typer.main.get_command(app)
    for words in commands(path):
        command = root if words[0].startswith("-") else root.commands.get(words[0])
        assert command is not None, f"selfreg {' '.join(words)}: no such verb"
        known = {"-h", "--help"} | {name for option in command.params for name in option.opts}
        options = {word.partition("=")[0] for word in words if re.match(r"--?[a-z]", word)}
        assert options <= known, f"selfreg {' '.join(words)}: no option {', '.join(sorted(options - known))}"


def test_a_command_that_does_not_exist_is_noticed(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(
        "```console\n$ selfreg study a.yaml \\\n    --sead 3   # no\n```\nOr `selfreg fly`.\n", encoding="utf-8"
    )
    assert list(commands(page)) == [["study", "a.yaml", "--sead", "3"], ["fly"]]
    with pytest.raises(AssertionError, match="no option --sead"):
        test_the_commands_of_a_page_exist_with_their_options(page)


# --- configurations ---


@pytest.mark.parametrize("path", PAGES, ids=NAMES)
def test_the_configurations_of_a_page_are_accepted(path: Path) -> None:
    for block in blocks(path):
        if block.language == "yaml":
            parse_config(yaml.safe_load(block.code), origin=f"{path.name}, line {block.line}")


# --- links that mkdocs does not see ---


@pytest.mark.parametrize("name", ["README.md", "CONTRIBUTING.md"])
def test_the_links_of_the_front_pages_lead_somewhere(name: str) -> None:
    links = re.findall(r"\]\((?!https?:)([^)#]+)", (ROOT / name).read_text(encoding="utf-8"))
    assert not [link for link in links if not (ROOT / link).exists()]
