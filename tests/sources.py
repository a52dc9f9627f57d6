"""The package as its sources say: modules, what they import, and the rooms of which the house is made."""

from __future__ import annotations

import ast
import functools
from pathlib import Path

import stabsim

PACKAGE = Path(stabsim.__file__).parent
MODULES = {
    ".".join(("stabsim", *path.relative_to(PACKAGE).with_suffix("").parts)).removesuffix(".__init__"): path
    for path in sorted(PACKAGE.rglob("*.py"))
    if path.name != "__main__.py"  # a way in, no room
}


@functools.cache
def imports(module: str, *, at_once: bool = False) -> set[str]:
    """Return every module that a module imports (``from a import b`` is a and a.b); at once: outside functions."""
    tree = ast.parse(MODULES[module].read_text())
    package = module if MODULES[module].name == "__init__.py" else module.rpartition(".")[0]
    inside = {
        inner
        for outer in ast.walk(tree)
        if isinstance(outer, ast.FunctionDef | ast.AsyncFunctionDef) or _only_for_types(outer)
        for inner in ast.walk(outer)
    }
    found = set()
    for node in ast.walk(tree):
        if at_once and node in inside:
            continue
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            above = package.split(".")[: len(package.split(".")) + 1 - node.level] if node.level else []
            source = ".".join([*above, *([node.module] if node.module else [])])
            found |= {source} | {f"{source}.{alias.name}" for alias in node.names}
    return found


def _only_for_types(node: ast.AST) -> bool:
    return isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING"


def room(module: str) -> str:
    """Return the room of a module: a file or a folder of the package."""
    return module.split(".")[1]


@functools.cache
def doors() -> dict[str, set[str]]:
    """Return, by room, the rooms that it imports from, for whatever reason; ``stabsim/__init__.py`` is no room."""
    found: dict[str, set[str]] = {room(module): set() for module in MODULES if module != "stabsim"}
    for module in MODULES:
        if module != "stabsim":
            named = {room(name) for name in imports(module) if name.startswith("stabsim.")}
            found[room(module)] |= named & found.keys() - {room(module)}
    return found


@functools.cache
def reached(start: str) -> frozenset[str]:
    """Return every room that a room imports from, at any distance."""
    found: set[str] = set()
    waiting = [start]
    while waiting:
        for other in doors()[waiting.pop()] - found:
            found.add(other)
            waiting.append(other)
    return frozenset(found)


def needed(start: str) -> set[str]:
    """Return the rooms that a room imports from and does not reach through another one."""
    near = doors()[start]
    return {other for other in near if not any(other in reached(through) for through in near - {other})}


def first_line(name: str) -> str:
    """Return the first line of what a room says of itself."""
    module = f"stabsim.{name}"
    text = ast.get_docstring(ast.parse(MODULES[module].read_text())) or ""
    return text.splitlines()[0]
