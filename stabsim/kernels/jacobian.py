"""Singular values of the Jacobians J_l = dz_L/dz_l of each sample, in the dense sampler.

With units as rows of J^T, J is (n_L, n_l): the identity at the last layer, and J f'(s) W^T below, in float64 whatever
the simulation's type. A sample's J is ``held / 2**power``. What follows from sums of even powers of the singular values
is taken from J and its Gram matrix, which costs a tenth of all singular values.
"""

from __future__ import annotations

import functools
import math
from typing import Any

import numpy as np

from stabsim.kernels import batch, blocks, dense, layer, spectrum, statistics
from stabsim.kernels import record as r
from stabsim.kernels.compile import atom, kernel
from stabsim.kernels.signature import signature
from stabsim.kernels.views import as_doubles, as_matrix, flat, stretch

# Of all layers together; all float64 but the last, which is what observers see.
BUFFERS = dense.BUFFERS + 6
JACOBIAN, PASSED, WORK, VALUES, POWERS, SEEN = (np.int64(i) for i in range(dense.BUFFERS, BUFFERS))

ROUNDING = 2.0**-52


@atom
def doubles(net, buffer, first, rows, columns):
    """Return a matrix of float64 from the number ``first`` on."""
    return as_matrix(stretch(as_doubles(net.buffers[buffer]), first, rows * columns), rows, columns)


@atom
def jacobian(net, l, sample):
    """Return the J of a sample (n_L, n_l)."""
    rows, columns = net.widths[-1], net.widths[l]
    return doubles(net, JACOBIAN, sample * rows * columns, rows, columns)


@atom
def powers(net):
    """Return the power of two of each sample's J."""
    return doubles(net, POWERS, np.int64(0), np.int64(1), net.batch)[0]


@atom
def start(net):
    """Make each J the identity."""
    blocks.fill(powers(net), 0.0)
    for sample in range(net.batch):
        held = jacobian(net, net.widths.size - 1, sample)
        blocks.fill(flat(held), 0.0)
        for i in range(held.shape[0]):
            held[i, i] = 1.0


@atom
def pull_back(net, l):
    """Turn J_l into J_(l-1) = J_l f'(s) W^T; where widths differ, places do."""
    w, d = dense.weights(net, l), batch.whole(net, batch.D, l)
    rows, below, width = net.widths[-1], net.widths[l - 1], net.widths[l]
    passed = doubles(net, PASSED, np.int64(0), below, width)
    grows = below > width
    for turn in range(net.batch):
        sample = net.batch - 1 - turn if grows else turn  # lest one is written over the next
        multiply_columns(w, d[sample], passed)
        product = doubles(net, WORK, np.int64(0), rows, below)
        np.dot(jacobian(net, l, sample), passed.T, product)
        squares = blocks.power_sums_2(flat(product), 0.0)[1]
        powers(net)[sample] += net.weight_exponent[l] + layer.normalize(product, squares / product.size)
        blocks.copy(flat(product), flat(jacobian(net, l - 1, sample)))


@kernel()
def multiply_columns(matrix, factors, out):
    """Write the matrix with its columns multiplied, in float64."""
    for i in range(matrix.shape[0]):
        for j in range(factors.size):
            out[i, j] = np.float64(matrix[i, j]) * np.float64(factors[j])


@atom
def largest_power(net, l):
    """Return the largest power of two of those J that are not 0; 0 if all are."""
    largest, found = np.int64(0), False
    for sample in range(net.batch):
        power = np.int64(powers(net)[sample])
        if (not found or power > largest) and not blocks.all_zero(flat(jacobian(net, l, sample))):
            largest, found = power, True
    return largest


@atom
def record(net, ask, row, l):
    """Record what is wanted of the singular values of J_l, in units of the largest J of a sample."""
    rows, columns = net.widths[-1], net.widths[l]
    count = min(rows, columns)
    every = ask.wanted[r.EACH_SINGULAR_VALUE] or ask.observing
    exponent = largest_power(net, l)
    alive, full = 0, 0  # samples whose J is not 0, and has no singular value that is
    values, seen = doubles(net, VALUES, np.int64(0), net.batch, count), np.int64(0)
    shown = as_matrix(stretch(net.buffers[SEEN], seen, net.batch * count), net.batch, count)
    for sample in range(net.batch):
        held = jacobian(net, l, sample)
        power = np.int64(powers(net)[sample])
        alive += add_even_powers(row, ask.wanted, held, power - exponent, doubles(net, WORK, seen, count, count))
        if every:
            work = doubles(net, WORK, seen, rows, columns)
            blocks.copy(flat(held), flat(work))
            spectrum.singular_values(work, values[sample])
            full += add_values(row, values[sample], power, ROUNDING * max(rows, columns))
            blocks.scale_by_power_of_two(values[sample], power - exponent)
            row[r.SINGULAR_VALUE + r.M1] += blocks.power_sums_2(values[sample], 0.0)[0]
            blocks.copy(values[sample], shown[sample])
    blocks.finish_powers(row, r.SINGULAR_VALUE, net.batch * count, exponent)
    finish(row, net.batch, count, alive, full)
    statistics.observe_some(net, ask, row, statistics.SINGULAR_VALUE, l, shown, exponent, shown.size)


@kernel()
def add_even_powers(row, wanted, held, power, gram):
    """Add what follows from J and its Gram matrix; return whether J is not 0."""
    squares = blocks.power_sums_2(flat(held), 0.0)[1]
    of_sample = math.ldexp(squares, 2 * power)
    row[r.SINGULAR_VALUE + r.M2] += of_sample
    row[r.SINGULAR_VALUE + r.SQUARE] += of_sample
    if squares == 0.0:
        return 0
    if wanted[r.SINGULAR_VALUE_SPREAD]:
        if held.shape[0] == gram.shape[0]:
            np.dot(held, held.T, gram)
        else:
            np.dot(held.T, held, gram)
        fourth = blocks.power_sums_2(flat(gram), 0.0)[1]
        row[r.SINGULAR_VALUE_SPREAD] += gram.shape[0] * fourth / (squares * squares) - 1.0
    return 1


@kernel()
def add_values(row, values, power, rounding):
    """Add what there is of singular values of which the first is the largest; return whether none is 0."""
    largest, smallest = values[0], values[values.size - 1]
    zeros = 0
    for value in values:
        zeros += value <= rounding * largest
    row[r.SINGULAR_VALUE_ZERO] += zeros
    if largest == 0.0:
        return 0
    row[r.SINGULAR_VALUE_LOG10_LARGEST] += math.log10(largest) + power * blocks.LOG10_OF_2
    if zeros > 0:
        return 0
    row[r.SINGULAR_VALUE_LOG10_SMALLEST] += math.log10(smallest) + power * blocks.LOG10_OF_2
    row[r.SINGULAR_VALUE_LOG10_CONDITION] += math.log10(largest) - math.log10(smallest)
    return 1


@kernel()
def finish(row, samples, count, alive, full):
    """Turn what was added over samples into means: of those that have it, of the smallest of all or none of them."""
    row[r.SINGULAR_VALUE_SPREAD] /= alive
    row[r.SINGULAR_VALUE_LOG10_LARGEST] /= alive
    row[r.SINGULAR_VALUE_ZERO] /= samples * count
    if full == samples:
        row[r.SINGULAR_VALUE_LOG10_SMALLEST] /= samples
        row[r.SINGULAR_VALUE_LOG10_CONDITION] /= samples
    else:
        row[r.SINGULAR_VALUE_LOG10_SMALLEST] -= math.inf
        row[r.SINGULAR_VALUE_LOG10_CONDITION] += math.inf


@atom
def pass_back(pull, weight_gradient, net, ask, row, l, exponent):
    """Do what plain nets do, and record what is wanted of J_l; J is pulled back."""
    if l == net.widths.size - 1:
        start(net)
    record(net, ask, row, l)
    exponent_below = batch.pass_back(pull, weight_gradient, net, ask, row, l, exponent)
    pull_back(net, l)
    return exponent_below


@atom
def record_input(net, ask, row):
    """Record what is wanted of J_0."""
    record(net, ask, row, 0)


@functools.cache
def jacobian_sampler(dtype: np.dtype[Any]) -> Any:
    """Return the compiled sampler of that precision; ``stabsim.plan`` makes its arguments."""
    simulate_nets = batch.sampler(
        dense.prepare, dense.factors, dense.recall, dense.pull_back, dense.weight_gradient, pass_back=pass_back,
        finish=record_input,
    )  # fmt: skip
    return kernel(signature(dtype, BUFFERS), cache=f"jacobian {dtype.name}")(simulate_nets)
