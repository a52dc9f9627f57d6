"""Arguments that are not allowed: exit status 2, one line."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator

import click

from stabsim.devices import DeviceError


@contextlib.contextmanager
def usage(parameters: str = "") -> Iterator[None]:
    """Turn the package's errors about arguments into bad usage, and a lack of memory or of a device into a failure.

    Parameters
    ----------
    parameters : str
        What to reduce where a number overflows.
    """
    try:
        yield
    except OverflowError as error:
        raise click.UsageError(
            f"{parameters or error} led to numbers beyond the range of floats: reduce them"
        ) from error
    except (TypeError, ValueError) as error:
        raise click.UsageError(str(error)) from error
    except MemoryError as error:
        raise click.ClickException(str(error) or "not enough memory") from error
    except DeviceError as error:
        raise click.ClickException(str(error)) from error


def between(least: int, most: int) -> Callable[[click.Context, click.Parameter, int | None], int | None]:
    """Return the callback of an option that is a whole number in a range, or not given."""

    def check(_context: click.Context, option: click.Parameter, value: int | None) -> int | None:
        from stabsim.checks import whole_number

        with usage():
            return None if value is None else whole_number(option.opts[0], value, least, most)

    return check
