"""The engine of many processes, on this machine or on others: those of a Dask cluster.

A worker that dies costs the range that it ran, which another one runs again. What waited on a worker beside a range
that kills workers is suspected too, so all suspects are run once more at the end, one by one.
"""

from __future__ import annotations

import contextlib
import itertools
import re
import time
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from concurrent.futures import CancelledError
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING, Any

from stabsim.engines.base import EngineError, Range
from stabsim.engines.cluster import connected, line, local_cluster, quiet
from stabsim.engines.elsewhere import OtherCodeError, Parcel

if TYPE_CHECKING:
    from stabsim.moments import Sums

PER_THREAD = 3  # ranges under way for each thread of the workers: one runs, one waits there, one at the scheduler
LOOK_SECONDS = 1.0  # between two looks at how many workers there are
WORKERLESS_SECONDS = 60.0
KILLERS = 10  # in a row, until it is said that all do

_ADDRESS = re.compile(r"((tcp|tls|ws|wss)://)?(\[[0-9a-f:.]+\]|[a-z0-9._-]+):([0-9]{1,5})", re.ASCII | re.IGNORECASE)


def checked_address(text: str) -> str:
    """Return the address of a scheduler.

    Raises
    ------
    ValueError
        If it is none.

    Examples
    --------
    >>> checked_address("tcp://node1:8786")
    'tcp://node1:8786'
    >>> checked_address("node1")
    Traceback (most recent call last):
    ValueError: scheduler='node1' must be HOST:PORT or tcp://HOST:PORT, such as tcp://127.0.0.1:8786
    """
    match = _ADDRESS.fullmatch(text)
    if match is None or not 0 < int(match[4]) < 2**16:
        raise ValueError(f"scheduler={text!r} must be HOST:PORT or tcp://HOST:PORT, such as tcp://127.0.0.1:8786")
    return text


def dask(
    ranges: Sequence[Range], threads: int, scheduler: str | None = None
) -> Generator[tuple[int, Sums | EngineError]]:
    """Run ranges in processes of a Dask cluster: as many here as there are threads, or those of a scheduler.

    Parameters
    ----------
    ranges : sequence of Range
        What is to be simulated.
    threads : int
        How many processes are started here, of one thread each; those at an address are as many as they are.
    scheduler : str, optional
        Address of a cluster that runs already, such as tcp://node1:8786; one is started here unless given.

    Yields
    ------
    tuple of int and Sums or EngineError
        What a worker raised, or that it died of it again and again, is the outcome of that range alone.

    Raises
    ------
    EngineError
        If dask is not installed, no scheduler answers for 8 seconds, it is lost, there is no worker for a minute, ten
        ranges in a row kill workers, or a worker runs other code than this process (which ends the run: it would be
        the first to ask for more).
    """
    if not ranges:
        return
    try:
        import distributed
    except ImportError as error:
        raise EngineError("engine 'dask' needs dask: pip install 'stabsim[dask]'") from error
    with quiet(), contextlib.ExitStack() as stack:
        if scheduler is None:
            where = "the cluster of this process"
            address = stack.enter_context(local_cluster(distributed, min(threads, len(ranges))))
        else:
            where = address = checked_address(scheduler)
        client = stack.enter_context(connected(distributed, address))
        flight = _Flight(client, distributed.KilledWorker, ranges, where)
        stack.callback(flight.end)
        yield from flight.outcomes()


class _Flight:
    """The ranges that are under way: a few for each thread of the workers, which may become more or fewer."""

    def __init__(self, client: Any, killed: Any, ranges: Sequence[Range], where: str) -> None:
        self._client, self._killed, self._ranges, self._where = client, killed, ranges, where
        self._parcel: tuple[Any, Parcel] = (None, Parcel("", b"", {}))
        self._under_way: dict[int, Any] = {}
        self._arrived: SimpleQueue[int] = SimpleQueue()
        self._run_there = _worker_function()
        self._threads, self._looked, self._last_worker = 0, -LOOK_SECONDS, time.monotonic()

    def outcomes(self) -> Iterator[tuple[int, Sums | EngineError]]:
        """Yield what becomes of each range."""
        suspects, in_a_row = [], 0
        for place, outcome in self._run(range(len(self._ranges))):
            in_a_row = in_a_row + 1 if isinstance(outcome, self._killed) else 0
            if in_a_row == KILLERS:
                raise EngineError(f"{KILLERS} ranges in a row killed their workers, so the rest is not tried")
            if isinstance(outcome, self._killed):
                suspects.append(place)
            else:
                yield place, outcome
        for place, outcome in self._run(suspects, alone=True):
            if isinstance(outcome, self._killed):
                yield place, EngineError(f"it killed {outcome.allowed_failures + 1} workers, one after the other")
            else:
                yield place, outcome

    def end(self) -> None:
        """Let go of what is under way."""
        if self._client.status == "running":
            self._client.cancel(list(self._under_way.values()))

    def _run(self, places: Iterable[int], alone: bool = False) -> Iterator[tuple[int, Any]]:
        waiting = iter(places)
        while True:
            self._look()
            room = 1 if alone else PER_THREAD * max(self._threads, 1)
            for place in itertools.islice(waiting, max(room - len(self._under_way), 0)):
                self._submit(place, "-alone" if alone else "")
            if not self._under_way:
                return
            with contextlib.suppress(Empty):
                place = self._arrived.get(timeout=LOOK_SECONDS)
                yield place, self._outcome(self._under_way.pop(place))

    def _submit(self, place: int, suffix: str) -> None:
        plan, first, last = self._ranges[place]
        if plan is not self._parcel[0]:
            self._parcel = plan, Parcel.of(plan)
        parcel = self._parcel[1]
        key = f"stabsim-{parcel.key}-{first}-{last}{suffix}"
        future = self._client.submit(self._run_there, tuple(parcel), first, last, key=key)
        self._under_way[place] = future
        future.add_done_callback(lambda _: self._arrived.put(place))

    def _outcome(self, future: Any) -> Any:
        """Return sums, or what went wrong; a worker that dies before they are fetched has them made again."""
        while True:
            try:
                return future.result(timeout=LOOK_SECONDS)
            except OtherCodeError:
                raise
            except TimeoutError as error:
                if future.status == "error":  # the worker's own
                    return _failed(error)
                self._look()
            except ImportError as error:
                if (error.name or "").partition(".")[0] == "stabsim":
                    raise EngineError(f"a worker runs other code: {line(error)}") from error
                return _failed(error)
            except CancelledError as error:
                raise self._lost() from error
            except self._killed as error:
                return error
            except Exception as error:
                if self._client.status != "running":
                    raise self._lost() from error
                return _failed(error)

    def _look(self) -> None:
        """Count the workers, now and then."""
        now = time.monotonic()
        if now < self._looked + LOOK_SECONDS:
            return
        if self._client.status != "running":
            raise self._lost()
        try:
            self._threads = sum(self._client.nthreads().values())
        except OSError as error:
            raise self._lost() from error
        self._looked = time.monotonic()
        if self._threads:
            self._last_worker = self._looked
        elif self._looked > self._last_worker + WORKERLESS_SECONDS:
            raise EngineError(f"{self._where} has had no worker for {WORKERLESS_SECONDS:g} seconds: start some")

    def _lost(self) -> EngineError:
        return EngineError(f"the scheduler {self._where} is lost: what had arrived is stored, and the rest is not done")


def _worker_function() -> Callable[[tuple[Any, ...], int, int], Sums]:
    """Return what a worker does, as a function that is sent whole.

    A worker that lacks what a name in a message stands for ends without a word; here it raises an ImportError.
    """

    def run(parcel: tuple[Any, ...], first: int, last: int) -> Sums:
        import distributed

        from stabsim.engines.elsewhere import Parcel

        return Parcel(*parcel).run(first, last, f"worker {distributed.get_worker().address}")

    return run


def _failed(error: Exception) -> EngineError:
    return EngineError(f"{type(error).__name__}: {line(error)}".removesuffix(": "))
