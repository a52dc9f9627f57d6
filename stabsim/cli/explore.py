"""``stabsim explore``: a page on this machine on which curves follow sliders."""

from __future__ import annotations

import errno
import logging
import signal

import click

from stabsim.cli.text import examples
from stabsim.cli.usage import between


@click.command(
    epilog=examples(
        "stabsim explore",
        "stabsim explore --port 0 --no-browser",
    )
)
@click.option(
    "--port", type=int, default=5006, show_default=True, callback=between(0, 65535), help="0: one that is free."
)
@click.option("--no-browser", is_flag=True, help="Do not open the page, only say where it is.")
def command(port: int, no_browser: bool) -> None:
    """Explore nets on a page: curves with intervals and theory follow sliders.

    The page is served to this machine alone, until Ctrl-C; nothing is loaded from elsewhere.
    """
    try:
        import panel  # noqa: F401
    except ImportError as error:
        raise click.ClickException("explore needs panel: pip install 'stabsim[explore]'") from error
    from stabsim.explorer.page import HOST, make_server

    logging.getLogger("bokeh.server.views.ws").setLevel(logging.ERROR)  # warns of each tab that is closed
    handler = signal.getsignal(signal.SIGINT)
    try:
        server = make_server(port)
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            raise click.ClickException(f"--port={port} is taken: give another, or 0 for one that is free") from error
        raise click.ClickException(f"--port={port} cannot be had: {error.strerror or error}") from error
    signal.signal(signal.SIGINT, handler)  # which the server would end without a word
    address = f"http://{HOST}:{server.port}/"
    click.echo(f"stabsim explore is at {address} until Ctrl-C")
    server.start()
    if not no_browser:
        click.launch(address)
    try:
        server.io_loop.start()
    finally:
        server.stop()
