"""The command line: ``stabsim VERB``, one file a verb."""

from stabsim.cli.group import main, run_script

__all__ = ["main", "run_script"]
