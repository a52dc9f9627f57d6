"""Labels at the ends of lines, moved apart when the figure is drawn."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.backend_bases import RendererBase
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.text import Text
from matplotlib.transforms import Bbox, IdentityTransform
from numpy.typing import ArrayLike, NDArray

GAP = 14.0  # points between the right end of the axes and the labels
_SPELLED = {
    "relu": "ReLU",
    "relu6": "ReLU6",
    "elu": "ELU",
    "selu": "SELU",
    "gelu": "GELU",
    "silu": "SiLU",
    "lecun": "LeCun",
    "glorot": "Glorot",
    "he": "He",
    "torch": "PyTorch",
    "keras": "Keras",
    "sgd": "SGD",
    "nesterov": "Nesterov",
    "adagrad": "AdaGrad",
    "rmsprop": "RMSProp",
    "adam": "Adam",
    "adamw": "AdamW",
}


def spelled(name: str) -> str:
    """Return the name of an activation, an initializer or an optimizer as texts spell it.

    >>> spelled("leaky_relu"), spelled("tanh"), spelled("adamw"), spelled("momentum")
    ('leaky ReLU', 'tanh', 'AdamW', 'momentum')
    """
    return " ".join(_SPELLED.get(word, word) for word in name.split("_"))


class EndLabels(Artist):
    """The labels of lines, in a column right of their axes, each as near to the end of its line as the others let it.

    Places are found whenever the figure is drawn, since only then is the size of the axes known; the
    layout counts the labels as part of the axes. A hair line joins each label, with the marker, to its line.
    """

    def __init__(self, axes: Axes, lines: Sequence[Line2D]) -> None:
        super().__init__()
        self.set_clip_on(False)  # the layout leaves out what its axes would clip
        self.axes: Axes = axes
        self.set_figure(axes.figure)
        self.lines = list(lines)
        self.texts = [Text(0, 0, str(line.get_label()), va="center", fontsize=7) for line in lines]
        self.leaders = [_leader(line) for line in lines]
        for artist in self.get_children():
            artist.set_figure(axes.figure)
            artist.set_transform(IdentityTransform())

    def get_children(self) -> list[Artist]:
        """Return leaders and texts."""
        return [*self.leaders, *self.texts]

    def get_window_extent(self, renderer: RendererBase | None = None) -> Bbox:
        """Return the box around all labels, in pixels."""
        boxes = self._place(renderer)
        return Bbox.union(boxes) if boxes else Bbox.null()

    def get_tightbbox(self, renderer: RendererBase | None = None) -> Bbox | None:
        """Return the same box, for the layout; None without lines."""
        return self.get_window_extent(renderer) if self.lines else None

    def draw(self, renderer: RendererBase) -> None:
        """Draw the labels where there is room for them now."""
        self._place(renderer)
        for artist in self.get_children():
            artist.draw(renderer)
        self.stale = False

    def _place(self, renderer: RendererBase | None) -> list[Bbox]:
        if not self.lines:
            return []
        pixel = cast(Figure, self.get_figure(root=True)).dpi / 72
        frame = self.axes.bbox
        ends = np.array([self._end(line) for line in self.lines])
        # One line of text, measured: two labels of the same size never touch.
        height = max(text.get_window_extent(renderer).height for text in self.texts) + pixel
        heights = spread(ends[:, 1], height, frame.y0 + height / 2, frame.y1 - height / 2)
        left = frame.x1 + GAP * pixel
        for text, leader, (x, y), label_y in zip(self.texts, self.leaders, ends, heights, strict=True):
            text.set_position((left, label_y))
            leader.set_data([x + 3 * pixel, frame.x1 + 3 * pixel, left - 5 * pixel], [y, y, label_y])
        return [text.get_window_extent(renderer) for text in self.texts]

    def _end(self, line: Line2D) -> tuple[float, float]:
        """Return the last finite point of a line in pixels, kept inside the axes."""
        self.axes.get_xlim(), self.axes.get_ylim()  # brings the limits up to date with the data
        points = np.column_stack([line.get_xdata(), line.get_ydata()]).astype(float)
        pixels = np.asarray(line.get_transform().transform(points))
        pixels = pixels[np.isfinite(pixels).all(axis=1)]
        frame = self.axes.bbox
        if not len(pixels):
            return frame.x1, frame.y0
        return min(pixels[-1, 0], frame.x1), float(np.clip(pixels[-1, 1], frame.y0, frame.y1))


def _leader(line: Line2D) -> Line2D:
    leader = Line2D([], [], linewidth=0.5, markevery=[2])
    for name in ("color", "marker", "markersize", "markerfacecolor", "markeredgecolor"):
        leader.set(**{name: getattr(line, f"get_{name}")()})
    return leader


def spread(positions: ArrayLike, gap: float, low: float, high: float) -> NDArray[Any]:
    """Move positions as little as possible (least squares) until they are a gap apart and, if they fit, in [low, high].

    >>> spread([1.0, 1.0, 5.0], gap=2.0, low=0.0, high=10.0).tolist()
    [0.0, 2.0, 5.0]
    """
    from scipy.optimize import isotonic_regression

    positions = np.asarray(positions, float)
    order = np.argsort(positions, kind="stable")
    steps = gap * np.arange(len(positions))
    room = max(high - low - steps[-1], 0.0)
    low = (low + high - steps[-1] - room) / 2 if room == 0.0 else low
    moved = np.empty_like(positions)
    moved[order] = np.clip(isotonic_regression(positions[order] - steps).x, low, low + room) + steps
    return moved
