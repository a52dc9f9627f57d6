"""The explorer without a browser: links hold states, curves are those of `simulate`, and what is refused is said."""

from __future__ import annotations

import threading
import time
from dataclasses import replace
from urllib.parse import urlencode

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stabsim.activations import ACTIVATIONS
from stabsim.arguments import CHOICES, PRECISIONS
from stabsim.diagnosis import judge
from stabsim.explorer import curves
from stabsim.explorer.fields import FIELDS, SECTIONS
from stabsim.explorer.latest import Latest
from stabsim.explorer.state import CHECKS, DEEPEST, LARGEST_BATCH, MAPPED, MOST_NETS, WIDEST, State
from stabsim.initializers import INITIALIZERS, initializer
from stabsim.plan import Plan
from stabsim.simulation import simulate
from stabsim.task import LARGEST_SEED

SMALL = State(depth=5, width=32, nets=50)

states = st.builds(
    State,
    depth=st.integers(1, DEEPEST),
    width=st.integers(1, WIDEST),
    gain=st.none() | st.floats(1e-6, 1e5),
    activation=st.sampled_from([*ACTIVATIONS, "leaky_relu(slope=0.2)", "linear(alpha=1, beta=0.1)"]),
    weights=st.sampled_from([*(set(INITIALIZERS) - {"torch_default", "keras_default"}), "he_normal(fan=out)"]),
    bias_std=st.floats(0.0, 100.0),
    normalization=st.sampled_from(["none", "batch", "layer(epsilon=0)"]),
    skip=st.sampled_from(["none", "skip", "skip(branch=0.1, activation=before)"]),
    batch=st.integers(1, LARGEST_BATCH),
    nets=st.integers(2, MOST_NETS),
    seed=st.integers(0, LARGEST_SEED),
    sampler=st.sampled_from(CHOICES),
    precision=st.sampled_from(PRECISIONS),
    share=st.sampled_from(sorted(MAPPED)),
).filter(lambda state: state.gain is None or initializer(state.weights).law != "constant")


@given(state=states)
def test_a_link_holds_the_whole_state(state: State) -> None:
    reading = State.read(state.link)
    assert (reading.state, reading.problems) == (state, {})
    assert State.read(f"?{state.link}").state == state
    assert reading.texts == state.texts


@given(link=st.text() | st.dictionaries(st.sampled_from(sorted(CHECKS)), st.text(max_size=9)).map(urlencode))
def test_whatever_a_link_says_it_is_read_or_refused_in_words(link: str) -> None:
    reading = State.read(link)
    assert (reading.state is None) == bool(reading.problems)
    assert set(reading.texts) == set(CHECKS)
    assert all("\n" not in text and 0 < len(text) < 900 for text in reading.problems.values())


def test_a_link_without_anything_is_a_new_page() -> None:
    assert State.read("").state == State.read("?").state == State()


@pytest.mark.parametrize(
    ("link", "name", "said"),
    [
        ("depth=abc", "depth", "depth must be an integer from 1 to 1000, not 'abc'"),
        ("depth=0", "depth", "depth must be an integer from 1 to 1000, not 0"),
        ("depth=1e3", "depth", "not '1e3'"),
        ("width=99999999999999999999", "width", "an integer from 1 to 8192"),
        ("width=", "width", "an integer from 1 to 8192, not ''"),
        ("gain=-1", "gain", "gain must be a finite number > 0"),
        ("gain=nan", "gain", "gain must be a finite number > 0"),
        ("bias_std=1e999", "bias_std", ">= 0 and <= 100, not inf"),
        ("activation=rleu", "activation", "unknown activation 'rleu'; known, nearest first: relu"),
        ("activation=leaky_relu(slop=1)", "activation", "nearest first: slope"),
        ("weights=glorot_norml", "weights", "nearest first: glorot_normal"),
        ("normalization=bach", "normalization", "nearest first: batch"),
        ("skip=skp", "skip", "nearest first: skip"),
        ("cell=ltsm", "cell", "nearest first: lstm"),
        ("precision=float23", "precision", "nearest first: float32"),
        ("sampler=matrixfree", "sampler", "nearest first: matrix_free"),
        ("share=zeros", "share", "known, nearest first"),
        ("nets=1", "nets", "from 2 to"),
        ("seed=-1", "seed", "from 0 to 18446744073709551615"),
        ("widht=5", "", "unknown part of the link 'widht'; known, nearest first: width"),
        ("depth=6&depth=6", "depth", "depth is given twice by the link"),
        ("x" * 9000, "", "a link may have 8000 characters, not 9000"),
        ("weights=torch_default&bias_std=0.1", "", "bias_std must be 0 with weights='torch_default'"),
        ("cell=lstm&normalization=batch", "", "does not go with a recurrent cell"),
        ("depth=1&skip=skip(layers=2)", "", "needs 2 layers"),
        ("weights=zeros&gain=2", "", "gain must be empty with weights='zeros', which are constants, not 2.0"),
    ],
)
def test_what_is_not_allowed_is_said_and_kept(link: str, name: str, said: str) -> None:
    reading = State.read(link)
    assert reading.state is None
    assert said in reading.problems[name], reading.problems
    if len(link) < 9000:
        for pair in link.split("&")[:1]:
            key, _, text = pair.partition("=")
            assert reading.texts.get(key, text) == text


def test_all_that_is_wrong_is_said_at_once() -> None:
    assert set(State.read("depth=0&width=0&activation=x&huh=1").problems) == {"depth", "width", "activation", ""}


def test_every_part_of_the_state_has_a_field_and_a_check() -> None:
    names = [field.name for field in FIELDS]
    assert sorted(names) == sorted(CHECKS) == sorted(State().texts)
    assert sorted(names) == sorted(["share", *(name for section in SECTIONS.values() for name in section)])


@pytest.mark.parametrize("field", [field for field in FIELDS if field.slider or field.choices], ids=lambda f: f.name)
def test_sliders_and_lists_offer_only_what_is_allowed(field) -> None:  # type: ignore[no-untyped-def]
    offered = field.choices or [f"{end:g}" for end in field.slider]
    for text in offered:
        CHECKS[field.name](field.name, text)
    assert field.name == "gain" or State().texts[field.name] in offered or field.slider


@pytest.mark.parametrize(
    "state",
    [
        SMALL,
        replace(SMALL, activation="relu", weights="he_normal", gain=1.2, seed=3),
        replace(SMALL, weights="torch_default"),
    ],
    ids=["tanh", "relu", "dense"],
)
def test_curves_are_those_of_simulate_bit_for_bit(state: State) -> None:
    *_, result = curves.draw(state)
    found = curves.columns(result, curves.theory(state))
    network, names = state.network, [q.name for q in result.task.table_quantities]
    table = simulate(network, nets=state.nets, seed=state.seed, quantities=names).table
    compared = 0
    for name in curves.DRAWN:
        rows = table[table["quantity"] == name]
        for end in ("estimate", "ci_low", "ci_high", "theory"):
            drawn = found[f"{name} {end}"]
            np.testing.assert_array_equal(drawn[rows["layer"]], rows[end], err_msg=f"{name} {end}")
            assert np.isnan(np.delete(drawn, rows["layer"])).all()
        known = np.where(rows["theory"].isna(), rows["infinite_width"], np.nan)
        np.testing.assert_array_equal(found[f"{name} infinite_width"][rows["layer"]], known)
        compared += len(rows)
    assert compared > 40
    assert judge(result).kind in ("stable", "undecided", "vanishing")


def test_another_gain_has_other_curves() -> None:
    norms = [
        curves.columns(list(curves.draw(replace(SMALL, gain=gain)))[-1])["activation_log10_norm estimate"]
        for gain in (0.5, 1.5)
    ]
    assert norms[0][-1] < norms[1][-1] - 0.5


def test_where_all_take_long_few_are_drawn_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(curves, "PROMPT", 1e-6)
    monkeypatch.setattr(curves, "FIRST_LOOK", 1e-5)
    first, *_, last = curves.draw(SMALL)
    assert first.nets < last.nets == SMALL.nets
    direct = simulate(SMALL.network, nets=SMALL.nets, quantities=[q.name for q in last.task.table_quantities])
    assert last.table.equals(direct.table)


def test_a_verdict_comes_with_the_last_of_the_nets(monkeypatch: pytest.MonkeyPatch) -> None:
    """Intervals that hold for one look are looked at once, however often curves are drawn."""
    pytest.importorskip("panel", reason="panel is not installed: pip install 'stabsim[explore]'")
    from bokeh.document import Document

    from stabsim.explorer import page

    state = replace(SMALL, nets=3 * Plan(curves.task_of(SMALL)).chunk_nets)
    *_, last = curves.draw(state)
    told: list[dict[str, object]] = []
    monkeypatch.setattr(page, "BETWEEN", 0.0)
    session = page.Session(Document())
    monkeypatch.setattr(session, "_later", lambda _stop, _link, _show, **each: told.append(each))
    session._curves(state.link, state, lambda: False)
    session.close()
    *before, end = told
    assert len(before) >= 2 and {(each["kind"], each["busy"]) for each in before} == {("", True)}
    assert all(each["sentence"] == page.WAITING for each in before)
    assert (end["kind"], end["sentence"], end["busy"]) == (judge(last).kind, judge(last).sentence, False)


def test_it_stops_when_it_is_told_to() -> None:
    assert curves.shares(SMALL, lambda: True) is None
    state = replace(SMALL, nets=3 * Plan(curves.task_of(SMALL)).chunk_nets)
    assert len(list(curves.draw(state))) > len(list(curves.draw(state, lambda: True)))


@pytest.mark.parametrize(
    ("state", "said"),
    [
        (State(width=8192, depth=1000, weights="glorot_uniform"), "one of these nets takes about"),
        (State(width=8192, depth=200, nets=65_536), "such nets can be drawn here"),
        (State(cell="lstm", precision="float16"), "cell='lstm'"),
        (State(weights="glorot_uniform", sampler="matrix_free"), "needs weights of law"),
    ],
)
def test_what_takes_too_long_or_cannot_be_run_is_refused(state: State, said: str) -> None:
    start = time.monotonic()
    with pytest.raises(ValueError, match=said.replace("(", r"\(")):
        next(curves.draw(state))
    assert time.monotonic() - start < 5


def test_a_limit_names_a_number_that_is_allowed() -> None:
    state = State(width=8192, depth=200, nets=65_536)
    with pytest.raises(ValueError, match="up to ") as caught:
        next(curves.draw(state))
    allowed = int(str(caught.value).split("up to ")[1].split()[0])
    assert 0 < curves.check_cost(Plan(curves.task_of(state)), allowed) <= curves.LONGEST


def test_the_heat_map_is_what_simulate_says_of_each_gain() -> None:
    state = replace(SMALL, activation="hard_tanh", share="derivative_zero_fraction")
    found = curves.shares(state)
    assert found is not None
    gains, shares = found
    assert shares.shape == (curves.STEPS, SMALL.depth + 1)
    for place in (0, 8, 16):
        network = replace(state, gain=float(gains[place])).network
        result = simulate(network, nets=curves.NETS_A_GAIN, quantities=("derivative_zero_fraction",))
        expected = result.estimates("derivative_zero_fraction").estimate
        np.testing.assert_array_equal(shares[place, 1:], expected[1:])
    assert shares[16, -1] > shares[0, -1]


def test_a_gain_that_moves_a_little_needs_no_new_map(monkeypatch: pytest.MonkeyPatch) -> None:
    first = curves.shares(replace(SMALL, gain=1.0))
    monkeypatch.setattr(curves, "simulate", None)  # would fail if it were called
    second = curves.shares(replace(SMALL, gain=1.3))
    assert first is not None and second is not None
    np.testing.assert_array_equal(first[1], second[1])


def test_a_share_that_does_not_exist_is_refused_with_those_that_do() -> None:
    with pytest.raises(ValueError, match=r"forget_gate_saturated_fraction needs .*derivative_zero_fraction"):
        curves.shares(replace(SMALL, share="forget_gate_saturated_fraction"))
    with pytest.raises(ValueError, match="no gain to vary"):
        curves.shares(replace(SMALL, weights="zeros"))


def test_what_does_not_exist_is_said() -> None:
    assert "batch >= 2" in curves.missing(SMALL, ("activation_correlation",))
    assert curves.missing(replace(SMALL, batch=2), ("activation_correlation",)) == ""


def test_only_the_latest_request_is_worked_on_to_its_end() -> None:
    begun, go, ended = [], threading.Event(), []
    done = threading.Event()

    def work(number, stop) -> None:  # type: ignore[no-untyped-def]
        begun.append(number)
        go.wait(10)
        if not stop():
            ended.append(number)
            done.set()

    latest: Latest[int] = Latest(work)
    latest.ask(0)
    while not begun:
        time.sleep(0.001)
    for number in range(1, 50):
        latest.ask(number)
    go.set()
    assert done.wait(10)
    latest.close()
    assert (begun, ended) == ([0, 49], [49])


def test_what_is_closed_stops() -> None:
    seen, stopped = threading.Event(), threading.Event()

    def work(_request, stop) -> None:  # type: ignore[no-untyped-def]
        seen.set()
        while not stop():
            time.sleep(0.001)
        stopped.set()

    latest: Latest[int] = Latest(work)
    latest.ask(1)
    assert seen.wait(10)
    latest.close()
    assert stopped.wait(10)


def test_a_tab_that_is_closed_stops_what_it_has_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    panel = pytest.importorskip("panel", reason="panel is not installed: pip install 'stabsim[explore]'")
    from bokeh.document import Document

    from stabsim.explorer import page

    begun, stopped = threading.Event(), threading.Event()

    def draw(_state, stop):  # type: ignore[no-untyped-def]
        begun.set()
        while not stop():
            time.sleep(0.001)
        stopped.set()
        yield from ()

    monkeypatch.setattr(curves, "draw", draw)
    sessions = [page.Session(document := Document())]
    monkeypatch.setattr(page, "Session", lambda _document: sessions[0])
    monkeypatch.setattr(type(panel.state), "curdoc", document)
    page.page()
    sessions[0].ask(SMALL.link)
    assert begun.wait(10) and not stopped.wait(0.1)
    for gone in document.session_destroyed_callbacks:
        gone(None)
    assert stopped.wait(10)
