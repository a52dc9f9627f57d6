"""One net in training: the vector of its parameters, what else it is kept in, and what it is told.

The vector holds, of each layer, W (fan_in, fan_out); of a normalized one, the scale and the shift of what is
normalized (fan_out,) each; and b (fan_out,). Behind W come the others, so that what moves is the front part.

Of a recurrent net, layer 1 is the cell, the matrices of all gates side by side, V of the inputs above W of the state,
and layer 2 reads the last state; layer 0 holds the inputs of all time steps, side by side.
"""

from __future__ import annotations

from collections import namedtuple
from typing import Any

import numpy as np
from numba import boolean, float32, float64, int64, types, uint64, void

from stabsim.kernels import laws, losses, optimizers
from stabsim.kernels.compile import atom
from stabsim.kernels.signature import CLIP, FORMAT, STRUCTURE, Clip, Format, Structure, borrow_structure, group
from stabsim.kernels.views import as_matrix, borrow, stretch

# What a net is; ``layout`` has a row for each of these numbers of each layer:
Problem = namedtuple(
    "Problem",
    "layout rows weight_scale bias_scale perturbation structure running_momentum format master shape gates bias_mean",
)  # fmt: skip
LAYOUT = (
    "widths",
    "weights_at",  # where its parameters start
    "moving",  # how many of them move
    "normalized",  # 1 where it is, else 0
    "signals_at",  # where its signals start
    "units_at",  # where its units, or, if there are more of these, samples, start
    "fan_in",
)
WIDTHS, WEIGHTS_AT, MOVING, NORMALIZED, SIGNALS_AT, UNITS_AT, FAN_IN = (np.int64(i) for i in range(len(LAYOUT)))
# How it is trained.
Course = namedtuple("Course", "batch steps rates settings remembered clip weight_decay replaced")
# What is recorded of it, and when.
Watch = namedtuple(
    "Watch", "times classes middle whole test last paths units signals dead drift wanted blank pivots saturation"
)  # fmt: skip
# Where it is kept: one vector of the net's precision and one of float64, each with where its parts start and end.
# Every array of a group makes each function that takes a net slower to call, and longer to compile.
Memory = namedtuple("Memory", "reals places doubles double_places no_curvature")
# Of a recurrent net, by time step: inputs, states (0 first), gradients by these; of all gates side by side what they
# are functions of, later the gradient by it, and values and slopes; what the state adds, of a GRU later what W sees.
PARTS_IN_TIME = ("x", "h", "c", "dh", "dc", "sums", "gates", "slopes", "by_state")
PARTS = (
    "parameters",
    "seen",  # the same, or what they are rounded to
    "start",  # what they were
    "gradient",
    "before",  # the gradient of the step before
    "previous",  # the parameters before it
    "first",  # what the optimizer remembers
    "second",
    "s", "n", "z", "d", "ds", "dz",  # signals of all layers; n: normalized
    "waiting",  # a gradient, for the start of a block
    "units",  # incoming weights, side by side
    "extremes",
    "reference",  # the first mini-batch
    "column",
    *PARTS_IN_TIME,
)  # fmt: skip
(
    PARAMETERS, SEEN, START, GRADIENT, BEFORE, PREVIOUS, FIRST, SECOND, S, N, Z, D, DS, DZ, WAITING, UNITS, EXTREMES,
    REFERENCE, COLUMN, X, H, C, DH, DC, SUMS, GATES, SLOPES, BY_STATE,
) = (np.int64(i) for i in range(len(PARTS)))  # fmt: skip
DOUBLES = (
    "outputs", "targets", "output_gradient",  # (rows, widths[-1])
    "mean", "variance",  # of each unit over the mini-batch
    "running_mean", "running_variance",
    "scales",  # 1 / sqrt(variance + epsilon)
    "alive",  # 1 for units whose f' is not 0 on all samples, else 0
    "dead",  # 1 for those whose f' was, when it was last recorded
)  # fmt: skip
OUTPUTS, TARGETS, OUTPUT_GRADIENT, MEAN, VARIANCE, RUNNING_MEAN, RUNNING_VARIANCE, SCALES, ALIVE, DEAD = (
    np.int64(i) for i in range(len(DOUBLES))
)

Learner = namedtuple(
    "Learner", "seed number normal activation output_activation weights bias_law loss optimizer problem course memory"
)


def signature(dtype: np.dtype[Any]) -> Any:
    """Return the type of the trainer: its arguments, in order, with what each is."""
    real = float32 if dtype == np.float32 else float64
    loop = types.FunctionType(void(real[::1], real[::1], real[::1]))
    law = laws.pointer(dtype)
    problem = {
        "layout": int64[:, ::1],  # (LAYOUT, depth + 1)
        "rows": int64,  # samples that there is room for, at least the batch
        "weight_scale": real[::1],  # (depth + 1,), of a recurrent net of each matrix, as the simulator numbers them
        "bias_scale": real[::1],
        "perturbation": float64,  # standard deviation of what is added to every weight and bias that moves
        "structure": group(Structure, STRUCTURE),
        "running_momentum": float64,  # of running means and variances
        "format": group(Format, FORMAT),
        "master": boolean,  # whether parameters are kept as they are, and rounded only where they are used
        "shape": float64[:, :, :, ::1],  # of f and of that of the last layer, as `Problem` has it
        "gates": int64,  # of the cell: an RNN has 1, a GRU 3, an LSTM 4; 0: none
        "bias_mean": real[::1],  # (gates,), none of an RNN
    }
    course = {
        "batch": int64,
        "steps": int64,
        "rates": float64[::1],  # (steps,): the learning rate of each
        "settings": float64[::1],  # of the optimizer
        "remembered": int64,  # how many numbers the optimizer remembers of each parameter
        "clip": group(Clip, CLIP),
        "weight_decay": float64,
        "replaced": boolean,  # whether a mini-batch is drawn from all samples, else from what an epoch has left
    }
    watch = {
        "times": int64[::1],  # numbers of steps after which to record, rising
        "classes": boolean,  # whether there is an accuracy
        "middle": float64,  # between the two classes of a single output
        "whole": boolean,  # whether to evaluate all samples
        "test": boolean,  # whether to evaluate those of the test
        "last": boolean,  # whether to look at the mini-batch before again
        "paths": boolean,  # whether to follow parameters and gradients from step to step
        "units": boolean,
        "signals": boolean,
        "dead": boolean,
        "drift": boolean,
        "wanted": boolean[::1],  # columns of the simulator's record
        "blank": float64[:, ::1],  # what that record starts from (depth + 1, columns)
        "pivots": float64[::1],
        "saturation": float64,
    }
    memory = {
        "reals": real[::1],
        "places": int64[:, ::1],  # (PARTS, 2)
        "doubles": float64[::1],
        "double_places": int64[:, ::1],  # (DOUBLES, 2)
        "no_curvature": float64[:, :, ::1],  # (0, 0, 0): losses write none
    }
    return void(
        int64,  # number of the first net
        uint64,  # seed
        law,  # of standard normals
        loop,  # activation
        loop,  # activation of the last layer
        law,  # of weights
        law,  # of biases
        types.FunctionType(losses.SIGNATURE),
        optimizers.pointer(dtype),
        group(Problem, problem), group(Course, course), group(Watch, watch),
        group(Memory, memory),
        real[:, :, ::1],  # inputs (1: of all nets, or nets; samples, widths[0])
        real[:, :, ::1],  # targets (likewise; samples, widths[-1])
        real[:, ::1],  # inputs of the test (samples, widths[0]), none: (0, ...)
        real[:, ::1],  # its targets
        float64[:, :, :, ::1],  # record of training (nets, times, depth + 1, COLUMNS): NaN to start with
        float64[:, :, :, ::1],  # record of signals (nets, times, depth + 1, columns): NaN to start with
        int64[::1],  # (nets,): steps before a net diverged, -1 to start with
        real[:, :, ::1],  # parameters (nets, times, all of them), or (0, 0, 0): not kept
        float64[:, :, ::1],  # running means and variances (nets, times, 2 units), or (0, 0, 0)
    )  # fmt: skip


@atom
def make_learner(
    seed, number, normal, activation, output_activation, weights, bias_law, loss, optimizer, problem, course, memory
):
    """Return a net with its arrays borrowed."""
    return Learner(
        seed=seed, number=number, normal=normal, activation=activation, output_activation=output_activation,
        weights=weights, bias_law=bias_law, loss=loss, optimizer=optimizer,
        problem=Problem(
            layout=borrow(problem.layout), rows=problem.rows, weight_scale=borrow(problem.weight_scale),
            bias_scale=borrow(problem.bias_scale), perturbation=problem.perturbation,
            structure=borrow_structure(problem.structure), running_momentum=problem.running_momentum,
            format=problem.format, master=problem.master, shape=borrow(problem.shape), gates=problem.gates,
            bias_mean=borrow(problem.bias_mean),
        ),
        course=Course(
            batch=course.batch, steps=course.steps, rates=borrow(course.rates), settings=borrow(course.settings),
            remembered=course.remembered, clip=course.clip, weight_decay=course.weight_decay, replaced=course.replaced,
        ),
        memory=Memory(
            reals=borrow(memory.reals), places=borrow(memory.places), doubles=borrow(memory.doubles),
            double_places=borrow(memory.double_places), no_curvature=borrow(memory.no_curvature),
        ),
    )  # fmt: skip


@atom
def depth_of(learner):
    """Return how many layers there are."""
    return learner.problem.layout.shape[1] - 1


@atom
def width_of(learner, l):
    """Return how many units a layer has."""
    return learner.problem.layout[WIDTHS, l]


@atom
def fan_in_of(learner, l):
    """Return how many numbers go into a unit of a layer."""
    return learner.problem.layout[FAN_IN, l]


@atom
def part(learner, number):
    """Return a part of what a net is kept in."""
    places = learner.memory.places
    return stretch(learner.memory.reals, places[number, 0], places[number, 1] - places[number, 0])


@atom
def doubles(learner, number):
    """Return a part in float64."""
    places = learner.memory.double_places
    return stretch(learner.memory.doubles, places[number, 0], places[number, 1] - places[number, 0])


@atom
def outputs(learner, number, rows):
    """Return outputs, targets or the gradient by outputs, (rows, widths[-1])."""
    width = width_of(learner, depth_of(learner))
    return as_matrix(stretch(doubles(learner, number), np.int64(0), rows * width), rows, width)


@atom
def weights_of(learner, number, l):
    """Return W, or dW, of a layer of a vector of parameters."""
    fan_in, fan_out = fan_in_of(learner, l), width_of(learner, l)
    return as_matrix(
        stretch(part(learner, number), learner.problem.layout[WEIGHTS_AT, l], fan_in * fan_out), fan_in, fan_out
    )


@atom
def vector_of(learner, number, l, place):
    """Return a vector behind W, of a layer of a vector of parameters."""
    fan_in, fan_out = fan_in_of(learner, l), width_of(learner, l)
    return stretch(part(learner, number), learner.problem.layout[WEIGHTS_AT, l] + (fan_in + place) * fan_out, fan_out)


@atom
def scale_of(learner, number, l):
    """Return the scale of what is normalized, or its gradient, likewise."""
    return vector_of(learner, number, l, 0)


@atom
def shift_of(learner, number, l):
    """Return its shift."""
    return vector_of(learner, number, l, 1)


@atom
def bias_of(learner, number, l):
    """Return b, or db."""
    return vector_of(learner, number, l, 2 * learner.problem.layout[NORMALIZED, l])


@atom
def moving(learner, number, l):
    """Return what moves of a layer."""
    layout = learner.problem.layout
    return stretch(part(learner, number), layout[WEIGHTS_AT, l], layout[MOVING, l])


@atom
def signal(learner, number, l, rows):
    """Return the signals of a layer."""
    width = width_of(learner, l)
    return as_matrix(stretch(part(learner, number), learner.problem.layout[SIGNALS_AT, l], rows * width), rows, width)


@atom
def units_of(learner, number, l):
    """Return the numbers of the units of a layer."""
    return stretch(doubles(learner, number), learner.problem.layout[UNITS_AT, l], width_of(learner, l))
