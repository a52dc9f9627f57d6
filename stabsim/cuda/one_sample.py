"""Steps of a net through which one sample goes, W never formed: what ``kernels/matrix_free.py`` does, by many threads.

Nothing of a net is kept but a few numbers a layer. Each thread draws the units of its groups of random numbers, again
for the way back, and works on them in registers, with the functions of the CPU. There, h is taken off u one block of
units after the other; here the two sums that this takes of each block are made on the way forward.

A step is what threads do with the units of some blocks, which leaves sums (``part``), and what one thread makes of the
sums over all threads (``finish``).
"""

from __future__ import annotations

import math
from collections import namedtuple
from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from stabsim.cuda import shim
from stabsim.kernels import blocks, layer
from stabsim.kernels import matrix_free as m
from stabsim.kernels import record as r
from stabsim.kernels.compile import atom
from stabsim.kernels.matrix_free import BLOCK, COMPLEMENT, INNER, NORM, REGIME, REST, SCALE, SHIFT, SQUARES, TOTALS

# Sums beside those of the record's columns: of squares, of products with h or z W, of squares of h, of squares of
# numbers beyond the units, and the five totals of values.
SQUARED, ALONG, LENGTH, BEYOND, SEEN = range(5)
MORE = SEEN + 5

# What is kept of the nets of a wave, (nets, ...). Of a block: z . z and z . h, the first replaced by c (`m.detach`). Of
# a gradient: a, b and the exponent of a z + b h.
Place = namedtuple("Place", "record states exponents runs stops ties gradient sums")
# A net as a thread sees it.
Net = namedtuple("Net", "number seed problem given ask record states exponents runs stops ties gradient sums")


class Step(NamedTuple):
    """What is done with a layer: ``part(net, l, part, parts)`` and ``finish(net, l)``."""

    part: Callable[..., None]
    finish: Callable[..., None]


class Steps(NamedTuple):
    """All there is to do with a layer, in this order: three steps forward, one back (layer 0: its own)."""

    scale: Step
    regime: Step
    forward: Step
    back: Step
    input_back: Step


@atom
def net_of(index, first, seed, problem, given, ask, place):
    """Return a net of a wave."""
    return Net(
        number=np.uint32(first + index), seed=np.uint64(seed), problem=problem, given=given, ask=ask,
        record=place.record[index], states=place.states[index], exponents=place.exponents[index],
        runs=place.runs[index], stops=place.stops[index], ties=place.ties[index], gradient=place.gradient[index],
        sums=place.sums[index],
    )  # fmt: skip


@atom
def projection_exponent(net, l):
    """Return the exponent of z W."""
    return net.exponents[m.Z, l - 1] + np.int64(net.states[l - 1, SHIFT]) + net.problem.weight_exponent[l]


@atom
def drawn_back(net, l):
    """Return whether h of a layer is wanted: there is a gradient by its z that goes through W."""
    return net.ask.backward and l < net.problem.widths.size - 1


@shim.device
def finish_scale(net, l):
    """Fix the exponent of s and the scale of g."""
    problem = net.problem
    exponent = projection_exponent(net, l)
    net.exponents[m.S, l] = max(exponent, 0) if problem.bias_scale[l] != 0 else exponent
    scale = problem.weight_scale[l] * net.states[l - 1, NORM]
    if problem.orthogonal:
        longer = max(problem.widths[l - 1], problem.widths[l])
        scale *= math.sqrt(longer / net.sums[0, -MORE + SQUARED])
    net.states[l, SCALE] = scale


@shim.device
def finish_regime(net, l):
    """Fix how f is evaluated, and the exponent of z."""
    problem, exponent = net.problem, net.exponents[m.S, l]
    regime = np.int64(layer.CURVE)
    if exponent != 0 and not problem.homogeneous:
        seen = net.sums[0, -MORE + SEEN :]
        mean_square = seen[1] / problem.widths[l]
        itemsize = problem.weight_scale.itemsize
        regime = np.int64(layer.regime_of(mean_square, seen[3], seen[4], itemsize, problem.shape, exponent))
    net.states[l, REGIME] = regime
    net.exponents[m.Z, l] = layer.exponent_after(regime, exponent)


@atom
def tie(net, l, width):
    """Sum |z|^2 over blocks, and turn what is known of each into c of h + c z."""
    state, ties = net.states[l], net.ties[l]
    count = -(-width // BLOCK)
    squares, rest = 0.0, 0.0
    for k in range(count):
        squares, rest = blocks.add_exactly(squares, rest, ties[k, 0])
    state[SQUARES], state[REST] = squares, rest
    if not drawn_back(net, l) or net.problem.orthogonal:
        return
    debt, beyond = 0.0, squares
    for k in range(count):
        of_block = beyond if count == 1 else ties[k, 0]
        beyond, rest = blocks.add_exactly(beyond, rest, -of_block)
        ties[k, 0], debt = m.detach(of_block, ties[k, 1], debt, max(beyond + rest, 0.0))


@shim.device
def finish_forward(net, l):
    """Record what is wanted of a layer, and keep what the next one takes, and the way back."""
    ask, row, state = net.ask, net.record[l], net.states[l]
    sums, width = net.sums[0], net.problem.widths[l]
    if l > 0:
        layer.finish_sample(row, ask.wanted, width, net.exponents[m.S, l])
    layer.finish_sample_activation(row, ask.wanted, width, net.exponents[m.Z, l])
    if ask.looking:
        m.look_forward(ask, row, net.runs, l, sums[r.ACTIVATION_ZERO] == width)
    tie(net, l, width)
    squares = state[SQUARES]
    shift = layer.far_from_one(squares / width)
    state[SHIFT] = shift
    state[NORM] = blocks.times_power(math.sqrt(squares), -shift)
    state[INNER], state[COMPLEMENT] = sums[-MORE + ALONG], sums[-MORE + LENGTH]
    for i in range(5):
        state[TOTALS + i] = sums[-MORE + SEEN + i]


@atom
def pull_back(net, l):
    """Return (a, b) of dz = a z + b h of the layer below, as `m.pull_back` does."""
    sums, below = net.sums[0], net.states[l - 1]
    norm = math.sqrt(below[SQUARES])
    alive = norm > 0
    along_h = below[INNER] / norm if alive else 0.0
    along = sums[-MORE + ALONG] / below[NORM] if alive else 0.0
    b = net.problem.weight_scale[l] * math.sqrt(sums[-MORE + SQUARED])
    if net.problem.orthogonal:
        longer = max(net.problem.widths[l - 1], net.problem.widths[l])
        length = below[COMPLEMENT] - along_h * along_h + sums[-MORE + BEYOND]
        left = max(b * b * longer - along * along, 0.0)
        b = math.sqrt(left / length) if longer > alive and length > 0 else 0.0
    return (along - b * along_h) / norm if alive else 0.0, b


@shim.device
def finish_back(net, l):
    """Record what is wanted of a layer's gradients, and keep a, b and the exponent of the next."""
    ask, row, sums = net.ask, net.record[l], net.sums[0]
    exponent, width = np.int64(net.gradient[2]), net.problem.widths[l]
    layer.finish_gradients(row, width, exponent)
    if ask.looking:
        m.look_back(ask, row, net.runs, net.stops, l, sums[r.PREACTIVATION_GRADIENT_ZERO] == width)
    if ask.weight_gradients:
        t, seen = net.states[l - 1, TOTALS:], sums[-MORE + SEEN :]
        layer.record_outer_product(
            row, ask.wanted, net.problem.widths[l - 1], (t[0], t[1], t[2], t[3], t[4]), width,
            (seen[0], seen[1], seen[2], seen[3], seen[4]), net.exponents[m.Z, l - 1] + exponent,
        )  # fmt: skip
    shift = layer.far_from_one(sums[-MORE + SQUARED] / width)
    a, b = pull_back(net, l)
    net.gradient[0], net.gradient[1] = blocks.times_power(a, -shift), blocks.times_power(b, -shift)
    net.gradient[2] = exponent + shift + net.problem.weight_exponent[l]


@shim.device
def finish_input_back(net, l):
    """Record what is wanted of the gradient by the input."""
    layer.finish_input_gradient(net.record[0], net.problem.widths[0], np.int64(net.gradient[2]))
