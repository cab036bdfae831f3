"""Errors of typing are answered before anything heavy is imported."""

import subprocess
import sys
from pathlib import Path

import pytest

from tiny import write_config

_HEAVY = ("lightning", "pytorch_lightning", "scipy", "segmentation_models_pytorch", "timm", "torch", "transformers")
_PROGRAM = f"""
import sys
from selfreg.cli import main
try:
    main()
except SystemExit as ended:
    loaded = [name for name in {_HEAVY} if name in sys.modules]
    print(ended.code, *loaded)
"""


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ("evaluate nope", "nope: holds no run"),
        ("compare nope other", "nope: holds no run"),
        ("predict nope photo.jpg -o masks", "photo.jpg: no such file"),
        ("predict nope tiny.yaml -o masks", "nope: holds no run"),
        ("predict nope.onnx tiny.yaml -o masks", "nope.onnx: no such file"),
        ("export nope model.onnx", "nope: holds no run"),
        ("train nope.yaml", "nope.yaml: no such configuration"),
        ("study nope.yaml", "nope.yaml: no such configuration"),
        ("pseudo nope.yaml", "nope.yaml: no such configuration"),
        ("train tiny.yaml --set training.epoch=3", "did you mean 'training.epochs'?"),
    ],
)
def test_a_typing_error_loads_neither_torch_nor_lightning(tmp_path: Path, line: str, told: str) -> None:
    write_config(tmp_path)
    command = [sys.executable, "-c", _PROGRAM, *line.split()]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True)
    assert told in done.stderr
    assert done.stdout.split() == ["2"]
