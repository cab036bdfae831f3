"""`selfreg export`: a trained network as a file or folder, left in place only if it computes the same."""

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

import torch
from torch import Tensor, nn
from torch.export import Dim, ExportedProgram

from selfreg.data.reading import RGB
from selfreg.files import whole_file
from selfreg.inference.exportable import exportable, pooling_by_products
from selfreg.inference.onnx_network import METADATA_KEY, OnnxMetadata
from selfreg.inference.predictor import SIDE_MULTIPLE
from selfreg.inference.save_pretrained import save_pretrained
from selfreg.messages import one_line
from selfreg.opening import image_format
from selfreg.regulation import classifies_masks, main_output
from selfreg.run import Run, Weights

Format = Literal["onnx", "torch-export", "transformers"]

# a little above what reordered float32 sums differ by on logits of order 10
TOLERANCE = 1e-3
_SIZES = ((64, 96), (128, 64), (96, 160))


@dataclass(frozen=True)
class Parity:
    """How far the exported file is from the network: largest difference of logits, share of pixels of equal class."""

    max_difference: float
    agreement: float


class _Logits(nn.Module):
    """The network's class map at the size of the image, whatever the network returns."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, image: Tensor) -> Tensor:
        logits = main_output(self.network(image))
        if logits.shape[-2:] == image.shape[-2:]:
            return logits
        return nn.functional.interpolate(logits, size=image.shape[-2:], mode="bilinear", align_corners=False)


def export_run(
    folder: Path, path: Path, format: Format = "onnx", which: Weights = "last", *, allow_code: bool = False
) -> Parity:
    """Export a run's network to `path`, check it at sizes that it was not exported at, and only then leave it there.

    Input `image`: float32 (N, C, H, W), normalised with the mean and std of `run.json`; N, H and W are free, H and W
    multiples of 32. Output `logits`: float32 (N, K, H, W). Class names, mean and std are stored in the file.

    With `transformers`, `path` is a folder as `save_pretrained` writes it, for networks `hf:...` alone.

    Raises ValueError where a package is missing, the network cannot be exported, or the file computes something else.
    """
    if format not in get_args(Format):
        raise ValueError(f"--format {format}: use onnx, torch-export or transformers")
    run = Run.open(folder, allow_code=allow_code)
    info, data = run.info(), run.config().data
    if format == "transformers":
        save_pretrained(run.network(which), path, info, eight_bit=image_format(data) == RGB)
        return Parity(0.0, 1.0)
    plain = run.network(which)
    if classifies_masks(plain):
        # tracing their decoders with free height and width does not end
        raise ValueError("a network that classifies masks is not exported for free sizes; use --format transformers")
    metadata = OnnxMetadata.of(info, data.short_side, data.range).model_dump_json()
    network = _Logits(plain).eval()
    program = _export_program(exportable(network), len(info.mean))
    with whole_file(path) as temporary:
        if format == "onnx":
            _write_onnx(program, temporary, metadata)
            compute = _onnx_session(temporary)
        else:
            compute = _write_program(program, temporary, metadata)
        parity = _compare(network, compute, len(info.mean))
        if parity.max_difference > TOLERANCE or parity.agreement < 0.999:
            raise ValueError(
                f"{path}: not written: the exported network differs by {parity.max_difference:.2g} from the trained "
                f"one ({100 * parity.agreement:.2f} % of pixels agree)"
            )
    return parity


def _export_program(network: nn.Module, bands: int) -> ExportedProgram:
    batch, rows, columns = Dim("batch", max=1024), Dim("rows", max=1024), Dim("columns", max=1024)
    shape = {"image": {0: batch, 2: SIDE_MULTIPLE * rows, 3: SIDE_MULTIPLE * columns}}
    # sizes unlike each other and unlike 1, so that none of them is taken for a constant
    example = torch.zeros(2, bands, 3 * SIDE_MULTIPLE, 4 * SIDE_MULTIPLE)
    try:
        with warnings.catch_warnings(), pooling_by_products():
            warnings.simplefilter("ignore")
            return torch.export.export(network, (example,), dynamic_shapes=shape)
    except Exception as error:
        raise ValueError(
            f"the network cannot be exported with free height and width: {one_line(error, first=True)}"
        ) from error


def _write_program(program: ExportedProgram, path: Path, metadata: str) -> Callable[[Tensor], Tensor]:
    try:
        torch.export.save(program, path, extra_files={"selfreg.json": metadata})
        return torch.export.load(path).module()
    except OSError:
        raise
    except Exception as error:
        raise ValueError(
            f"torch.export of torch {torch.__version__} cannot write the network: {one_line(error, first=True)}; "
            "try a newer version, or --format onnx"
        ) from error


def _write_onnx(program: ExportedProgram, path: Path, metadata: str) -> None:
    try:
        import onnx
        import onnxruntime  # noqa: F401
        import onnxscript
    except ImportError as error:
        raise ValueError(f"ONNX needs the package {error.name}: pip install 'selfreg[export]'") from None
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            onnx_program = torch.onnx.export(
                program, dynamo=True, input_names=["image"], output_names=["logits"], verbose=False
            )
    except Exception as error:
        raise ValueError(
            f"torch.onnx of torch {torch.__version__} with onnxscript {onnxscript.__version__} cannot export the "
            f"network: {one_line(error, first=True)}; try newer versions of both, or --format torch-export"
        ) from error
    if onnx_program is None:
        raise ValueError("torch.onnx gave no program; export with --format torch-export")
    model = onnx_program.model_proto
    entry = model.metadata_props.add()
    entry.key, entry.value = METADATA_KEY, metadata
    onnx.save(model, str(path))


def _onnx_session(path: Path) -> Callable[[Tensor], Tensor]:
    import onnxruntime

    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    return lambda image: torch.from_numpy(session.run(["logits"], {"image": image.numpy()})[0])


def _compare(network: nn.Module, compute: Callable[[Tensor], Tensor], bands: int) -> Parity:
    generator = torch.Generator().manual_seed(0)
    differences, agreements = [], []
    for height, width in _SIZES:
        image = torch.randn(1, bands, height, width, generator=generator)
        with torch.inference_mode():
            expected, found = network(image), compute(image)
        differences.append(float((expected - found).abs().max()))
        agreements.append(float((expected.argmax(1) == found.argmax(1)).float().mean()))
    return Parity(max(differences), sum(agreements) / len(agreements))
