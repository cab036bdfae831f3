"""The command line: one function per verb, without logic. Heavy imports are deferred until a verb needs them."""

import sys

from selfreg.cli import data, measuring, training, using
from selfreg.cli.app import app
from selfreg.termination import end_well

__all__ = ["app", "data", "main", "measuring", "training", "using"]


def main() -> None:
    """Run the command; every error is one line (see `selfreg.termination` for the exit statuses)."""
    sys.exit(end_well(app))
