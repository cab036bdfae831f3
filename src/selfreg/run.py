"""A run on disk: what it holds, and how it is opened again.

    RUN/config.yaml                the whole configuration
    RUN/run.json                   classes, palette, preprocessing, versions
    RUN/checkpoints/last.ckpt      the state of the trainer, to resume from
    RUN/checkpoints/last.safetensors, best.safetensors   the plain network's weights
    RUN/logs/attempt_N/            CSV and TensorBoard of the Nth start of the training
    RUN/summary.json               written when training has ended
    RUN/index.html                 page of the run: curves, classes, cases
    RUN/evaluation/SPLIT.json      the metrics of one split
    RUN/evaluation/SPLIT-WEIGHTS/  its class maps as index PNGs, and data.json: which data they belong to

No other module knows these names. Importing this module loads no torch, so that a mistyped path is reported at once.
"""

import csv
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pydantic import TypeAdapter, ValidationError

from selfreg.config import Config, dump_config, load_config
from selfreg.files import (
    check_split,
    locked,
    read_json,
    refuse_links,
    remove_file,
    remove_leftovers,
    write_json,
    write_text,
)
from selfreg.input_files import LIST_LIMIT, WEIGHTS_LIMIT, check_archive, check_file, read_bytes, read_text
from selfreg.messages import one_line
from selfreg.run_info import RunInfo, Summary

if TYPE_CHECKING:
    from torch import nn

    from selfreg.data import Source

Weights = Literal["last", "best"]


@dataclass(frozen=True)
class Run:
    """One training run in a folder of its own.

    Args:
        folder: The folder of the run.
        allow_code: Allow `network` to import and run a network of the form `package.module:factory`. A run may come
            from anybody, so the default is to refuse.
    """

    folder: Path
    allow_code: bool = False

    @classmethod
    def create(cls, folder: Path, config: Config, info: RunInfo) -> "Run":
        """Start a run in a folder. Raises ValueError if the folder already holds a run."""
        run = cls(folder, allow_code=True)
        if run._config_path.exists():
            raise ValueError(f"{folder}: holds a run already; continue it with --resume, or choose another --out")
        try:
            write_json(run._info_path, asdict(info))
            write_text(run._config_path, dump_config(config))
        except OSError as error:
            raise ValueError(f"{folder}: cannot be written: {error.strerror}") from None
        return run

    @classmethod
    def open(cls, folder: str | Path, *, allow_code: bool = False) -> "Run":
        """Open an existing run. Raises ValueError if the folder holds no run."""
        run = cls(Path(folder), allow_code)
        if not run._config_path.exists():
            raise ValueError(f"{folder}: holds no run (no config.yaml); `selfreg train` makes one")
        return run

    @classmethod
    def exists(cls, folder: str | Path) -> bool:
        """Whether the folder holds a run."""
        return cls(Path(folder))._config_path.exists()

    @property
    def name(self) -> str:
        """Name of the folder."""
        return self.folder.resolve().name

    @property
    def _config_path(self) -> Path:
        return self.folder / "config.yaml"

    @property
    def _info_path(self) -> Path:
        return self.folder / "run.json"

    @property
    def _summary_path(self) -> Path:
        return self.folder / "summary.json"

    @property
    def log_folder(self) -> Path:
        """Folder of the logs of all attempts."""
        return self.folder / "logs"

    @property
    def checkpoint_path(self) -> Path:
        """State of the trainer at the end of the last epoch."""
        return self.folder / "checkpoints" / "last.ckpt"

    @property
    def page_path(self) -> Path:
        """The page that `selfreg train` leaves at the end."""
        return self.folder / "index.html"

    def state_to_resume(self) -> Path | None:
        """`checkpoint_path`, or None if no epoch has ended. Raises ValueError for a file that is not a plain state."""
        path = self.checkpoint_path
        if not path.exists():
            return None
        import pickle

        import torch

        try:
            check_file(path, WEIGHTS_LIMIT)
            check_archive(path)
            # mapped, so that this costs nothing; without weights_only a checkpoint could run code
            torch.load(path, map_location="cpu", weights_only=True, mmap=True)
        except (RuntimeError, OSError, EOFError, KeyError, ValueError, pickle.UnpicklingError) as error:
            raise ValueError(
                f"{path}: is no state of a training ({one_line(error, first=True)}); train anew into another --out"
            ) from None
        return path

    def attempts(self) -> list[Path]:
        """Log folders of the starts of the training, oldest first."""
        found = [path for path in self.log_folder.glob("attempt_*") if path.name.removeprefix("attempt_").isdecimal()]
        return sorted(found, key=lambda path: int(path.name.removeprefix("attempt_")))

    @property
    def next_attempt(self) -> str:
        """Name of the log folder of a new attempt, which does not exist yet."""
        numbers = [int(path.name.removeprefix("attempt_")) for path in self.attempts()]
        return f"attempt_{max(numbers, default=-1) + 1}"

    def weights_path(self, which: Weights) -> Path:
        """The plain network's weights in safetensors."""
        return self.folder / "checkpoints" / f"{which}.safetensors"

    def evaluation_path(self, split: str) -> Path:
        """JSON file with the metrics of one split."""
        check_split(split)
        return self.folder / "evaluation" / f"{split}.json"

    def prediction_folder(self, split: str, which: Weights) -> Path:
        """Folder of the class maps of one split, as index PNGs."""
        check_split(split)
        return self.folder / "evaluation" / f"{split}-{which}"

    def predicted_data_path(self, split: str, which: Weights) -> Path:
        """JSON file that names the data set of the class maps of one split."""
        return self.prediction_folder(split, which) / "data.json"

    def config(self, overrides: Sequence[str] = ()) -> Config:
        """The configuration that the run was started with, after the overrides."""
        return load_config(self._config_path, overrides)

    def info(self) -> RunInfo:
        """Class names, palette and preprocessing. Raises ValueError if they cannot be read."""
        with _validation(self._info_path):
            return TypeAdapter(RunInfo).validate_json(read_bytes(self._info_path), strict=True)

    def save_weights(self, which: Weights, network: "nn.Module") -> None:
        """Write the plain network's weights, whole or not at all."""
        from selfreg.weights import write_weights

        write_weights(self.weights_path(which), network, self.info().num_classes)

    def load_weights(self, network: "nn.Module", which: Weights = "last") -> "nn.Module":
        """Load the weights into a network and return it. Raises ValueError as `selfreg.weights.read_weights` does."""
        from selfreg.weights import read_weights

        self.warn_unless_ended()
        return read_weights(self.weights_path(which), network, self.info().num_classes)

    def network(self, which: Weights = "last") -> "nn.Module":
        """The plain network with its trained weights, in eval mode. Raises ValueError for code that is not allowed."""
        from selfreg.networks import runs_own_code
        from selfreg.opening import build_from_config

        config = self.config()
        if runs_own_code(config.network.name) and not self.allow_code:
            raise ValueError(
                f"{self._config_path}: its network {config.network.name} is code that would be run; "
                "if you trust it, give --allow-code"
            )
        network = build_from_config(config, self.info().num_classes, pretrained=False)
        return self.load_weights(network, which).eval()

    def source(self, split: str, overrides: Sequence[str] = (), *, masks: bool = True) -> "Source":
        """A split of the run's data, its classes in the order of the run.

        Args:
            split: Name of the split.
            overrides: `section.key=value` for the configuration.
            masks: Whether every image must have a mask.

        Raises:
            ValueError: If the classes of the data are not those that the run was trained on, compared by name.
        """
        from selfreg.data import in_class_order
        from selfreg.opening import open_split

        source = open_split(self.config(overrides), split, masks=masks)
        return in_class_order(source, self.info().class_names, f"{self.folder}: the run")

    def history(self, name: str) -> dict[int, float]:
        """One logged value by epoch; a resumed attempt replaces earlier values. Raises ValueError for a damaged log."""
        values: dict[int, float] = {}
        for attempt in self.attempts():
            path = attempt / "metrics.csv"
            if path.exists():
                try:
                    lines = read_text(path, LIST_LIMIT).splitlines()
                    rows = [row for row in csv.DictReader(lines) if row.get(name) and row.get("epoch")]
                    values.update({int(float(row["epoch"])): float(row[name]) for row in rows})
                except (OSError, ValueError, TypeError, OverflowError, csv.Error) as error:
                    raise ValueError(f"{path}: cannot be read ({error}); the log is damaged") from None
        return values

    def miou_by_depth(self) -> list[float]:
        """Validation mIoU of each exit after the last epoch, shallow to deep, own output last; empty without exits."""
        own = self.history("val/miou")
        exits: list[float] = []
        while values := self.history(f"val/miou_exit_{len(exits) + 1}"):
            exits.append(values[max(values)])
        return [*exits, own[max(own)]] if exits and own else []

    def write_summary(self, summary: dict[str, Any]) -> None:
        """Record that training has ended, and its results."""
        write_json(self._summary_path, summary)

    def extend(self, config: Config) -> None:
        """Let a run that has ended go on with a longer configuration."""
        write_text(self._config_path, dump_config(config))
        remove_file(self._summary_path)

    def summary(self) -> dict[str, Any] | None:
        """What `write_summary` wrote, or None if training has not ended. Raises ValueError if it cannot be read."""
        if not self._summary_path.exists():
            return None
        content = read_json(self._summary_path)
        with _validation(self._summary_path):
            TypeAdapter(Summary).validate_python(content, strict=True)
        return content

    def warn_unless_ended(self) -> None:
        """Warn those who use the weights of a training that has not ended."""
        if not self._summary_path.exists():
            warnings.warn(
                f"{self.folder}: training has not ended; these are its weights so far (selfreg train --resume goes on)",
                stacklevel=1,  # one place for all callers, so that it is shown once
            )

    @contextmanager
    def lock(self) -> Iterator[None]:
        """Hold the run for one process. Raises ValueError if another process holds it."""
        with locked(self.folder, "training"):
            for folder in (self.folder, self.checkpoint_path.parent, self.log_folder):
                refuse_links(folder)
                remove_leftovers(folder)
            yield


@contextmanager
def _validation(path: Path) -> Iterator[None]:
    """Turn what is wrong with a file of a run into a ValueError of one line."""
    try:
        yield
    except ValidationError as error:
        first = error.errors(include_input=False)[0]
        where = ".".join(map(str, first["loc"]))
        reason = f"{where}: {first['msg']}" if where else first["msg"]
        raise ValueError(f"{path}: cannot be read ({reason}); the run is damaged") from None
    except (OSError, ValueError) as error:
        raise ValueError(f"{path}: cannot be read ({one_line(error)}); the run is damaged") from None
