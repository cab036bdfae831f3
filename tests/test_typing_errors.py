"""Errors of typing are answered before anything heavy is imported."""

import json
import subprocess
import sys
from typing import Any

import pytest

from tiny import write_config

_HEAVY = ("lightning", "pytorch_lightning", "scipy", "segmentation_models_pytorch", "timm", "torch", "transformers")
_PROGRAM = f"""
import contextlib, io, json, sys
from selfreg.cli import main
for line in json.loads(sys.argv[1]):
    sys.argv = ["selfreg", *line.split()]
    with contextlib.redirect_stderr(io.StringIO()) as told:
        try:
            main()
        except SystemExit as ended:
            loaded = [name for name in {_HEAVY} if name in sys.modules]
            print(json.dumps([line, told.getvalue(), ended.code, loaded]))
"""

LINES = {
    "evaluate nope": "nope: holds no run",
    "compare nope other": "nope: holds no run",
    "predict nope photo.jpg -o masks": "photo.jpg: no such file",
    "predict nope tiny.yaml -o masks": "nope: holds no run",
    "predict nope.onnx tiny.yaml -o masks": "nope.onnx: no such file",
    "export nope model.onnx": "nope: holds no run",
    "train nope.yaml": "nope.yaml: no such configuration",
    "study nope.yaml": "nope.yaml: no such configuration",
    "pseudo nope.yaml": "nope.yaml: no such configuration",
    "train tiny.yaml --set training.epoch=3": "did you mean 'training.epochs'?",
}


@pytest.fixture(scope="module")
def answers(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[Any]]:
    """What the command said on the standard error, its exit status and what it had loaded, one line after the other."""
    folder = tmp_path_factory.mktemp("here")
    write_config(folder)
    command = [sys.executable, "-c", _PROGRAM, json.dumps(list(LINES))]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=True)
    return {line: answer for line, *answer in map(json.loads, done.stdout.splitlines())}


@pytest.mark.parametrize("line", LINES)
def test_a_typing_error_loads_neither_torch_nor_lightning(answers: dict[str, list[Any]], line: str) -> None:
    told, status, loaded = answers[line]
    assert LINES[line] in told
    assert (status, loaded) == (2, [])
