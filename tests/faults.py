"""What may befall a command line: functions that `tests.forked` calls in its process, before it."""

from __future__ import annotations

import contextlib
import ctypes
import os
import resource
import shutil
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest import mock

import stabsim.cli.run
import stabsim.plan
import stabsim.running
from stabsim.work import Chunk

NOBODY = 65534
NEW_NAMESPACE, NEW_USER, PRIVATE, READ_ONLY, REMOUNT = 0x20000, 0x10000000, 0x44000, 1, 32  # of unshare(2), mount(2)


def before(owner: Any, name: str, act: Callable[[int], None]) -> None:
    """Call ``act`` with the number of the call, from 0, before each call of a function."""
    function, calls = getattr(owner, name), list[None]()

    def wrapped(*arguments: Any, **options: Any) -> Any:
        act(len(calls))
        calls.append(None)
        return function(*arguments, **options)

    setattr(owner, name, wrapped)


WHERE: dict[str, tuple[Any, str, int]] = {  # what is called when, and at which call
    "simulating": (Chunk, "write", 3),
    "measuring": (stabsim.running, "measure", 0),
    "drawing": (stabsim.running, "save_figures", 0),
    "simulating an ensemble": (stabsim.plan.Plan, "start", 1),
}


def signalled(where: str, number: int, again: bool = False) -> None:
    """Send a signal to all processes of the command line, and one more while it stops."""
    owner, name, call = WHERE[where]
    before(owner, name, lambda calls: os.killpg(0, number) if calls == call else None)
    if again:
        before(stabsim.cli.run, "interrupted", lambda _: os.killpg(0, number))


def hung_up_under_nohup() -> None:
    """Lose the terminal where that is to be ignored."""
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    signalled("simulating", signal.SIGHUP)


def closed_pipe() -> None:
    """Let nobody read what is printed."""
    ours, theirs = os.pipe()
    os.close(ours)
    os.dup2(theirs, 1)
    sys.stdout = os.fdopen(1, "w", buffering=1, closefd=False)  # the one there is takes it for a file


def clock_jumps() -> None:
    """Let the clock jump by years at each look, back and forth; and print progress for each chunk."""
    looks: list[None] = []

    def jumping() -> float:
        looks.append(None)
        return 1e9 * (1 + len(looks) % 2)

    time.time = jumping
    time.time_ns = lambda: int(1e9 * jumping())
    from stabsim.cli.progress import LiveProgress

    before(LiveProgress, "__call__", lambda _: None)
    mock.patch.object(LiveProgress, "seconds", property(lambda _: 0.0, lambda *_: None), create=True).start()


def removed(folder: str) -> None:
    """Lose a folder while chunks are written."""
    before(Chunk, "write", lambda calls: shutil.rmtree(folder) if calls == 2 else None)


def waits_for(path: str, slow: float) -> None:
    """Start when a file is there; then take so many seconds for each chunk."""
    while not os.path.exists(path):
        time.sleep(0.001)
    before(Chunk, "write", lambda _: time.sleep(slow))


def little_memory(more: int) -> None:
    """Allow so many bytes more than are in use."""
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + more, -1))


def file_size(most: int) -> None:
    """Let no file grow beyond so many bytes, as a full disk does."""
    resource.setrlimit(resource.RLIMIT_FSIZE, (most, resource.RLIM_INFINITY))


def unprivileged() -> None:
    """Be a user for whom permissions hold."""
    import tests.warm  # noqa: F401 - Python itself may be out of reach then

    if os.geteuid() == 0:
        os.setgroups([])
        os.setgid(NOBODY)
        os.setuid(NOBODY)


def mount(source: str, target: str, kind: str, flags: int, options: str = "") -> None:
    """Mount a file system, which this process alone sees."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.mount(source.encode(), target.encode(), kind.encode(), flags, options.encode()):
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))


def own_mounts() -> None:
    """Let what this process mounts be seen by nobody else."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.unshare(NEW_NAMESPACE | (NEW_USER if os.geteuid() else 0)):
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    mount("none", "/", "", PRIVATE)


def can_mount(folder: str) -> None:
    """End with status 0 if small disks may be made here, 3 if not."""
    try:
        own_mounts()
        mount("tmpfs", folder, "tmpfs", 0, "size=64k")
    except OSError:
        os._exit(3)
    os._exit(0)


def read_only_disk(folder: str) -> None:
    """See a folder as on a disk that cannot be written."""
    own_mounts()
    mount(folder, folder, "", 4096)  # a bind mount
    mount(folder, folder, "", 4096 | REMOUNT | READ_ONLY)


def growing_disk(arguments: tuple[str, ...], sizes: list[int], target: str) -> None:
    """Run a command line on a disk of each size, larger and larger, keeping what is there; copy the end to a target."""
    from stabsim.cli import main

    own_mounts()
    Path("disk").mkdir()
    mount("tmpfs", "disk", "tmpfs", 0, f"size={sizes[0]}")
    for size in sizes:
        mount("tmpfs", "disk", "tmpfs", REMOUNT, f"size={size}")
        with contextlib.suppress(SystemExit):
            main(arguments)
        leftovers = list(Path("disk").rglob("*.temporary"))
        print(f"leftovers: {len(leftovers)}", file=sys.stderr)
    shutil.copytree("disk", target)
    os._exit(0)
