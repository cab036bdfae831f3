"""Training with several processes: what they share, and how a failure of one ends all of them."""

import os
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from subprocess import TimeoutExpired
from typing import cast

import lightning as L
from lightning.pytorch.strategies import DDPStrategy, ParallelStrategy
from lightning.pytorch.strategies.launchers import _SubprocessScriptLauncher
from lightning.pytorch.utilities import rank_zero_only
from timm.layers import convert_sync_batchnorm
from torch import nn
from torch.distributed import DistError

# seconds that a failing process leaves the ones it has started to end by themselves
PATIENCE = 5.0


def is_first_process() -> bool:
    """Whether this process writes the files, according to Lightning's trainer; True before there is a trainer."""
    return bool(rank_zero_only.rank == 0)  # type: ignore[attr-defined]


def check_strategy(trainer: L.Trainer, name: str) -> None:
    """Raise ValueError for a strategy of several processes that is not DDP with a process of its own for each device.

    Sharded strategies flatten the parameters, whose shapes tell which of them decay, and would write a part of the
    weights; processes that are forked or spawned from the first one cannot be told apart when the data are shared out.
    """
    strategy = trainer.strategy
    one_process = not isinstance(strategy, ParallelStrategy)
    # a subclass is DeepSpeed's, which shards
    ddp = type(strategy) is DDPStrategy and (
        strategy.launcher is None or isinstance(strategy.launcher, _SubprocessScriptLauncher)
    )
    if not (one_process or ddp):
        raise ValueError(f"training.strategy {name!r}: is not supported over several processes; use ddp")


def settle_rank(trainer: L.Trainer) -> None:
    """Let a process that trains alone be the one that writes, whatever rank its environment names.

    A scheduler or an earlier launcher leaves RANK, LOCAL_RANK or SLURM_PROCID behind, by which Lightning would take
    this process for one of several: it would train to the end and write nothing.

    Raises:
        ValueError: If several processes are to train and LOCAL_RANK is set without the address of the first one;
            Lightning would wait for them for ever.
    """
    if trainer.world_size == 1:
        rank_zero_only.rank = 0  # type: ignore[attr-defined]
    elif "LOCAL_RANK" in os.environ and not {"MASTER_PORT", "SLURM_NTASKS", "LSB_JOBID"} & set(os.environ):
        raise ValueError(
            f"LOCAL_RANK={os.environ['LOCAL_RANK']} is set in the environment, but no MASTER_PORT: unset LOCAL_RANK, "
            "or start all processes with a launcher such as torchrun"
        )


def share_batch_norm(model: nn.Module) -> nn.Module:
    """Let all batch norms of a model use the images of all processes; parameters and names do not change.

    timm's conversion keeps the activation that its norm layers hold, which torch's would drop. Neither keeps hooks, by
    which the exits of a tapped batch norm get its output: the new layers take over those of the old ones. On GPUs only.
    """
    before = dict(model.named_modules(remove_duplicate=False))
    converted = cast(nn.Module, convert_sync_batchnorm(model))
    for name, module in converted.named_modules(remove_duplicate=False):
        if module is not before[name]:
            # the same dictionaries, so that the handles of the hooks still remove them
            vars(module).update({key: hooks for key, hooks in vars(before[name]).items() if "_hooks" in key})
    return converted


@contextmanager
def ending_together(trainer: L.Trainer) -> Iterator[None]:
    """End the processes that this one started if it fails; raise ConnectionError if another process failed.

    The process at fault tells its own error; the others only that they were left alone.
    """
    try:
        yield
    except BaseException as error:
        launcher = trainer.strategy.launcher
        if isinstance(launcher, _SubprocessScriptLauncher):
            if isinstance(error, Exception):
                _let_them_speak(launcher)
            # SIGTERM would not reach a process that waits for the others in a collective
            launcher.kill(getattr(signal, "SIGKILL", signal.SIGTERM))  # Windows has no SIGKILL
        if trainer.world_size > 1 and _lost_connection(error):
            raise ConnectionError(
                f"process {trainer.global_rank} of {trainer.world_size}: another process of this training has ended, "
                "its own message says why; continue with --resume"
            ) from None
        raise


def _let_them_speak(launcher: _SubprocessScriptLauncher) -> None:
    """Give the other processes time to print their own errors."""
    deadline = time.monotonic() + PATIENCE
    for process in launcher.procs:
        with suppress(TimeoutExpired):
            process.wait(max(0.0, deadline - time.monotonic()))


def _lost_connection(error: BaseException) -> bool:
    # gloo raises plain RuntimeErrors that name its source files
    return isinstance(error, DistError) or (isinstance(error, RuntimeError) and "gloo" in str(error))
