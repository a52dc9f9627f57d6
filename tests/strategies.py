"""Hypothesis strategies, bounded so that every example is a net that can be simulated in milliseconds."""

import numpy as np
from hypothesis import strategies as st

from stabsim.initializers import ALIASES, BIAS_LAWS, FANS, INITIALIZERS, LAWS, Initializer
from stabsim.network import Network

WORDS = st.from_regex(r"[A-Za-z_][A-Za-z0-9_]{0,11}", fullmatch=True).filter(
    lambda word: word.lower() not in {"nan", "inf", "infinity"}
)
NUMBERS = st.floats(allow_nan=False, allow_infinity=False).map(lambda number: number + 0.0)  # zero without a sign
GAINS = st.floats(1e-3, 1e3)

parameters = st.dictionaries(WORDS, NUMBERS | WORDS, max_size=4)
widths = st.lists(st.integers(1, 16), min_size=2, max_size=6).map(tuple)
activation_names = st.sampled_from(
    ["linear", "linear(alpha=0.5, beta=0.1)", "relu", "leaky_relu(slope=0.2)", "tanh", "sigmoid", "gelu", "sine"]
)
initializer_names = st.sampled_from([*INITIALIZERS, *ALIASES])
initializers = st.builds(
    Initializer,
    law=st.sampled_from(LAWS),
    gain=GAINS,
    fan=st.sampled_from(FANS),
    bias_law=st.sampled_from(BIAS_LAWS),
    bias_gain=st.none() | st.just(0.0) | GAINS,
)


@st.composite
def networks(draw: st.DrawFn) -> Network:
    """Draw a small network, with biases where its initializer leaves them to the network."""
    weights = draw(initializers)
    bias_std = draw(st.just(0.0) | GAINS) if weights.bias_gain is None else 0.0
    return Network(draw(widths), draw(activation_names), weights, bias_std)


# Rows (layer, bin, count) of the counters of nets by their size.
tails = st.dictionaries(st.tuples(st.integers(0, 3), st.integers(-50, 50)), st.integers(1, 9), max_size=8).map(
    lambda cells: np.array([(*cell, count) for cell, count in cells.items()], np.int64).reshape(-1, 3)
)

# Ensembles for statistical tests: wide enough that a few hundred nets have nearly normal means.
moderate_widths = st.lists(st.integers(24, 64), min_size=3, max_size=6).map(tuple)
independent_laws = st.sampled_from(["normal", "uniform", "truncated_normal"])
homogeneous_activations = st.sampled_from(["linear", "relu", "leaky_relu(slope=0.2)"])
batches = st.integers(1, 5)
seeds = st.integers(0, 2**64 - 1)
