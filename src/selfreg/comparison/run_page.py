"""The page of a single run: its numbers, classes, curves and the objects it gets wrong."""

from pathlib import Path

from selfreg.comparison.compare import measure_run
from selfreg.comparison.page import write_comparison
from selfreg.messages import command_line
from selfreg.run import Run


def write_run_page(run: Run, *, limit: int = 60) -> Path:
    """Evaluate a finished run on its validation split and write its page.

    Class maps are kept in the folder of the run, so `selfreg evaluate` need not compute them again. Custom network code
    is executed as in training.

    Args:
        run: The run.
        limit: Largest number of errors shown.

    Returns:
        Path of the page.
    """
    comparison = measure_run(Run.open(run.folder, allow_code=True))
    command = command_line("selfreg", "evaluate", run.folder)
    return write_comparison(comparison, run.page_path, title=run.name, commands=[command], limit=limit)
