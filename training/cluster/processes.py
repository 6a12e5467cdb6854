"""Processes on this machine that share tasks, each with one thread: the results are those of one process.

They are joblib's, which are spawned and do not run the program of the caller again: it needs no guard such as
``if __name__ == "__main__"``. Large arrays are mapped into their memory, not copied.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any, Self, TypeVar

from zoo.cores import allowed_cores
from zoo.errors import DataError, ZooError

LARGE_BYTES = 2**16  # arrays from this size on are mapped
MAX_JOBS = 256

Shared = TypeVar("Shared")
Task = TypeVar("Task")
Result = TypeVar("Result")

_kept: dict[str, Any] = {}  # in such a process: what the tasks of one run share


class Processes:
    """Some processes, or with one job this one.

    Parameters
    ----------
    jobs
        How many; by default as many as there are cores that this process may use.

    Raises
    ------
    DataError
        When `jobs` is not a number of processes.

    Examples
    --------
    >>> from training.cluster.processes import Processes
    >>> with Processes(1) as processes:
    ...     processes.run(pow, 2, [3, 4])
    [8, 16]
    """

    def __init__(self, jobs: int | None = None) -> None:
        self.jobs = allowed_cores() if jobs is None else jobs
        if not 1 <= self.jobs <= MAX_JOBS:
            raise DataError(f"jobs: expected 1 to {MAX_JOBS} processes, got {jobs}.")
        self._runs = 0
        self._started = False

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._started:
            from joblib.externals.loky import get_reusable_executor

            get_reusable_executor().shutdown(wait=True)

    def run(
        self, function: Callable[[Shared, Task], Result], shared: Shared, tasks: Iterable[Task]
    ) -> list[Result]:
        """Results of ``function(shared, task)`` in the order of the tasks, once all are there.

        Parameters
        ----------
        function
            Of a module, as it is looked up by its name.
        shared
            What all tasks need; nothing may write to its arrays. It stays in a process from task to task,
            with what it remembers. It is sent task by task, so nothing may change in it before the end.

        Raises
        ------
        ZooError
            What a task raised; or when a process ended, such as for lack of memory.
        """
        waiting = list(tasks)
        if self.jobs == 1 or len(waiting) < 2:
            return list(_here(function, shared, waiting))
        from joblib import Parallel, delayed, parallel_config
        from joblib.externals.loky.process_executor import BrokenProcessPool

        self._runs += 1
        self._started = True
        run = f"{id(self)}-{self._runs}"
        try:
            with parallel_config("loky", inner_max_num_threads=1):
                spread = Parallel(n_jobs=self.jobs, batch_size=1, max_nbytes=LARGE_BYTES)
                results: list[Result] = spread(
                    delayed(_there)(run, function, shared, task) for task in waiting
                )
                return results
        except BrokenProcessPool as error:
            raise ZooError(
                f"expected {self.jobs} processes that end their tasks, got one that was ended; there may be "
                "too little memory. Run again with fewer --jobs (in Python: jobs)."
            ) from error


def _here(function: Callable[[Shared, Task], Result], shared: Shared, tasks: list[Task]) -> Iterator[Result]:
    from threadpoolctl import threadpool_limits

    for task in tasks:
        # sums of several threads may end in other last digits than those of one
        with threadpool_limits(1, user_api="blas"):
            result = function(shared, task)
        yield result


def _there(run: str, function: Callable[[Any, Any], Any], shared: Any, task: Any) -> Any:
    if run not in _kept:
        _kept.clear()
        _kept[run] = shared
    return function(_kept[run], task)
