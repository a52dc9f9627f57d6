"""The group of verbs. Each verb's file has a click command named ``command``.

Only click is imported here and at the top of each verb's file, so that help is there at once. Exit status: 0;
1, something failed, named; 2, bad usage, in one line; 128 and the number of a signal: 130, Ctrl-C; 143, SIGTERM.
"""

from __future__ import annotations

import contextlib
import importlib
import io
import os
import signal
import sys
import threading
from collections.abc import Iterator, Sequence
from types import FrameType
from typing import TYPE_CHECKING, Any, NoReturn

import click

from stabsim import __version__
from stabsim.names import unknown
from stabsim.versions import VERSIONS

if TYPE_CHECKING:
    from stabsim.study import Study

VERBS = (
    "simulate", "diagnose", "explore", "run", "plot", "claims", "report", "status", "merge", "verify", "list", "warmup",
    "completion",
)  # fmt: skip
LONGEST_MESSAGE = 900  # characters
INTERRUPTED = 130  # as shells report the end by Ctrl-C
LATER = 0.01  # seconds
SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Stopped(KeyboardInterrupt):
    """A signal asked for the end."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number


class Interrupted(click.ClickException):
    """What a signal ended, with the exit status."""

    def __init__(self, message: str, status: int) -> None:
        super().__init__(message)
        self.exit_code = status  # type: ignore[misc]  # click has it of the class, and reads it of the error


def interrupted(stop: KeyboardInterrupt, message: str) -> click.ClickException:
    """Return what ends a command after a signal: one line, and the exit status that shells report."""
    number = stop.number if isinstance(stop, Stopped) else signal.SIGINT
    by = "" if number == signal.SIGINT else f" by {signal.Signals(number).name}"
    return Interrupted(f"interrupted{by}{message}", 128 + number)


class Verbs(click.Group):
    """The verbs, each imported when it is asked for."""

    def list_commands(self, _context: click.Context) -> list[str]:
        """Return the verbs in the order of the help."""
        return list(VERBS)

    def get_command(self, _context: click.Context, name: str) -> click.Command:
        """Return the command of a verb; what it returns is the exit status."""
        if name not in VERBS:
            raise click.UsageError(str(unknown("command", name, VERBS)))
        command: click.Command = importlib.import_module(f"stabsim.cli.{name}").command
        return command

    def invoke(self, context: click.Context) -> Any:
        """Run a verb; click would print an empty line when it is interrupted."""
        try:
            return super().invoke(context)
        except KeyboardInterrupt as stop:
            raise interrupted(stop, "") from stop


@click.command(cls=Verbs, invoke_without_command=True)
@click.version_option(
    __version__, message="stabsim %(version)s\n" + ", ".join(f"{name} {number}" for name, number in VERSIONS.items())
)
@click.pass_context
def group(context: click.Context) -> None:
    """Random deep nets by the thousand: signals and gradients with confidence intervals, next to theory."""
    if context.invoked_subcommand is None:
        click.echo(context.get_help())


def main(arguments: Sequence[str] | None = None, study: Study | None = None) -> NoReturn:
    """Run the command line and exit.

    Parameters
    ----------
    arguments : sequence of str, optional
        Those of the process unless given.
    study : Study, optional
        The only study there is; see `run_script`.
    """
    sys.exit(_status(arguments, study))


def run_script(study: Study) -> NoReturn:
    """Do what ``stabsim run NAME`` does, with the options of the process: for the file of a study that is a script."""
    main(["run", study.name, *sys.argv[1:]], study)


def _status(arguments: Sequence[str] | None, study: Study | None) -> int:
    given = sys.argv[1:] if arguments is None else arguments
    command = " ".join(["stabsim", *(verb for verb in given[:1] if verb in VERBS)])
    if isinstance(sys.stdout, io.TextIOWrapper):  # a name of a file may be no text
        sys.stdout.reconfigure(errors="backslashreplace")
    try:
        with _heeding_signals():
            return int(group.main(arguments, "stabsim", standalone_mode=False, obj=study) or 0)
    except click.Abort:
        click.echo(f"{command}: interrupted", err=True)
        return INTERRUPTED
    except click.ClickException as error:
        click.echo(f"{command}: {_one_line(error)}", err=True)
        return error.exit_code
    except OSError as error:
        sys.stdout = io.StringIO()  # what it could not take would be tried again at exit
        click.echo(f"{command}: {' '.join(str(error).split())}", err=True)
        return 1


@contextlib.contextmanager
def _heeding_signals() -> Iterator[None]:
    """Let SIGTERM and SIGHUP interrupt as Ctrl-C does, and a second signal end the process at once.

    A signal that is ignored stays ignored: Ctrl-C in the background of a script, SIGHUP under nohup. Where Python must
    not raise (llvmlite would leave what LLVM owns half made, and crash later) or cannot (a destructor, a callback), it
    is raised a little later; what fails since it was lost there is no other failure.
    """
    heeded = (signal.SIG_DFL, signal.default_int_handler)
    main = threading.current_thread() is threading.main_thread()  # no other one may say what a signal does
    before = {number: handler for number in SIGNALS if main and (handler := signal.getsignal(number)) in heeded}
    alarm, told = signal.getsignal(signal.SIGALRM), sys.unraisablehook
    postponing = bool(before) and alarm is signal.SIG_DFL
    seen: list[int] = []

    def stop(number: int, frame: FrameType | None) -> None:
        seen.append(number)
        if len(seen) > 1:
            os.write(2, b"stabsim: interrupted again, and stopped at once\n")
            os._exit(128 + number)
        stop_where_safe(number, frame)

    def stop_where_safe(_number: int, frame: FrameType | None) -> None:
        if not (postponing and _in_llvm(frame)):
            raise Stopped(seen[0])
        signal.setitimer(signal.ITIMER_REAL, LATER)

    def lost(what: sys.UnraisableHookArgs) -> None:
        if isinstance(what.exc_value, Stopped):
            signal.setitimer(signal.ITIMER_REAL, LATER)
        else:
            told(what)

    try:
        for number in before:
            signal.signal(number, stop)
        if postponing:
            signal.signal(signal.SIGALRM, stop_where_safe)
            sys.unraisablehook = lost
        yield
    except Exception as error:
        if seen and not isinstance(error, click.ClickException):
            raise interrupted(Stopped(seen[0]), "") from error
        raise
    finally:
        if postponing:
            sys.unraisablehook = told
            signal.setitimer(signal.ITIMER_REAL, 0)
            signal.signal(signal.SIGALRM, alarm)
        for number, handler in before.items():
            signal.signal(number, handler)


def _in_llvm(frame: FrameType | None) -> bool:
    """Say whether LLVM is being called, or calls back."""
    while frame is not None and not frame.f_globals.get("__name__", "").startswith("llvmlite.binding"):
        frame = frame.f_back
    return frame is not None


def _one_line(error: click.ClickException) -> str:
    """Say what is wrong and what is allowed."""
    if isinstance(error, click.NoSuchOption) and error.ctx is not None:
        options = [parameter.opts[-1] for parameter in error.ctx.command.get_params(error.ctx)]
        return str(unknown("option", error.option_name, [name for name in options if name.startswith("-")]))
    if isinstance(error, click.MissingParameter) and isinstance(error.param, click.Option):
        meaning = error.param.help or ""
        return f"option {error.param.opts[0]} is missing: {meaning[:1].lower()}{meaning[1:]}"
    message = " ".join(error.format_message().split())  # which repeats what was given, whatever its length
    return message if len(message) <= LONGEST_MESSAGE else f"{message[: LONGEST_MESSAGE - 3]}..."
