"""The command in processes of its own that start at once: forked from a server that has imported everything already."""

import os
import signal
import sys
from collections.abc import Mapping
from multiprocessing import get_context
from multiprocessing.process import BaseProcess
from pathlib import Path

_SERVER = get_context("forkserver")
_SERVER.set_forkserver_preload(["selfreg.cli", "selfreg.training.fit", "selfreg.weak.pipeline"])


class Command:
    """A command of selfreg in a process and process group of its own; its outputs go to two files in `folder`."""

    def __init__(self, folder: Path, *arguments: str | Path, environment: Mapping[str, str] | None = None) -> None:
        self._outputs = (folder / "stdout.txt", folder / "stderr.txt")
        self._process: BaseProcess = _SERVER.Process(
            target=_be_the_command, args=([str(word) for word in arguments], self._outputs, dict(environment or {}))
        )
        self._process.start()

    @property
    def running(self) -> bool:
        """Whether it has not ended yet."""
        return self._process.is_alive()

    def signal_group(self, number: signal.Signals) -> None:
        """Send a signal to the command and to all that it has started, as a terminal does."""
        assert self._process.pid is not None
        os.killpg(self._process.pid, number)

    def wait(self, seconds: float = 280) -> int:
        """Wait for the end; return the exit status, negative for a signal that ended it."""
        self._process.join(seconds)
        if self._process.exitcode is None:
            self.signal_group(signal.SIGKILL)
            raise TimeoutError(f"still running after {seconds} s: {self.stderr}")
        return self._process.exitcode

    @property
    def stdout(self) -> str:
        """What it has printed."""
        return self._outputs[0].read_text(encoding="utf-8")

    @property
    def stderr(self) -> str:
        """What it has printed on the standard error."""
        return self._outputs[1].read_text(encoding="utf-8")


def _be_the_command(arguments: list[str], outputs: tuple[Path, Path], environment: dict[str, str]) -> None:
    os.setsid()
    for stream, path in zip((1, 2), outputs, strict=True):
        os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), stream)
    os.environ.update(environment)
    # the processes that it starts read the variable, this one has read it already
    sys.path[:0] = filter(None, environment.get("PYTHONPATH", "").split(os.pathsep))
    import torch

    import selfreg.cli

    torch.set_num_threads(1)
    # Lightning starts further processes by this path
    sys.argv = [str(Path(selfreg.cli.__file__).with_name("__main__.py")), *arguments]
    selfreg.cli.main()
