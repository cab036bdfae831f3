"""A run on disk: what it holds, and how it is opened again.

    RUN/config.yaml                the whole configuration
    RUN/run.json                   classes, palette, preprocessing, versions
    RUN/checkpoints/last.ckpt      the trainer's state, to go on from
    RUN/checkpoints/last.safetensors, best.safetensors   the plain network's weights
    RUN/logs/                      CSV and TensorBoard
    RUN/summary.json               written when training has ended
    RUN/evaluation/SPLIT.json      the numbers of one split
    RUN/evaluation/SPLIT-WEIGHTS/  its class maps, index PNGs

Nobody else knows these names.
"""

import csv
import math
import pickle
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import TypeAdapter, ValidationError
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save
from torch import Tensor, nn

from selfreg.config import Config, dump_config, load_config
from selfreg.data import Labels, Source
from selfreg.files import locked, read_json, remove_leftovers, whole_file, write_json, write_text
from selfreg.messages import one_line
from selfreg.networks import runs_own_code
from selfreg.networks.pretrained import faulty
from selfreg.opening import build_from_config, open_split

Weights = Literal["last", "best"]


@dataclass(frozen=True)
class RunInfo:
    """What a trained network needs to be used: class names, RGB palette (256, 3), input mean and standard deviation.

    Raises ValueError for names, colours or statistics that cannot be.
    """

    class_names: tuple[str, ...]
    palette: tuple[tuple[int, int, int], ...]
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    versions: dict[str, str]

    def __post_init__(self) -> None:
        Labels(self.class_names)  # raises for names that cannot be
        if len(self.palette) != 256 or not all(0 <= value <= 255 for colour in self.palette for value in colour):
            raise ValueError("palette: 256 colours [red, green, blue] of 0..255 are needed")
        if not all(map(math.isfinite, (*self.mean, *self.std))) or min(self.std) <= 0:
            raise ValueError(f"mean {self.mean} and std {self.std} must be finite numbers, std above 0")

    @property
    def num_classes(self) -> int:
        """How many classes the network tells apart."""
        return len(self.class_names)

    def palette_array(self) -> NDArray[np.uint8]:
        """The palette as (256, 3) uint8."""
        return np.asarray(self.palette, dtype=np.uint8)


@dataclass(frozen=True)
class Run:
    """One training run in a folder of its own.

    A run may have come from anybody. One whose network is `package.module:factory` gives it only with `allow_code`,
    since that code is run.
    """

    folder: Path
    allow_code: bool = False

    @classmethod
    def create(cls, folder: Path, config: Config, info: RunInfo) -> "Run":
        """Start a run in a folder that holds none yet. Raises ValueError where one is there."""
        run = cls(folder, allow_code=True)
        if run._config_path.exists():
            raise ValueError(f"{folder}: holds a run already; go on with --resume, or choose another --out")
        try:
            folder.mkdir(parents=True, exist_ok=True)
            write_json(run._info_path, asdict(info))
            write_text(run._config_path, dump_config(config))
        except OSError as error:
            raise ValueError(f"{folder}: cannot be written: {error.strerror}") from None
        return run

    @classmethod
    def open(cls, folder: str | Path, *, allow_code: bool = False) -> "Run":
        """Open a run that exists. Raises ValueError where the folder holds none."""
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
        """The folder's own name."""
        return self.folder.resolve().name

    @property
    def _config_path(self) -> Path:
        return self.folder / "config.yaml"

    @property
    def _info_path(self) -> Path:
        return self.folder / "run.json"

    @property
    def log_folder(self) -> Path:
        """Where the loggers write."""
        return self.folder / "logs"

    @property
    def checkpoint_path(self) -> Path:
        """The trainer's own state at the end of the last epoch."""
        return self.folder / "checkpoints" / "last.ckpt"

    def state_to_resume(self) -> Path | None:
        """`checkpoint_path`, or None where no epoch has ended. Raises ValueError for a file that is no plain state."""
        path = self.checkpoint_path
        if not path.exists():
            return None
        try:
            # mapped, so that this costs nothing; without weights_only a checkpoint could run code
            torch.load(path, map_location="cpu", weights_only=True, mmap=True)
        except (RuntimeError, OSError, EOFError, KeyError, ValueError, pickle.UnpicklingError) as error:
            raise ValueError(
                f"{path}: is no state of a training ({one_line(error, first=True)}); train anew into another --out"
            ) from None
        return path

    def attempts(self) -> list[Path]:
        """The log folders of the run's attempts, oldest first."""
        found = [path for path in self.log_folder.glob("attempt_*") if path.name.removeprefix("attempt_").isdecimal()]
        return sorted(found, key=lambda path: int(path.name.removeprefix("attempt_")))

    def weights_path(self, which: Weights) -> Path:
        """The plain network's weights in safetensors."""
        return self.folder / "checkpoints" / f"{which}.safetensors"

    def evaluation_path(self, split: str) -> Path:
        """The numbers of one split."""
        return self.folder / "evaluation" / f"{split}.json"

    def prediction_folder(self, split: str, which: Weights) -> Path:
        """The class maps of one split, as index PNGs."""
        return self.folder / "evaluation" / f"{split}-{which}"

    def config(self, overrides: Sequence[str] = ()) -> Config:
        """The configuration as it was when the run started, but for the overrides."""
        return load_config(self._config_path, overrides)

    def info(self) -> RunInfo:
        """Class names, palette and preprocessing. Raises ValueError where they cannot be read."""
        try:
            return TypeAdapter(RunInfo).validate_json(self._info_path.read_bytes(), strict=True)
        except ValidationError as error:
            first = error.errors(include_input=False)[0]
            where = ".".join(map(str, first["loc"]))
            reason = f"{where}: {first['msg']}" if where else first["msg"]
            raise ValueError(f"{self._info_path}: cannot be read ({reason}); the run is damaged") from None
        except OSError as error:
            raise ValueError(f"{self._info_path}: cannot be read ({error}); the run is damaged") from None

    def save_weights(self, which: Weights, network: nn.Module) -> None:
        """Write the plain network's weights, whole or not at all."""
        # shared tensors (tied weights) have to be told apart for safetensors
        state = {key: tensor.detach().cpu().contiguous().clone() for key, tensor in network.state_dict().items()}
        with whole_file(self.weights_path(which)) as temporary:
            # written here, since a full disk is an OSError to Python, but not to safetensors
            temporary.write_bytes(save(state, metadata={"num_classes": str(self.info().num_classes)}))

    def load_weights(self, network: nn.Module, which: Weights = "last") -> nn.Module:
        """Load the weights strictly. Raises ValueError where they are missing, damaged or of another class count."""
        path = self.weights_path(which)
        if not path.exists():
            raise ValueError(f"{path}: no weights yet; train for at least one epoch")
        try:
            with safe_open(path, framework="pt") as file:
                stored = (file.metadata() or {}).get("num_classes")
            state: dict[str, Tensor] = load_file(path)
        except (SafetensorError, OSError, ValueError, KeyError, RuntimeError) as error:
            raise ValueError(
                f"{path}: cannot be read as safetensors ({one_line(error)}); train again or use another file"
            ) from None
        if stored is not None and stored != str(self.info().num_classes):
            raise ValueError(
                f"{path}: holds {stored[:20]} classes, but the run's data have {self.info().num_classes}; use weights "
                "and run.json of one run"
            )
        strange = faulty(network.state_dict(), state)
        if strange:
            raise ValueError(
                f"{path}: NaN, infinity or another kind of number in {strange[0]} and {len(strange) - 1} more; train "
                "again or use another file"
            )
        try:
            network.load_state_dict(state, strict=True)
        except RuntimeError as error:
            raise ValueError(f"{path}: does not fit the network of config.yaml: {one_line(error)}") from None
        return network

    def network(self, which: Weights = "last") -> nn.Module:
        """The plain network with its trained weights, in eval mode. Raises ValueError for code that is not allowed."""
        config = self.config()
        if runs_own_code(config.network.name) and not self.allow_code:
            raise ValueError(
                f"{self._config_path}: its network {config.network.name} is code that would be run; "
                "if you trust it, give --allow-code"
            )
        network = build_from_config(config, self.info().num_classes, pretrained=False)
        return self.load_weights(network, which).eval()

    def source(self, split: str, overrides: Sequence[str] = ()) -> Source:
        """A split of the run's data. Raises ValueError where its classes are not those that the run was trained on."""
        source = open_split(self.config(overrides), split)
        if source.labels.num_classes != self.info().num_classes:
            raise ValueError(
                f"{self.folder}: was trained on {self.info().num_classes} classes, the data have "
                f"{source.labels.num_classes}; set data.root to the data of the run"
            )
        return source

    def history(self, name: str) -> dict[int, float]:
        """One logged value by epoch, over all attempts; later attempts win. Raises ValueError for a damaged log."""
        values: dict[int, float] = {}
        for attempt in self.attempts():
            path = attempt / "metrics.csv"
            if path.exists():
                try:
                    with path.open(encoding="utf-8", newline="") as file:
                        rows = [row for row in csv.DictReader(file) if row.get(name) and row.get("epoch")]
                    values.update({int(float(row["epoch"])): float(row[name]) for row in rows})
                except (OSError, ValueError, TypeError, OverflowError, csv.Error) as error:
                    raise ValueError(f"{path}: cannot be read ({error}); the log is damaged") from None
        return values

    def write_summary(self, summary: dict[str, Any]) -> None:
        """Note that training has ended, and how."""
        write_json(self.folder / "summary.json", summary)

    def summary(self) -> dict[str, Any] | None:
        """What `write_summary` left, or None while training has not ended."""
        path = self.folder / "summary.json"
        return read_json(path) if path.exists() else None

    @contextmanager
    def lock(self) -> Iterator[None]:
        """Hold the run for one process. Raises ValueError where another one has it."""
        with locked(self.folder, "training"):
            remove_leftovers(self.folder)
            remove_leftovers(self.folder / "checkpoints")
            yield
