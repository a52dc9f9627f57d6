"""A Dask cluster: started here or connected to, kept quiet, and undisturbed by Ctrl-C, which is for the run."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import signal
import threading
import warnings
from collections.abc import Callable, Iterator
from multiprocessing import resource_tracker
from typing import Any

from stabsim.engines.base import EngineError

CONNECT_SECONDS = 8.0
NOT_UNDERSTOOD = "nothing, or nothing that a scheduler would say"
DEATHS = 3  # of workers of our own by one range, until it is said to kill them
NO_DASHBOARD = {"dashboard": False, "dashboard_address": "127.0.0.1:0"}  # nor a port that another cluster may have
_SILENT = logging.CRITICAL + 1
_LOGGERS = ("distributed", "distributed.client", "distributed.gc", "tornado", "tornado.application", "asyncio")


@contextlib.contextmanager
def local_cluster(distributed: Any, processes: int) -> Iterator[str]:
    """Start a cluster on this machine, and give its address."""

    def start() -> Any:
        try:
            return distributed.LocalCluster(
                n_workers=processes, threads_per_worker=1, dashboard_address=None, silence_logs=_SILENT,
                scheduler_kwargs={"allowed_failures": DEATHS - 1, **NO_DASHBOARD},
            )  # fmt: skip
        except Exception as error:
            raise EngineError(f"no cluster could be started here: {line(error)}") from error

    with _closed_at_the_end(start) as cluster:
        yield cluster.scheduler_address


@contextlib.contextmanager
def connected(distributed: Any, address: str) -> Iterator[Any]:
    """Connect to a scheduler."""
    try:
        asyncio.run(_ask(distributed, address))
    except Exception as error:  # of whatever kind: what answers may be anything
        told = line(error) if isinstance(error, OSError | ValueError) else ""  # others are of what cannot be understood
        raise EngineError(f"no scheduler answers at {address}: {told or NOT_UNDERSTOOD}") from error

    def start() -> Any:
        with warnings.catch_warnings():
            # We compare versions by ourselves.
            warnings.simplefilter("ignore", distributed.versions.VersionMismatchWarning)
            return distributed.Client(address, timeout=CONNECT_SECONDS, set_as_default=False)

    with _closed_at_the_end(start) as client:
        yield client


async def _ask(distributed: Any, address: str) -> None:
    """Ask a scheduler who it is: a client would wait for ever where something else listens, and complain at its end."""
    arguments = distributed.Security().get_connection_args("client")
    if address.startswith(("tls", "wss")) and arguments.get("ssl_context") is None:
        raise ValueError("it wants certificates, which Dask's configuration names under distributed.comm.tls")
    async with distributed.rpc(address, connection_args=arguments, timeout=CONNECT_SECONDS) as scheduler:
        await asyncio.wait_for(scheduler.identity(), CONNECT_SECONDS)


@contextlib.contextmanager
def _closed_at_the_end(start: Callable[[], Any]) -> Iterator[Any]:
    """Start something and close it, both undisturbed by Ctrl-C."""
    started = None
    try:
        with _interrupts_held():
            started = start()
        yield started
    finally:
        if started is not None:
            with _interrupts_held():
                started.close()


def line(error: Exception) -> str:
    """Return what an error says, in one line."""
    return " ".join(str(error).split())


@contextlib.contextmanager
def _interrupts_held() -> Iterator[None]:
    """Hold Ctrl-C back; what is started meanwhile, here or in another process, never hears of it.

    A terminal sends it to all processes, and workers end when they are told to.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    resource_tracker.ensure_running()  # which lets Ctrl-C through again where it is started
    held: list[int] = []
    handler = signal.signal(signal.SIGINT, lambda number, _: held.append(number))
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        if handler is not None:  # what is no Python's cannot be put back
            signal.signal(signal.SIGINT, handler)
        if held:
            signal.raise_signal(signal.SIGINT)


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Keep what Dask would tell of its workers off the terminal: what matters is an error."""
    logs = [logging.getLogger(name) for name in _LOGGERS]
    handlers = {handler: handler.level for log in logs for handler in log.handlers}
    levels = {log: log.level for log in logs}
    for handler in handlers:
        handler.setLevel(_SILENT)
    for log in logs:
        log.setLevel(_SILENT)
    try:
        yield
    finally:
        for handler, level in handlers.items():
            handler.setLevel(level)
        for log, level in levels.items():
            log.setLevel(level)
