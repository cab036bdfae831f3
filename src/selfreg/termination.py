"""How a command ends: one line for people, an exit status for scripts.

    0    done
    1    done, and something was found at fault: a run of a study failed, files of a data set are wrong
    2    a mistake in what was asked: the command line, the configuration, a file
    3    the machine let it down: disk full, no permission, out of memory, a process that died
    130  interrupted (Ctrl-C)
    143  ended by SIGTERM

Anything else that goes wrong is a fault of this package and shows as a traceback.
"""

import errno
import multiprocessing
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

MISTAKE = 2
MACHINE = 3

_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_GOES_ON = "what was finished is kept: start it again (train with --resume) and it goes on from there"


class Interrupted(BaseException):
    """SIGINT or SIGTERM has come; unlike KeyboardInterrupt, no library in between takes it for its own."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number


def end_well(command: Callable[[], None]) -> int:
    """Run a command; a mistake, a fault of the machine or a signal is told in one line. Returns the exit status."""
    received: list[int] = []
    try:
        with _interruptible(received):
            command()
    except SystemExit as ended:
        return ended.code if isinstance(ended.code, int) else int(ended.code is not None)
    except (Interrupted, KeyboardInterrupt):
        return _interrupted(received)
    except Exception as error:
        if received:
            # what went wrong on the way out is not what ended it
            return _interrupted(received)
        return _failed(error)
    return 0


def _interrupted(received: list[int]) -> int:
    number = received[0] if received else signal.SIGINT
    print(f"{'ended by SIGTERM' if number == signal.SIGTERM else 'interrupted'}; {_GOES_ON}", file=sys.stderr)
    return 128 + number


def _failed(error: Exception) -> int:
    if isinstance(error, ValueError):
        print(f"error: {_one_line(str(error))}", file=sys.stderr)
        return MISTAKE
    if isinstance(error, OSError):
        print(f"error: {_of_machine(error)}", file=sys.stderr)
        return MACHINE
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":
        # by name, since torch is not loaded for every command
        print(f"error: out of memory: {_one_line(str(error))}; use a smaller batch, crop or tile", file=sys.stderr)
        return MACHINE
    raise error


@contextmanager
def _interruptible(received: list[int]) -> Iterator[None]:
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    main_process = os.getpid()

    def interrupt(number: int, frame: FrameType | None) -> None:  # noqa: ARG001
        if os.getpid() == main_process:
            received.append(number)
            # the processes that work for this one got the signal too; that they end is no error any more
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            threading.excepthook = lambda _: None
            raise Interrupted(number)
        # a loading process, forked with this handler: on Ctrl-C, which reaches all of them, the main process ends it
        if number == signal.SIGTERM:
            os._exit(128 + number)

    hook = threading.excepthook
    before = {number: signal.signal(number, interrupt) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        threading.excepthook = hook
        for number, handler in before.items():
            signal.signal(number, handler)


def follow_parent() -> None:
    """Let a worker process end with its parent: for the start of each process of a pool.

    Ctrl-C, which reaches all of them, is left to the parent; a parent that was killed takes its workers along.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    parent = multiprocessing.parent_process()

    def wait() -> None:
        if parent is not None:
            parent.join()
            os._exit(MACHINE)

    threading.Thread(target=wait, daemon=True).start()


def _one_line(text: str) -> str:
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    if any(line.startswith("Traceback (most recent call last)") for line in lines):
        # an error of a loading process comes with its whole traceback; the last line says what it was
        kind, colon, message = lines[-1].partition(": ")
        return message if colon and kind.isidentifier() else lines[-1]
    return " ".join(lines)


def _of_machine(error: OSError) -> str:
    if error.errno is None or error.strerror is None:
        return _one_line(str(error))
    place = f"{error.filename}: " if error.filename else ""
    advice = f"; make room; {_GOES_ON}" if error.errno in _FULL else ""
    return f"{place}{error.strerror}{advice}"
