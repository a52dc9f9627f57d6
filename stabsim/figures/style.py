"""How our figures look and how they are saved: one style, six colors that also read in grey, stable bytes."""

from __future__ import annotations

import contextlib
import io
import logging
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import matplotlib.style
import numpy as np
from cycler import cycler
from matplotlib.colors import LinearSegmentedColormap, to_rgb
from matplotlib.figure import Figure

from stabsim.checks import brief
from stabsim.chunk import write_atomically

if TYPE_CHECKING:
    import pandas
    from numpy.typing import NDArray

COLUMN = 3.375  # inches: one column of a two-column journal
PAGE = 6.75  # inches: both columns

# Found by a search over hue and chroma at fixed CIE L* = 16, 29, 41, 52, 62, 72: the smallest CIE76
# distance between two of them is 31 over normal vision, protanopia, deuteranopia and tritanopia
# (Machado et al. 2009); six of Okabe and Ito's colors have 17 there, and two of those share their L*.
PALETTE = ("#4d121f", "#15457c", "#696300", "#c15b76", "#1da0d8", "#9fba69")
MARKERS = ("o", "s", "^", "D", "v", "P")
MISSING = "#d9d9d9"

SEQUENTIAL = "cividis"  # L* rises evenly, and it looks the same to the colour-blind
# Both ends are dark in grey, as in every diverging map, so heat maps write the sign into their cells or hatch it.
DIVERGING = LinearSegmentedColormap.from_list(
    "blue_white_orange", ["#0b2f5c", "#2f6fb0", "#9cc3e4", "#f7f7f7", "#f3bf8a", "#d97b24", "#8f4305"]
)

_SETTINGS: dict[str, Any] = {
    "font.family": "sans-serif",
    "font.sans-serif": ["DejaVu Sans"],  # comes with matplotlib: the same glyphs on every machine
    "font.size": 8,
    "axes.labelsize": 8,
    "axes.titlesize": 8,
    "xtick.labelsize": 7,
    "ytick.labelsize": 7,
    "legend.fontsize": 7,
    "figure.titlesize": 8,
    "figure.figsize": (COLUMN, 2.5),
    "figure.dpi": 150,
    "figure.constrained_layout.use": True,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.linewidth": 0.6,
    "axes.labelpad": 3,
    "axes.axisbelow": True,
    "axes.formatter.useoffset": False,
    "axes.prop_cycle": cycler("color", PALETTE),
    "axes.xmargin": 0.02,
    "grid.color": "#e3e3e3",
    "grid.linewidth": 0.5,
    "image.cmap": SEQUENTIAL,
    "xtick.major.width": 0.6,
    "ytick.major.width": 0.6,
    "xtick.minor.width": 0.4,
    "ytick.minor.width": 0.4,
    "xtick.major.size": 3,
    "ytick.major.size": 3,
    "xtick.minor.size": 1.5,
    "ytick.minor.size": 1.5,
    "lines.linewidth": 1.2,
    "lines.markersize": 3.2,
    "lines.markeredgewidth": 0.8,
    "lines.dashed_pattern": (3.5, 2.0),
    "hatch.linewidth": 0.4,
    "legend.frameon": False,
    "legend.handlelength": 1.8,
    "savefig.dpi": 300,
    "pdf.fonttype": 42,  # TrueType, embedded: journals refuse Type 3
    # An SVG cannot carry its font, so text as text would fall back to another one on most machines.
    "svg.fonttype": "path",
    "svg.hashsalt": "stabsim",
}
_METADATA: dict[str, dict[str, None]] = {
    "png": {"Software": None},
    "pdf": {"CreationDate": None, "Creator": None, "Producer": None},
    "svg": {"Date": None, "Creator": None},
}
KINDS = tuple(_METADATA)
# The keys that these formats have for what is drawn, and for where it comes from.
_KEYS = {"png": ("Description", "Source"), "pdf": ("Subject", "Keywords"), "svg": ("Description", "Source")}


@contextlib.contextmanager
def style() -> Iterator[None]:
    """Draw in our style, whatever the user's matplotlibrc says; settings are restored on leaving.

    >>> with style():
    ...     figure, axes = panels(1, 2, width=PAGE)
    >>> axes.shape
    (1, 2)
    """
    with matplotlib.style.context(_SETTINGS, after_reset=True):
        yield


def line(index: int) -> dict[str, Any]:
    """Return color and marker of the index-th line; markers are open from the seventh line on.

    Lines are never dashed: a dash means theory.
    """
    color = PALETTE[index % len(PALETTE)]
    filled = index // len(PALETTE) % 2 == 0
    return {
        "color": color,
        "marker": MARKERS[(index + index // len(PALETTE)) % len(MARKERS)],
        "markerfacecolor": color if filled else "white",
        "markeredgecolor": color,
    }


def lightness(color: Any) -> float:
    """Return CIE L* of a color: 0 is black, 100 white (IEC 61966-2-1, white point D65).

    >>> round(lightness("#777777"))
    50
    """
    rgb = np.array(to_rgb(color))
    linear = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
    luminance = float(linear @ (0.2126, 0.7152, 0.0722))
    return 116 * luminance ** (1 / 3) - 16 if luminance > 216 / 24389 else luminance * 24389 / 27


def panels(
    rows: int = 1, columns: int = 1, *, width: float = COLUMN, height: float | None = None, **options: Any
) -> tuple[Figure, NDArray[Any]]:
    """Return a figure and its axes, shape (rows, columns); call it inside ``style()``.

    Parameters
    ----------
    rows, columns : int
        Number of panels.
    width : float
        Inches, COLUMN or PAGE.
    height : float, optional
        Inches; None gives panels of width to height 1.35.
    options
        For ``Figure.subplots``, such as ``sharey=True``.
    """
    height = width / columns / 1.35 * rows if height is None else height
    figure = Figure(figsize=(width, height), layout="constrained")
    return figure, figure.subplots(rows, columns, squeeze=False, **options)


def save(
    figure: Figure, name: str, directory: str | Path, table: pandas.DataFrame, caption: str = "", source: str = ""
) -> list[Path]:
    """Write NAME.png, NAME.pdf, NAME.svg and NAME.csv, each whole or not at all; the same figure gives the same bytes.

    Parameters
    ----------
    figure : Figure
        Drawn inside ``style()``.
    name : str
        Name of the files without extension.
    directory : str or path
        Where they go; made if it is not there.
    table : DataFrame
        What the figure was drawn from; floats are written so that they read back exactly.
    caption : str
        What is drawn; it goes into the metadata of the PNG, PDF and SVG.
    source : str
        The command that makes it, which goes there too.
    """
    if not name or Path(name).name != name:
        raise ValueError(f"name={name!r} is not a file name: no folders, and at least one character")
    directory = Path(directory)
    directory.mkdir(parents=True, exist_ok=True)
    files = {f"{name}.{kind}": data for kind, data in _rendered(figure, KINDS, caption, source).items()}
    files[f"{name}.csv"] = table.to_csv(index=False, lineterminator="\n").encode()
    for file, data in files.items():
        write_atomically(directory / file, data)
    return [directory / file for file in files]


def save_file(figure: Figure, path: str | Path, caption: str = "") -> None:
    """Write one file, whole or not at all, of the kind that its name ends with.

    Parameters
    ----------
    figure : Figure
        Drawn inside ``style()``.
    path : str or path
        Its folder is there; the name ends with .png, .pdf or .svg.
    caption : str
        What is drawn; it goes into the metadata.

    Raises
    ------
    ValueError
        If the name ends with nothing of that.
    """
    path = Path(path)
    kind = path.suffix.lower().removeprefix(".")
    if kind not in KINDS:
        raise ValueError(f"{brief(str(path))} must end with {', '.join(f'.{kind}' for kind in KINDS)}")
    write_atomically(path, _rendered(figure, [kind], caption)[kind])


def _rendered(figure: Figure, kinds: Iterable[str], caption: str, source: str = "") -> dict[str, bytes]:
    # fontTools remarks that the dates of matplotlib's own fonts are old.
    logging.getLogger("fontTools").setLevel(logging.ERROR)
    found = {}
    with style():
        # Settled once: each file would lay the figure out a little differently, starting from the last one.
        figure.draw_without_rendering()
        figure.set_layout_engine("none")
        for kind in kinds:
            buffer = io.BytesIO()
            told = {key: text for key, text in zip(_KEYS[kind], (caption, source), strict=True) if text}
            figure.savefig(buffer, format=kind, metadata=_METADATA[kind] | told)
            found[kind] = buffer.getvalue()
    return found
