"""What the commands do, as functions: `selfreg.train`, `selfreg.evaluate` and `selfreg.compare`.

Results are dictionaries of plain numbers, the same as the JSON of the commands, which a notebook shows as a table.
"""

import html
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from selfreg.comparison.compare import compare_runs
from selfreg.config import Config, load_config, parse_config
from selfreg.evaluation import MEASURES
from selfreg.inference.evaluate import evaluate_run
from selfreg.run import Run, Weights
from selfreg.training import train as train_config


class Table(dict[str, Any]):
    """A dictionary of results that a notebook shows as a table.

    Args:
        content: The results, ready for JSON.
        header: Titles of the columns.
        rows: Texts of the cells.
    """

    def __init__(self, content: Mapping[str, Any], header: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
        super().__init__(content)
        self.header, self.rows = tuple(header), tuple(tuple(row) for row in rows)

    def _repr_html_(self) -> str:
        head = "".join(f"<th>{html.escape(cell)}</th>" for cell in self.header)
        body = "".join(f"<tr>{''.join(f'<td>{html.escape(cell)}</td>' for cell in row)}</tr>" for row in self.rows)
        return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"


def train(
    config: str | Path | Mapping[str, Any] | Config,
    out: str | Path | None = None,
    *,
    overrides: Sequence[str] = (),
    resume: bool = False,
    progress_bar: bool = False,
) -> Run:
    """Train what a configuration says.

    Args:
        config: Path of a YAML file, or its content as a dictionary.
        out: Folder of the run; `runs/NAME-OF-CONFIG` by default for a file.
        overrides: `section.key=value`, for a file.
        resume: Continue from the last finished epoch.
        progress_bar: Show a progress bar.

    Returns:
        The run; `selfreg.load(run.folder)` gives the trained network.

    Raises:
        ValueError: For a configuration, data or a folder that cannot be used; before time is spent.
    """
    if isinstance(config, str | Path):
        settings = load_config(config, overrides)
        folder = Path("runs") / Path(config).stem if out is None else Path(out)
        return train_config(settings, folder, resume=resume, progress_bar=progress_bar)
    if overrides or out is None:
        raise ValueError("a configuration in memory needs `out`, and takes no overrides: change the dictionary")
    settings = config if isinstance(config, Config) else parse_config(dict(config), "the configuration")
    return train_config(settings, Path(out), resume=resume, progress_bar=progress_bar)


def evaluate(
    run: str | Path | Run,
    *,
    split: str | None = None,
    weights: Weights = "last",
    overrides: Sequence[str] = (),
    allow_code: bool = False,
) -> Table:
    """Measure a run on a split, as `selfreg evaluate` does.

    Args:
        run: The run, or its folder.
        split: Split to measure on; the validation split of the run by default.
        weights: Weights of the "last" or the "best" epoch.
        overrides: `section.key=value`: other data, or `validation.scales`, `flip` and `tile`.
        allow_code: Let a run whose network is `package.module:factory` import that code.

    Returns:
        The content of `RUN/evaluation/SPLIT.json`: shares in [0, 1], counts, and lists by class.
    """
    folder = run.folder if isinstance(run, Run) else Path(run)
    result = evaluate_run(folder, split=split, which=weights, overrides=overrides, allow_code=allow_code)
    rows = []
    for key, measure in MEASURES.items():
        if result.get(key) is not None:
            interval = result["intervals"].get(key)
            ends = "" if interval is None else f"{measure.text(interval[0])} to {measure.text(interval[1])}"
            rows.append((f"{measure.title} {measure.unit}".strip(), measure.text(result[key]), ends))
    return Table(result, ("measure", "value", "95 % interval"), rows)


def compare(
    *runs: str | Path | Run,
    split: str | None = None,
    weights: Weights = "last",
    overrides: Sequence[str] = (),
    allow_code: bool = False,
) -> Table:
    """Compare runs on the same images, as `selfreg compare` does: each against the first.

    Args:
        runs: Two or more runs, or their folders.
        split: Split to compare on; the validation split of the first run by default.
        weights: Weights of the "last" or the "best" epoch.
        overrides: As for `evaluate`.
        allow_code: As for `evaluate`.

    Returns:
        As `selfreg compare --json`: `runs`, and `differences` with 95 % intervals and verdicts.
    """
    folders = [run.folder if isinstance(run, Run) else Path(run) for run in runs]
    found = compare_runs(folders, split=split, which=weights, overrides=overrides, allow_code=allow_code)
    content = found.to_json()
    names, differences = list(content["runs"]), list(content["differences"])
    rows = []
    for key, measure in MEASURES.items():
        values = [measure.text(content["runs"][name].get(key)) for name in names]
        if any(value != "-" for value in values):
            cells = [_difference(content["differences"][name].get(key), measure) for name in differences]
            rows.append((f"{measure.title} {measure.unit}".strip(), *values, *cells))
    return Table(content, ("measure", *names, *differences), rows)


def _difference(entry: Mapping[str, Any] | None, measure: Any) -> str:
    if entry is None:
        return "-"
    value, low, high = (measure.scaled(entry[key]) for key in ("difference", "low", "high"))
    places = 0 if measure.is_count else 1
    return f"{value:+.{places}f} ({low:+.{places}f} to {high:+.{places}f}), {entry['verdict']}"
