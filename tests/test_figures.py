"""Figures: colors that read in grey and to the color-blind, text that does not collide, files with stable bytes."""

from __future__ import annotations

import itertools
import os
import re
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import matplotlib
import numpy as np
import pandas
import pytest
from hypothesis import given
from hypothesis import strategies as st
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.path import Path as Outline
from matplotlib.text import Text
from matplotlib.transforms import Bbox
from PIL import Image

from stabsim import figures
from stabsim.figures.labels import spread
from stabsim.figures.style import lightness

NAMES = ("relu", "leaky_relu(slope=0.2)", "tanh", "sigmoid", "gelu", "selu", "softplus")


def depth_table(names: tuple[str, ...] = NAMES, layers: int = 30, rate: float = 0.1) -> pandas.DataFrame:
    tables = []
    for number, name in enumerate(names):
        layer = np.arange(layers + 1)
        estimate = rate * (number - 2) * layer / (1 + number)
        error = 0.02 * np.sqrt(layer + 1.0)
        theory = estimate + 0.01 if number % 2 else np.full(layers + 1, np.nan)
        columns = {"layer": layer, "estimate": estimate, "std_error": error, "theory": theory}
        interval = {"ci_low": estimate - 2 * error, "ci_high": estimate + 2 * error}
        tables.append(pandas.DataFrame(columns | interval | {"quantity": "log10_norm", "nets": 64, "activation": name}))
    return pandas.concat(tables, ignore_index=True)


def cell_table(rows: int, columns: int) -> pandas.DataFrame:
    table = pandas.DataFrame(list(itertools.product(range(rows), range(columns))), columns=["layer", "width"])
    return table.assign(estimate=np.sin(table["layer"]) * (1 + table["width"]))


def drawn_texts(figure: Figure, monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, float, Bbox]]:
    """Return text, rotation and box in pixels of everything that is really drawn."""
    found: dict[int, tuple[str, float, Bbox]] = {}
    original = Text.draw

    def draw(text: Text, renderer: Any) -> None:
        original(text, renderer)
        if text.get_visible() and text.get_text():
            found[id(text)] = (text.get_text(), text.get_rotation(), text.get_window_extent(renderer))

    with monkeypatch.context() as patch, figures.style():
        patch.setattr(Text, "draw", draw)
        FigureCanvasAgg(figure).draw()  # type: ignore[no-untyped-call]
    return list(found.values())


def check_texts(figure: Figure, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    texts = drawn_texts(figure, monkeypatch)
    canvas = figure.bbox.padded(1.0)
    for text, _, box in texts:
        assert canvas.x0 <= box.x0 and box.x1 <= canvas.x1, f"{text!r} leaves the figure"
        assert canvas.y0 <= box.y0 and box.y1 <= canvas.y1, f"{text!r} leaves the figure"
    upright = [(text, box.padded(-0.5)) for text, rotation, box in texts if rotation in (0.0, 90.0)]
    for (one, one_box), (other, other_box) in itertools.combinations(upright, 2):
        assert not one_box.overlaps(other_box), f"{one!r} and {other!r} overlap"
    return [text for text, _, _ in texts]


# --- style -------------------------------------------------------------------------------------------

# Machado, Oliveira and Fernandes 2009, severity 1, on linear RGB.
VISIONS = {
    "normal": np.eye(3),
    "protanopia": [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]],
    "deuteranopia": [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.01182, 0.04294, 0.968881]],
    "tritanopia": [[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602], [0.004733, 0.691367, 0.3039]],
}
TO_XYZ = np.array(
    [[0.4124564, 0.3575761, 0.1804375], [0.2126729, 0.7151522, 0.072175], [0.0193339, 0.119192, 0.9503041]]
)


def lab(colors: tuple[str, ...], vision: Any) -> np.ndarray:
    rgb = np.array([matplotlib.colors.to_rgb(color) for color in colors])
    linear = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
    xyz = np.clip(linear @ np.transpose(vision), 0, 1) @ TO_XYZ.T / TO_XYZ.sum(axis=1)
    root = np.where(xyz > 216 / 24389, np.cbrt(xyz), (24389 / 27 * xyz + 16) / 116)
    x, y, z = root.T
    return np.column_stack([116 * y - 16, 500 * (x - y), 200 * (y - z)])


def test_palette_reads_in_grey() -> None:
    levels = [lightness(color) for color in figures.PALETTE]
    assert np.allclose(levels, lab(figures.PALETTE, np.eye(3))[:, 0], atol=0.01)
    assert np.all(np.diff(levels) >= 9.0), levels
    assert levels[-1] <= 75.0, "too pale for a line on white"


@pytest.mark.parametrize("vision", VISIONS)
def test_palette_is_safe_for_the_color_blind(vision: str) -> None:
    colors = lab(figures.PALETTE, VISIONS[vision])
    assert min(float(np.linalg.norm(one - other)) for one, other in itertools.combinations(colors, 2)) > 30.0


def test_sequential_map_rises_in_lightness() -> None:
    levels = [lightness(color) for color in matplotlib.colormaps[figures.SEQUENTIAL](np.linspace(0, 1, 30))]
    assert np.all(np.diff(levels) > 0)


def test_diverging_map_is_lightest_in_the_middle() -> None:
    levels = np.array([lightness(color) for color in figures.DIVERGING(np.linspace(0, 1, 41))])
    assert np.all(np.diff(levels[:21]) > 0) and np.all(np.diff(levels[20:]) < 0)


def test_lines_differ_and_are_never_dashed() -> None:
    looks = [figures.line(index) for index in range(12)]
    assert len({tuple(look.values()) for look in looks}) == 12
    assert not any("linestyle" in look for look in looks)


def test_style_is_left_as_it_was() -> None:
    before = dict(matplotlib.rcParams)
    with figures.style():
        assert matplotlib.rcParams["pdf.fonttype"] == 42 and matplotlib.rcParams["font.size"] == 8
    assert dict(matplotlib.rcParams) == before


# --- plots -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("width", [figures.COLUMN, figures.PAGE])
@pytest.mark.parametrize("rate", [0.0, 0.1, 30.0])
def test_against_depth_labels_every_line(width: float, rate: float, monkeypatch: pytest.MonkeyPatch) -> None:
    with figures.style():
        figure, axes = figures.panels(width=width, height=2.4)
        table = depth_table(rate=rate)
        lines = figures.against_depth(axes[0, 0], table, by="activation", scale="exponent", ylabel="norm of $dz$")
    texts = check_texts(figure, monkeypatch)
    assert {*NAMES, "theory", "layer", "norm of $dz$"} <= set(texts)
    assert [line.get_label() for line in lines] == list(NAMES)
    assert np.array_equal(np.asarray(lines[2].get_ydata()), table[table["activation"] == "tanh"]["estimate"])


@pytest.mark.parametrize("decades", [0.1, 1.0, 3.0, 20.0, 250.0])
def test_log_axes_have_some_labels_and_not_many(decades: float, monkeypatch: pytest.MonkeyPatch) -> None:
    table = depth_table(NAMES[:3], layers=10)
    table["estimate"] = 10.0 ** (decades * table["layer"] / 10)
    table[["ci_low", "ci_high", "theory"]] = table[["estimate"]].to_numpy() * [0.99, 1.01, 1.0]
    with figures.style():
        figure, axes = figures.panels()
        figures.against_depth(axes[0, 0], table, by="activation", scale="log", ylabel="variance")
    check_texts(figure, monkeypatch)
    low, high = axes[0, 0].get_ylim()
    shown = [tick for tick in axes[0, 0].get_yticks() if low <= tick <= high]
    assert 2 <= len(shown) <= 8


def test_panels_with_titles(monkeypatch: pytest.MonkeyPatch) -> None:
    with figures.style():
        figure, axes = figures.panels(2, 2, width=figures.PAGE)
        for one in axes.flat:
            figures.against_depth(one, depth_table(), by="activation", ylabel="value")
        figures.panel_labels(axes.flat, ["forward", "backward", "shallow", "deep"])
    texts = check_texts(figure, monkeypatch)
    assert any("(d)" in text and "deep" in text for text in texts)


def test_order_keeps_colors_when_a_line_is_missing() -> None:
    with figures.style():
        _, axes = figures.panels()
        lines = figures.against_depth(axes[0, 0], depth_table(NAMES[1:3]), by="activation", order=NAMES)
    assert [line.get_color() for line in lines] == list(figures.PALETTE[1:3])


def test_lines_against_another_column_and_named_in_a_legend(monkeypatch: pytest.MonkeyPatch) -> None:
    table = depth_table(NAMES[:3]).rename(columns={"layer": "step"})
    with figures.style():
        figure, axes = figures.panels()
        lines = figures.against_depth(axes[0, 0], table, at="step", by="activation", labels="legend", xlabel="steps")
    assert {*NAMES[:3], "theory", "steps"} <= set(check_texts(figure, monkeypatch))
    assert [text.get_text() for text in axes[0, 0].get_legend().get_texts()] == [*NAMES[:3], "theory"]
    assert np.array_equal(np.asarray(lines[0].get_xdata()), np.arange(31))
    with pytest.raises(ValueError, match="labels='left' is not known: ends or legend"):
        figures.against_depth(axes[0, 0], table, at="step", by="activation", labels="left")


def test_a_line_that_is_nowhere_finite_is_still_named(monkeypatch: pytest.MonkeyPatch) -> None:
    table = depth_table(NAMES[:2])
    table.loc[table["activation"] == "relu", ["estimate", "ci_low", "ci_high"]] = -np.inf
    with figures.style():
        figure, axes = figures.panels()
        figures.against_depth(axes[0, 0], table, by="activation")
    assert "relu" in check_texts(figure, monkeypatch)


@pytest.mark.parametrize("center", [None, 0.0])
@pytest.mark.parametrize(("rows", "columns"), [(1, 1), (4, 6), (15, 14), (40, 30)])
def test_heat_map(rows: int, columns: int, center: float | None, monkeypatch: pytest.MonkeyPatch) -> None:
    with figures.style():
        figure, axes = figures.panels(width=figures.PAGE, height=4.0)
        table = cell_table(rows, columns)
        mesh = figures.heat_map(axes[0, 0], table, rows="layer", columns="width", center=center, label="log ratio")
    check_texts(figure, monkeypatch)
    shown: Any = np.ma.getdata(np.ma.asarray(mesh.get_array())).reshape(rows, columns)
    assert np.array_equal(shown, table["estimate"].to_numpy().reshape(rows, columns))
    assert len(axes[0, 0].texts) == (rows * columns if rows * columns <= 300 else 0)
    if center is not None:
        low, high = mesh.get_clim()
        assert low is not None and high is not None and np.isclose(low, -high)
        hatched = sum(int((patch.get_path().codes == Outline.MOVETO).sum()) for patch in axes[0, 0].patches)
        assert hatched == (0 if rows * columns <= 300 else int((table["estimate"] < 0).sum()))


def test_names_of_cells_are_spelled_and_numbers_fit_them(monkeypatch: pytest.MonkeyPatch) -> None:
    names = list(itertools.product(("he_normal", "torch_default"), ("leaky_relu", "tanh")))
    table = pandas.DataFrame(names, columns=["weights", "activation"]).assign(estimate=[0.5, -15.89, -0.001, 1234.0])
    with figures.style():
        figure, axes = figures.panels()
        figures.heat_map(axes[0, 0], table, rows="weights", columns="activation", digits=2)
    texts = check_texts(figure, monkeypatch)
    assert {"He normal", "PyTorch default", "leaky ReLU", "tanh"} <= set(texts)
    assert [text.get_text() for text in axes[0, 0].texts] == ["0.50", "\N{MINUS SIGN}15.9", "0.00", "1234"]


def test_heat_map_names_what_is_not_finite(monkeypatch: pytest.MonkeyPatch) -> None:
    table = cell_table(2, 3).assign(estimate=[np.nan, -np.inf, np.inf, 1.0, 2.0, -3.0])
    with figures.style():
        figure, axes = figures.panels()
        figures.heat_map(axes[0, 0], table, rows="layer", columns="width")
    texts = check_texts(figure, monkeypatch)
    assert {"–", "∞", "\N{MINUS SIGN}∞", "\N{MINUS SIGN}3.0"} <= set(texts)


@pytest.mark.parametrize("width", [figures.COLUMN, figures.PAGE])
def test_dot_plot_draws_equal_dots_apart(width: float, monkeypatch: pytest.MonkeyPatch) -> None:
    table = pandas.DataFrame(list(itertools.product(NAMES, ("forward", "backward"))), columns=["name", "direction"])
    table = table.assign(estimate=1.0 + np.arange(14) // 4, theory=1.5).assign(ci_low=0.9, ci_high=[4.4, np.nan] * 7)
    table.loc[5, "estimate"] = np.nan
    with figures.style():
        figure, axes = figures.panels(1, 2, width=width, height=3.0, sharey=True)
        dots = figures.dot_plot(axes[0, 0], table, rows="name", by="direction", order=["backward", "forward"])
        bare = table.drop(columns=["theory", "ci_low", "ci_high"])
        figures.dot_plot(axes[0, 1], bare[1::2], rows="name", by="direction", xlabel="gain")
        figures.panel_labels(axes.flat)
    backward, forward = (np.asarray(line.get_xydata()) for line in dots)
    assert forward[:, 0].tolist() == [1.0, 1.0, 2.0, 2.0, 3.0, 3.0, 4.0] and np.isnan(backward[2, 0])
    assert forward[:, 1].round().tolist() == list(range(7)) and np.allclose(forward[:, 1] - backward[:, 1], 0.24)
    assert axes[0, 0].get_ylim() == axes[0, 1].get_ylim() == (6.5, -0.5)
    found = check_texts(figure, monkeypatch)
    assert {*map(figures.spelled, NAMES), "backward", "forward", "gain"} <= set(found) and found.count("theory") == 1


def test_bad_arguments_are_named() -> None:
    with figures.style():
        _, ((axes,),) = figures.panels()
    table = depth_table()
    with pytest.raises(ValueError, match="lacks column 'width'; it has layer,"):
        figures.against_depth(axes, table, by="width")
    with pytest.raises(ValueError, match="two rows with activation='relu' and layer=0"):
        figures.against_depth(axes, pandas.concat([table, table]), by="activation")
    with pytest.raises(ValueError, match="lacks 'relu'"):
        figures.against_depth(axes, table, by="activation", order=["tanh"])
    with pytest.raises(ValueError, match="scale='cubic'"):
        figures.against_depth(axes, table, by="activation", scale="cubic")
    with pytest.raises(ValueError, match="two rows for one cell"):
        figures.heat_map(axes, table, rows="activation", columns="nets")
    with pytest.raises(ValueError, match="two rows for one dot of 'activation' and 'quantity'"):
        figures.dot_plot(axes, table, rows="activation", by="quantity")
    with pytest.raises(ValueError, match="lacks 'relu'"):
        figures.dot_plot(axes, table[table["layer"] == 0], rows="quantity", by="activation", order=["tanh"])


@given(positions=st.lists(st.floats(-50, 150), min_size=1, max_size=12), gap=st.floats(0.1, 20.0))
def test_spread(positions: list[float], gap: float) -> None:
    moved = spread(positions, gap, 0.0, 100.0)
    assert np.all(np.diff(np.sort(moved)) >= gap * (1 - 1e-9))
    assert np.all(np.argsort(moved, kind="stable") == np.argsort(positions, kind="stable"))
    if gap * (len(positions) - 1) <= 100.0:
        assert moved.min() >= -1e-9 and moved.max() <= 100.0 + 1e-9
    apart = np.sort(positions)
    if np.all(np.diff(apart) >= gap) and apart[0] >= 0.0 and apart[-1] <= 100.0:
        assert np.allclose(moved, positions)


# --- files -------------------------------------------------------------------------------------------

DRAW = """
    import hashlib, sys
    from pathlib import Path
    sys.path.insert(0, sys.argv[2])
    from test_figures import cell_table, depth_table
    from stabsim import figures
    with figures.style():
        figure, axes = figures.panels(2, 2, width=figures.PAGE)
        figures.against_depth(axes[0, 0], depth_table(), by="activation", scale="exponent")
        figures.heat_map(axes[0, 1], cell_table(20, 20), rows="layer", columns="width", center=0.0)
        figures.heat_map(axes[1, 0], cell_table(3, 3), rows="layer", columns="width")
        figures.dot_plot(axes[1, 1], cell_table(3, 2), rows="layer", by="width")
        figures.panel_labels(axes.flat)
    for path in figures.save(figure, "example", sys.argv[1], depth_table()):
        print(path.name, hashlib.sha256(path.read_bytes()).hexdigest())
    for path in figures.save(figure, "example", sys.argv[1], depth_table()):
        print(path.name, hashlib.sha256(path.read_bytes()).hexdigest())
"""


def test_files_are_byte_stable_between_runs_and_processes(tmp_path: Path) -> None:
    outputs = []
    for hash_seed, zone in (("1", "UTC"), ("2", "Asia/Tokyo")):
        (tmp_path / "matplotlibrc").write_text("font.size: 20\nsvg.fonttype: none\n" if hash_seed == "2" else "")
        environment = {**os.environ, "PYTHONHASHSEED": hash_seed, "TZ": zone, "MATPLOTLIBRC": str(tmp_path)}
        arguments = [str(tmp_path / f"figures{hash_seed}"), str(Path(__file__).parent)]
        command = [sys.executable, "-W", "error", "-c", textwrap.dedent(DRAW), *arguments]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        outputs.append(done.stdout.splitlines())
    assert outputs[0] == outputs[1], "two processes"
    assert outputs[0][:4] == outputs[0][4:], "two calls"
    assert [line.split()[0] for line in outputs[0][:4]] == [f"example.{kind}" for kind in ("png", "pdf", "svg", "csv")]
    pdf = (tmp_path / "figures1" / "example.pdf").read_bytes()
    assert b"CreationDate" not in pdf and b"/Type3" not in pdf and b"/FontFile2" in pdf
    assert b"<text" not in (tmp_path / "figures1" / "example.svg").read_bytes()
    assert not list((tmp_path / "figures1").glob(".*"))


def captions(name: Path) -> list[str]:
    """Return what PNG, PDF and SVG say that they show."""
    svg = ElementTree.parse(name.with_suffix(".svg")).find(".//{http://purl.org/dc/elements/1.1/}description")
    assert svg is not None and svg.text is not None
    subject = re.search(rb"/Subject \(((?:\\.|[^\\)])*)\)", name.with_suffix(".pdf").read_bytes(), re.DOTALL)
    assert subject is not None
    text = re.sub(
        rb"\\(.)", lambda found: {b"n": b"\n", b"r": b"\r"}.get(found[1], found[1]), subject[1], flags=re.DOTALL
    )
    with Image.open(name.with_suffix(".png")) as image:
        png = image.text["Description"]  # type: ignore[attr-defined]
    return [png, text.decode("utf-16" if text.startswith(b"\xfe\xff") else "ascii"), svg.text]


@pytest.mark.parametrize("caption", ["(a) nγ ≥ 1, σ²; (b) a < b & \\c", "Čapek (ȊĊਊ) – ∞", "(a) plain, {b}."])
def test_captions_are_in_files_whole_and_leave_their_bytes_stable(caption: str, tmp_path: Path) -> None:
    saved = []
    for folder in (tmp_path / "one", tmp_path / "two"):
        with figures.style():
            figure, _ = figures.panels()
            paths = figures.save(figure, "captioned", folder, depth_table(), caption)
        assert captions(folder / "captioned") == [caption] * 3
        saved.append([path.read_bytes() for path in paths])
    assert saved[0] == saved[1]


def test_csv_reads_back_exactly(tmp_path: Path) -> None:
    values = [0.1, 1 / 3, 5e-324, 1.7976931348623157e308, -0.0, np.inf, -np.inf, np.nan]
    table = pandas.DataFrame({"estimate": values, "nets": range(8), "name": list("abcdefgh")})
    with figures.style():
        figure, _ = figures.panels()
        figures.save(figure, "exact", tmp_path, table)
    found = pandas.read_csv(tmp_path / "exact.csv")
    pandas.testing.assert_frame_equal(found, table, check_exact=True, check_dtype=False)
    assert "0.1,0,a" in (tmp_path / "exact.csv").read_text()


def test_save_refuses_a_path_as_name(tmp_path: Path) -> None:
    with figures.style(), pytest.raises(ValueError, match="name='a/b'"):
        figures.save(figures.panels()[0], "a/b", tmp_path, depth_table())
