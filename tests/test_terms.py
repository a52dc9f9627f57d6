"""``docs/terms.md`` is kept to: no name of the package has a word that the table rules out."""

from __future__ import annotations

import ast
import functools
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.sources import MODULES

PAGE = Path(__file__).parents[1] / "docs" / "terms.md"
ROWS = [line.strip("| \n").split(" | ") for line in PAGE.read_text().splitlines() if line.startswith("| ")][1:]
OTHERS = {"__init__", "__post_init__"}  # of Python


def names(tree: ast.AST) -> Iterator[str]:
    """Yield what the code itself names: functions, classes, arguments, variables, attributes that it sets."""
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            yield node.name
        elif isinstance(node, ast.arg):
            yield node.arg
        elif isinstance(node, ast.Name | ast.Attribute) and isinstance(node.ctx, ast.Store):
            yield node.id if isinstance(node, ast.Name) else node.attr


def words(name: str) -> str:
    """Return a name in words, small letters, with a blank on either side of each.

    >>> words("makeTask_of")
    ' make task of '
    """
    return f" {' '.join(word.lower() for word in re.findall(r'[A-Z]?[a-z]+|[A-Z]+(?![a-z])', name))} "


@functools.cache
def of_package() -> list[tuple[str, str, str]]:
    """Return every module, name and its words, each once."""
    found = {(module, name): None for module, path in MODULES.items() for name in names(ast.parse(path.read_text()))}
    return [(module, name, words(name)) for module, name in found if name not in OTHERS]


@pytest.mark.parametrize("row", ROWS, ids=[row[0] for row in ROWS])
def test_a_thing_has_one_name(row: list[str]) -> None:
    ruled_out = [] if row[2] == "–" else row[2].split(", ")
    for word, looked_for in [(word, words(word)) for word in ruled_out]:
        for module, name, seen in of_package():
            assert looked_for not in seen, f"{module}: {name} has {word!r}"


def test_a_name_that_is_ruled_out_is_seen() -> None:
    tree = ast.parse("def init_weights(cfg):\n    grad = cfg.num_layers")
    assert [words(name) for name in names(tree)] == [" init weights ", " cfg ", " grad "]
    assert len(ROWS) > 20
