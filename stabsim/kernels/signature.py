"""The arguments that every sampler takes, in groups: `stabsim.plan` makes them, a sampler reads them as a `Net`.

A new argument is a field of a group here, with its type beside it, and its value in ``stabsim/plan.py``.
"""

from __future__ import annotations

from collections import namedtuple
from typing import Any

import numpy as np
from numba import boolean, float32, float64, int64, types, uint64, void

from stabsim.kernels import laws, statistics
from stabsim.kernels.compile import atom
from stabsim.kernels.views import borrow

# What there is beside layers: a normalization and residual connections.
Structure = namedtuple("Structure", "normalization epsilon starts ends place branch shortcut")
# The number format that is rounded to.
Format = namedtuple("Format", "fraction_bits least_exponent largest infinity loss_exponent")
# How gradients by the weights are clipped.
Clip = namedtuple("Clip", "kind bound epsilon")
# What a net is, beside the functions that it is made of.
Problem = namedtuple(
    "Problem",
    "widths batch shape homogeneous orthogonal weight_scale weight_exponent bias_scale bias_mean structure format clip",
)
# What goes in at either end; no rows: standard normals.
Given = namedtuple("Given", "inputs input_exponent output_gradient gradient_exponent")
# Where a net is kept.
Memory = namedtuple("Memory", "buffers offsets exponents kept keeps_s ahead")
# What is asked of it.
Ask = namedtuple("Ask", "wanted weight_gradients backward looking saturation pivots observing bins counts blank")

# Codes of a structure and a clip.
NONE = 0
BATCH, LAYER, RMS = range(1, 4)  # normalizations
INSIDE, BETWEEN, BEFORE, AFTER = range(4)  # where f is in a branch
VALUE, NORM, GLOBAL_NORM, ADAPTIVE = range(1, 5)  # clippings

# One net: all of that but what is asked, for the functions that work on it.
Net = namedtuple(
    "Net",
    "seed number normal activation weights bias_law statistics widths batch shape homogeneous orthogonal "
    "weight_scale weight_exponent bias_scale bias_mean structure format clip "
    "buffers offsets exponents kept keeps_s ahead",
)

# What these three are made of, which training shares.
STRUCTURE = {
    "normalization": int64,  # its code
    "epsilon": float64,  # added to the variance
    "starts": int64[::1],  # of each layer, the one from which a shortcut arrives; -1: none does
    "ends": int64[::1],  # of each layer, the one at which the shortcut from it arrives; -1: none begins
    "place": int64,  # the code of where f is in a branch
    "branch": float64,  # factor on a branch
    "shortcut": float64,  # factor on a shortcut
}
FORMAT = {
    "fraction_bits": int64,  # 0: none is simulated
    "least_exponent": int64,  # of normal numbers
    "largest": float64,  # finite number
    "infinity": boolean,  # whether there is one, or else what overflows is NaN
    "loss_exponent": int64,  # the injected gradient is multiplied by 2 to this
}
CLIP = {
    "kind": int64,  # its code
    "bound": float64,
    "epsilon": float64,  # least norm of a unit's weights
}


def signature(dtype: np.dtype[Any], buffers: int) -> Any:
    """Return the type of a sampler with so many buffers: its arguments, in order, with what each is."""
    real = float32 if dtype == np.float32 else float64
    problem = {
        "widths": int64[::1],  # (depth + 1,)
        "batch": int64,
        "shape": float64[:, :, ::1],  # of f (3, 2, 2): near 0, far from it, at 0; below and above; slope and offset
        "homogeneous": boolean,  # whether nets are: f is, positively, and there is no bias
        "orthogonal": boolean,  # matrix-free: whether weights are semi-orthogonal, else Gaussian
        "weight_scale": real[::1],  # of each layer ...
        "weight_exponent": int64[::1],  # ... times 2 to this
        "bias_scale": real[::1],  # of each layer
        "bias_mean": real[::1],  # of each gate
        "structure": group(Structure, STRUCTURE),
        "format": group(Format, FORMAT),
        "clip": group(Clip, CLIP),
    }
    given = {
        "inputs": real[:, ::1],  # (samples, widths[0])
        "input_exponent": int64,  # ... times 2 to this
        "output_gradient": real[:, ::1],  # at the last layer (batch, widths[-1])
        "gradient_exponent": int64,  # ... times 2 to this
    }
    memory = {
        "buffers": types.UniTuple(real[::1], buffers),
        "offsets": int64[:, ::1],  # (buffers, depth + 1): where a layer's part of a buffer starts
        "exponents": int64[:, ::1],  # (buffers, depth + 1): left by the last net, 0 to start with
        "kept": boolean,  # whether what is drawn for the forward pass is kept, or drawn again
        "keeps_s": boolean,  # whether s of all samples is, or has one place for some of them
        "ahead": int64,  # of how many layers vectors are drawn before they are needed
    }
    ask = {
        "wanted": boolean[::1],  # columns of the record
        "weight_gradients": boolean,  # whether any of them is of dW
        "backward": boolean,  # whether to run backward
        "looking": boolean,  # whether any of them is of whole rows, matrices or nets
        "saturation": float64,  # below this f' and the distance of f to its limit are saturated
        "pivots": float64[::1],  # of the activations of each layer
        "observing": boolean,  # whether histograms or ``statistics`` are to see tensors
        "bins": float64[:, ::1],  # histograms: least value and bins a unit
        "counts": int64[:, :, ::1],  # histograms: counts (tensor, layer, bins + 2)
        "blank": float64[:, ::1],  # what the record of a net starts from (depth + 1, columns)
    }
    law = laws.pointer(dtype)
    return void(
        int64,  # number of the first net
        uint64,  # seed
        law,  # of standard normals
        types.FunctionType(void(real[::1], real[::1], real[::1])),  # activation
        law,  # of weights, where they are drawn
        law,  # of biases
        statistics.pointer(dtype),  # the user's own
        group(Problem, problem), group(Given, given), group(Memory, memory), group(Ask, ask),
        float64[:, :, ::1],  # record (nets, depth + 1, columns)
    )  # fmt: skip


def group(cls: Any, fields: dict[str, Any]) -> Any:
    """Return the type of a group with these fields."""
    assert tuple(fields) == cls._fields
    return types.NamedTuple(tuple(fields.values()), cls)


@atom
def borrow_structure(structure):
    """Return a structure with its arrays borrowed."""
    return Structure(
        normalization=structure.normalization, epsilon=structure.epsilon, starts=borrow(structure.starts),
        ends=borrow(structure.ends), place=structure.place, branch=structure.branch, shortcut=structure.shortcut,
    )  # fmt: skip


@atom
def make_net(seed, number, normal, activation, weights, bias_law, own, problem, memory):
    """Return a net with its arrays borrowed."""
    return Net(
        seed=seed, number=number, normal=normal, activation=activation, weights=weights, bias_law=bias_law,
        statistics=own, widths=borrow(problem.widths), batch=problem.batch, shape=borrow(problem.shape),
        homogeneous=problem.homogeneous, orthogonal=problem.orthogonal, weight_scale=borrow(problem.weight_scale),
        weight_exponent=borrow(problem.weight_exponent), bias_scale=borrow(problem.bias_scale),
        bias_mean=borrow(problem.bias_mean), structure=borrow_structure(problem.structure), format=problem.format,
        clip=problem.clip, buffers=borrow(memory.buffers), offsets=borrow(memory.offsets),
        exponents=borrow(memory.exponents), kept=memory.kept, keeps_s=memory.keeps_s, ahead=memory.ahead,
    )  # fmt: skip


@atom
def make_ask(ask):
    """Return what is asked, its arrays borrowed."""
    return Ask(
        wanted=borrow(ask.wanted), weight_gradients=ask.weight_gradients, backward=ask.backward,
        looking=ask.looking, saturation=ask.saturation, pivots=borrow(ask.pivots),
        observing=ask.observing, bins=borrow(ask.bins), counts=borrow(ask.counts), blank=borrow(ask.blank),
    )  # fmt: skip
