"""The command in processes of its own that start at once: forked from a server that has imported everything already."""

import atexit
import functools
import json
import os
import selectors
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from types import SimpleNamespace
from typing import IO, Any

_ADDRESS = "SELFREG_TEST_SERVER"
"""Environment variable with the address of the server, for commands that start further ones."""


class Command:
    """A command of selfreg in a process and process group of its own; its outputs go to two files in `folder`."""

    def __init__(self, folder: Path, *arguments: str | Path, environment: Mapping[str, str] | None = None) -> None:
        self._outputs = (folder / "stdout.txt", folder / "stderr.txt")
        with self._outputs[0].open("w") as stdout, self._outputs[1].open("w") as stderr:
            self._process = WarmProcess(
                ["-m", "selfreg.cli", *map(str, arguments)],
                stdout=stdout,
                stderr=stderr,
                env={**os.environ, **(environment or {})},
                start_new_session=True,
            )

    @property
    def running(self) -> bool:
        """Whether it has not ended yet."""
        return self._process.poll() is None

    def signal_group(self, number: signal.Signals) -> None:
        """Send a signal to the command and to all that it has started, as a terminal does."""
        with suppress(ProcessLookupError):
            os.killpg(self._process.pid, number)

    def wait(self, seconds: float = 280) -> int:
        """Wait for the end; return the exit status, negative for a signal that ended it."""
        try:
            return self._process.wait(seconds)
        except subprocess.TimeoutExpired:
            self.signal_group(signal.SIGKILL)
            raise TimeoutError(f"still running after {seconds} s: {self.stderr}") from None

    @property
    def stdout(self) -> str:
        """What it has printed."""
        return self._outputs[0].read_text(encoding="utf-8")

    @property
    def stderr(self) -> str:
        """What it has printed on the standard error."""
        return self._outputs[1].read_text(encoding="utf-8")


class WarmProcess:
    """What is used of `subprocess.Popen`, for command lines of selfreg; stdin is empty."""

    def __init__(
        self,
        command: Sequence[str],
        *,
        stdin: int | None = None,  # noqa: ARG002
        stdout: IO[Any] | None = None,
        stderr: IO[Any] | int | None = None,
        env: Mapping[str, str] | None = None,
        cwd: str | None = None,
        start_new_session: bool = False,
    ) -> None:
        # the arguments come after `-m selfreg.cli`, or after the path of its __main__.py
        ends = ("selfreg.cli", "selfreg/cli/__main__.py")  # and not the interpreter in a folder named selfreg
        start = next(place for place, word in enumerate(command) if word.endswith(ends))
        output = stdout.fileno() if stdout is not None else 1
        # the only number that is given is subprocess.STDOUT
        error = 2 if stderr is None else output if isinstance(stderr, int) else stderr.fileno()
        wanted = {
            "arguments": list(command[start + 1 :]),
            "environment": dict(os.environ if env is None else env),
            "folder": cwd or str(Path.cwd()),
            "session": start_new_session,
        }
        self.returncode: int | None = None
        self._lock = threading.Lock()
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.connect(_address())
        socket.send_fds(self._socket, [b" "], [output, error])
        self._socket.sendall(json.dumps(wanted).encode())
        self._socket.shutdown(socket.SHUT_WR)
        self._replies = self._socket.makefile("r")
        self.pid = int(self._replies.readline())

    def poll(self) -> int | None:
        """The exit status, or None while it runs."""
        with suppress(subprocess.TimeoutExpired):
            return self.wait(0)
        return None

    def wait(self, timeout: float | None = None) -> int:
        """Wait for the end and return the exit status."""
        with self._lock, selectors.DefaultSelector() as selector:
            if self.returncode is None:
                selector.register(self._socket, selectors.EVENT_READ)
                if not selector.select(timeout):
                    raise subprocess.TimeoutExpired("selfreg", timeout or 0)
                self.returncode = int(self._replies.readline())
                self._replies.close()
                self._socket.close()
            return self.returncode

    def send_signal(self, number: int) -> None:
        """Send a signal, unless it has ended."""
        if self.poll() is None:
            os.kill(self.pid, number)

    def terminate(self) -> None:
        """Send SIGTERM."""
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        """Send SIGKILL."""
        self.send_signal(signal.SIGKILL)


WARM = SimpleNamespace(**{**vars(subprocess), "Popen": WarmProcess})
"""Stands for the module `subprocess` where the package or a library starts selfreg."""


def share_server() -> None:
    """Start the server now, for this process and for those that it starts."""
    os.environ[_ADDRESS] = _start_server()[0]


def _address() -> str:
    return os.environ.get(_ADDRESS) or _start_server()[0]


@functools.cache
def _start_server() -> tuple[str, "subprocess.Popen[bytes]"]:
    folder = tempfile.mkdtemp()
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    address = f"{folder}/server"
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(address)
        listener.listen(64)
        # it ends when its standard input does, with this process
        server = subprocess.Popen(
            [sys.executable, __file__, address, str(listener.fileno())],
            stdin=subprocess.PIPE,
            pass_fds=[listener.fileno()],
        )
    return address, server


def _serve(listener: socket.socket) -> Callable[[], None]:
    """Fork a process for each command; returns in those processes, with what they have to do."""
    while True:
        with selectors.DefaultSelector() as selector:
            selector.register(listener, selectors.EVENT_READ)
            selector.register(0, selectors.EVENT_READ)
            ready = [key.fileobj for key, _ in selector.select()]
        if 0 in ready:
            sys.exit()
        with suppress(ChildProcessError):
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass
        connection = listener.accept()[0]
        if os.fork() == 0:
            listener.close()
            return _watch(connection)
        connection.close()


def _watch(connection: socket.socket) -> Callable[[], None]:
    """Fork once more, tell the number of the process and, in the end, its exit status."""
    _, outputs, _, _ = socket.recv_fds(connection, 1, 2)
    with connection.makefile("rb") as file:
        wanted = json.loads(file.read())
    child = os.fork()
    if child == 0:
        connection.close()
        return functools.partial(_be_the_command, wanted, outputs)
    for output in outputs:
        os.close(output)
    connection.sendall(f"{child}\n".encode())
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    with suppress(BrokenPipeError):
        connection.sendall(f"{status}\n".encode())
    os._exit(0)


def _be_the_command(wanted: dict[str, Any], outputs: list[int]) -> None:
    if wanted["session"]:
        os.setsid()
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    for stream, output in zip((1, 2), outputs, strict=True):
        os.dup2(output, stream)
        os.close(output)
    address = os.environ[_ADDRESS]
    os.environ.clear()
    os.environ.update(wanted["environment"])
    os.environ[_ADDRESS] = address
    os.chdir(wanted["folder"])
    # the processes that it starts read the variable, this one has read it already
    sys.path[:0] = filter(None, os.environ.get("PYTHONPATH", "").split(os.pathsep))
    import selfreg.cli

    # Lightning starts further processes by this path
    sys.argv = [str(Path(selfreg.cli.__file__).with_name("__main__.py")), *wanted["arguments"]]
    selfreg.cli.main()


def _main(address: str, descriptor: str) -> None:
    os.environ[_ADDRESS] = address
    # a terminal's Ctrl-C is for the tests
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    import lightning.pytorch.strategies.launchers.subprocess_script as launcher
    import segmentation_models_pytorch  # noqa: F401
    import torch
    import torch.utils.tensorboard

    import selfreg.cli
    import selfreg.comparison.run_page
    import selfreg.study.runner
    import selfreg.training.fit
    import selfreg.weak.pipeline

    torch.set_num_threads(1)
    for module in (launcher, selfreg.study.runner):
        vars(module)["subprocess"] = WARM
    command = _serve(socket.socket(fileno=int(descriptor)))
    signal.signal(signal.SIGINT, signal.default_int_handler)
    command()


if __name__ == "__main__":
    _main(*sys.argv[1:])
