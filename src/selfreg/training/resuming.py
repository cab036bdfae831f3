"""Going on with a run: with the configuration that it was started with, or for longer."""

from selfreg.config import Config
from selfreg.run import Run

# keys that say where a run computes, or how it is watched: they may change between start and resumption
_PLACE_KEYS = ("threads", "workers", "accelerator", "devices", "num_nodes", "strategy", "compile", "loggers")
# sections that `selfreg pseudo` reads and training does not
_PSEUDO_SECTIONS = ("classifier", "cam", "refinement", "pseudo")


def refuse_other_config(run: Run, config: Config, *, but: tuple[str, ...] = ()) -> None:
    """Raise ValueError where a run was started with another configuration, but for the keys that may change."""
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
                    "configuration of the run, or train into another --out"
                )


def extend(run: Run, config: Config, epochs: int) -> Config:
    """Let a run that has ended go on for more epochs; returns its new configuration, which the run keeps.

    The learning rate follows the schedule of the longer run from the step that was reached: it rises to what that
    schedule has there, and falls to 0 at the new end.

    Args:
        run: A run that has ended.
        config: The configuration that it is called with; it must be the run's but for its length.
        epochs: Epochs to add.

    Raises:
        ValueError: The run has not ended, ended within an epoch, or has another configuration.
    """
    summary = run.summary()
    if summary is None:
        raise ValueError(f"{run.folder}: has not ended yet; go on with --resume first")
    if epochs < 1:
        raise ValueError(f"--extend {epochs}: give at least one epoch")
    refuse_other_config(run, config, but=("epochs", "max_steps"))
    done, steps = int(summary["epochs"]), int(summary["steps"])
    training = config.training
    if training.max_steps is None:
        length = {"epochs": done + epochs}
    elif steps % done:
        raise ValueError(
            f"{run.folder}: ended within an epoch (training.max_steps {steps}), and an epoch cannot be taken up in its "
            "midst; start a new run from it with network.from_run"
        )
    else:
        length = {"max_steps": steps + epochs * (steps // done)}
    longer = config.model_copy(update={"training": training.model_copy(update=length)})
    run.extend(longer)
    return longer
