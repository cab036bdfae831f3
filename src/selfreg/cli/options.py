"""Options that several verbs share, and what all of them do with values and JSON."""

import json
from pathlib import Path
from typing import Annotated, Any

import typer

Set = Annotated[list[str] | None, typer.Option("--set", help="Override a key: section.key=value (repeatable).")]
Which = Annotated[str, typer.Option("--weights", help="Weights of the `last` or the `best` epoch.")]
Predictions = Annotated[Path | None, typer.Option(help="Folder of index PNGs from anywhere, instead of a run.")]
LabelMaps = Annotated[Path | None, typer.Option(help="Folder of the label maps, of the same names.")]
NumClasses = Annotated[int | None, typer.Option(help="Classes of those maps.")]
IgnoreIndex = Annotated[int, typer.Option(help="Value of void in the label maps.")]
Background = Annotated[int | None, typer.Option(help="Index of the class without objects, if there is one.")]
Shard = Annotated[str | None, typer.Option(help="Part I/N, from 1, for N commands that share the images out.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON and nothing else.")]
AllowCode = Annotated[
    bool, typer.Option("--allow-code", help="Let a run whose network is package.module:factory import that code.")
]


def print_json(content: Any) -> None:
    print(json.dumps(content, indent=2, allow_nan=False))


def weights_named(name: str) -> Any:
    if name not in ("last", "best"):
        raise ValueError(f"--weights {name}: use last or best")
    return name


def numbers(text: str, option: str) -> tuple[float, ...]:
    try:
        return tuple(float(part) for part in text.split(","))
    except ValueError:
        raise ValueError(f"{option} {text}: write numbers with commas between them") from None


def open_run(folder: Path) -> None:
    """Raise ValueError if the folder holds no run or its files are damaged; loads no torch, so it answers at once."""
    from selfreg.run import Run

    run = Run.open(folder)
    run.config()
