"""Does memory stay flat? Thousands of training steps, thousands of predictions, and one very large photograph.

Resident memory and open file handles of the process are sampled along the way. A process warms up first (libraries
load, caches fill), so it is the second half that counts: flat means that a line through it rises by less than 16 MiB,
and that no more files are open at its end than at its start. The folder and the large photograph are predicted by
`selfreg predict` in a process of its own. Everything is generated. Linux only (/proc).

    python benchmarks/endurance.py [--steps 2000] [--predictions 5000] [--folder 10000] [--side 20000] [--json OUT.json]

A part given as 0 is left out. Exit status 1 where something grows.
"""

import argparse
import json
import os
import struct
import subprocess
import sys
import tempfile
import time
import zlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import yaml
from PIL import Image

from selfreg.config import load_config
from selfreg.data import Scenes
from selfreg.inference.predict import predict_images
from selfreg.inference.predictor import predictor_of
from selfreg.run import Run
from selfreg.training import train
from selfreg.training.task import SegmentationTask

MIB = 2**20
ALLOWED_GROWTH = 16 * MIB
"""Over the second half; garbage that waits for its collection makes single samples differ by some MiB."""
SIDE = 64
"""Of the small images."""
LIMIT = 4 * 2**30
"""What the large photograph may take."""


@dataclass(frozen=True)
class Sample:
    """Memory in bytes and open file handles after so many steps."""

    step: int
    memory: int
    handles: int


@dataclass(frozen=True)
class Verdict:
    """What the samples of one part say; `growth` in bytes is that of a line through the second half."""

    part: str
    steps: int
    first: int
    middle: int
    last: int
    growth: float
    handles: tuple[int, int]

    @property
    def flat(self) -> bool:
        """Whether neither memory nor file handles grow."""
        return self.growth < ALLOWED_GROWTH and self.handles[1] <= self.handles[0]

    def line(self) -> str:
        """For people."""
        per_thousand = self.growth / max(1, self.steps / 2) * 1000
        return (
            f"{self.part}: {self.steps} steps, memory first {self.first / MIB:.0f}, middle {self.middle / MIB:.0f}, "
            f"last {self.last / MIB:.0f} MiB, slope of the second half {per_thousand / MIB:+.2f} MiB per 1,000; "
            f"file handles {self.handles[0]} -> {self.handles[1]}: {'flat' if self.flat else 'GROWS'}"
        )


def judge(part: str, samples: Sequence[Sample]) -> Verdict:
    """Fit a line to the memory of the second half."""
    half = samples[len(samples) // 2 :]
    steps = np.array([sample.step for sample in half], dtype=float)
    memory = np.array([sample.memory for sample in half], dtype=float)
    growth = float(np.polyfit(steps, memory, 1)[0] * (steps[-1] - steps[0])) if len(half) > 1 else 0.0
    handles = (half[0].handles, half[-1].handles)
    return Verdict(part, samples[-1].step, samples[0].memory, half[0].memory, half[-1].memory, growth, handles)


def sample(step: int, process: int | str = "self") -> Sample:
    """Memory and handles of a process now."""
    pages = int(Path(f"/proc/{process}/statm").read_text(encoding="ascii").split()[1])
    handles = len(os.listdir(f"/proc/{process}/fd"))  # noqa: PTH208
    return Sample(step, pages * os.sysconf("SC_PAGE_SIZE"), handles)


def train_tiny(folder: Path, steps: int) -> tuple[Run, list[Sample]]:
    """Train a tiny network with all losses of self-regulation for so many steps of two images."""
    content = {
        "data": {
            "kind": "scenes",
            "options": {"length": 200, "evaluation_length": 4, "size": [SIDE, SIDE]},
            "crop_size": [SIDE, SIDE],
        },
        "network": {
            "name": "smp:FPN/tu-mobilenetv3_small_050",
            "options": {"decoder_pyramid_channels": 32, "decoder_segmentation_channels": 32},
        },
        "training": {
            "epochs": max(1, steps // 100),
            "batch_size": 2,
            "workers": 0,
            "threads": 1,
            "accelerator": "cpu",
            "validate_every": 5,
        },
    }
    path = folder / "tiny.yaml"
    path.write_text(yaml.safe_dump(content), encoding="utf-8")
    samples: list[Sample] = []

    def after_batch(task: SegmentationTask, *_: object) -> None:
        if task.global_step % 10 == 0:
            samples.append(sample(task.global_step))

    SegmentationTask.on_train_batch_end = after_batch  # type: ignore[method-assign,assignment]
    return train(load_config(path), folder / "run", progress_bar=False), samples


def write_images(folder: Path, count: int) -> list[Path]:
    """PNGs of scenes, some different pictures under many names."""
    folder.mkdir()
    scenes = Scenes("train", 50, (SIDE, SIDE), 0)
    files = []
    for index in range(len(scenes)):
        path = folder / f"scene{index}.png"
        Image.fromarray(scenes.read(index).image).save(path)
        files.append(path.read_bytes())
        path.unlink()
    paths = [folder / f"{number:05d}.png" for number in range(count)]
    for number, path in enumerate(paths):
        path.write_bytes(files[number % len(files)])
    return paths


def predict_many(run: Run, paths: Sequence[Path], out: Path) -> list[Sample]:
    """Predict images one after another in this process."""
    samples: list[Sample] = []

    def watched(items: Iterable[Path]) -> Iterator[Path]:
        for number, item in enumerate(items):
            if number % 25 == 0:
                samples.append(sample(number))
            yield item

    predict_images(predictor_of(run), paths, out, run.info().palette_array(), progress=watched)
    samples.append(sample(len(paths)))
    return samples


def watch_command(arguments: Sequence[str | Path], out: Path) -> tuple[list[Sample], int, float]:
    """Run `selfreg`; samples by the number of files in `out`, the largest memory in bytes, and seconds."""
    started = time.monotonic()
    command = [sys.executable, "-m", "selfreg.cli", *map(str, arguments)]
    samples: list[Sample] = []
    with subprocess.Popen(command, stdout=subprocess.DEVNULL) as process:
        while True:
            pid, status, usage = os.wait4(process.pid, os.WNOHANG)
            if pid:
                break
            done = len(os.listdir(out)) if out.is_dir() else 0  # noqa: PTH208
            if done:
                now = sample(done, process.pid)
                # a process that has just ended has no memory left
                samples += [now] if now.memory else []
            time.sleep(0.25)
        process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"{' '.join(command)} ended with status {process.returncode}")
    return samples, usage.ru_maxrss * 1024, time.monotonic() - started


def write_large(path: Path, side: int) -> None:
    """An RGB PNG of side x side pixels, scenes side by side, written row by row: it is never held whole."""
    scene = Scenes("train", 1, (256, 256), 0).read(0).image
    wide = np.tile(scene, (1, -(-side // 256), 1))[:, :side]

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    packer = zlib.compressobj(1)
    with path.open("wb") as file:
        header = struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
        file.write(b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header))
        for row in range(side):
            file.write(chunk(b"IDAT", packer.compress(b"\0" + wide[row % 256].tobytes())))
        file.write(chunk(b"IDAT", packer.flush()) + chunk(b"IEND", b""))


def main() -> int:
    """Run the parts that are asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, number in (("steps", 2000), ("predictions", 5000), ("folder", 10_000), ("side", 20_000), ("tile", 1024)):
        parser.add_argument(f"--{name}", type=int, default=number)
    parser.add_argument("--overlay", action="store_true", help="blend the large photograph too")
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    verdicts: list[Verdict] = []
    report: dict[str, object] = {}
    well = True
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        run, samples = train_tiny(folder, max(arguments.steps, 100))
        if arguments.steps:
            verdicts.append(judge("training", samples))
            print(verdicts[-1].line(), flush=True)
        if arguments.predictions:
            paths = write_images(folder / "small", arguments.predictions)
            verdicts.append(judge("prediction", predict_many(run, paths, folder / "out")))
            print(verdicts[-1].line(), flush=True)
        if arguments.folder:
            write_images(folder / "many", arguments.folder)
            out = folder / "masks"
            samples, peak, seconds = watch_command(["predict", run.folder, folder / "many", "-o", out], out)
            verdicts.append(judge("selfreg predict FOLDER", samples))
            print(f"{verdicts[-1].line()}; peak {peak / MIB:.0f} MiB, {seconds:.0f} s", flush=True)
        if arguments.side:
            large = folder / "large.png"
            write_large(large, arguments.side)
            extra = ["--overlay"] if arguments.overlay else []
            command: list[str | Path] = [
                "predict",
                run.folder,
                large,
                "-o",
                folder / "one",
                "--tile",
                str(arguments.tile),
                *extra,
            ]
            _, peak, seconds = watch_command(command, folder / "one")
            well = peak < LIMIT
            report["large"] = {"side": arguments.side, "tile": arguments.tile, "peak": peak, "seconds": seconds}
            print(
                f"{arguments.side} x {arguments.side} pixels by tiles of {arguments.tile}"
                f"{' with its overlay' if arguments.overlay else ''}: peak {peak / 2**30:.2f} GiB, {seconds:.0f} s: "
                f"{'within' if well else 'ABOVE'} 4 GiB",
                flush=True,
            )
    report["parts"] = [{**asdict(verdict), "flat": verdict.flat} for verdict in verdicts]
    if arguments.json:
        arguments.json.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
    return 0 if well and all(verdict.flat for verdict in verdicts) else 1


if __name__ == "__main__":
    sys.exit(main())
