"""``docs/architecture.md`` is what the code is; ``python -m tests.test_architecture`` writes what is drawn from it."""

from __future__ import annotations

from pathlib import Path

from tests.sources import MODULES, doors, first_line, needed

PAGE = Path(__file__).parents[1] / "docs" / "architecture.md"


def floor(name: str) -> int:
    """Return how many rooms stand above each other down to this one."""
    return 1 + max((floor(other) for other in doors()[name]), default=0)


def ordered() -> list[str]:
    return sorted(doors(), key=lambda name: (floor(name), name))


def label(name: str) -> str:
    """Return how a room is called: a folder with a slash."""
    return f"{name}/" if MODULES[f"stabsim.{name}"].name == "__init__.py" else name


def diagram() -> str:
    arrows = [f"    {above} --> {name}" for name in ordered() for above in sorted(needed(name))]
    rooms = [f'    {name}["{label(name)}"]' for name in ordered()]
    return "\n".join(["```mermaid", "flowchart TB", *rooms, *arrows, "```"])


def rooms() -> str:
    rows = [f"| `{label(name)}` | {first_line(name).rstrip('.')} |" for name in ordered()]
    return "\n".join(["| room | what it is |", "|---|---|", *rows])


def filled(page: str) -> str:
    """Return the page with both made anew."""
    for name, text in (("diagram", diagram()), ("rooms", rooms())):
        before, mark, rest = page.partition(f"<!-- {name} -->\n")
        page = before + mark + text + rest[rest.index("\n<!-- end -->") :]
    return page


def test_the_page_shows_the_house_as_it_is() -> None:
    page = PAGE.read_text()
    assert filled(page) == page, "python -m tests.test_architecture draws it anew"


if __name__ == "__main__":
    PAGE.write_text(filled(PAGE.read_text()))
