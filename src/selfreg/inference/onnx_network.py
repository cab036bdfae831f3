"""An exported ONNX file as a network: what `selfreg predict model.onnx` computes with."""

import json
from pathlib import Path
from typing import Any

import torch
from pydantic import BaseModel, ConfigDict, ValidationError
from torch import Tensor, nn

from selfreg.data import full_palette
from selfreg.data.labels import voc_palette
from selfreg.input_files import WEIGHTS_LIMIT, check_file
from selfreg.messages import one_line
from selfreg.run_info import RunInfo

METADATA_KEY = "selfreg"


class OnnxMetadata(BaseModel):
    """What an exported file says about its network, as JSON under the key `selfreg` of the model's metadata.

    `palette` has one RGB colour per class; `short_side` is the length that the shorter side of an image is brought to
    before the network sees it, or null. `range` are the values on disk that become 0 and 1, or null for 8 bits.
    """

    model_config = ConfigDict(extra="ignore", strict=True)

    class_names: list[str]
    mean: list[float]
    std: list[float]
    palette: list[list[int]] | None = None
    short_side: int | None = None
    range: list[float] | None = None

    @classmethod
    def of(cls, info: RunInfo, short_side: int | None, value_range: tuple[float, float] | None) -> "OnnxMetadata":
        """What `selfreg export` writes for a run."""
        colours = [list(colour) for colour in info.palette[: info.num_classes]]
        return cls(
            class_names=list(info.class_names),
            mean=list(info.mean),
            std=list(info.std),
            palette=colours,
            short_side=short_side,
            range=None if value_range is None else list(value_range),
        )

    def info(self) -> RunInfo:
        """Class names, palette and preprocessing. Raises ValueError if they are not valid."""
        palette = voc_palette() if self.palette is None else full_palette(self.palette)
        colours = tuple((int(red), int(green), int(blue)) for red, green, blue in palette)
        mean: Any = tuple(self.mean)
        std: Any = tuple(self.std)
        return RunInfo(tuple(self.class_names), colours, mean, std, {})


class OnnxNetwork(nn.Module):
    """Logits (N, K, H, W) of an ONNX file, computed by ONNX Runtime on the CPU.

    Args:
        path: A file that `selfreg export` wrote.

    Attributes:
        metadata: Class names, palette and preprocessing.

    Raises:
        ValueError: If ONNX Runtime is missing, or the file cannot be read or was not written by `selfreg export`.
    """

    def __init__(self, path: Path) -> None:
        super().__init__()
        if not path.is_file():
            raise ValueError(f"{path}: no such file")
        try:
            import onnxruntime
        except ImportError:
            raise ValueError(
                "reading ONNX files needs the package onnxruntime: pip install 'selfreg[export]'"
            ) from None
        check_file(path, WEIGHTS_LIMIT)
        try:
            self._session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
        except Exception as error:  # ONNX Runtime raises exceptions of its own
            raise ValueError(f"{path}: cannot be read as ONNX ({one_line(error)}); export the run again") from None
        stored = self._session.get_modelmeta().custom_metadata_map.get(METADATA_KEY)
        inputs = [each.name for each in self._session.get_inputs()]
        if stored is None or inputs != ["image"]:
            raise ValueError(f"{path}: was not written by `selfreg export`: it names no classes and no preprocessing")
        try:
            self.metadata = OnnxMetadata.model_validate(json.loads(stored))
            self.metadata.info()
        except (ValidationError, ValueError) as error:
            raise ValueError(f"{path}: its metadata cannot be read ({one_line(error)}); export the run again") from None

    def forward(self, image: Tensor) -> Tensor:
        """Logits for normalised images (N, 3, H, W), H and W multiples of 32."""
        logits = self._session.run(["logits"], {"image": image.float().cpu().contiguous().numpy()})[0]
        return torch.from_numpy(logits).to(image.device)
