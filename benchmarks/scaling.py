"""Throughput of training with one process and with several (DDP, gloo, CPU), through the command, on generated scenes.

    python benchmarks/scaling.py                 # 1 and 2 processes, 3 repeats each, turn about
    python benchmarks/scaling.py --processes 4

Every process computes with one thread and the batch of a step is the same, so that the ideal is as many times the
throughput as there are processes. Timed are stretches of ten steps within an epoch, by the wall time of the logged
losses: neither start-up nor validation counts. A run's rate is the median over its stretches; the ratio is the median
over repeats of the ratio within a repeat, so that other work on the machine disturbs it less.
"""

import argparse
import itertools
import json
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import yaml
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator  # type: ignore[import-untyped]

from selfreg.run import Run

STRETCH = 10  # steps between two logged losses


def configuration(batch_size: int, steps: int) -> dict[str, Any]:
    """A small network on small scenes: what matters is the share of communication and loading."""
    return {
        "data": {
            "kind": "scenes",
            "options": {"length": batch_size * steps, "evaluation_length": 8, "size": [128, 160]},
            "crop_size": [128, 128],
        },
        "network": {"name": "smp:FPN/tu-mobilenetv3_small_050"},
        "training": {
            "epochs": 1,
            "batch_size": batch_size,
            "workers": 0,
            "threads": 1,
            "accelerator": "cpu",
            "strategy": "auto",
        },
    }


def images_per_second(processes: int, batch_size: int, steps: int) -> float:
    """Train once with so many processes; the median over its stretches."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        config = folder / "scaling.yaml"
        config.write_text(yaml.safe_dump(configuration(batch_size, steps)), encoding="utf-8")
        command = [sys.executable, "-m", "selfreg.cli", "train", str(config), "--out", str(folder / "run"), "--quiet"]
        place = [f"training.devices={processes}", f"training.strategy={'ddp' if processes > 1 else 'auto'}"]
        for override in place:
            command += ["--set", override]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL, env={**os.environ, "OMP_NUM_THREADS": "1"})
        events = EventAccumulator(str(Run.open(folder / "run").attempts()[-1]))
        events.Reload()
        times: list[float] = [event.wall_time for event in events.Scalars("loss")]
    return statistics.median(batch_size * STRETCH / (later - earlier) for earlier, later in itertools.pairwise(times))


def main() -> None:
    """Print a line for each repeat and the ratio of the medians; `--json` writes them too."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--processes", type=int, default=2, help="compared with one process [2]")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--batch-size", type=int, default=8, help="images of a step, over all processes [8]")
    parser.add_argument("--steps", type=int, default=51)
    parser.add_argument("--json", type=Path, help="file for the numbers")
    options = parser.parse_args()
    if options.steps < 2 * STRETCH:
        parser.error(f"--steps {options.steps}: at least {2 * STRETCH}")
    found: dict[int, list[float]] = {1: [], options.processes: []}
    for repeat in range(options.repeats):
        for processes, rates in found.items():
            rates.append(images_per_second(processes, options.batch_size, options.steps))
            print(f"repeat {repeat + 1}, processes {processes}: {rates[-1]:7.1f} images/s", flush=True)
    medians = {processes: statistics.median(rates) for processes, rates in found.items()}
    ratio = statistics.median(many / one for one, many in zip(found[1], found[options.processes], strict=True))
    load = os.getloadavg()[0] if hasattr(os, "getloadavg") else float("nan")
    print(
        f"median {medians[1]:.1f} -> {medians[options.processes]:.1f} images/s with {options.processes} processes: "
        f"{ratio:.2f} times, efficiency {ratio / options.processes:.0%} "
        f"({os.cpu_count()} cores, load average {load:.1f})"
    )
    if options.json:
        content = {"images_per_second": found, "ratio": ratio, "cores": os.cpu_count(), "load_average": load}
        options.json.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
