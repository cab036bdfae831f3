"""Options and helper functions shared by several verbs."""

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from selfreg.messages import say

Set = Annotated[list[str] | None, typer.Option("--set", help="Override a key: section.key=value (repeatable).")]
Scales = Annotated[str | None, typer.Option(help="Scales to average over, e.g. 0.75,1,1.25.")]
Flip = Annotated[bool, typer.Option("--flip", help="Also average over the mirror image.")]
Tile = Annotated[int | None, typer.Option(help="Predict larger images in tiles of this side in pixels.")]
Which = Annotated[str, typer.Option("--weights", help="Weights to use: `last` or `best` epoch.")]
Predictions = Annotated[Path | None, typer.Option(help="Folder of index PNGs from any program, instead of a run.")]
LabelMaps = Annotated[Path | None, typer.Option(help="Folder of label maps with the same file names.")]
NumClasses = Annotated[int | None, typer.Option(help="Number of classes of the label maps.")]
IgnoreIndex = Annotated[int, typer.Option(help="Value of void in the label maps.")]
Background = Annotated[int | None, typer.Option(help="Index of the class without objects, if there is one.")]
Shard = Annotated[str | None, typer.Option(help="Part I/N (I from 1), to split the images between N commands.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON and nothing else.")]
AllowCode = Annotated[
    bool, typer.Option("--allow-code", help="Allow a run to import the code of its network (package.module:factory).")
]


def print_json(content: Any) -> None:
    say(*json.dumps(content, indent=2, allow_nan=False).splitlines())


def weights_named(name: str) -> Any:
    if name not in ("last", "best"):
        raise ValueError(f"--weights {name}: use last or best")
    return name


def numbers(text: str, option: str) -> tuple[float, ...]:
    try:
        return tuple(float(part) for part in text.split(","))
    except ValueError:
        raise ValueError(f"{option} {text}: give numbers separated by commas") from None


def open_run(folder: Path) -> None:
    """Raise ValueError if the folder is not a run or its files are damaged; does not import torch, so it is fast."""
    from selfreg.run import Run

    run = Run.open(folder)
    run.config()
