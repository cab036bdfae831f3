"""How many training crops one worker makes per second, beside the pipelines that others use.

Each pipeline reads an image and its mask from disk and makes a crop of 512 x 512: random scale 0.5 to 2, crop, flip,
colour without hue (mmsegmentation's has hue, which cannot be left out), normalisation, tensors. Each has a process
and a thread of its own, as a worker of a loader has; they take turns on the same files, so that a busy machine
disturbs them alike. Times are processor seconds. The C library is told to keep the memory that it has got from the
system, since otherwise chance decides how often each process asks for it anew. Pipelines whose library is not
installed are left out and said to be; they are found after, for instance, `pip install albumentations` and
`pip install mmcv-lite==2.1.0 mmengine mmsegmentation ftfy regex`.

    python benchmarks/loading.py [--quick] [--json OUT.json]

With `--workers`, the whole loader instead: crops per second on the clock that a `DataLoader` of each number of worker
processes gives, in batches of 8, copied to the GPU if there is one, from the PNGs.

    python benchmarks/loading.py --workers 1 4 8 16
"""

import argparse
import importlib
import json
import multiprocessing
import os
import sys
import tempfile
import time
import types
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader

from selfreg.data import IMAGENET_MEAN, IMAGENET_STD, Draw, FilePairs, Scenes, SeededSampler, TrainingSet
from selfreg.data.masks import read_mask
from selfreg.data.source import Files

CROP = (512, 512)
BATCH = 8
TURN = 20
"""Crops that a worker makes in one turn."""
Pipeline = Callable[[int], tuple[Tensor, Tensor]]


def generate(folder: Path, kind: str, count: int) -> list[Files]:
    """Photographs of the size and format of Cityscapes (PNG) or VOC (JPEG), grainy as real ones are."""
    height, width, suffix = (1024, 2048, ".png") if kind == "cityscapes" else (375, 500, ".jpg")
    scenes = Scenes("benchmark", count, (height, width))
    files = []
    for index in range(count):
        image, mask = scenes.read(index)
        grain = np.random.default_rng(index).normal(0, 4, image.shape)
        pair = Files(folder / f"{kind}_{index}{suffix}", folder / f"{kind}_{index}_mask.png")
        picture = Image.fromarray(np.clip(image + grain, 0, 255).astype(np.uint8))
        picture.save(pair.image, quality=95)  # which PNG does not heed
        Image.fromarray(mask).save(str(pair.mask))
        files.append(pair)
    return files


def decode_mask(path: Path) -> NDArray[np.uint8]:
    return read_mask(path, Scenes.labels)


def training_set(files: list[Files], count: int) -> TrainingSet:
    """Crops of `count` photographs, which are the files over and over."""
    pairs = {str(index): files[index % len(files)] for index in range(count)}
    return TrainingSet(FilePairs(Scenes.labels, pairs, decode_mask, where=Path()), CROP)


def selfreg_pipeline(files: list[Files]) -> Pipeline:
    crops = training_set(files, len(files))

    def step(number: int) -> tuple[Tensor, Tensor]:
        item = crops[Draw(number % len(files), number)]
        return item["image"], item["mask"]

    return step


def torchvision_pipeline(files: list[Files]) -> Pipeline:
    """As in torchvision's own references: resize the whole image, then crop."""
    from torchvision import tv_tensors
    from torchvision.io import ImageReadMode, decode_image
    from torchvision.transforms import v2

    short = min(Image.open(files[0].image).size)
    transform = v2.Compose(
        [
            v2.RandomResize(short // 2, short * 2, antialias=True),
            v2.RandomCrop(CROP, pad_if_needed=True, fill={tv_tensors.Image: 0, tv_tensors.Mask: 255}),
            v2.RandomHorizontalFlip(),
            v2.ColorJitter(0.4, 0.4, 0.4),
            v2.ToDtype({tv_tensors.Image: torch.float32, tv_tensors.Mask: torch.int64}, scale=True),
            v2.Normalize(IMAGENET_MEAN, IMAGENET_STD),
        ]
    )

    def step(number: int) -> tuple[Tensor, Tensor]:
        image, mask = files[number % len(files)]
        pixels = tv_tensors.Image(decode_image(str(image), ImageReadMode.RGB))
        labels = tv_tensors.Mask(decode_image(str(mask), ImageReadMode.UNCHANGED)[0])
        made: tuple[Tensor, Tensor] = transform(pixels, labels)
        return made

    return step


def albumentations_pipeline(files: list[Files]) -> Pipeline:
    os.environ["NO_ALBUMENTATIONS_UPDATE"] = "1"
    cv2, albumentations = load("cv2"), load("albumentations")
    cv2.setNumThreads(1)
    transform = albumentations.Compose(
        [
            albumentations.RandomScale((-0.5, 1.0), p=1),
            albumentations.PadIfNeeded(*CROP, border_mode=cv2.BORDER_CONSTANT, fill=0, fill_mask=255),
            albumentations.RandomCrop(*CROP),
            albumentations.HorizontalFlip(p=0.5),
            albumentations.ColorJitter((0.6, 1.4), (0.6, 1.4), (0.6, 1.4), (0, 0), p=1),
            albumentations.Normalize(IMAGENET_MEAN, IMAGENET_STD),
            load("albumentations.pytorch").ToTensorV2(),
        ]
    )

    def step(number: int) -> tuple[Tensor, Tensor]:
        image, mask = files[number % len(files)]
        pixels = cv2.cvtColor(cv2.imread(str(image), cv2.IMREAD_COLOR), cv2.COLOR_BGR2RGB)
        made = transform(image=pixels, mask=cv2.imread(str(mask), cv2.IMREAD_UNCHANGED))
        return made["image"], made["mask"].long()

    return step


class _NoOperators(types.ModuleType):
    """Stands in for mmcv's compiled operators, which mmcv-lite lacks and the pipeline does not use."""

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.__path__: list[str] = []

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return type(name, (), {})


def mmsegmentation_pipeline(files: list[Files]) -> Pipeline:
    """As in mmsegmentation's configurations of 512 x 512, with the normalisation that its model does otherwise."""
    for name in ("mmcv.ops", "mmcv._ext"):
        sys.modules.setdefault(name, _NoOperators(name))
    general, own = load("mmcv.transforms"), load("mmseg.datasets.transforms")
    load("cv2").setNumThreads(1)
    size = Image.open(files[0].image).size
    transforms = [
        general.LoadImageFromFile(),
        own.LoadAnnotations(),
        general.RandomResize(scale=size, ratio_range=(0.5, 2.0), keep_ratio=True),
        own.RandomCrop(crop_size=CROP, cat_max_ratio=0.75),
        general.RandomFlip(prob=0.5),
        own.PhotoMetricDistortion(),
        own.PackSegInputs(),
    ]
    mean = 255 * torch.tensor(IMAGENET_MEAN)[:, None, None]
    std = 255 * torch.tensor(IMAGENET_STD)[:, None, None]

    def step(number: int) -> tuple[Tensor, Tensor]:
        image, mask = files[number % len(files)]
        made: Any = {"img_path": str(image), "seg_map_path": str(mask), "seg_fields": [], "reduce_zero_label": False}
        for transform in transforms:
            made = transform(made)
        pixels, labels = made["inputs"].flip(0), made["data_samples"].gt_sem_seg.data[0]
        crop, target = torch.zeros(3, *CROP), torch.full(CROP, 255)
        crop[:, : pixels.shape[1], : pixels.shape[2]] = (pixels.float() - mean) / std
        target[: labels.shape[0], : labels.shape[1]] = labels
        return crop, target

    return step


PIPELINES: dict[str, Callable[[list[Files]], Pipeline]] = {
    "selfreg": selfreg_pipeline,
    "torchvision v2": torchvision_pipeline,
    "albumentations": albumentations_pipeline,
    "mmsegmentation": mmsegmentation_pipeline,
}


def load(name: str) -> Any:
    """A library that need not be installed."""
    return importlib.import_module(name)


def serve(name: str, files: list[Files], connection: Connection) -> None:
    """A worker: builds one pipeline, says whether it can, then answers with its processor seconds per crop."""
    torch.set_num_threads(1)
    try:
        pipeline = PIPELINES[name](files)
        pipeline(0)
    except ImportError as error:
        connection.send(f"{name}: left out ({error})")
        return
    connection.send(None)
    while (step := connection.recv()) is not None:
        pipeline(step)  # fills the caches that the other workers have used since
        start = time.process_time()
        for number in range(TURN):
            pipeline(step + number)
        connection.send((time.process_time() - start) / TURN)


def measure(files: list[Files], turns: int) -> dict[str, NDArray[np.float64]]:
    """Processor seconds per crop of each pipeline and turn; each has a process, and their order changes."""
    os.environ["MALLOC_TRIM_THRESHOLD_"] = os.environ["MALLOC_MMAP_THRESHOLD_"] = str(2**28)
    context = multiprocessing.get_context("spawn")
    workers: dict[str, Connection] = {}
    for name in PIPELINES:
        ours, theirs = context.Pipe()
        context.Process(target=serve, args=(name, files, theirs), daemon=True).start()
        reason = ours.recv()
        if reason is None:
            workers[name] = ours
        else:
            print(reason)
    times: dict[str, list[float]] = {name: [] for name in workers}
    for turn in range(turns + 1):
        names = list(workers)
        np.random.default_rng(turn).shuffle(names)
        for name in names:
            workers[name].send(turn * TURN)
            seconds = workers[name].recv()
            if turn:  # the first one warms up
                times[name].append(seconds)
    for connection in workers.values():
        connection.send(None)
    return {name: np.array(values) for name, values in times.items()}


def ratio_interval(times: NDArray[np.float64], ours: NDArray[np.float64]) -> tuple[float, float, float]:
    """How many times faster ours is: ratio of the mean times, and its 95 % interval by bootstrap over the turns."""
    generator = np.random.default_rng(0)
    picks = generator.integers(len(ours), size=(2000, len(ours)))
    ratios = times[picks].mean(axis=1) / ours[picks].mean(axis=1)
    low, high = np.quantile(ratios, [0.025, 0.975])
    return float(times.mean() / ours.mean()), float(low), float(high)


def feed(files: list[Files], workers: int) -> float:
    """Crops per second on the clock, without the first ones, for which the workers are started."""
    crops, warm, steps = training_set(files, 10_000), 2 * workers, 12 * workers
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    sampler = SeededSampler(len(crops), 0, batch_size=BATCH)
    loader = DataLoader(crops, batch_size=BATCH, sampler=sampler, num_workers=workers, pin_memory=device.type == "cuda")
    start = 0.0
    for number, batch in enumerate(loader):
        batch["image"].to(device, non_blocking=True), batch["mask"].to(device, non_blocking=True)
        if number + 1 == warm:
            start = time.perf_counter()
        if number + 1 == warm + steps:
            break
    return steps * BATCH / (time.perf_counter() - start)


def compare_workers(numbers: list[int]) -> None:
    """Print what each number of workers gives."""
    with tempfile.TemporaryDirectory() as folder:
        files = generate(Path(folder), "cityscapes", 5)
        print(f"2048 x 1024 PNG, {os.cpu_count()} cores\n{'workers':>8}{'crops/s':>9}")
        for number in numbers:
            print(f"{number:>8}{feed(files, number):>9.1f}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="about half a minute: fewer files and steps")
    parser.add_argument("--json", type=Path, help="write the numbers there")
    parser.add_argument("--workers", type=int, nargs="+", help="the loader with so many processes, and nothing else")
    arguments = parser.parse_args()
    if arguments.workers:
        compare_workers(arguments.workers)
        return
    count, turns = (5, 6) if arguments.quick else (10, 40)
    result: dict[str, dict[str, dict[str, float]]] = {}
    for kind, title in (("cityscapes", "2048 x 1024 PNG, as Cityscapes"), ("voc", "500 x 375 JPEG, as VOC")):
        with tempfile.TemporaryDirectory() as folder:
            files = generate(Path(folder), kind, count)
            times = measure(files, turns)
        print(f"\n{title}: {turns * TURN} crops of {CROP[0]} x {CROP[1]} each")
        print(f"{'':16}{'crops/s':>9}{'ms/crop':>9}   selfreg is faster by (95 % interval)")
        result[kind] = {}
        for name, values in times.items():
            ratio, low, high = ratio_interval(values, times["selfreg"])
            note = "" if name == "selfreg" else f"{ratio:8.2f}x  ({low:.2f} to {high:.2f})"
            print(f"{name:16}{1 / values.mean():9.1f}{1000 * values.mean():9.1f}   {note}")
            result[kind][name] = {"crops_per_second": 1 / values.mean(), "ratio": ratio, "low": low, "high": high}
    if arguments.json:
        arguments.json.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
