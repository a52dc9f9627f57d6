"""The quantities that a simulation estimates: what each is, where it exists, and what it is made from.

A quantity is ``<tensor>_<statistic>``. One with a ``function``, of a value or of a whole matrix, is an entry here or
the user's own, and nothing else. The others are read from columns that the kernels record in passing, which is faster:
they are an entry here, a column in ``kernels/record.py`` and the lines of ``kernels/layer.py`` that fill it.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from stabsim.checks import brief
from stabsim.kernels import record as r
from stabsim.names import check_known, parse, unknown

Kind = Literal["mean", "mean_square", "variance", "kurtosis", "fraction", "value"]

# Tensors that exist before the first layer or time step, too.
FROM_0 = ("activation", "activation_gradient", "cell_state", "cell_state_gradient", "singular_value")
GIVEN_BY = {  # features that a quantity may need, in words
    "clipping": "clipping of gradients (clipping=...)",
    "number_format": "a simulated number format (precision='float16', ...)",
    "recurrent": "a recurrent cell (cell='rnn', ...)",
}
GATED = tuple(r.GATES)  # cells whose activations are no f(s)
SPECTRUM_LOGARITHMS = tuple(f"singular_value_log10_{of}" for of in ("largest", "smallest", "condition"))
WEIGHT_TENSORS = ("weight_gradient", "clipped_gradient")  # of the shape of the weights


@dataclass(frozen=True)
class Quantity:
    """One quantity of the table: an entry of the registry, or the user's own, which has a ``function``.

    Parameters
    ----------
    tensor : str
        "activation", "preactivation", "derivative", "activation_gradient", "preactivation_gradient" or
        "singular_value", those of a sample's dz_L/dz_l (entries of the registry also "weight_gradient", and what only
        cells have).
    statistic : str
        A word: the quantity is called ``<tensor>_<statistic>``.
    kind : str
        How it is estimated. "fraction": as the mean over nets of a number from 0 to 1. "value": as the mean over
        nets of any number (NaN and -inf left out). "mean" to "kurtosis", of the registry only: from the moments of
        all values.
    meaning : str
        One line for people.
    function : callable, optional
        Plain Python that Numba can compile. From one value, a float64, to a number or a truth value: a net's number is
        its mean over samples and units. With ``whole``, from the matrix (batch, width), float64, to a number. Values
        that float64 cannot hold are 0 or inf to it, as in very deep nets. It must give the same for the same: no random
        numbers of its own. Nets of which it is NaN or infinite are left out, and warned of.
    whole : bool
        Whether the function is one of the whole matrix: with a batch, or with ``sampler="dense"``, since one sample
        without W comes in parts. There is none of pre-activations.
    columns : tuple of int
        Of the record, those to be written, its own first: of the registry only, without a function.
    needs : tuple of str
        Features of a task (`Task.features`), of which it needs one to exist: of the registry only; none unless told.
    lacks : tuple of str
        Features with any of which it does not exist: of the registry only; none unless told.
    on_request : bool
        Whether it is left out where all are asked for, since it costs more than the net: of the registry only.

    Raises
    ------
    TypeError, ValueError
        If there is a function, and it cannot be one of these.

    Examples
    --------
    >>> import stabsim
    >>> above_one = Quantity("activation", "share_above_one", "fraction", function=lambda x: x > 1.0)
    >>> network = stabsim.Network((100,) * 3, "relu", "he_normal")
    >>> result = stabsim.simulate(network, nets=200, quantities=("activation_mean", above_one))
    >>> result.estimates("activation_share_above_one").estimate.round(2)
    array([0.17, 0.24, 0.24])
    """

    tensor: str
    statistic: str
    kind: Kind
    meaning: str = ""
    function: Callable[..., Any] | None = None
    whole: bool = False
    columns: tuple[int, ...] = ()
    needs: tuple[str, ...] = ()
    lacks: tuple[str, ...] = ()
    on_request: bool = False

    def __post_init__(self) -> None:
        for part in ("tensor", "statistic"):
            if not isinstance(getattr(self, part), str):
                raise TypeError(f"{part} of a quantity must be a str, not {brief(getattr(self, part))}")
        if self.function is None:
            if not self.columns:
                raise ValueError(f"quantity {brief(self.name)} needs a function: what it is of one value")
            return
        if not callable(self.function):
            raise TypeError(f"function of quantity {brief(self.name)} must be callable, not {brief(self.function)}")
        check_known("tensor of a quantity with a function", self.tensor, r.OBSERVED)
        if parse(self.statistic) != (self.statistic, {}):
            raise ValueError(f"statistic of a quantity must be a word without parameters, not {brief(self.statistic)}")
        check_known("kind of a quantity with a function", self.kind, ("fraction", "value"))
        if not isinstance(self.whole, bool):
            raise TypeError(f"whole must be True or False, not {brief(self.whole)}")
        if self.whole and self.tensor == "preactivation":
            raise ValueError("whole=True: pre-activations come in parts, so there is no function of their whole matrix")

    @property
    def name(self) -> str:
        """Return ``<tensor>_<statistic>``."""
        return f"{self.tensor}_{self.statistic}"

    @property
    def group(self) -> str:
        """Return the name of the moments it is made from: the tensor's, or its own."""
        return self.name if self.kind in ("fraction", "value") else self.tensor

    @property
    def order(self) -> int:
        """Return the highest power of the values that it needs."""
        return _order(self.kind)

    @property
    def first_layer(self) -> int:
        """Return the first layer at which it exists: 0 is the input, which has no s, f' or dW."""
        inputs_too = self.tensor in FROM_0 and not self._is("saturated_fraction")
        return 0 if inputs_too else 1

    @property
    def own_columns(self) -> tuple[int, ...]:
        """Return the columns that are of its tensor: the powers of its values, or one of its own."""
        start = r.ALL_TENSORS.get(self.tensor, -1)
        powers = range(start, start + r.EXPONENT)
        return self.columns if set(self.columns) <= set(powers) else self.columns[:1]

    @property
    def backward(self) -> bool:
        """Return whether it needs the backward pass."""
        return self.tensor.endswith("gradient") or self.tensor == "singular_value"

    @property
    def smallest_batch(self) -> int:
        """Return the batch below which, asking for all, it is left out: one sample may come in parts."""
        return 2 if self.whole or self._is("correlation") else 1

    def missing(self, batch: int, features: Collection[str] = ()) -> str:
        """Return what a task of that batch and those features lacks for it, in words; nothing if it exists.

        Features by name, or the arguments that give them by their names (`Task.arguments`), which the words then name.
        """
        if batch < self.smallest_batch:
            return f"needs batch >= {self.smallest_batch}, got batch={batch}"
        if self.needs and not set(self.needs) & set(features):
            return f"needs {' or '.join(GIVEN_BY.get(need, f'cell={need!r}') for need in self.needs)}"
        lacks = {*self.lacks, *(GATED if self.tensor == "derivative" else ())}
        unfit = sorted(lacks & set(features))
        if not unfit:
            return ""
        return f"does not exist with {features[unfit[0]] if isinstance(features, Mapping) else unfit[0]}"

    @property
    def log10_norm(self) -> bool:
        """Return whether it is the logarithm of a norm, which follows from the tensor's squares."""
        return self._is("log10_norm")

    @property
    def logarithm(self) -> bool:
        """Return whether it is a logarithm to the base of 10."""
        return self._is("log10_norm") or self.name in SPECTRUM_LOGARITHMS

    @property
    def signed(self) -> bool:
        """Return whether its truth may be 0, so that it has no relative error: any value of a user's own may."""
        if self.function is not None:
            return self.kind == "value"
        return self._is("correlation") or (self.kind == "mean" and self.tensor != "singular_value")

    def _is(self, statistic: str) -> bool:
        """Return whether it is the statistic of the registry, and not a user's own of the same name."""
        return self.statistic == statistic and self.function is None


def _order(kind: Kind) -> int:
    return 4 if kind == "kurtosis" else 2


def _moments(tensor: str, names: tuple[Kind, ...], needs: tuple[str, ...] = ()) -> list[Quantity]:
    start = r.ALL_TENSORS[tensor]
    meanings = {
        "mean": "mean over nets, samples and units",
        "mean_square": "mean square over nets, samples and units",
        "variance": "variance over the whole ensemble: nets, samples and units",
        "kurtosis": "fourth central moment over the squared variance, over the whole ensemble (3 for a normal law)",
    }
    return [
        Quantity(
            tensor,
            name,
            name,
            f"{tensor}: {meanings[name]}",
            columns=(*range(start, start + _order(name)), start + r.SQUARE),
            needs=needs,
        )
        for name in names
    ]


def _norm(tensor: str, needs: tuple[str, ...] = ()) -> Quantity:
    norm = "Frobenius norm" if tensor in WEIGHT_TENSORS else "root mean square over samples of the row norm"
    columns = tuple(r.ALL_TENSORS[tensor] + offset for offset in (r.SQUARE, r.M1, r.M2))
    meaning = f"{tensor}: log10 of the {norm}, nets at 0 left out"
    return Quantity(tensor, "log10_norm", "value", meaning, columns=columns, needs=needs)


def _gate(tensor: str) -> list[Quantity]:
    """List what there is of a gate: its value, and the gradient by its pre-activation."""
    needs = tuple(cell for cell, gates in r.GATES.items() if tensor in gates)
    start, limits = r.ALL_TENSORS[tensor], "a finite limit of f" if tensor == "candidate" else "0 or 1"
    fraction = Quantity(
        tensor,
        "saturated_fraction",
        "fraction",
        f"{tensor}: share within the bound (0.01) of {limits}",
        columns=(start + r.GATE_SATURATED,),
        needs=needs,
    )
    gradient = f"{tensor}_gradient"
    return [
        *_moments(tensor, ("mean", "mean_square", "variance"), needs),
        fraction,
        *_moments(gradient, ("mean_square",), needs),
        _norm(gradient, needs),
    ]


def _fractions(tensor: str, zero: int, entries: dict[str, tuple[int, str]]) -> list[Quantity]:
    """List fractions; dead rows and columns are recorded in the same pass as zeros, whose column asks for it."""
    return [
        Quantity(
            tensor,
            name,
            "fraction",
            f"{tensor}: {meaning}",
            columns=(column, zero) if "dead" in name or "signed" in name else (column,),
            lacks=GATED if (tensor, name) == ("activation", "saturated_fraction") else (),
        )
        for name, (column, meaning) in entries.items()
    ]


LOOPS = ("recurrent", "number_format")  # features whose kernels do not look at whole rows
ROW_BY_ROW = (*LOOPS, "normalization", "skip")  # features with which a row that is shut is not lost


def _stops(tensor: str, entries: dict[str, tuple[int, str]]) -> list[Quantity]:
    """List shares of what has stopped: of samples, units and nets."""
    # Those of samples tell it of nets, and of a single sample those of zeros.
    of_samples = (r.PREACTIVATION_GRADIENT_DEAD_SAMPLE, r.WEIGHT_GRADIENT_IDLE_SAMPLE)
    needed = () if tensor in FROM_0 else (*of_samples, r.DERIVATIVE_ZERO, r.PREACTIVATION_GRADIENT_ZERO)
    return [
        Quantity(
            tensor,
            name,
            "fraction",
            f"{tensor}: {meaning}",
            columns=(column, *needed),
            lacks=ROW_BY_ROW if "blocked" in name else LOOPS,
        )
        for name, (column, meaning) in entries.items()
    ]


def _gain(tensor: str, column: int, by: str, meaning: str, lacks: tuple[str, ...] = LOOPS) -> Quantity:
    tensors = (r.TENSORS[tensor], r.TENSORS[by])
    needed = (start + offset for start in tensors for offset in (r.SQUARE, r.M1, r.M2))
    return Quantity(tensor, "log10_gain", "value", f"{tensor}: {meaning}", columns=(column, *needed), lacks=lacks)


def _ranks(tensor: str, column: int) -> list[Quantity]:
    """List the rank and the stable rank of a matrix."""
    kinds = {
        "rank": "singular values above max(shape) times the precision times the largest",
        "stable_rank": "squared Frobenius norm over the squared largest singular value, nets at 0 left out",
    }
    shape = "(fan_in, fan_out)" if tensor in WEIGHT_TENSORS else "(batch, width)"
    return [
        Quantity(
            tensor,
            name,
            "value",
            f"{tensor}: {name.replace('_', ' ')} of the matrix {shape}: {meaning}",
            columns=(column + offset, column),
            lacks=LOOPS,
            on_request=True,
        )
        for offset, (name, meaning) in enumerate(kinds.items())
    ]


def _rounded(tensor: str, column: int) -> list[Quantity]:
    """List what becomes of a tensor that is rounded to a number format."""
    meanings = {
        "overflow_fraction": (r.OVERFLOW, "share that is not finite after rounding: inf or NaN"),
        "underflow_fraction": (r.UNDERFLOW, "share that was not 0 before rounding, and is 0 after it"),
        "subnormal_fraction": (r.SUBNORMAL, "share that is not 0 but below the smallest normal number"),
    }
    return [
        Quantity(
            tensor,
            name,
            "fraction",
            f"{tensor}: {meaning}",
            columns=(column + offset,),
            needs=("number_format",),
        )
        for name, (offset, meaning) in meanings.items()
    ]


def _failed(tensor: str, column: int, where: str) -> Quantity:
    meaning = f"{tensor}: share of nets in which, {where}, any number was not finite or all {tensor}s of a layer 0"
    return Quantity(tensor, "failed_fraction", "fraction", meaning, columns=(column,), needs=("number_format",))


def _singular_values() -> list[Quantity]:
    """List what there is of the singular values of dz_L/dz_l, each sample having a Jacobian of its own.

    What follows from sums of their even powers is known without any of them.
    """
    powers = r.SINGULAR_VALUE + r.M1, r.SINGULAR_VALUE + r.M2, r.SINGULAR_VALUE + r.SQUARE
    each = (r.EACH_SINGULAR_VALUE,)
    largest, smallest, condition = (
        r.SINGULAR_VALUE_LOG10_LARGEST, r.SINGULAR_VALUE_LOG10_SMALLEST, r.SINGULAR_VALUE_LOG10_CONDITION,
    )  # fmt: skip
    entries: tuple[tuple[str, Kind, str, tuple[int, ...]], ...] = (
        ("mean", "mean", "mean over nets, samples and singular values", powers + each),
        ("mean_square", "mean_square", "mean square over nets, samples and singular values", powers),
        ("variance", "variance", "variance over the whole ensemble: nets, samples and singular values", powers + each),
        ("log10_norm", "value", "log10 of their root sum of squares, the Frobenius norm of the Jacobian", powers),
        ("log10_largest", "value", "log10 of the largest, mean over samples", (largest, *each)),
        ("log10_smallest", "value", "log10 of the smallest, mean over samples; nets where one is 0 to rounding left "
         "out, so that the mean of the others is too large", (smallest, *each)),
        ("log10_condition", "value", "log10 of largest over smallest; nets where one is 0 to rounding left out, so "
         "that the mean of the others is too small", (condition, *each)),
        ("spread", "value", "variance of their squares over the squared mean of these, within a sample's Jacobian",
         (r.SINGULAR_VALUE_SPREAD,)),
        ("zero_fraction", "fraction", "share that is 0 to rounding: up to max(n_l, n_L) 2^-52 times the largest",
         (r.SINGULAR_VALUE_ZERO, *each)),
    )  # fmt: skip
    return [
        Quantity("singular_value", name, kind, f"singular_value: {meaning}", columns=columns, on_request=True)
        for name, kind, meaning, columns in entries
    ]


_ENTRIES = (
    *_moments("preactivation", ("mean", "mean_square", "variance", "kurtosis")),
    *_moments("activation", ("mean", "mean_square", "variance", "kurtosis")),
    *_fractions(
        "activation",
        r.ACTIVATION_ZERO,
        {
            "zero_fraction": (r.ACTIVATION_ZERO, "share that is exactly 0"),
            "saturated_fraction": (r.ACTIVATION_SATURATED, "share within the bound (0.01) of a finite limit of f"),
            "dead_sample_fraction": (r.ACTIVATION_DEAD_SAMPLE, "share of samples whose row is all 0"),
            "dead_unit_fraction": (r.ACTIVATION_DEAD_UNIT, "share of units whose column is all 0 over the batch"),
        },
    ),
    _norm("activation"),
    Quantity(
        "activation",
        "correlation",
        "value",
        "activation: cosine of two samples, mean over the pairs (1, 2), (3, 4), ... of the batch without a zero row",
        columns=(r.ACTIVATION_CORRELATION,),
    ),
    *_fractions(
        "derivative",
        r.DERIVATIVE_ZERO,
        {
            "zero_fraction": (r.DERIVATIVE_ZERO, "share of f' that is exactly 0"),
            "saturated_fraction": (r.DERIVATIVE_SATURATED, "share of f' below the bound (0.01) in size"),
            "dead_sample_fraction": (r.DERIVATIVE_DEAD_SAMPLE, "share of samples whose row of f' is all 0"),
            "dead_unit_fraction": (r.DERIVATIVE_DEAD_UNIT, "share of units whose column of f' is all 0"),
        },
    ),
    *_moments("derivative", ("mean_square",)),
    *_moments("activation_gradient", ("mean", "mean_square", "variance")),
    _norm("activation_gradient"),
    *_fractions(
        "activation_gradient",
        r.ACTIVATION_GRADIENT_ZERO,
        {"zero_fraction": (r.ACTIVATION_GRADIENT_ZERO, "share that is exactly 0")},
    ),
    *_moments("preactivation_gradient", ("mean", "mean_square", "variance")),
    _norm("preactivation_gradient"),
    *_fractions(
        "preactivation_gradient",
        r.PREACTIVATION_GRADIENT_ZERO,
        {"zero_fraction": (r.PREACTIVATION_GRADIENT_ZERO, "share that is exactly 0")},
    ),
    *_moments("weight_gradient", ("mean_square",)),
    _norm("weight_gradient"),
    *_fractions(
        "weight_gradient",
        r.WEIGHT_GRADIENT_ZERO,
        {
            "zero_fraction": (r.WEIGHT_GRADIENT_ZERO, "share that is exactly 0"),
            "dead_row_fraction": (r.WEIGHT_GRADIENT_DEAD_ROW, "share of rows (of one input unit) that are all 0"),
            "dead_column_fraction": (r.WEIGHT_GRADIENT_DEAD_COLUMN, "share of columns (of one unit) all 0"),
            "one_signed_column_fraction": (
                r.WEIGHT_GRADIENT_ONE_SIGNED_COLUMN,
                "share, of the columns that are not all 0, of those without a change of sign",
            ),
        },
    ),
    *_stops("activation", {"dead_net_fraction": (r.ACTIVATION_DEAD_NET, "share of nets in which it is all 0")}),
    *_stops("derivative", {"dead_net_fraction": (r.DERIVATIVE_DEAD_NET, "share of nets in which f' is all 0")}),
    _gain(
        "activation_gradient",
        r.ACTIVATION_GRADIENT_GAIN,
        "preactivation_gradient",
        "log10 of its norm over that of ds of the layer above: what W makes of it, nets at 0 left out",
        lacks=(*LOOPS, "skip"),
    ),
    *_stops(
        "preactivation_gradient",
        {
            "dead_sample_fraction": (r.PREACTIVATION_GRADIENT_DEAD_SAMPLE, "share of samples whose row is all 0"),
            "dead_unit_fraction": (r.PREACTIVATION_GRADIENT_DEAD_UNIT, "share of units whose column is all 0"),
            "dead_net_fraction": (r.PREACTIVATION_GRADIENT_DEAD_NET, "share of nets in which it is all 0"),
            "blocked_by_derivative_fraction": (
                r.BLOCKED_BY_DERIVATIVE,
                "share of samples stopped by a row f' = 0 at this layer or above",
            ),
            "blocked_by_activation_fraction": (
                r.BLOCKED_BY_ACTIVATION,
                "share of samples stopped by a row f = 0 below, of which f' = 0 above is a consequence",
            ),
        },
    ),
    Quantity(
        "preactivation_gradient",
        "shut_fraction",
        "fraction",
        "preactivation_gradient: share of dz's squared norm in units whose f' is exactly 0, nets at 0 left out",
        columns=(r.PREACTIVATION_GRADIENT_SHUT, r.ACTIVATION_GRADIENT + r.SQUARE),
        lacks=LOOPS,
    ),
    _gain(
        "preactivation_gradient",
        r.PREACTIVATION_GRADIENT_GAIN,
        "activation_gradient",
        "log10 of its norm over that of dz: what f' leaves, nets at 0 left out",
        lacks=ROW_BY_ROW,
    ),
    *_stops(
        "weight_gradient",
        {
            "idle_sample_fraction": (
                r.WEIGHT_GRADIENT_IDLE_SAMPLE,
                "share of samples that give nothing to it: their row of z below or of ds is all 0",
            ),
            "dead_net_fraction": (r.WEIGHT_GRADIENT_DEAD_NET, "share of nets in which all samples give nothing to it"),
        },
    ),
    _gain(
        "weight_gradient",
        r.WEIGHT_GRADIENT_GAIN,
        "preactivation_gradient",
        "log10 of its norm over that of ds: what z makes of it, nets at 0 left out",
    ),
    *_ranks("activation", r.ACTIVATION_RANK),
    *_ranks("preactivation_gradient", r.PREACTIVATION_GRADIENT_RANK),
    *_ranks("weight_gradient", r.WEIGHT_GRADIENT_RANK),
    Quantity(
        "weight_gradient",
        "clipped_fraction",
        "fraction",
        "weight_gradient: share that is clipped: of elements (value), of nets whose dW is, or all dW together are "
        "(norm, global_norm), or of units (adaptive)",
        columns=(r.CLIPPED_FRACTION,),
        needs=("clipping",),
    ),
    *_moments("clipped_gradient", ("mean_square",), ("clipping",)),
    _norm("clipped_gradient", ("clipping",)),
    Quantity(
        "clipped_gradient",
        "cosine",
        "value",
        "clipped_gradient: cosine of the angle between dW before and after clipping, nets at 0 left out",
        columns=(r.CLIPPED_COSINE,),
        needs=("clipping",),
    ),
    *(quantity for tensor, column in r.ROUNDED.items() for quantity in _rounded(tensor, column)),
    _failed("activation", r.ACTIVATION_FAILED, "up to this layer"),
    _failed("activation_gradient", r.ACTIVATION_GRADIENT_FAILED, "from the last layer down to this"),
    *_moments("input", ("mean_square",), ("recurrent",)),
    *_moments("input_gradient", ("mean_square",), ("recurrent",)),
    _norm("input_gradient", ("recurrent",)),
    *_moments("cell_state", ("mean_square", "variance"), ("lstm",)),
    _norm("cell_state", ("lstm",)),
    *_moments("cell_state_gradient", ("mean_square",), ("lstm",)),
    _norm("cell_state_gradient", ("lstm",)),
    *(entry for gate in dict.fromkeys(gate for gates in r.GATES.values() for gate in gates) for entry in _gate(gate)),
    Quantity(
        "forget_gate",
        "log_mean",
        "value",
        "forget_gate: mean of its natural logarithm, what ln of the gradient loses at each step on the cell's own path",
        columns=(r.ALL_TENSORS["forget_gate"] + r.GATE_LOG,),
        needs=("lstm",),
    ),
    *_singular_values(),
)

QUANTITIES: dict[str, Quantity] = {entry.name: entry for entry in _ENTRIES}
# Those of nets of nothing but layers, but for what is on request.
PLAIN = {name: entry for name, entry in QUANTITIES.items() if not (entry.needs or entry.on_request)}


def select(
    names: Iterable[str | Quantity] | None, batch: int, features: Collection[str] = (), argument: str = "quantities"
) -> tuple[Quantity, ...]:
    """Return the quantities of those names in the order of the table, then a user's own.

    None stands for all that exist, but for those that are on request. ``argument`` is what errors call the names;
    batch and features of the task (see `Quantity.missing`) say which exist.

    Raises
    ------
    TypeError
        If ``names`` is a string, or no iterable of strings and quantities.
    ValueError
        If a name is unknown or given to two quantities, or the quantity does not exist for such a task.
    """
    if names is None:
        return tuple(q for q in QUANTITIES.values() if not (q.on_request or q.missing(batch, features)))
    if isinstance(names, str):
        raise TypeError(f"{argument}={brief(names)}: a sequence of names is wanted, such as ({brief(names)},)")
    try:
        wanted = tuple(names)
    except TypeError:
        raise TypeError(f"{argument} must be a sequence of names or of Quantity, not {brief(names)}") from None
    own: dict[str, Quantity] = {}
    for name in wanted:
        if isinstance(name, Quantity):
            if own.setdefault(name.name, name) != name or QUANTITIES.get(name.name, name) != name:
                raise ValueError(f"{argument}: two quantities are called {name.name!r}")
            if name.function is None and name.name not in QUANTITIES:
                raise ValueError(f"{argument}: quantity {name.name!r} has no function, and is none of the registry")
            if name.function is not None and (missing := name.missing(max(batch, 2), features)):
                raise ValueError(f"quantity {name.name!r} {missing}")
        elif not isinstance(name, str):
            raise TypeError(f"{argument}: {brief(name)} is not a name; a sequence of strings is wanted")
        elif name not in QUANTITIES:
            raise unknown("quantity", name, QUANTITIES)
        elif missing := QUANTITIES[name].missing(batch, features):
            raise ValueError(f"quantity {name!r} {missing}")
    return (
        *(q for q in QUANTITIES.values() if q.name in wanted or q.name in own),
        *(q for q in own.values() if q.name not in QUANTITIES),
    )
