"""The command line in forked processes: real ones, that a fault may befall, without a second of imports each.

A server that has imported everything, and loaded what is compiled, is forked for each: see `multiprocessing`.
"""

from __future__ import annotations

import functools
import multiprocessing
import os
import signal
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing import forkserver
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any
from unittest import mock

from stabsim.chunk import chunk_name
from stabsim.cli import main
from stabsim.store import task_key
from stabsim.work import Chunk

SECONDS = 120  # that no command line takes
CONTEXT = multiprocessing.get_context("forkserver")
# A process has one such server: whoever starts it, workers of the tests of Dask come from it, too.
PRELOADED = ["tests.forked", "tests.warm", "distributed"]
CONTEXT.set_forkserver_preload(PRELOADED)


@dataclass(frozen=True)
class Done:
    """How a command line ended."""

    status: int
    out: str
    err: str


class Command:
    """A command line that is running, and the chunks that it has stored: paths in the store."""

    def __init__(self, process: BaseProcess, folder: Path, pipe: Any) -> None:
        self.process = process
        self.stored: list[str] = []
        self._folder = folder
        self._pipe = pipe

    def listen(self, seconds: float = 0.0) -> bool:
        """Take in what it says is stored, waiting for that; return whether it may say more."""
        try:
            while self._pipe.poll(seconds):
                self.stored.append(self._pipe.recv())
                seconds = 0.0
        except EOFError:
            return False
        return True

    def wait(self) -> Done:
        """Return how it ended; a signal that killed it is a negative status, as in `subprocess`."""
        deadline = time.monotonic() + SECONDS
        while self.listen(0.2):
            assert time.monotonic() < deadline, "it hangs"
        self.process.join(SECONDS)
        assert self.process.exitcode is not None, "it hangs"
        out, err = ((self._folder / name).read_text() for name in ("stdout", "stderr"))
        return Done(self.process.exitcode, out, err)


@functools.cache
def _ensure_server() -> None:
    """Start the server that is forked; of what it is to import, it finds what is on the path of its environment."""
    before = os.environ.get("PYTHONPATH")
    os.environ["PYTHONPATH"] = os.pathsep.join([str(Path(__file__).parent.parent), *filter(None, [before])])
    try:
        forkserver.ensure_running()
    finally:
        os.environ.pop("PYTHONPATH") if before is None else os.environ.update(PYTHONPATH=before)


def start(folder: Path, *arguments: str, fault: Callable[[], None] | None = None) -> Command:
    """Start a command line in a folder; ``fault``, a function of a module, is called there before."""
    _ensure_server()
    ours, theirs = CONTEXT.Pipe(duplex=False)
    process = CONTEXT.Process(target=_run, args=(folder, arguments, fault, theirs))
    process.start()
    theirs.close()
    return Command(process, folder, ours)


def run(folder: Path, *arguments: str, fault: Callable[[], None] | None = None) -> Done:
    """Return how a command line ended."""
    return start(folder, *arguments, fault=fault).wait()


def _run(folder: Path, arguments: tuple[str, ...], fault: Callable[[], None] | None, stored: Any) -> None:
    os.setpgrp()
    os.chdir(folder)
    for number, name in ((1, "stdout"), (2, "stderr")):
        os.dup2(os.open(name, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644), number)
    sys.stdout, sys.stderr = (os.fdopen(number, "w", buffering=1, closefd=False) for number in (1, 2))
    signal.signal(signal.SIGINT, signal.default_int_handler)  # also where a background job ignores it
    signal.signal(signal.SIGHUP, signal.SIG_DFL)  # or nohup
    write = Chunk.write

    def reported(chunk: Chunk, *given: Any) -> None:
        write(chunk, *given)
        stored.send(f"{task_key(chunk.text)}/{chunk_name(chunk.first, chunk.last)}")

    mock.patch.object(Chunk, "write", reported).start()
    if fault is not None:
        fault()
    main(arguments)
