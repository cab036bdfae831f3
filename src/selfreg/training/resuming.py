"""Resuming a run with the configuration that it was started with, and extending it."""

import traceback
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from selfreg.config import Config
from selfreg.input_files import WEIGHTS_LIMIT, check_file
from selfreg.messages import command_line, one_line
from selfreg.run import Run

# keys that say where a run computes, or how it is watched: they may change between start and resumption
_PLACE_KEYS = ("threads", "workers", "accelerator", "devices", "num_nodes", "strategy", "compile", "loggers")
# sections that `selfreg pseudo` reads and training does not
_PSEUDO_SECTIONS = ("classifier", "cam", "refinement", "pseudo")


def refuse_other_config(run: Run, config: Config, *, but: tuple[str, ...] = ()) -> None:
    """Raise ValueError if a run was started with another configuration.

    Args:
        run: The run.
        config: The configuration that it is called with.
        but: Keys that may differ, besides those of the machine (`workers`, `devices`, ...).
    """
    stored, given = run.config().model_dump(mode="json"), config.model_dump(mode="json")
    for section in stored:
        if section in _PSEUDO_SECTIONS:
            continue
        old, new = stored[section], given[section]
        if not isinstance(old, dict):
            old, new = {"": old}, {"": new}
        for key in old:
            if old[key] != new[key] and key not in (*_PLACE_KEYS, *but):
                name = f"{section}.{key}".rstrip(".")
                raise ValueError(
                    f"{run.folder}: started with {name} = {old[key]!r}, now {new[key]!r}; resume with the "
                    f"configuration of the run ({run.folder / 'config.yaml'}), or train into another --out"
                )


_STATE = {
    "epoch": int,
    "global_step": int,
    "pytorch-lightning_version": str,
    "state_dict": dict,
    "loops": dict,
    "callbacks": dict,
    "optimizer_states": list,
    "lr_schedulers": list,
}
"""What the state of a training holds, and of which type."""
_RESTORING = "lightning.pytorch.trainer.connectors.checkpoint_connector"


def read_place(path: Path, total_steps: int) -> tuple[int, int]:
    """Read how many epochs and steps a state of a training has behind it.

    Args:
        path: The state.
        total_steps: Number of steps of the whole training.

    Raises:
        ValueError: If the file holds something else, or the state of a longer training.
    """
    check_file(path, WEIGHTS_LIMIT)
    # mapped, so that the weights are not read
    state: Any = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    wrong = [key for key, kind in _STATE.items() if not (isinstance(state, dict) and isinstance(state.get(key), kind))]
    if wrong or len(state["optimizer_states"]) != 1:
        raise _damaged(path, f"missing or wrong: {', '.join(wrong or ['optimizer_states'])}")
    epoch, step = state["epoch"] + 1, state["global_step"]
    if not 1 <= epoch <= max(step, 1) or not 0 <= step <= total_steps:
        raise _damaged(path, f"of epoch {epoch}, step {step}; the run has {total_steps} steps")
    return epoch, step


@contextmanager
def restoring(path: Path | None) -> Iterator[None]:
    """Tell an error while Lightning restores a state from one of the training."""
    try:
        yield
    except OSError:
        raise
    except Exception as error:
        frames = traceback.walk_tb(error.__traceback__)
        places = {frame.f_code.co_name for frame, _ in frames if frame.f_globals.get("__name__") == _RESTORING}
        if path is None or not any(name.startswith(("restore", "resume")) for name in places):
            raise
        raise _damaged(path, one_line(error)) from None


def _damaged(path: Path, reason: str) -> ValueError:
    return ValueError(f"{path}: is no state of this training ({reason}); train anew into another --out")


def longer_config(run: Run, config: Config, epochs: int, *, first: bool = True) -> Config:
    """The configuration of a finished run that is extended by more epochs; nothing is written.

    From the step that was reached, the learning rate follows the schedule of the longer run: it rises to the value of
    that schedule at this step and falls to 0 at the new end.

    Args:
        run: A finished run.
        config: The configuration that it is called with; it may differ from the run's in `epochs` and `max_steps`.
        epochs: Number of epochs to add.
        first: Whether this process writes the files. Another one may find the run extended already.

    Raises:
        ValueError: The run is not finished, ended within an epoch, or has another configuration.
    """
    summary, training = run.summary(), config.training
    if summary is None and not first:
        stored = run.config().training
        length: dict[str, Any] = {"epochs": stored.epochs, "max_steps": stored.max_steps}
        return config.model_copy(update={"training": training.model_copy(update=length)})
    if summary is None:
        raise ValueError(
            f"{run.folder}: has not ended yet; first go on with "
            f"`{command_line('selfreg', 'train', run.folder / 'config.yaml', '--out', run.folder, '--resume')}`"
        )
    if epochs < 1:
        raise ValueError(f"--extend {epochs}: give at least one epoch")
    refuse_other_config(run, config, but=("epochs", "max_steps"))
    done, steps = summary.get("epochs", 0), summary.get("steps", 0)
    if not 0 < done <= steps:
        raise ValueError(f"{run.folder}: its summary names {done} epochs and {steps} steps; the run is damaged")
    if training.max_steps is None:
        length = {"epochs": done + epochs}
    else:
        length = {"max_steps": steps + epochs * _steps_of_whole_epochs(run, summary)}
    return config.model_copy(update={"training": training.model_copy(update=length)})


def state_of(run: Run, *, extended: bool) -> Path | None:
    """The state from which a training goes on; None if it has not finished an epoch.

    Raises:
        ValueError: There is none, but there are weights, which a training from the beginning would replace.
    """
    state = run.state_to_resume()
    # a training that is killed while it writes its first epoch may leave weights without a state
    if state is None and (extended or max(run.history("val/miou"), default=0) > 0):
        raise ValueError(
            f"{run.checkpoint_path}: there is no state from which the training could go on, only its weights; start a "
            "new run from them with network.from_run, into another --out"
        )
    return state


def _steps_of_whole_epochs(run: Run, summary: Mapping[str, Any]) -> int:
    """Steps per epoch of a run that ended with an epoch; ValueError for one that ended within one."""
    steps, of_epoch = summary["steps"], summary.get("steps_per_epoch")
    if of_epoch and steps % of_epoch == 0:
        return int(of_epoch)
    where = "its summary does not tell whether it ended within an epoch"
    if of_epoch:
        where = f"ended within an epoch, after {steps % of_epoch} of its {of_epoch} steps"
    raise ValueError(
        f"{run.folder}: {where} (training.max_steps {steps}), and an epoch cannot be taken up in its midst; start "
        "a new run from it with network.from_run"
    )
