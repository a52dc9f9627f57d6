"""What a kernel records of one layer of one net: a row of ``COLUMNS`` float64 numbers, or of more.

Six tensors have six columns each, starting at the tensor's number: the mean of the first four powers of
``value / 2**exponent - pivot``, that of the square of ``value / 2**exponent``, and the exponent. Fractions follow.
Kernels add to a record that holds 0 where a column is wanted, and NaN where it is not or does not exist at the layer.
"""

from __future__ import annotations

# Tensors whose values pass by an observer: they can be counted in a histogram, or seen by a user's own statistics.
OBSERVED = (
    "activation", "preactivation", "derivative", "activation_gradient", "preactivation_gradient", "singular_value",
)  # fmt: skip

# Zeros of dW are counted by a table of all patterns of samples up to as many; above, by looking at all pairs of units.
TABLE_SAMPLES = 12

# Offsets from a tensor's first column.
M1, M2, M3, M4, SQUARE, EXPONENT = range(6)

PREACTIVATION = 0
ACTIVATION = 6
DERIVATIVE = 12
ACTIVATION_GRADIENT = 18
PREACTIVATION_GRADIENT = 24
WEIGHT_GRADIENT = 30
TENSORS = {
    "preactivation": PREACTIVATION,
    "activation": ACTIVATION,
    "derivative": DERIVATIVE,
    "activation_gradient": ACTIVATION_GRADIENT,
    "preactivation_gradient": PREACTIVATION_GRADIENT,
    "weight_gradient": WEIGHT_GRADIENT,
}

# The fractions of all-zero rows and columns stand behind that of zeros.
ACTIVATION_ZERO = 36
ACTIVATION_DEAD_SAMPLE = 37
ACTIVATION_DEAD_UNIT = 38
ACTIVATION_SATURATED = 39
ACTIVATION_CORRELATION = 40
DERIVATIVE_ZERO = 41
DERIVATIVE_DEAD_SAMPLE = 42
DERIVATIVE_DEAD_UNIT = 43
DERIVATIVE_SATURATED = 44
ACTIVATION_GRADIENT_ZERO = 45
PREACTIVATION_GRADIENT_ZERO = 46
WEIGHT_GRADIENT_ZERO = 47
WEIGHT_GRADIENT_DEAD_ROW = 48
WEIGHT_GRADIENT_DEAD_COLUMN = 49
WEIGHT_GRADIENT_ONE_SIGNED_COLUMN = 50

# What stops: samples and nets of which nothing is left, why, and what f' and W leave of a gradient.
ACTIVATION_DEAD_NET = 51
DERIVATIVE_DEAD_NET = 52
ACTIVATION_GRADIENT_GAIN = 53
PREACTIVATION_GRADIENT_SHUT = 54
PREACTIVATION_GRADIENT_DEAD_SAMPLE = 55
PREACTIVATION_GRADIENT_DEAD_UNIT = 56
PREACTIVATION_GRADIENT_DEAD_NET = 57
BLOCKED_BY_DERIVATIVE = 58
BLOCKED_BY_ACTIVATION = 59
PREACTIVATION_GRADIENT_GAIN = 60
WEIGHT_GRADIENT_IDLE_SAMPLE = 61
WEIGHT_GRADIENT_DEAD_NET = 62
WEIGHT_GRADIENT_GAIN = 63

# The stable rank stands behind the rank.
ACTIVATION_RANK = 64
PREACTIVATION_GRADIENT_RANK = 66
WEIGHT_GRADIENT_RANK = 68
COLUMNS = 70
LOOKED_AT = (ACTIVATION_DEAD_NET, COLUMNS)  # what is recorded of whole rows, matrices and nets

# Behind them, only in the record of nets that have what is recorded there: a record ends with the last of these
# groups that a task needs.
CLIPPING = COLUMNS
CLIPPED_GRADIENT = CLIPPING  # dW after clipping: a tensor as those above
CLIPPED_FRACTION = CLIPPING + 6
CLIPPED_COSINE = CLIPPING + 7

NUMBER_FORMAT = 80
CELL = 100

# Of what is rounded to a number format: three shares of each tensor, and of the layers up to one that fails.
OVERFLOW, UNDERFLOW, SUBNORMAL = range(3)
ROUNDED = {
    "preactivation": NUMBER_FORMAT,
    "activation": NUMBER_FORMAT + 3,
    "preactivation_gradient": NUMBER_FORMAT + 6,
    "activation_gradient": NUMBER_FORMAT + 9,
    "weight_gradient": NUMBER_FORMAT + 12,
}
ACTIVATION_FAILED = NUMBER_FORMAT + 15
ACTIVATION_GRADIENT_FAILED = NUMBER_FORMAT + 16

# Of recurrent nets: tensors of six columns like those above. A gate has its value, the gradient by its pre-activation,
# and single numbers. Gates stand in the order of PyTorch; those of an LSTM and a GRU have the same places.
INPUT = CELL
INPUT_GRADIENT = CELL + 6
GATE = CELL + 12
GATE_GRADIENT, GATE_SATURATED, GATE_LOG, GATE_COLUMNS = 6, 12, 13, 14  # offsets from a gate's first, and how many
MOST_GATES = 4
CELL_STATE = GATE + MOST_GATES * GATE_COLUMNS
CELL_STATE_GRADIENT = CELL_STATE + 6
GATES = {
    "lstm": ("input_gate", "forget_gate", "candidate", "output_gate"),
    "gru": ("reset_gate", "update_gate", "candidate"),
}
_GATES = {name: GATE + place * GATE_COLUMNS for names in GATES.values() for place, name in enumerate(names)}
CELL_TENSORS = {
    "input": INPUT,
    "input_gradient": INPUT_GRADIENT,
    "cell_state": CELL_STATE,
    "cell_state_gradient": CELL_STATE_GRADIENT,
    **_GATES,
    **{f"{name}_gradient": start + GATE_GRADIENT for name, start in _GATES.items()},
}

# Of Jacobians dz_L/dz_l: their singular values, a tensor, and single numbers.
JACOBIAN = 200
SINGULAR_VALUE = JACOBIAN
SINGULAR_VALUE_LOG10_LARGEST = JACOBIAN + 6
SINGULAR_VALUE_LOG10_SMALLEST = JACOBIAN + 7
SINGULAR_VALUE_LOG10_CONDITION = JACOBIAN + 8
SINGULAR_VALUE_SPREAD = JACOBIAN + 9
SINGULAR_VALUE_ZERO = JACOBIAN + 10
EACH_SINGULAR_VALUE = JACOBIAN + 11  # wanted by all that does not follow from sums of powers, which are cheaper

ALL_TENSORS = TENSORS | CELL_TENSORS | {"clipped_gradient": CLIPPED_GRADIENT, "singular_value": SINGULAR_VALUE}

WIDTHS = {
    "clipping": CLIPPING + 8,
    "number_format": NUMBER_FORMAT + 17,
    "rnn": GATE,
    "gru": GATE + 3 * GATE_COLUMNS,
    "lstm": CELL_STATE_GRADIENT + 6,
    "jacobian": JACOBIAN + 12,
}
