"""What pages have from the code: a comment ``<!-- NAME -->`` on a line of its own is followed by what it names.

So a page of this folder reads as plain Markdown too, and the built one has what the registries, the command line and
the studies say of themselves.
"""

from __future__ import annotations

import csv
import importlib
import inspect
import pydoc
import re
import sys
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sphinx.application import Sphinx

ROOT = Path(__file__).resolve().parents[1]


def fill(_app: Sphinx, _page: str, source: list[str]) -> None:
    """Put into a page what its comments name, and a table in the place of a diagram that only a forge draws."""
    text = re.sub(r"^<!-- generated: (\w+) ?(\w*) -->$", made, source[0], flags=re.MULTILINE)
    source[0] = re.sub(r"^```mermaid\n(.*?)^```$", arrows, text, flags=re.MULTILINE | re.DOTALL)


def made(comment: re.Match[str]) -> str:
    """Return what a comment names."""
    return "\n".join(MAKERS[comment[1]](*filter(None, [comment[2]])))


def arrows(diagram: re.Match[str]) -> str:
    """Return the arrows of a diagram as a table."""
    labels = dict(re.findall(r'^ *(\w+)\["(.*)"\]$', diagram[1], re.MULTILINE))
    pairs = re.findall(r"^ *(\w+) --> (\w+)$", diagram[1], re.MULTILINE)
    rows = (
        (f"`{label}`", ", ".join(f"`{labels[below]}`" for above, below in pairs if above == name))
        for name, label in labels.items()
    )
    return "\n".join(table("room", "needed by", rows=rows))


def escape(_app: Sphinx, _what: str, _name: str, _it: object, _options: object, lines: list[str]) -> None:
    """Leave |x| and f(x, *parameters) in docstrings as they are: both signs are markup in reStructuredText."""
    example = False
    for place, line in enumerate(lines):
        example = bool(line.strip()) and (example or line.lstrip().startswith(">>>"))
        if not example:
            parts = line.split("`")  # every second one is code
            parts[::2] = [re.sub(r"\||\*(?=\w+\))", r"\\\g<0>", part) for part in parts[::2]]
            lines[place] = "`".join(parts)


def named(_app: Sphinx, _env: object, node: Any, content: Any) -> Any:
    """Return a name in a docstring without a link, if there is such a thing: not everything has a place on a page."""
    name = node.get("reftarget", "")
    return content if node.get("reftype") == "obj" and exists(name) else None


def exists(name: str) -> bool:
    """Return whether a dotted name is that of something: in the package, or with the library that it is from."""
    ours = [module for key, module in list(sys.modules.items()) if key.partition(".")[0] == "stabsim"]
    within = [value for module in ours for value in [module, *filter(inspect.isclass, vars(module).values())]]
    return any(holds(each, name.split(".")) for each in within) or pydoc.locate(name) is not None


def holds(found: object, parts: list[str]) -> bool:
    """Return whether an object has such an attribute of an attribute; fields of dataclasses are attributes."""
    for part in parts:
        found = getattr(found, part, None) or getattr(found, "__dataclass_fields__", {}).get(part)
    return found is not None


def table(*titles: str, rows: Iterable[tuple[str, ...]]) -> Iterator[str]:
    """Yield the lines of a table."""
    yield f"| {' | '.join(titles)} |"
    yield "|---" * len(titles) + "|"
    for row in rows:
        yield "| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |"


def registry(kind: str) -> Iterator[str]:
    """Yield a registry as ``stabsim list`` shows it."""
    from stabsim.cli.list import KINDS

    yield from table("name", "what it is", rows=((f"`{name}`", prose(meaning)) for name, meaning in KINDS[kind]()))


def prose(text: str) -> str:
    """Return plain text so that Markdown leaves it as it is."""
    return re.sub(r"([\\`*_\[\]<>#])", r"\\\1", text)


def commands() -> Iterator[str]:
    """Yield the help of every verb."""
    import click

    from stabsim.cli.group import VERBS, group

    context = click.Context(group, info_name="stabsim", max_content_width=100, terminal_width=100)
    for verb in VERBS:
        command = group.get_command(context, verb)
        assert command is not None
        inner = click.Context(command, info_name=verb, parent=context, max_content_width=100, terminal_width=100)
        yield from (f"## stabsim {verb}", "", "```none", command.get_help(inner), "```", "")


def gallery() -> Iterator[str]:
    """Yield every study: its title, what it says of itself, its figures if they are there, and the shipped verdicts."""
    from stabsim.discovery import directories, load
    from stabsim.report.pictures import picture

    with (ROOT / "data" / "claims.csv").open(newline="") as file:
        ledger = list(csv.DictReader(file))
    for path in sorted(directories()[0].glob("[!_]*.py")):
        study = load(path)
        about = (sys.modules[f"stabsim_study_{study.name}"].__doc__ or "").strip()
        yield from (f"## {prose(study.name)}", "", f"*{prose(study.title)}*", "", prose(about), "")
        for figure in figures(study.name):
            caption = picture(figure.parent, figure.stem).caption or study.title
            yield from (f"![{prose(study.title)}](../figures/{figure.name})", "", f"*{prose(caption)}*", "")
        for row in (row for row in ledger if row["study"] == study.name):
            yield f"- **{row['claim']} {prose(row['verdict'])}**: {prose(row['statement'])}"
        yield ""


def figures(name: str) -> list[Path]:
    """Return the pictures of a study: NAME.png and NAME_PART.png, but not those of a study with a longer name."""
    longer = [path.stem for path in (ROOT / "studies").glob(f"{name}_*.py")]
    found = sorted((ROOT / "figures").glob(f"{name}*.png"))
    return [path for path in found if of_study(path.stem, name) and not any(of_study(path.stem, x) for x in longer)]


def of_study(stem: str, name: str) -> bool:
    """Return whether a picture is called after a study."""
    return stem == name or stem.startswith(f"{name}_")


def public() -> Iterator[str]:
    """Yield all that ``import stabsim`` has, functions first; its modules have pages of their own."""
    import stabsim

    found = {name: getattr(stabsim, name) for name in stabsim.__all__ if not name.startswith("_")}
    functions = [name for name, value in found.items() if inspect.isfunction(value)]
    classes = [name for name, value in found.items() if inspect.isclass(value)]
    yield "```{eval-rst}"
    for name in functions:
        yield from (f".. autofunction:: stabsim.{name}", "")
    for name in classes:
        yield from (f".. autoclass:: stabsim.{name}", "   :members:", "")
    yield "```"


def package(name: str) -> Iterator[str]:
    """Yield a package of stabsim: what its ``__all__`` names, and then its modules that are named there."""
    whole = f"stabsim.{name}"
    home = importlib.import_module(whole)
    modules = [each for each in home.__all__ if inspect.ismodule(getattr(home, each))]
    yield from ("```{eval-rst}", f".. automodule:: {whole}", "   :members:", "   :imported-members:", "")
    for module in modules:
        yield from (f".. automodule:: {whole}.{module}", "   :members:", "")
    yield "```"


MAKERS: dict[str, Callable[..., Iterator[str]]] = {
    "registry": registry, "commands": commands, "gallery": gallery, "public": public, "package": package,
}  # fmt: skip
