"""How a command ends: one line for people, an exit status for scripts.

    0    done
    1    done, and something was found at fault: a run of a study failed, files of a data set are wrong
    2    a mistake in what was asked: the command line, the configuration, a file
    3    the machine let it down: disk full, no permission, out of memory, a process that died
    130  interrupted (Ctrl-C)
    143  ended by SIGTERM

Any other exception is a fault of this package and shows as a traceback.
"""

import errno
import io
import multiprocessing
import os
import signal
import sys
import threading
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

from selfreg.messages import one_line, printable

MISTAKE = 2
MACHINE = 3

SAFE_PATH = {"PYTHONSAFEPATH": "1"}
"""Environment in which Python, whichever way it is started, imports nothing from the current folder."""

_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_SMALLER = "use a smaller batch, crop or tile"
_GOES_ON = "what was finished is kept: start it again (train with --resume) and it goes on from there"


class Interrupted(BaseException):
    """SIGINT or SIGTERM was received; not a KeyboardInterrupt, so libraries do not swallow it."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number


def end_well(command: Callable[[], None]) -> int:
    """Run a command and report a mistake, a fault of the machine or a signal in one line.

    Args:
        command: What to run.

    Returns:
        The exit status; see the table of this module.
    """
    _print_any_text()
    # multiprocessing and Lightning start Python in ways that would look for modules in the current folder first
    os.environ.update(SAFE_PATH)
    received: list[int] = []
    try:
        with interruptible(received), _warnings_on_one_line():
            command()
    except SystemExit as ended:
        return ended.code if isinstance(ended.code, int) else int(ended.code is not None)
    except (Interrupted, KeyboardInterrupt):
        return _interrupted(received)
    except Exception as error:
        if received:
            # an error on the way out is not what ended the command
            return _interrupted(received)
        return _failed(error)
    return 0


def _print_any_text() -> None:
    """Escape what the terminal's encoding lacks, such as bytes of a file name that are not UTF-8."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


@contextmanager
def _warnings_on_one_line() -> Iterator[None]:
    """Show warnings without the place in the source where they were issued."""
    before = warnings.formatwarning
    warnings.formatwarning = lambda message, *_, **__: f"warning: {one_line(str(message))}\n"
    try:
        yield
    finally:
        warnings.formatwarning = before


def _interrupted(received: list[int]) -> int:
    number = received[0] if received else signal.SIGINT
    print(f"{'ended by SIGTERM' if number == signal.SIGTERM else 'interrupted'}; {_GOES_ON}", file=sys.stderr)
    return 128 + number


def _failed(error: Exception) -> int:
    if isinstance(error, ValueError):
        print(f"error: {one_line(str(error))}", file=sys.stderr)
        return MISTAKE
    if isinstance(error, OSError):
        print(f"error: {_of_machine(error)}", file=sys.stderr)
        return MACHINE
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":
        # by name, since torch is not loaded for every command
        print(f"error: out of memory: {one_line(error)}; {_SMALLER}", file=sys.stderr)
        return MACHINE
    if isinstance(error, RuntimeError) and "can't allocate memory" in str(error):
        # what torch raises on a CPU
        print(f"error: out of memory: {one_line(error, first=True)}; {_SMALLER}", file=sys.stderr)
        return MACHINE
    raise error


@contextmanager
def interruptible(received: list[int] | None = None) -> Iterator[None]:
    """Let SIGINT and SIGTERM raise `Interrupted` in the block, in the main thread of the process that entered it.

    A block inside another one, or in another thread, leaves the handlers as they are.

    Args:
        received: Collects the numbers of the signals.
    """
    if threading.current_thread() is not threading.main_thread() or _handled():
        yield
        return
    main_process = os.getpid()

    def interrupt(number: int, frame: FrameType | None) -> None:  # noqa: ARG001
        if os.getpid() == main_process:
            if received is not None:
                received.append(number)
            _expect_workers_to_end()
            raise Interrupted(number)
        # a forked worker inherits this handler; on Ctrl-C, which reaches all processes, the main process ends it
        if number == signal.SIGTERM:
            os._exit(128 + number)

    interrupt.__dict__["ours"] = True
    hook = threading.excepthook
    before = {number: signal.signal(number, interrupt) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        threading.excepthook = hook
        for number, handler in before.items():
            signal.signal(number, handler)


def _handled() -> bool:
    return getattr(signal.getsignal(signal.SIGTERM), "ours", False)


def _expect_workers_to_end() -> None:
    """The workers received the signal too: that they end is no error any more."""
    if hasattr(signal, "SIGCHLD"):  # not on Windows
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    threading.excepthook = lambda _: None


def follow_parent() -> None:
    """Let a worker process end with its parent: the initializer of a process pool.

    Ctrl-C, which reaches all processes, is left to the parent; a parent that was killed takes its workers along.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    parent = multiprocessing.parent_process()

    def wait() -> None:
        if parent is not None:
            parent.join()
            os._exit(MACHINE)

    threading.Thread(target=wait, daemon=True).start()


def _of_machine(error: OSError) -> str:
    if error.errno is None or error.strerror is None:
        return one_line(str(error))
    place = f"{printable(str(error.filename))}: " if error.filename else ""
    advice = f"; make room; {_GOES_ON}" if error.errno in _FULL else ""
    return f"{place}{error.strerror}{advice}"
