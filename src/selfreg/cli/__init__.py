"""The command: one verb, one function, no logic. Heavy imports wait until a verb needs them."""

import sys

from selfreg.cli import data, measuring, training, using
from selfreg.cli.app import app
from selfreg.termination import end_well

__all__ = ["app", "data", "main", "measuring", "training", "using"]


def main() -> None:
    """Run the command; whatever ends it is told in one line (see `selfreg.termination` for the exit statuses)."""
    sys.exit(end_well(app))
