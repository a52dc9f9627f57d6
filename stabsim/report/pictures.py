"""Figures as they are embedded: the file that is smaller, what it says of itself, and the rows that were drawn."""

from __future__ import annotations

import base64
import gzip
import re
import urllib.parse
import xml.etree.ElementTree as ElementTree
from dataclasses import dataclass
from pathlib import Path

from stabsim.chunk import read_file, why
from stabsim.provenance import parsed_command

LARGEST = 32 * 2**20  # bytes of a file that is embedded: browsers refuse longer addresses somewhere above
KINDS = ("svg", "png", "pdf", "csv")

_DUBLIN_CORE = "{http://purl.org/dc/elements/1.1/}"
Loaded = tuple[str, int, int, str, str]  # address, width, height, caption, command

_SAFE = " /:;,=()-.!*+~@$?"  # what stands for itself in an address inside double quotes
_DPI = 300  # of our PNG
_PIXELS_PER_POINT = 96 / 72
_UNIT = re.compile(r"([0-9.]+)(pt|px|)")


@dataclass(frozen=True)
class Picture:
    """A figure: ``source`` and ``table`` are data: addresses; sizes are in CSS pixels, and those of files in bytes."""

    name: str
    caption: str
    made: dict[str, str] | None  # study, scale, seed and device
    source: str
    width: int
    height: int
    table: str
    table_bytes: int
    problems: tuple[str, ...]


def picture(folder: Path, name: str) -> Picture:
    """Return a figure of a folder; what cannot be used of it is said in ``problems``."""
    problems: list[str] = []
    found: list[tuple[str, int, int]] = []
    caption, made = "", None
    for kind, load in (("svg", _svg), ("png", _png)):
        try:
            address, width, height, told, command = load(_read(folder / f"{name}.{kind}"))
        except (OSError, ValueError) as error:
            problems.append(f"figures/{name}.{kind} cannot be shown: {why(error)}")
            continue
        found.append((address, width, height))
        caption, made = caption or told, made or parsed_command(command)
    source, width, height = min(found, key=lambda each: len(each[0]), default=("", 0, 0))
    table, size = "", 0
    try:
        rows = _read(folder / f"{name}.csv")
        table, size = _data("application/gzip", gzip.compress(rows, 9, mtime=0)), len(rows)
    except (OSError, ValueError) as error:
        problems.append(f"figures/{name}.csv cannot be embedded: {why(error)}")
    return Picture(name, " ".join(caption.split()), made, source, width, height, table, size, tuple(problems))


def _read(path: Path) -> bytes:
    if path.exists() and path.stat().st_size > LARGEST:
        raise ValueError(f"its {path.stat().st_size / 2**20:.0f} MiB are more than {LARGEST // 2**20}")
    return read_file(path)


def _svg(data: bytes) -> Loaded:
    """Return address, width, height, and (caption, command) of an SVG of `stabsim.figures.save`."""
    if b"<!ENTITY" in data:
        raise ValueError("it declares entities, as no figure of ours does")
    try:
        root = ElementTree.fromstring(data)
    except ElementTree.ParseError as error:
        raise ValueError(f"damaged: {error}") from error
    sizes = [_UNIT.fullmatch(root.get(side, "")) for side in ("width", "height")]
    if root.tag != "{http://www.w3.org/2000/svg}svg" or not all(sizes):
        raise ValueError("damaged: it is no SVG with a width and a height")
    width, height = (_pixels(float(size[1]) * (1 if size[2] == "px" else _PIXELS_PER_POINT)) for size in sizes if size)
    address = "data:image/svg+xml," + urllib.parse.quote(data.replace(b"\n", b" "), safe=_SAFE)
    return address, width, height, _told(root, "description"), _told(root, "source")


def _told(root: ElementTree.Element, key: str) -> str:
    return next((each.text or "" for each in root.iter(_DUBLIN_CORE + key)), "")


def _png(data: bytes) -> Loaded:
    if not data.startswith(b"\x89PNG\r\n\x1a\n") or data[-8:-4] != b"IEND":
        raise ValueError("damaged: it is no whole PNG")
    width, height = (_pixels(int.from_bytes(data[start : start + 4], "big") * 96 / _DPI) for start in (16, 20))
    return _data("image/png", data), width, height, "", ""


def _pixels(length: float) -> int:
    return max(1, round(length))


def _data(kind: str, data: bytes) -> str:
    return f"data:{kind};base64,{base64.b64encode(data).decode()}"
