"""What a thread draws of one sample's units, a group of random numbers at a time."""

from __future__ import annotations

import functools
from typing import Any, NamedTuple

import numpy as np

from stabsim.cuda import draws, shim
from stabsim.cuda.one_sample import projection_exponent
from stabsim.cuda.shim import as_matrix, cuda, stretch
from stabsim.kernels import blocks, inputs, layer, philox
from stabsim.kernels.compile import atom
from stabsim.kernels.matrix_free import BLOCK, SCALE

ZERO = np.int64(0)


class Drawing(NamedTuple):
    """Functions of kernels: how many units a group has, its normals, p and s, its inputs; and squares of normals."""

    real: Any  # type of the numbers
    words: int  # numbers of a group
    groups: np.int64  # of a block of units
    units_of: Any
    normals: Any
    preactivations: Any
    inputs_of: Any
    square_of_normals: Any


@functools.cache
def drawing(dtype: np.dtype[Any], bias_law: str, full: bool) -> Drawing:
    """Return the functions of nets with that law of biases.

    ``full`` says whether every group of every layer is one of units: all widths are multiples of a tile. Then all is
    done with constant numbers of them, in registers.
    """
    real, words = draws.real_of(dtype), draws.words_of(dtype)
    draw_normals, draw_bias = draws.group_law("normal", dtype), draws.group_law(bias_law, dtype)

    @atom
    def units_of(group, width):
        """Return how many units a group has."""
        if full:
            return np.int64(words)
        return np.int64(draws.count_before(draws.place_of(group, words), width, words))

    @atom
    def normals(out, group, net, purpose, l, scale):
        draw_normals(out, group, net.seed, purpose, np.uint32(l), net.number, real(scale))

    @shim.device
    def preactivations(net, l, group, size, p, s, b):
        """Draw p = z W of a group, and write s = p + b."""
        normals(p, group, net, philox.PROJECTION, l, net.states[l, SCALE])
        for i in range(words):
            s[i] = p[i]
        if net.problem.bias_scale[l] != 0:
            draw_bias(b, group, net.seed, philox.BIAS, np.uint32(l), net.number, net.problem.bias_scale[l])
            units = as_matrix(stretch(s, ZERO, size), np.int64(1), size)
            layer.add_bias(units, stretch(b, ZERO, size), projection_exponent(net, l))

    @shim.device
    def inputs_of(net, group, size, z):
        """Draw or copy the inputs of a group."""
        given = net.given.inputs
        if given.shape[0] == 0:
            normals(z, group, net, philox.INPUT, 0, 1.0)
        else:
            sample = inputs.choice(0, given.shape[0], net.seed, net.number, 0, philox.SAMPLE_CHOICE)
            place = draws.place_of(group, words)
            for i in range(size):
                z[i] = given[sample, place + i * draws.LANES]

    @shim.device
    def square_of_normals(net, first, last, purpose, l, part, parts):
        """Return a thread's share of the squares of the normals at positions ``first`` (of a tile) .. ``last - 1``."""
        numbers = cuda.local.array(words, real)
        total = 0.0
        start = first // draws.LANES // words * draws.LANES
        step = parts * cuda.blockDim.x
        for group in range(start + part * cuda.blockDim.x + cuda.threadIdx.x, draws.groups_of(last, words), step):
            normals(numbers, group, net, purpose, l, 1.0)
            count = np.int64(draws.count_before(draws.place_of(group, words), last, words))
            total += blocks.power_sums_2(stretch(numbers, ZERO, count), 0.0)[1]
        return total

    groups = np.int64(BLOCK // words)
    return Drawing(real, words, groups, units_of, normals, preactivations, inputs_of, square_of_normals)
