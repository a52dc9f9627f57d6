"""Random symmetric matrices that are grown row by row and kept positive definite, by sequential Monte Carlo.

A = L L^T is positive definite, and the next row (b, d) keeps it so if t = d - |y|^2 > 0 with L y = b. Particles are
draws of A with weights. The target of k of n rows is their law, on A > 0, times det(1 + c A^-1)^(-(n - k) / 2), which
stands for the chances of the rows to come: E exp(-tilt b^T A^-1 b) for each, with c = 2 variance tilt. y is drawn
from exp(-(|b - mean|^2 + c |y|^2) / 2 variance), whose norm cancels one of these determinants, and t from an upper hull
of its log-concave density. All that A enters by is R, R R^T = L^T L + c, whose update takes k^2 steps; kept as R^T.
"""

from __future__ import annotations

import functools
import math
from typing import Any

import numpy as np
from numba import float64, int64, types, uint64, void

from stabsim.kernels.compile import REASSOCIATE, atom, kernel
from stabsim.kernels.philox import normals_64, philox, uniforms_64

# Purposes of random numbers, beside those in philox.py.
ROW = np.uint32(12)
DIAGONAL = np.uint32(13)
CHOICE = np.uint32(14)

HALF_WIDTH = math.sqrt(2.0)  # in standard deviations: where the hull of a normal density is tightest, 1.13 times it
NEWTON_STEPS = 12
LAYERS = 1024  # above every number of rows


@atom
def unit(group, layer, net, purpose, seed):
    """Return a uniform number on (0, 1)."""
    k0, k1 = np.uint32(seed), np.uint32(seed >> np.uint64(32))
    x, _ = uniforms_64(*philox(np.uint32(group), np.uint32(layer), np.uint32(net), purpose, k0, k1))
    return 0.5 + x * (0.5 / math.sqrt(3.0))


@kernel()
def fill_normals(out, size, layer, net, purpose, seed):
    """Write so many standard normals."""
    k0, k1 = np.uint32(seed), np.uint32(seed >> np.uint64(32))
    for i in range(0, size, 2):
        x, y = normals_64(*philox(np.uint32(i), np.uint32(layer), np.uint32(net), purpose, k0, k1))
        out[i] = x
        if i + 1 < size:
            out[i + 1] = y


@kernel()
def chi_square(degrees, first, layer, net, purpose, seed):
    """Draw the sum of so many squared normals (Marsaglia & Tsang 2000, ACM TOMS 26), with groups from a first one."""
    k0, k1 = np.uint32(seed), np.uint32(seed >> np.uint64(32))
    d = 0.5 * degrees - 1.0 / 3.0
    c = 1.0 / math.sqrt(9.0 * d)
    while True:
        x, _ = normals_64(*philox(np.uint32(first), np.uint32(layer), np.uint32(net), purpose, k0, k1))
        if degrees == 1:
            return x * x
        v = (1.0 + c * x) ** 3
        if v > 0:
            u = unit(first + 1, layer, net, purpose, seed)
            if math.log(u) < 0.5 * x * x + d - d * v + d * math.log(v):
                return 2.0 * d * v
        first += 2


@kernel(fastmath=REASSOCIATE)
def _dot(x, y, size):
    total = 0.0
    for i in range(size):
        total += x[i] * y[i]
    return total


# The density of t: exp(-(t + shift)^2 / 2 variance) (t / (t + gap))^power on t > 0.
@atom
def _log_density(t, shift, variance, power, gap):
    value = -0.5 * (t + shift) * (t + shift) / variance
    return value + power * math.log(t / (t + gap)) if power * gap > 0 else value


@atom
def _slope(t, shift, variance, power, gap):
    slope = -(t + shift) / variance
    return slope + power * gap / (t * (t + gap)) if power * gap > 0 else slope


@kernel()
def _tangent_points(shift, variance, power, gap):
    """Return three points on both sides of the mode, or the first at it where it is 0."""
    product = power * gap * variance
    mode = max(-shift, 0.0)
    if product > 0:  # Newton's steps come from the right, where the cubic is convex
        mode += product ** (1 / 3)
        for _ in range(NEWTON_STEPS):
            cubic = (mode + shift) * mode * (mode + gap) - product
            mode -= cubic / (mode * (mode + gap) + (mode + shift) * (2 * mode + gap))
    if mode > 0:
        curvature = 1 / variance
        if product > 0:
            curvature += power * gap * (2 * mode + gap) / (mode * (mode + gap)) ** 2
        reach = HALF_WIDTH / math.sqrt(curvature)
        return mode * math.exp(-reach / mode), mode, mode + reach
    mean = 2 * variance / (shift + math.sqrt(shift * shift + 4 * variance))  # of an exponential law near it
    return 0.0, mean, 2.5 * mean


@atom
def _integral(slope, length):
    """Return the integral of exp(slope x) from 0."""
    return math.expm1(slope * length) / slope if abs(slope) * length > 1e-12 else length


@atom
def _inverse_integral(share, slope, length):
    """Return up to where that share of it goes."""
    if abs(slope) * length > 1e-12:
        return math.log1p(share * math.expm1(slope * length)) / slope
    return share * length


@kernel()
def draw_excess(u, shift, variance, power, gap):
    """Draw t from the hull by one uniform number; return it and the log of its weight, density over law."""
    p0, p1, p2 = _tangent_points(shift, variance, power, gap)
    f0 = _log_density(p0, shift, variance, power, gap)
    f1 = _log_density(p1, shift, variance, power, gap)
    f2 = _log_density(p2, shift, variance, power, gap)
    h0 = _slope(p0, shift, variance, power, gap)
    h1 = _slope(p1, shift, variance, power, gap)
    h2 = _slope(p2, shift, variance, power, gap)
    z1 = min(max((f1 - f0 + h0 * p0 - h1 * p1) / (h0 - h1), p0), p1)
    z2 = min(max((f2 - f1 + h1 * p1 - h2 * p2) / (h1 - h2), p1), p2)
    top = max(f0, f1)
    at_z1, at_z2 = f0 + h0 * (z1 - p0), f2 + h2 * (z2 - p2)
    after_z1 = f1 + h1 * (z1 - p1)
    first = math.exp(at_z1 - top) * _integral(-h0, z1)  # from z1 down, where the slope is mostly upward
    middle = math.exp(after_z1 - top) * _integral(h1, z2 - z1)
    last = math.exp(at_z2 - top) / -h2
    total = first + middle + last
    place = u * total
    if place < first:
        t = z1 - _inverse_integral(place / first, -h0, z1)
        hull = at_z1 + h0 * (t - z1)
    elif place < first + middle:
        t = z1 + _inverse_integral((place - first) / middle, h1, z2 - z1)
        hull = after_z1 + h1 * (t - z1)
    else:
        t = z2 + math.log((total - place) / last) / h2
        hull = at_z2 + h2 * (t - z2)
    t = max(t, 1e-300)
    return t, _log_density(t, shift, variance, power, gap) - hull + top + math.log(total)


@kernel(fastmath=REASSOCIATE)
def _solve(upper, y, size, out):
    """Solve R out = y."""
    for i in range(size):
        out[i] = y[i]
    for j in range(size):
        out[j] /= upper[j, j]
        x = out[j]
        for i in range(j + 1, size):
            out[i] -= x * upper[j, i]


@kernel(fastmath=REASSOCIATE)
def _solve_transposed(upper, z, size):
    """Solve R^T out = z in place."""
    for j in range(size - 1, -1, -1):
        total = 0.0
        for i in range(j + 1, size):
            total += upper[j, i] * z[i]
        z[j] = (z[j] - total) / upper[j, j]


@kernel(fastmath=REASSOCIATE)
def _append(upper, y, t, q, shift, size, work):
    """Make R of the factor with the further row (y, sqrt t); q = |R^-1 y|^2."""
    for i in range(size):
        work[i] = y[i]
    for j in range(size):  # R R^T + y y^T
        r = upper[j, j]
        new = math.hypot(r, work[j])
        cosine, sine = r / new, work[j] / new
        upper[j, j] = new
        for i in range(j + 1, size):
            x = upper[j, i]
            upper[j, i] = cosine * x + sine * work[i]
            work[i] = cosine * work[i] - sine * x
    _solve(upper, y, size, work)
    root = math.sqrt(t)
    for j in range(size):
        upper[j, size] = root * work[j]
    upper[size, size] = math.sqrt(shift + t / (1 + q))


@kernel()
def draw_wishart_row(wishart, k, columns, layer, net, seed, mean):
    """Draw a row of the triangular factor of X X^T (Bartlett), and the new row of X X^T / columns."""
    inner = wishart.shape[1]
    row = wishart[k]
    before = min(k, inner)
    fill_normals(row, before, layer, net, DIAGONAL, seed)
    if k < inner:
        row[k] = math.sqrt(chi_square(columns - k, k + 1, layer, net, DIAGONAL, seed))
    size = min(k + 1, inner)
    for j in range(k + 1):
        mean[j] = _dot(wishart[j], row, min(j + 1, size)) / columns


@kernel(fastmath=REASSOCIATE)
def _center(upper, lower, mean, size, shift, at, work):
    """Write where |L y - mean|^2 + shift |y|^2 is least; return that value."""
    for i in range(size):
        work[i] = 0.0
    for j in range(size):
        for i in range(j + 1):
            work[i] += lower[j, i] * mean[j]
    _solve(upper, work, size, at)
    _solve_transposed(upper, at, size)
    least = shift * _dot(at, at, size)
    for j in range(size):
        left = mean[j] - _dot(lower[j], at, j + 1)
        least += left * left
    return least


@kernel()
def _resample(weights, total, u, upper, lower, wishart, scores, size, counts):
    """Make all weights equal: systematic resampling in place, copies going where a particle has none."""
    particles = weights.size
    below, taken = 0.0, 0
    for p in range(particles):
        below += weights[p]
        counts[p] = 0
        while taken < particles and (taken + u) * total < below * particles:
            counts[p] += 1
            taken += 1
    counts[particles - 1] += particles - taken  # rounding
    free = 0
    for p in range(particles):
        for _ in range(1, counts[p]):
            while counts[free] > 0:
                free += 1
            for j in range(size):
                for i in range(j, size):
                    upper[free, j, i] = upper[p, j, i]
            for j in range(min(size, lower.shape[1])):
                for i in range(j + 1):
                    lower[free, j, i] = lower[p, j, i]
                for i in range(min(j + 1, wishart.shape[2])):
                    wishart[free, j, i] = wishart[p, j, i]
            scores[free] = scores[p]
            free += 1


@kernel()
def _sum_weights(logs, weights):
    """Write exp(logs - top); return top, their sum and the sum of their squares."""
    top = logs[0]
    for p in range(logs.size):
        top = max(top, logs[p])
    total, squares = 0.0, 0.0
    for p in range(logs.size):
        weights[p] = math.exp(logs[p] - top)
        total += weights[p]
        squares += weights[p] * weights[p]
    return top, total, squares


def _grow(columns, variance, diagonal_variance, tilt, seed, first, upper, lower, wishart, out):
    particles, rows = upper.shape[0], upper.shape[1]
    logs, weights, scores = np.zeros(particles), np.empty(particles), np.zeros(particles)
    counts = np.empty(particles, np.int64)
    y, at, work, mean = np.zeros(rows + 1), np.zeros(rows + 1), np.zeros(rows + 1), np.zeros(rows + 1)
    shift, scale = 2 * variance * tilt, math.sqrt(variance)
    norm = 0.5 * math.log(2 * math.pi * diagonal_variance)
    log_probability = 0.0
    for k in range(rows):
        layer = rows * LAYERS + k  # so that other matrices have other random numbers
        for p in range(particles):
            net = first + p
            R = upper[p]
            log_weight = -norm
            fill_normals(y, k, layer, net, ROW, seed)
            _solve_transposed(R, y, k)
            for i in range(k):
                y[i] *= scale
            if columns > 0:
                draw_wishart_row(wishart[p], k, columns, layer, net, seed, mean)
                log_weight -= _center(R, lower[p], mean, k, shift, at, work) / (2 * variance)
                for i in range(k):
                    y[i] += at[i]
            _solve(R, y, k, work)
            q, square = _dot(work, work, k), _dot(y, y, k)
            u = unit(0, layer, net, CHOICE, seed)
            t, log_excess = draw_excess(u, square - mean[k], diagonal_variance, 0.5 * (rows - k - 1), shift * (1 + q))
            logs[p] += log_weight + log_excess + tilt * square
            scores[p] += (t + square - mean[k]) / diagonal_variance
            _append(R, y, t, q, shift, k, work)
            if columns > 0:
                for i in range(k):
                    lower[p, k, i] = y[i]
                lower[p, k, k] = math.sqrt(t)
        top, total, squares = _sum_weights(logs, weights)
        if k + 1 == rows or 2 * total * total < particles * squares:
            log_probability += top + math.log(total / particles)
            if k + 1 < rows:
                u = unit(1, layer, first, CHOICE, seed)
                _resample(weights, total, u, upper, lower, wishart, scores, k + 1, counts)
                for p in range(particles):
                    logs[p] = 0.0
    out[0] = log_probability
    out[1] = _dot(weights, scores, particles) / total / rows


@functools.cache
def grow() -> Any:
    """Return the compiled growth of particles together.

    It writes the log of an unbiased estimate of the probability that a matrix is positive definite, and the mean of
    (d - its mean) / its variance over diagonal entries of such matrices, which is the best tilt.
    """
    cube = types.Array(float64, 3, "C")
    signature = void(int64, float64, float64, float64, uint64, int64, cube, cube, cube, float64[::1])
    return kernel(signature, cache="positive definite matrices")(_grow)
