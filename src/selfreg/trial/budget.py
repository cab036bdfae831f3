"""The time budget of a try, which counts over all commands that work on the same folder."""

import re
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

DEFAULT_BUDGET, SCENES_BUDGET = "30m", "4m"
"""Budget of a try by default, and of one on generated scenes: with what may come on top, it ends in five minutes."""

TOLERANCE = 0.1
"""A try ends after at most this fraction more than its budget."""

LONGEST_BUDGET = 365 * 24 * 3600.0
"""A budget is at most a year, in seconds."""

_UNITS = {"s": 1, "m": 60, "h": 3600}


class OutOfTime(BaseException):
    """The budget is spent while a network is trained; not an Exception, so that libraries do not swallow it."""


def parse_budget(text: str) -> float:
    """Convert `90s`, `30m`, `2h` or `1h30m` to seconds.

    Raises:
        ValueError: If the text is anything else, no time at all, or more than a year.
    """
    parts = re.findall(r"([0-9]+(?:\.[0-9]+)?)([smh])", text)
    seconds = sum(float(number) * _UNITS[unit] for number, unit in parts)
    if "".join(number + unit for number, unit in parts) != text or not 0 < seconds <= LONGEST_BUDGET:
        raise ValueError(f"--budget {text}: write a time such as 90s, 30m or 2h, at most a year")
    return seconds


def budget_text(seconds: float) -> str:
    """Write a time, rounded up, as an argument of `--budget`."""
    if seconds <= 120:
        return f"{max(1, -int(-seconds // 1))}s"
    minutes = -int(-seconds // 60)
    return f"{minutes}m" if minutes < 180 else f"{-int(-minutes // 60)}h"


class Budget:
    """The seconds that a try may take, and those that it has taken.

    Args:
        seconds: The budget over all commands.
        spent: Seconds that earlier commands took.
        clock: A clock in seconds; `time.monotonic` by default.
    """

    def __init__(self, seconds: float, spent: float = 0.0, clock: Callable[[], float] = time.monotonic) -> None:
        self.seconds = seconds
        self._clock = clock
        self._start = clock() - spent

    @property
    def spent(self) -> float:
        """Seconds that were spent, earlier commands included."""
        return self._clock() - self._start

    @property
    def left(self) -> float:
        """Seconds that are left; negative if the budget is exceeded."""
        return self.seconds - self.spent

    @property
    def text(self) -> str:
        """The time left as `12:31`."""
        left = max(0, round(self.left))
        hours = f"{left // 3600}:{left // 60 % 60:02d}" if left >= 3600 else f"{left // 60}"
        return f"{hours}:{left % 60:02d}"

    @contextmanager
    def enforced(self, reserve: float) -> Iterator[None]:
        """Raise `OutOfTime` in the block when only `reserve` seconds before the end of the tolerance are left.

        This needs the main thread and a system with interval timers; elsewhere the block ends by itself.
        """
        seconds = self.left + TOLERANCE * self.seconds - reserve
        if not hasattr(signal, "setitimer") or threading.current_thread() is not threading.main_thread():
            yield
            return

        def stop(number: int, frame: FrameType | None) -> None:  # noqa: ARG001
            raise OutOfTime

        handler = signal.signal(signal.SIGALRM, stop)
        timer = signal.setitimer(signal.ITIMER_REAL, max(seconds, 0.001))
        try:
            yield
        finally:
            signal.setitimer(signal.ITIMER_REAL, *timer)
            signal.signal(signal.SIGALRM, handler)
