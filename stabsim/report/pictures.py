"""Figures as they are embedded: a picture, what it says of itself, and the rows that were drawn.

The picture is the SVG, sharp at every size, or where that is larger than the PNG, the PNG's very pixels as WebP, which
takes a third of its bytes. The rows are the CSV, compressed.
"""

from __future__ import annotations

import base64
import gzip
import io
import re
import urllib.parse
import xml.etree.ElementTree as ElementTree
from dataclasses import dataclass, replace
from pathlib import Path

from stabsim.chunk import read_file, why
from stabsim.provenance import parsed_command

LARGEST = 32 * 2**20  # bytes of a file that is embedded
KINDS = ("svg", "png", "pdf", "csv")

_DUBLIN_CORE = "{http://purl.org/dc/elements/1.1/}"
_SAFE = " /:;,=()-.!*+~@$?"  # what stands for itself in an address inside double quotes
_ENLARGED = 1.35  # so that 8 points in a figure read like the text around it
_PIXELS_PER_POINT = 96 / 72
_DPI = 300  # of our PNG
_MOST_PIXELS = 50_000_000
_UNIT = re.compile(r"([0-9.]+)(pt|px|)")
_BREAK = re.compile(rb"\s*\n\s*")


@dataclass(frozen=True)
class Picture:
    """A figure: ``source`` and ``table`` are data: addresses, width and height those on the page, in CSS pixels."""

    name: str
    caption: str
    made: dict[str, str] | None  # study, scale, seed and device
    source: str
    width: int
    height: int
    table: str
    table_bytes: int
    problems: tuple[str, ...]


@dataclass(frozen=True)
class _Image:
    source: str
    width: float
    height: float
    caption: str = ""
    command: str = ""


def picture(folder: Path, name: str) -> Picture:
    """Return a figure of a folder; what cannot be used of it is said in ``problems``."""
    problems: list[str] = []

    def read(kind: str) -> bytes | None:
        path = folder / f"{name}.{kind}"
        try:
            if path.exists() and path.stat().st_size > LARGEST:
                raise ValueError(f"its {path.stat().st_size / 2**20:.0f} MiB are more than {LARGEST // 2**20}")
            return read_file(path)
        except (OSError, ValueError) as error:
            problems.append(f"figures/{path.name} cannot be used: {why(error)}")
            return None

    drawn, pixels, rows = read("svg"), read("png"), read("csv")
    image = _Image("", 0, 0)
    try:
        image = image if drawn is None else _svg(drawn)
    except ValueError as error:
        problems.append(f"figures/{name}.svg cannot be used: {error}")
    try:
        if pixels is not None and (not image.source or len(pixels) * 4 / 3 < len(image.source)):
            smaller = _png(pixels)
            image = replace(image, source=smaller.source) if image.source else smaller
    except ValueError as error:
        problems.append(f"figures/{name}.png cannot be used: {error}")
    table = "" if rows is None else _data("application/gzip", gzip.compress(rows, 9, mtime=0))
    width, height = (max(1, round(_ENLARGED * side)) if image.source else 0 for side in (image.width, image.height))
    made, caption = parsed_command(image.command), " ".join(image.caption.split())
    return Picture(name, caption, made, image.source, width, height, table, len(rows or b""), tuple(problems))


def _svg(data: bytes) -> _Image:
    """Return an SVG of `stabsim.figures.save` without its line breaks."""
    try:
        text = data.decode()  # what is not UTF-8 could hide what is looked for
        if "<!ENTITY" in text:
            raise ValueError("it declares entities, as no figure of ours does")
        root = ElementTree.fromstring(text)
    except (ElementTree.ParseError, ValueError) as error:
        raise ValueError(f"damaged: {error}") from error
    sizes = [_UNIT.fullmatch(root.get(side, "")) for side in ("width", "height")]
    if root.tag != "{http://www.w3.org/2000/svg}svg" or not all(sizes):
        raise ValueError("damaged: it is no SVG with a width and a height")
    width, height = (float(size[1]) * (1 if size[2] == "px" else _PIXELS_PER_POINT) for size in sizes if size)
    told = [next((each.text or "" for each in root.iter(_DUBLIN_CORE + key)), "") for key in ("description", "source")]
    source = "data:image/svg+xml," + urllib.parse.quote(_BREAK.sub(b" ", data), safe=_SAFE)
    return _Image(source, width, height, *told)


def _png(data: bytes) -> _Image:
    """Return the pixels of a PNG as WebP."""
    from PIL import Image, UnidentifiedImageError

    try:
        with Image.open(io.BytesIO(data), formats=["PNG"]) as image:
            if image.width * image.height > _MOST_PIXELS:
                raise ValueError(f"its {image.width} x {image.height} pixels are more than {_MOST_PIXELS}")
            buffer = io.BytesIO()
            image.convert("RGB").save(buffer, "WEBP", lossless=True, quality=50)
            width, height = (side * 96 / _DPI for side in image.size)
    except ValueError:
        raise
    except UnidentifiedImageError as error:
        raise ValueError("damaged: it is no PNG") from error
    except Exception as error:  # of whatever kind: Pillow raises half a dozen
        raise ValueError(f"damaged: {' '.join(str(error).split())}") from error
    return _Image(_data("image/webp", buffer.getvalue()), width, height)


def _data(kind: str, data: bytes) -> str:
    return f"data:{kind};base64,{base64.b64encode(data).decode()}"
