"""The command line: ``stabsim VERB``, one file a verb."""

from stabsim.cli.group import main

__all__ = ["main"]
