"""Fuzzing: targets that take input from people or from the disk, what makes inputs, and what counts as a failure."""

from tests.fuzzing import commands, datasets, declarations, descriptions, files, specs
from tests.fuzzing.choices import Choices
from tests.fuzzing.harness import OUTCOMES, Hang, Outcome, Target, attempt, guarded

TARGETS: dict[str, Target] = (
    specs.TARGETS | declarations.TARGETS | files.TARGETS | datasets.TARGETS | descriptions.TARGETS | commands.TARGETS
)

__all__ = ["OUTCOMES", "TARGETS", "Choices", "Hang", "Outcome", "Target", "attempt", "guarded"]
