"""`selfreg demo`: `selfreg try` on generated scenes."""

from pathlib import Path

from selfreg.trial.trial import run_try
from selfreg.trial.verdict import Verdict

BUDGET = "4m"
"""Budget of a try without data: with what may come on top, it ends within five minutes."""


def run_demo(folder: Path, *, seed: int = 0, budget: str = BUDGET) -> Verdict:
    """Try self-regulation on generated scenes; see `run_try`.

    Args:
        folder: Output folder.
        seed: Seed of the first pair of trainings.
        budget: Time for everything.
    """
    return run_try(None, folder, budget=budget, seed=seed)
