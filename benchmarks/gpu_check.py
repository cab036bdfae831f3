"""Run every command on a GPU, on generated scenes, and compare with the CPU where the numbers must agree.

    python benchmarks/gpu_check.py                   # under five minutes on one GPU
    python benchmarks/gpu_check.py --device cpu      # a rehearsal without a GPU, tiny
    python benchmarks/gpu_check.py dry-run evaluate  # some of the checks; those after `train` need its run

Checks: a dry run, training (precision auto) that is killed after its first epoch and resumed, training with compiled
losses, evaluation, prediction in tiles, export to ONNX, a study with several jobs that share the device, pseudo masks
from image-level tags. Losses, mIoU and class maps on the device are compared with those on the CPU. Prints a table;
exit status 1 where a command fails or a number differs by more than its tolerance.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import torch
import yaml
from PIL import Image

from selfreg.cli import main as main_of_selfreg
from selfreg.run import Run
from tagged_photographs import SECTIONS, write_tagged_photographs

LOSS_TOLERANCE = 0.01
"""Relative difference of losses in float32."""
MIOU_TOLERANCE = 0.005
AGREEMENT = 0.99
"""Share of pixels that have the same class."""
KILL_SECONDS = 300


def configuration(*, tiny: bool) -> dict[str, Any]:
    """Training on generated scenes: two epochs, of seconds each on a GPU."""
    images, side = (8, 64) if tiny else (64, 256)
    # without dropout, whose draws differ between devices
    small = {"decoder_pyramid_channels": 32, "decoder_segmentation_channels": 32, "decoder_dropout": 0.0}
    options = small if tiny else {"decoder_aspp_dropout": 0.0}
    return {
        "seed": 3,
        "data": {
            "kind": "scenes",
            "options": {"length": images, "evaluation_length": images // 2, "size": [side, 2 * side]},
            "crop_size": [side, side],
        },
        "network": {
            "name": "smp:FPN/tu-mobilenetv3_small_050" if tiny else "smp:DeepLabV3Plus/resnet50",
            "options": options,
            "pretrained": False,
        },
        "training": {"epochs": 2, "batch_size": 4, "workers": 0 if tiny else 4, "learning_rate": 1e-3},
        **SECTIONS,
    }


class Checks:
    """The checks in their order; each returns what it found, and raises ValueError where that is wrong."""

    def __init__(self, folder: Path, arguments: argparse.Namespace) -> None:
        self.folder = folder
        self.on_gpu = arguments.device == "cuda"
        self.tiny = not self.on_gpu
        self.jobs = arguments.jobs
        self.config = folder / "config.yaml"
        self.content = configuration(tiny=self.tiny)
        self.content["training"]["accelerator"] = "gpu" if self.on_gpu else "cpu"
        self.config.write_text(yaml.safe_dump(self.content), encoding="utf-8")
        self.run = folder / "run"
        self.all: dict[str, Callable[[], str]] = {
            "dry-run": self.dry_run,
            "train": self.train,
            "compile": self.compile,
            "evaluate": self.evaluate,
            "predict": self.predict,
            "export": self.export,
            "study": self.study,
            "pseudo": self.pseudo,
        }

    def dry_run(self) -> str:
        """The losses of a batch, of two images on a CPU too.

        In float32 without TF32: rounding to that or to bfloat16, with the batch norms of an untrained network after it,
        changes the loss by up to 7 %, on a CPU too. And with a learning rate of nothing: the loss is that of the last
        of several steps, each of which would magnify what differs.
        """
        settings = ("training.batch_size=2", "training.precision=32", "training.learning_rate=1e-15")
        sets = [part for each in settings for part in ("--set", each)]
        options: list[str | Path] = ["train", self.config, "--dry-run", "--json", *sets]
        with full_float32():
            here = json.loads(selfreg(*options))
        with hidden_gpu():
            there = json.loads(selfreg(*options, "--set", "training.accelerator=cpu"))
        for name, value in {"loss": there["loss"], **there["terms"]}.items():
            close(here["loss"] if name == "loss" else here["terms"][name], value, LOSS_TOLERANCE, name)
        return f"loss {here['loss']:.4f}, CPU {there['loss']:.4f}; {here['memory'] / 2**30:.2f} GiB, 2 images"

    def train(self) -> str:
        """Kill a training after its first epoch, resume it, and look for what a resumed run must have."""
        command = [sys.executable, "-m", "selfreg.cli", "train", str(self.config), "--out", str(self.run), "--quiet"]
        checkpoint = Run(self.run).checkpoint_path
        with subprocess.Popen([*command, "--no-page"], stdout=subprocess.DEVNULL) as process:
            deadline = time.monotonic() + KILL_SECONDS
            while not checkpoint.exists() and process.poll() is None and time.monotonic() < deadline:
                time.sleep(0.05)
            process.kill()
        if not checkpoint.exists():
            raise ValueError("the training left no checkpoint after its first epoch")
        summary = json.loads(selfreg("train", self.config, "--out", self.run, "--resume", "--quiet", "--json"))
        if summary["epochs"] != self.content["training"]["epochs"] or not summary["resumed"]:
            raise ValueError(f"resumed: {summary['resumed']}, epochs: {summary['epochs']}")
        if self.on_gpu and "cuda" not in summary["device"]:
            raise ValueError(f"the training ran on {summary['device']}")
        state = torch.load(checkpoint, map_location="cpu", weights_only=True)["state_dict"]
        if not all(bool(torch.isfinite(tensor).all()) for tensor in state.values() if tensor.is_floating_point()):
            raise ValueError("weights that are not finite")
        return f"killed, resumed; mIoU {100 * summary['last_miou']:.2f} on {summary['device']}"

    def compile(self) -> str:
        """One epoch in float32 with compiled losses and without; the loss of one step is the same."""
        options = ("--no-page", "--quiet", "--json", "--set", "training.epochs=1", "--set", "training.precision=32")
        seconds, losses = {}, {}
        for value in ("none", "losses"):
            out = self.folder / f"compile_{value}"
            with full_float32():
                summary = selfreg("train", self.config, "--out", out, *options, "--set", f"training.compile={value}")
            seconds[value] = json.loads(summary)["seconds"]
            losses[value] = Run(out).history("loss")[0]
            close(losses[value], losses["none"], LOSS_TOLERANCE, f"loss with {value}")
        shown = ", ".join(f"{value} {losses[value]:.4f} ({seconds[value]:.0f} s)" for value in seconds)
        return f"loss of a step, and seconds of an epoch: {shown}"

    def evaluate(self) -> str:
        """MIoU of the same weights, and that which training logged."""
        copied = self.folder / "evaluated"
        shutil.copytree(self.run, copied, ignore=shutil.ignore_patterns("evaluation"))
        kept = self.run / "evaluation"
        shutil.rmtree(kept, ignore_errors=True)  # the page of the run has predicted already
        here = json.loads(selfreg("evaluate", self.run, "--json"))["miou"]
        with hidden_gpu():
            there = json.loads(selfreg("evaluate", copied, "--json"))["miou"]
        close(here, there, MIOU_TOLERANCE, "mIoU", relative=False)
        return f"mIoU {100 * here:.2f}, CPU {100 * there:.2f}"

    def predict(self) -> str:
        """Class maps of larger photographs, in tiles."""
        photographs = self.folder / "photographs"
        photographs.mkdir()
        generator = np.random.default_rng(0)
        side = 192 if self.tiny else 1024
        for number in range(2):
            coarse = generator.integers(0, 255, (side // 16, side // 8, 3), dtype=np.uint8)
            picture = Image.fromarray(coarse).resize((2 * side, side), Image.Resampling.BICUBIC)
            picture.save(photographs / f"{number}.png")
        options = ("--tile", str(128 if self.tiny else 512))
        selfreg("predict", self.run, photographs, "--out", self.folder / "here", *options)
        with hidden_gpu():
            selfreg("predict", self.run, photographs, "--out", self.folder / "there", *options)
        share = min(agreement(path, self.folder / "there" / path.name) for path in (self.folder / "here").glob("*.png"))
        if share < AGREEMENT:
            raise ValueError(f"only {100 * share:.2f} % of pixels have the class that the CPU finds")
        return f"same class at {100 * share:.2f} % of pixels or more, two photographs"

    def export(self) -> str:
        """ONNX of the run; the command itself compares with the network."""
        found = json.loads(selfreg("export", self.run, self.folder / "model.onnx", "--json"))
        return f"same class at {100 * found['agreement']:.2f} % of pixels"

    def study(self) -> str:
        """Several runs at a time on one device."""
        out = self.folder / "study"
        arms, seeds = ("base,full", "1") if self.tiny else ("base,mea,sr,full", "2")
        options = ("--arms", arms, "--seeds", seeds, "--jobs", str(self.jobs), "--set", "training.epochs=1")
        selfreg("study", self.config, "--out", out, *options)
        if not (out / "index.html").exists():
            raise ValueError("the study left no page")
        return f"{len(arms.split(',')) * int(seeds)} runs, {self.jobs} at a time"

    def pseudo(self) -> str:
        """Pseudo masks of photographs with a patch of one colour each."""
        root = write_tagged_photographs(self.folder / "tagged")
        content = {**self.content, "data": {"kind": "folder", "root": str(root), "crop_size": [64, 64]}}
        config = self.folder / "weak.yaml"
        config.write_text(yaml.safe_dump(content), encoding="utf-8")
        selfreg("pseudo", config, "--out", self.folder / "pseudo")
        masks = [path for path in (self.folder / "pseudo").rglob("*.png") if path.stem.startswith("photo")]
        if not masks:
            raise ValueError("no masks")
        return f"{len(masks)} masks"


# --- helpers ---------------------------------------------------------------------------------------------------------


def selfreg(*arguments: str | Path) -> str:
    """Call the command in this process; return what it printed, raise ValueError where it fails."""
    printed, told = io.StringIO(), io.StringIO()
    words = ["selfreg", *map(str, arguments)]
    with (
        mock.patch.object(sys, "argv", words),
        contextlib.redirect_stdout(printed),
        contextlib.redirect_stderr(told),
    ):
        try:
            main_of_selfreg()
        except SystemExit as ended:
            if ended.code:
                raise ValueError(f"{' '.join(words)}: exit status {ended.code}: {told.getvalue().strip()}") from None
    return printed.getvalue()


def hidden_gpu() -> contextlib.AbstractContextManager[Any]:
    """Let the commands find no GPU."""
    return mock.patch.object(torch.cuda, "is_available", return_value=False)


@contextlib.contextmanager
def full_float32() -> Iterator[None]:
    """Let convolutions on a GPU not round to TF32."""
    kept = torch.backends.cudnn.allow_tf32
    torch.backends.cudnn.allow_tf32 = False
    try:
        yield
    finally:
        torch.backends.cudnn.allow_tf32 = kept


def close(here: float, there: float, tolerance: float, name: str, *, relative: bool = True) -> None:
    """Raise ValueError where two numbers differ by more than a tolerance."""
    scale = max(abs(here), abs(there)) if relative else 1.0
    if not abs(here - there) <= tolerance * scale:  # a NaN differs too
        raise ValueError(f"{name}: {here:.5f}, on the CPU {there:.5f}")


def agreement(first: Path, second: Path) -> float:
    """Share of pixels at which two index PNGs are equal."""
    with Image.open(first) as one, Image.open(second) as other:
        return float((np.asarray(one) == np.asarray(other)).mean())


def main() -> None:
    """Parse the command line, run the checks, print the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("checks", nargs="*", help="names of checks [all]")
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    parser.add_argument("--jobs", type=int, default=4, help="runs of the study at a time")
    arguments = parser.parse_args()
    if arguments.device == "cuda" and not torch.cuda.is_available():
        parser.error("no GPU here; --device cpu is a rehearsal")
    failed = 0
    with tempfile.TemporaryDirectory() as folder:
        checks = Checks(Path(folder), arguments)
        if unknown := [name for name in arguments.checks if name not in checks.all]:
            parser.error(f"unknown checks {', '.join(unknown)}; use {', '.join(checks.all)}")
        device = torch.cuda.get_device_name() if checks.on_gpu else "CPU (rehearsal)"
        print(f"torch {torch.__version__}, {device}\n{'check':<10}{'':<7}{'seconds':>8}  found")
        for name in arguments.checks or checks.all:
            clock = time.perf_counter()
            try:
                verdict, found = "ok", checks.all[name]()
            except Exception as error:  # a check that fails must not keep the others from running
                verdict, found = "FAILED", f"{type(error).__name__}: {error}"
                failed += 1
            print(f"{name:<10}{verdict:<7}{time.perf_counter() - clock:>8.0f}  {found}", flush=True)
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
