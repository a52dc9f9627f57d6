"""What is recorded of whole rows and matrices of a layer: what the threads of a net's block see together."""

from __future__ import annotations

from collections import namedtuple

from stabsim.cuda import shim
from stabsim.cuda.block import add_up
from stabsim.cuda.matrices import (
    LINES,
    MORE_ROWS,
    ROWS,
    count_unmarked,
    dead_parts,
    mark,
    mean_correlation,
    write_zeros,
)
from stabsim.cuda.shim import cuda
from stabsim.kernels import blocking, blocks
from stabsim.kernels import record as r

# Of all nets of a wave (nets, ...): the record, exponents (buffers, depth + 1), where samples have stopped, and places
# to work in: marks (MARKS, most rows or columns), the regime of f for each sample, sums (SUMS,).
Place = namedtuple("Place", "record exponents runs stops marks regimes sums")


@shim.device
def finish_z(net, l, ask, place, z, zeros, exponent):
    """Finish what is recorded of a layer's z, of which so many are 0."""
    out, wanted = place.record[net, l], ask.wanted
    correlation, rows, columns = 0.0, 0.0, 0.0
    correlated = wanted[r.ACTIVATION_CORRELATION] and z.shape[0] > 1
    if correlated:
        correlation = mean_correlation(z, place.sums[net])
    if zeros > 0:
        rows, columns = dead_parts(z, place.marks[net])
    if cuda.threadIdx.x == 0:
        blocks.finish_powers(out, r.ACTIVATION, z.size, exponent)
        if wanted[r.ACTIVATION_ZERO]:
            write_zeros(out, r.ACTIVATION_ZERO, wanted, z, rows, columns)
        if correlated:
            out[r.ACTIVATION_CORRELATION] = correlation


@shim.device
def see_activation(net, l, place, z):
    """Record what a layer's z has lost."""
    marks, runs = place.marks[net], place.runs[net]
    mark(z, marks[ROWS], marks[LINES])
    for i in range(cuda.threadIdx.x, z.shape[0], cuda.blockDim.x):
        blocking.note_activation(runs, l, i, marks[ROWS, i] == 0)
    dead = count_unmarked(marks[ROWS], z.shape[0])
    if cuda.threadIdx.x == 0:
        place.record[net, l, r.ACTIVATION_DEAD_NET] += dead == z.shape[0]


@shim.device
def see_derivative(net, l, place, d):
    """Record whether a layer's f' is zero everywhere."""
    rows, _ = dead_parts(d, place.marks[net])
    if cuda.threadIdx.x == 0:
        place.record[net, l, r.DERIVATIVE_DEAD_NET] += rows == d.shape[0]


@shim.device
def see_gradient(net, l, ask, place, d, ds, row):
    """Record what a layer's ds has lost, and why; ``row`` has columns of the record."""
    out, marks, runs, stops = place.record[net, l], place.marks[net], place.runs[net], place.stops[net]
    for c in range(r.PREACTIVATION_GRADIENT_DEAD_SAMPLE, r.WEIGHT_GRADIENT_GAIN):
        row[c] = 0.0
    mark(d, marks[MORE_ROWS], marks[LINES])
    mark(ds, marks[ROWS], marks[LINES])
    for i in range(cuda.threadIdx.x, ds.shape[0], cuda.blockDim.x):
        blocking.note_gradient(row, runs, stops, l, i, marks[MORE_ROWS, i] == 0, marks[ROWS, i] == 0)
    add_up(row, r.PREACTIVATION_GRADIENT_DEAD_SAMPLE, r.WEIGHT_GRADIENT_GAIN, out)
    columns = count_unmarked(marks[LINES], ds.shape[1])
    if cuda.threadIdx.x == 0:
        blocking.finish_gradient(out, ds.shape[0])
        if ask.wanted[r.PREACTIVATION_GRADIENT_DEAD_UNIT]:
            out[r.PREACTIVATION_GRADIENT_DEAD_UNIT] = columns / ds.shape[1]
