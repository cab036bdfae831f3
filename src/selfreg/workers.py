"""Work shared out over processes: the one process pool of this package."""

import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import get_context
from typing import Any, TypeVar

from selfreg.termination import follow_parent

Task = TypeVar("Task")
Result = TypeVar("Result")


def map_in_processes(
    work: Callable[[Task], Result],
    tasks: Sequence[Task],
    *,
    processes: int,
    chunk_size: int = 8,
    died: Callable[[Task], Result] | None = None,
) -> Iterator[Result]:
    """Apply a function to each task, in several processes; the results come in the order of the tasks.

    Args:
        work: Function that can be pickled; it goes to each process once.
        tasks: What to call it with.
        processes: Number of processes; below two, everything happens in this one.
        chunk_size: Number of tasks that are handed to a process at a time.
        died: Gives the result of a task whose process died (out of memory, a crash in a decoder); the other tasks are
            not affected. Without it such a death is an error.

    Raises:
        BrokenProcessPool: A process died, and `died` is not given.
    """
    if processes < 2:
        yield from map(work, tasks)
        return
    done = 0
    while done < len(tasks):
        try:
            with _start(work, processes) as pool:
                for result in pool.map(_call, tasks[done:], chunksize=chunk_size):
                    done += 1
                    yield result
        except BrokenProcessPool:
            if died is None:
                raise
            yield from _one_by_one(work, tasks[done : done + chunk_size], died)
            done += chunk_size


def _one_by_one(
    work: Callable[[Task], Result], tasks: Sequence[Task], died: Callable[[Task], Result]
) -> Iterator[Result]:
    """Do tasks in one process, a single one at a time, to find those that it dies of."""
    left = list(tasks)
    while left:
        try:
            with _start(work, 1) as pool:
                while left:
                    result: Result = pool.submit(_call, left[0]).result()
                    del left[0]
                    yield result
        except BrokenProcessPool:
            yield died(left.pop(0))


def _start(work: Callable[[Any], Any], processes: int) -> ProcessPoolExecutor:
    # not fork: the parent runs threads
    context = get_context("forkserver" if os.name == "posix" else "spawn")
    if os.name == "posix":
        # the libraries are imported once, not in each process
        context.set_forkserver_preload([getattr(work, "func", work).__module__])
    return ProcessPoolExecutor(processes, context, _start_process, (work,))


_work: list[Callable[[Any], Any]] = []
"""The function of a worker process; set once in each."""


def _start_process(work: Callable[[Any], Any]) -> None:
    follow_parent()
    _work[:] = [work]


def _call(task: Any) -> Any:
    return _work[0](task)
