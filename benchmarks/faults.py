"""Kill the commands at random moments, start them again, look for losses: `python benchmarks/faults.py --kills 20`.

Every command runs on small generated data, in a process of its own (forked, so that nobody waits for imports), and is
killed (SIGKILL, its whole process group) at a moment drawn from the seed: while it starts, some time after it has begun
to write, or just as it writes a file. It is started again, killed again, and at last left to end. A loss is an end with
other numbers than those of a command that nobody disturbed (weights and masks bit for bit, JSON but for times), a file
that is half written after a kill, or a command that does not go on. Prints a table; exit status 1 where something was
lost.
"""

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")

import argparse
import csv
import hashlib
import json
import random
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from multiprocessing import get_context
from multiprocessing.context import ForkProcess
from pathlib import Path
from typing import Any

import numpy as np
import segmentation_models_pytorch  # noqa: F401
import torch
import yaml
from PIL import Image
from safetensors import safe_open

# imported once, as some of the above, for all the processes
import selfreg.comparison.run_page
import selfreg.study.study
import selfreg.training.fit
import selfreg.weak.pipeline  # noqa: F401
from selfreg.cli import main as main_of_selfreg
from tagged_photographs import SECTIONS, write_tagged_photographs

CONFIG: dict[str, Any] = {
    "seed": 3,
    "data": {
        "kind": "scenes",
        "options": {"length": 16, "evaluation_length": 8, "size": [64, 96]},
        "crop_size": [64, 64],
    },
    "network": {
        "name": "smp:FPN/tu-test_efficientnet",
        "options": {"decoder_pyramid_channels": 32, "decoder_segmentation_channels": 32},
    },
    "training": {"epochs": 3, "batch_size": 4, "workers": 0, "threads": 1, "accelerator": "cpu", "learning_rate": 1e-3},
}

# the same for image-level tags: six photographs, each with a patch of one colour
WEAK: dict[str, Any] = {
    **CONFIG,
    **SECTIONS,
    "data": {"kind": "folder", "crop_size": [64, 64]},
    "classifier": {**SECTIONS["classifier"], "epochs": 3},
}

# CONFIG, WEAK, RUN (a trained run) and PHOTOS are made beforehand; a command may write into OUT alone. {OUT} stands for
# a run of its own, a copy of RUN, where a command writes into a run that is there already.
COMMANDS: dict[str, tuple[str, ...]] = {
    "train": ("train", "CONFIG", "--out", "OUT", "--resume", "--quiet"),
    "study": ("study", "CONFIG", "--out", "OUT", "--arms", "base,full", "--seeds", "1", "--set", "training.epochs=2"),
    "pseudo": ("pseudo", "WEAK", "--out", "OUT"),
    "evaluate": ("evaluate", "{OUT}"),
    "predict": ("predict", "RUN", "PHOTOS", "--out", "OUT", "--overlay"),
}

TIMES = {"seconds", "resumed", "relative_cost"}
KILLS_IN_A_LIFE = 3
WAIT_SECONDS = 600
POLL_SECONDS = 0.004


@dataclass
class Undisturbed:
    """What a command leaves that nobody kills, the seconds from its first change of OUT to its end, and the changes."""

    found: dict[str, str]
    start_seconds: float
    work_seconds: float
    changes: int


@dataclass
class Tally:
    """What became of one command."""

    kills: int = 0
    ends: int = 0
    losses: list[str] = field(default_factory=list)


class Place:
    """Where the commands run: inputs made once, and a new folder for every life of a command."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.names = {name: folder / name.lower() for name in ("RUN", "PHOTOS")}
        self.names |= {name: folder / f"{name.lower()}.yaml" for name in ("CONFIG", "WEAK")}
        tagged = write_tagged_photographs(folder / "tagged")
        weak = {**WEAK, "data": {**WEAK["data"], "root": str(tagged)}}
        self.names["WEAK"].write_text(yaml.safe_dump(weak), encoding="utf-8")
        self.names["CONFIG"].write_text(yaml.safe_dump(CONFIG), encoding="utf-8")
        self.names["PHOTOS"].mkdir()
        generator = np.random.default_rng(0)
        for number in range(12):
            pixels = generator.integers(0, 255, (96, 128, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(self.names["PHOTOS"] / f"photo{number}.png")

    def command(self, name: str, out: Path) -> list[str]:
        """The command line, and OUT as the command expects it."""
        words = COMMANDS[name]
        shutil.rmtree(out, ignore_errors=True)
        if "{OUT}" in words:
            shutil.copytree(self.names["RUN"], out)
        named = {**self.names, "OUT": out, "{OUT}": out}
        return [str(named.get(word, word)) for word in words]


def start(command: list[str], log: Path) -> ForkProcess:
    """Start a command in a process group of its own."""
    process = get_context("fork").Process(target=run_command, args=(command, log))
    process.start()
    return process


def run_command(command: list[str], log: Path) -> None:
    """Be the command: what a new process does."""
    os.setsid()
    output = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    for stream in (1, 2):
        os.dup2(output, stream)
    sys.argv = ["selfreg", *command]
    main_of_selfreg()


def kill(process: ForkProcess) -> None:
    """End a command and all that it has started, at once."""
    try:
        os.killpg(process.pid or 0, signal.SIGKILL)
    except ProcessLookupError:
        process.kill()
    process.join()


def snapshot(folder: Path) -> dict[str, tuple[int, int]]:
    """Every file with its time and size; files that vanish meanwhile are left out."""
    found = {}
    for entry in walk(folder):
        try:
            status = entry.stat()
        except FileNotFoundError:
            continue
        found[str(entry)] = (status.st_mtime_ns, status.st_size)
    return found


def walk(folder: Path) -> Iterator[Path]:
    """Every file below a folder, though others write and remove there."""
    for parent, _, names in os.walk(folder):
        for name in names:
            yield Path(parent, name)


def undisturbed(command: list[str], out: Path, log: Path) -> Undisturbed:
    """Let a command run to its end."""
    before, since = snapshot(out), time.monotonic()
    begun, changes = None, 0
    process = start(command, log)
    while process.is_alive():
        now = snapshot(out)
        if now != before:
            before, changes = now, changes + 1
            begun = begun or time.monotonic()
        time.sleep(POLL_SECONDS)
    if process.exitcode:
        raise SystemExit(f"{' '.join(command)} fails by itself:\n{log.read_text(encoding='utf-8')}")
    end = time.monotonic()
    begun = begun or end
    return Undisturbed(fingerprint(out), begun - since, end - begun, changes)


def run_until(command: list[str], out: Path, log: Path, reference: Undisturbed, chance: random.Random) -> int | None:
    """Start a command and kill it at a random moment; its exit status where it ended before."""
    kind = chance.choices(["starting", "working", "writing"], [1, 4, 5])[0]
    delay = chance.uniform(0, reference.start_seconds if kind == "starting" else reference.work_seconds)
    change = chance.randint(1, max(1, reference.changes)) if kind == "writing" else 1
    before, since, changes = snapshot(out), time.monotonic(), 0
    process = start(command, log)
    while process.is_alive() and time.monotonic() - since < WAIT_SECONDS:
        if kind == "starting" or changes >= change:
            if kind != "writing":
                time.sleep(max(0.0, delay - (0 if kind == "working" else time.monotonic() - since)))
            break
        now = snapshot(out)
        if now != before:
            before, changes = now, changes + 1
        time.sleep(POLL_SECONDS)
    if not process.is_alive():
        return process.exitcode
    kill(process)
    return None


def fingerprint(out: Path) -> dict[str, str]:
    """What a command has left, by file: a hash of all that must not depend on being killed.

    Logs tell of attempts and pages of times; of them only the validation curve counts, and that pages are there.
    """
    found: dict[str, str] = {}
    for path in sorted(walk(out)):
        name = str(path.relative_to(out))
        if any(part.startswith(".") for part in path.parts[len(out.parts) :]) or path.suffix in (
            ".log",
            ".ckpt",
            ".pt",
        ):
            continue
        if "logs" in path.parts[len(out.parts) :]:
            if path.name == "metrics.csv":
                curve = str(path.relative_to(out).parents[1] / "val/miou")
                found[curve] = json.dumps({**json.loads(found.get(curve, "{}")), **read_curve(path)}, sort_keys=True)
        elif path.suffix in (".html", ".md"):
            found[name] = "there"
        elif path.suffix == ".json":
            content = without_times(json.loads(path.read_text(encoding="utf-8")))
            found[name] = json.dumps(content, sort_keys=True)
        else:
            found[name] = hashlib.sha256(path.read_bytes()).hexdigest()
    return found


def read_curve(path: Path) -> dict[str, str]:
    """The validation's mIoU by epoch in a log."""
    with path.open(encoding="utf-8", newline="") as file:
        return {row["epoch"]: row["val/miou"] for row in csv.DictReader(file) if row.get("val/miou")}


def without_times(content: Any) -> Any:
    """JSON content without what depends on the clock."""
    if isinstance(content, dict):
        return {key: without_times(value) for key, value in content.items() if key not in TIMES}
    return [without_times(value) for value in content] if isinstance(content, list) else content


def half_written(out: Path) -> list[str]:
    """The files under their final names that cannot be read whole."""
    return [str(path.relative_to(out)) for path in walk(out) if not path.name.startswith(".") and not is_whole(path)]


def is_whole(path: Path) -> bool:
    """Whether a file can be read to its end; of logs, which grow, nothing is asked."""
    try:
        if path.suffix == ".json":
            json.loads(path.read_text(encoding="utf-8"))
        elif path.suffix == ".yaml" and "logs" not in path.parts:
            return isinstance(yaml.safe_load(path.read_text(encoding="utf-8")), dict)
        elif path.suffix in (".png", ".jpg"):
            with Image.open(path) as picture:
                picture.load()
        elif path.suffix == ".safetensors":
            with safe_open(path, framework="pt") as file:
                return all(file.get_tensor(key) is not None for key in file.keys())  # noqa: SIM118
        elif path.suffix in (".ckpt", ".pt"):
            torch.load(path, weights_only=True)
        elif path.suffix == ".html":
            return path.read_text(encoding="utf-8").rstrip().endswith("</html>")
    except Exception:
        return False
    return True


def one_life(name: str, place: Place, reference: Undisturbed, kills: int, chance: random.Random, tally: Tally) -> None:
    """Start a command anew, kill it up to `kills` times, let it end, and compare."""
    out, log = place.folder / "out", place.folder / "life.log"
    log.unlink(missing_ok=True)
    command = place.command(name, out)
    status = None
    for _ in range(kills):
        status = run_until(command, out, log, reference, chance)
        if status is not None:
            break
        tally.kills += 1
        tally.losses += [f"half written: {each}" for each in half_written(out)]
    if status is None:
        process = start(command, log)
        process.join(WAIT_SECONDS)
        status = process.exitcode
    tally.ends += 1
    if status != 0:
        tally.losses.append(f"does not go on: {last_line(log)}")
        return
    found = fingerprint(out)
    for key in sorted({*found, *reference.found}):
        if found.get(key) != reference.found.get(key):
            tally.losses.append(f"{key}: {'missing' if key not in found else 'other than undisturbed'}")


def last_line(log: Path) -> str:
    """What a command said last."""
    lines = [line for line in log.read_text(encoding="utf-8", errors="replace").splitlines() if line.strip()]
    return lines[-1].strip() if lines else "(nothing said)"


def main() -> int:
    """Spend the kills over the commands, and tell."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=20, help="kills in all")
    parser.add_argument("--seed", type=int, default=0, help="seed of the moments")
    parser.add_argument("--commands", default=",".join(COMMANDS), help="some of them, with commas between")
    arguments = parser.parse_args()
    names = arguments.commands.split(",")
    shares = {name: arguments.kills // len(names) + (i < arguments.kills % len(names)) for i, name in enumerate(names)}
    chance, tallies, since = random.Random(arguments.seed), dict[str, Tally](), time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        place = Place(Path(folder))
        log = place.folder / "reference.log"
        trained = undisturbed(place.command("train", place.names["RUN"]), place.names["RUN"], log)
        for name in names:
            out = place.folder / "reference"
            reference = trained if name == "train" else undisturbed(place.command(name, out), out, log)
            tally = tallies[name] = Tally()
            while tally.kills < shares[name]:
                kills = chance.randint(1, min(KILLS_IN_A_LIFE, shares[name] - tally.kills))
                one_life(name, place, reference, kills, chance, tally)
                print(f"{name}: {tally.kills} of {shares[name]} kills", file=sys.stderr)
    print(f"{'command':10} {'kills':>6} {'ended':>6} {'losses':>7}")
    for name, tally in tallies.items():
        print(f"{name:10} {tally.kills:6} {tally.ends:6} {len(tally.losses):7}")
        for loss in tally.losses:
            print(f"    {loss}")
    losses = sum(len(tally.losses) for tally in tallies.values())
    kills = sum(tally.kills for tally in tallies.values())
    print(f"{kills} kills, {losses} losses, seed {arguments.seed}, {time.monotonic() - since:.0f} s")
    return 1 if losses else 0


if __name__ == "__main__":
    sys.exit(main())
