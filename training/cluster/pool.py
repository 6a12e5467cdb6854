"""Workers on a cluster that share tasks: a task whose worker dies runs again on another one."""

from __future__ import annotations

import os
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

from training.cluster.connection import check_versions, load_ray, versions
from zoo.errors import StoreFullError, ZooError

START_S = 120.0  # seconds within which the first worker must be ready
QUEUED = 2  # tasks of a worker: the next one arrives while it works on one
MAX_DEATHS = 3  # of workers, over one task


@dataclass
class Usage:
    """What workers did: for the user, and for measurements."""

    started: int = 0
    deaths: int = 0
    cpu_s: dict[str, float] = field(default_factory=dict)  # per worker, in its tasks


def spread(
    factory: Callable[..., Callable[..., Any]],
    shared: Iterable[Any],
    tasks: Iterable[tuple[Any, tuple[Any, ...]]],
    *,
    most: int,
    cores: int = 1,
    start_s: float = START_S,
    usage: Usage | None = None,
) -> Iterator[tuple[Any, Any]]:
    """Run tasks on workers of the cluster that this process is connected to; yield them as they finish.

    Parameters
    ----------
    factory
        Called once in every worker with what is `shared`; what it gives back is called once a task.
        It is looked up by its name there.
    shared
        Sent to every node once, however many workers it has.
    tasks
        Pairs: a key that comes back with the result, and the arguments. They are asked for when a worker is
        free, so that no more than :data:`QUEUED` a worker are in memory.
    most
        Workers at most; there are no more than the cores of all nodes allow.
    cores
        Cores of one worker.

    Raises
    ------
    ZooError
        What a task raised; or when no node has room for a worker, or three workers died over one task.
    StaleError
        When versions differ between here and a node.
    """
    return _Pool(load_ray(), factory, list(shared), most, cores, start_s, usage or Usage()).run(iter(tasks))


class _Worker:
    """One process on a node."""

    def __init__(self, factory: Callable[..., Callable[..., Any]]) -> None:
        self._factory = factory

    def open(self, expected: dict[str, str], *shared: Any) -> str:
        node = str(load_ray().util.get_node_ip_address())
        check_versions(expected, versions(), node)
        self._call = self._factory(*shared)
        return f"{node}:{os.getpid()}"

    def run(self, arguments: tuple[Any, ...]) -> tuple[Any, float]:
        start = time.process_time()
        return self._call(*arguments), time.process_time() - start


@dataclass(eq=False)
class _Task:
    key: Any
    stored: Any
    deaths: int = 0


class _Pool:
    def __init__(
        self,
        ray: Any,
        factory: Callable[..., Callable[..., Any]],
        shared: list[Any],
        most: int,
        cores: int,
        start_s: float,
        usage: Usage,
    ) -> None:
        self._ray, self._cores, self._start_s, self._usage = ray, cores, start_s, usage
        self._factory = factory
        self._shared = [self._put(item) for item in shared]
        room = sum(int(node["Resources"].get("CPU", 0)) // cores for node in ray.nodes() if node["Alive"])
        if room < 1:
            raise self._no_room("no node has as many")
        self._most = max(1, min(most, room))
        self._kind = ray.remote(num_cpus=cores)(_Worker)
        self._starting: dict[Any, Any] = {}  # what tells that it is ready → worker
        self._queues: dict[Any, list[Any]] = {}  # ready worker → results that it owes, in order
        self._names: dict[Any, str] = {}
        self._owed: dict[Any, tuple[Any, _Task]] = {}  # result → worker, task
        self._again: deque[_Task] = deque()
        self._stillborn = 0  # workers in a row that died before they were ready

    def run(self, tasks: Iterator[tuple[Any, tuple[Any, ...]]]) -> Iterator[tuple[Any, Any]]:
        ray, since = self._ray, time.monotonic()
        for _ in range(self._most):
            self._start()
        more = True
        try:
            while True:
                for worker, queue in self._queues.items():
                    while len(queue) < QUEUED and (self._again or more):
                        task = self._again.popleft() if self._again else self._next(tasks)
                        if task is None:
                            more = False
                            break
                        result = worker.run.remote(task.stored)
                        queue.append(result)
                        self._owed[result] = worker, task
                if not (self._owed or self._again or more):
                    return
                if self._queues:
                    since = time.monotonic()
                elif time.monotonic() - since > self._start_s:
                    raise self._no_room(f"none within {self._start_s:g} s")
                ready, _ = ray.wait([*self._starting, *self._owed], num_returns=1, timeout=1.0)
                for one in ready:
                    if one in self._starting:
                        self._opened(one)
                    else:
                        yield from self._finished(one)
        finally:
            for worker in (*self._starting.values(), *self._queues):
                ray.kill(worker)

    def _next(self, tasks: Iterator[tuple[Any, tuple[Any, ...]]]) -> _Task | None:
        found = next(tasks, None)
        return None if found is None else _Task(found[0], self._put(found[1]))

    def _start(self) -> None:
        worker = self._kind.remote(self._factory)
        self._starting[worker.open.remote(versions(), *self._shared)] = worker

    def _opened(self, one: Any) -> None:
        worker = self._starting.pop(one)
        found = self._get(one)
        if found is None:
            self._stillborn += 1
            if self._stillborn >= MAX_DEATHS:
                raise self._no_room(f"{MAX_DEATHS} workers that ended while they opened the models")
            self._died()
        else:
            self._stillborn = 0
            self._names[worker], self._queues[worker] = found, []
            self._usage.started += 1

    def _finished(self, one: Any) -> Iterator[tuple[Any, Any]]:
        worker, task = self._owed.pop(one)
        queue = self._queues.get(worker, [])
        found = self._get(one)
        if found is not None:
            queue.remove(one)
            value, cpu_s = found
            name = self._names[worker]
            self._usage.cpu_s[name] = self._usage.cpu_s.get(name, 0.0) + cpu_s
            yield task.key, value
            return
        if queue[:1] == [one]:  # the others had not begun
            task.deaths += 1
        if self._queues.pop(worker, None) is not None:
            self._died()
        self._again.append(task)
        if task.deaths >= MAX_DEATHS:
            raise ZooError(
                f"expected an answer from a worker, got {MAX_DEATHS} that ended over {task.key}. The nodes "
                "may have too little memory for it. What was finished is kept; the same command continues."
            )

    def _died(self) -> None:
        self._usage.deaths += 1
        self._start()

    def _get(self, one: Any) -> Any | None:
        """What a worker gave back; None where it died."""
        errors = self._ray.exceptions
        try:
            return self._ray.get(one)
        except errors.RayTaskError as error:
            cause = error.cause
            if isinstance(cause, ZooError):
                raise cause from None
            raise ZooError(
                f"expected a worker that runs, got on a node: {type(cause).__name__}: {cause}. "
                "Check that zooselect[ray] is installed there as it is here."
            ) from error
        except errors.RayError:  # the process, its node or what it had stored is gone
            return None

    def _put(self, item: Any) -> Any:
        try:
            return self._ray.put(item)
        except self._ray.exceptions.RayError as error:
            raise StoreFullError(
                "expected room in the object store of this node, got none. "
                "Start Ray with more --object-store-memory, or use a smaller --batch-size."
            ) from error

    def _no_room(self, got: str) -> ZooError:
        return ZooError(
            f"expected a node with {self._cores} free cores for a worker, got {got}. "
            "Wait until other jobs are done, add a node, or ask for fewer --threads."
        )
