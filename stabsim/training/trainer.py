"""``train``: a network, data and a number of steps in, trained nets out."""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeVar

from stabsim import checks
from stabsim.activations import Activation
from stabsim.activations import activation as activation_of
from stabsim.arguments import loss_scale_of
from stabsim.clipping import Clipping
from stabsim.clipping import clipping as clipping_of
from stabsim.initializers import Initializer, initializer
from stabsim.losses import Loss, loss_of
from stabsim.names import unknown
from stabsim.network import Network
from stabsim.number_formats import FORMATS
from stabsim.task import LARGEST_NET, LARGEST_SEED
from stabsim.threads import count_threads
from stabsim.training.data import Regression, check_trained, given_arrays
from stabsim.training.optimizers import Optimizer
from stabsim.training.optimizers import optimizer as optimizer_of
from stabsim.training.recorded import chosen
from stabsim.training.result import Trained
from stabsim.training.schedules import Schedule
from stabsim.training.schedules import schedule as schedule_of
from stabsim.training.training import Training

PRECISIONS = ("float32", "float64", *FORMATS)
ORDERS = ("epochs", "with_replacement")
MOST_STEPS = 2**31
MOMENTUM = 0.9  # of running means and variances
T = TypeVar("T")


def train(
    network: Network,
    *,
    nets: int,
    steps: int,
    data: Regression | tuple[Any, Any],
    optimizer: str | Optimizer = "sgd",
    schedule: str | Schedule = "constant",
    loss: str = "mean_squared_error",
    batch: int = 1,
    order: str = "epochs",
    clipping: str | Clipping | None = None,
    weight_decay: float = 0.0,
    test: tuple[Any, Any] | None = None,
    seed: int = 0,
    record: Sequence[int] | None = None,
    quantities: Sequence[str] | None = None,
    output_activation: str | Activation = "linear",
    output_weights: str | Initializer | None = None,
    train_biases: bool = True,
    perturbation: float = 0.0,
    running_momentum: float = MOMENTUM,
    normalize_output: bool = False,
    keep_weights: bool = False,
    precision: str = "float32",
    loss_scale: float = 1.0,
    master_weights: bool = True,
    threads: int | None = None,
) -> Trained:
    """Train an ensemble of nets on mini-batches, and record what becomes of each.

    Net i starts with the weights and biases of net i of `stabsim.simulate` with that network, seed and precision, and
    ``sampler="dense"``. It is a function of the arguments and its number: the number of threads and of nets beside it
    change nothing.

    Parameters
    ----------
    network : Network
        The law of the nets before training. Behind each normalization stand a scale and a shift for each unit, from 1
        and 0, which are trained (Ioffe & Szegedy 2015, arXiv:1502.03167, algorithm 1). With a recurrent cell, a layer
        reads the last state, ``output_activation(h W + b)``; the gradient goes back through all time steps.
    nets : int
        How many nets.
    steps : int
        How many steps, from 0.
    data : Regression or pair of arrays
        A regression that is drawn for each net, or inputs (samples, widths[0]) and targets (samples, widths[-1]),
        which all nets share. With a recurrent cell, inputs (samples, time steps, widths[0]) and targets (samples,
        outputs), as many as there are.
    optimizer : str or Optimizer
        A name of `OPTIMIZERS` with its hyperparameters; "sgd", of learning rate 0.01, unless told.
    schedule : str or Schedule
        A name of `SCHEDULES`: what the learning rate is multiplied by in each step; "constant" unless told.
    loss : str
        A name of `stabsim.losses.LOSSES`: "mean_squared_error" unless told, over samples and outputs.
    batch : int
        Samples of a mini-batch; 1 unless told, at least 2 with batch normalization. With all samples it is gradient
        descent without chance.
    order : str
        "epochs" (unless told): each epoch goes through all samples in an order of its own, drawn for each net, and
        leaves out those that fill no mini-batch. "with_replacement": each sample of a mini-batch is drawn from all.
    clipping : str or Clipping, optional
        How the gradient is clipped: as in `simulate`, and W, b, scales and shifts each as a tensor of its own;
        "adaptive" clips vectors by their whole norm. Not at all unless told.
    weight_decay : float
        Lambda of an L2 penalty lambda / 2 |W|^2, whose gradient is added behind clipping; 0 unless told. "adamw" has
        a decay of its own.
    test : pair of arrays, optional
        Inputs and targets that nets are not trained on, for ``test_loss`` and ``test_accuracy``.
    seed : int
        Of all random numbers; 0 unless told.
    record : sequence of int, optional
        After how many steps to record, in any order; (0, steps) unless told.
    quantities : sequence of str, optional
        What to record, of the names below; everything that exists, unless told. ``effective_units`` and its like look
        at all pairs of units, ``mean_shift_weights`` and its like run three mini-batches more.
    output_activation : str or Activation
        f of the last layer, in the place of the network's: "linear" unless told.
    output_weights : str or Initializer, optional
        The law of the last layer's weights; the network's unless told.
    train_biases : bool
        Whether biases are trained, from 0 where the network has none; else they stay as they were drawn.
    perturbation : float
        Standard deviation of normal numbers that are added to all weights, and to all else that is trained, before
        the first step; 0 unless told. So ``weights="constant(value=0.1)"`` makes nets of nearly equal units.
    running_momentum : float
        Of the running means and variances by which batches are normalized where nets are evaluated, from 0 up to 1:
        each step they keep this share of what they were; 0.9 unless told. The variance is that without bias. Before the
        first step they are 0 and 1, so that what is evaluated there is a net without normalization.
    normalize_output : bool
        Whether the last layer is normalized, too; not so unless told.
    keep_weights : bool
        Whether to keep all parameters whenever it is recorded, for `Trained.weights` and the like.
    precision : str
        "float32" (unless told), "float64" or a name of `stabsim.number_formats.FORMATS`, to which every operand and
        result of a layer is rounded, as in `simulate`; normalization and the optimizer calculate in float32.
    loss_scale : float
        With such a format, the power of two by which the loss is multiplied, and the gradient divided before it is
        used (Micikevicius et al. 2018, arXiv:1710.03740); 1 unless told.
    master_weights : bool
        With such a format, whether parameters are kept in float32 (unless told), and rounded where they are used; or
        else rounded after each step.
    threads : int, optional
        As many as there are processors, unless told.

    Returns
    -------
    Trained
        Of each net, after each number of steps of ``record``: what ``stabsim list training`` names, the whole net in
        the place of layer 0, and all signals that `simulate` records in passing, of the mini-batch that comes next and
        the gradient of its mean loss; "preactivation" is what is normalized. With a recurrent cell, layer 1 is the
        cell, all gates together, and layer 2 what reads it; signals of the state, of the gradient by it and by the
        pre-activations are by time step.

        A net of which the loss or the gradient of a mini-batch is no longer finite has diverged: it is not trained
        further and counted. Ctrl-C ends training when the nets in hand are done.

    Raises
    ------
    TypeError, ValueError
        If an argument is not allowed: its name, its value and what is allowed.
    MemoryError
        If nets, data and what is recorded do not fit into memory.

    Warns
    -----
    RuntimeWarning
        If nets diverge: how many, and after which step the first.

    Notes
    -----
    Accuracy is known where targets are classes: a row has one 1 and else 0, or the single output is 0 or 1. Units that
    did not vary at the start are left out of drift. ``effective_units`` (order 2 of Leinster & Cobbold 2012, Ecology
    93) is 1 for equal units, n for orthogonal ones, and about n / (1 + (n - 1) / (fan_in + 1)) for random ones;
    ``unit_spread`` is 0 for equal units and about 1 for random ones.

    Examples
    --------
    >>> from stabsim import Network
    >>> data = Regression(Network((8, 1), "linear", "lecun_normal"), samples=64)
    >>> trained = train(
    ...     Network((8, 16, 1), "tanh", "lecun_normal"), nets=20, steps=500, data=data, batch=8,
    ...     optimizer="momentum(learning_rate=0.01)", quantities=("loss",),
    ... )
    >>> start, end = trained.values("loss")[:, :, 0].mean(axis=0)
    >>> bool(end < 0.2 * start)
    True
    """
    switches = {
        "keep_weights": keep_weights, "train_biases": train_biases, "normalize_output": normalize_output,
        "master_weights": master_weights,
    }  # fmt: skip
    for argument, value in switches.items():
        if not isinstance(value, bool):
            raise TypeError(f"{argument} must be True or False, not {checks.brief(value)}")
    training = _checked(
        network, data=data, test=test, steps=steps, optimizer=optimizer, schedule=schedule, loss=loss, batch=batch,
        order=order, clipping=clipping, weight_decay=weight_decay, seed=seed, record=record,
        output_activation=output_activation, output_weights=output_weights, train_biases=train_biases,
        perturbation=perturbation, running_momentum=running_momentum, normalize_output=normalize_output,
        precision=precision, loss_scale=loss_scale, master_weights=master_weights,
    )  # fmt: skip
    nets = checks.whole_number("nets", nets, 1, LARGEST_NET)
    trained = training.run(nets, chosen(quantities, training), keep_weights, count_threads(threads))
    if diverged := trained.divergence:
        warnings.warn(diverged, RuntimeWarning, stacklevel=2)
    return trained


@contextlib.contextmanager
def counting_divergence() -> Iterator[None]:
    """Keep `train` from warning of nets that diverge, where these are counted.

    Examples
    --------
    >>> from stabsim import Network
    >>> x = [[1.0], [1.0]]
    >>> with counting_divergence():
    ...     trained = train(
    ...         Network((1, 1), "linear", "lecun_normal"), nets=1, steps=99, data=(x, x),
    ...         optimizer="sgd(learning_rate=99)",
    ...     )
    >>> trained.divergence.split(",")[0]
    '1 of 1 nets diverged'
    """
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", ".* nets diverged", RuntimeWarning)
        yield


def _checked(network: Network, *, data: Any, test: Any, precision: str, order: str, **given: Any) -> Training:
    check_trained(network, data, precision, given["normalize_output"])
    for argument, value, known in (("precision", precision, PRECISIONS), ("order", order, ORDERS)):
        if value not in known:
            raise unknown(argument, value, known)
    loss = loss_of(given["loss"])
    data, samples = _data_of(data, network, loss)
    steps = checks.whole_number("steps", given["steps"], 0, MOST_STEPS)
    output_weights = network.weights
    if given["output_weights"] is not None:
        output_weights = named("output_weights", given["output_weights"], Initializer, initializer)
    least = 2 if network.normalization is not None and network.normalization.kind == "batch" else 1
    most = samples if order == "epochs" else checks.LARGEST_WHOLE_NUMBER
    training = Training(
        network=network, data=data, test=_test_of(test, data, network, loss),
        samples=samples, steps=steps, optimizer=named("optimizer", given["optimizer"], Optimizer, optimizer_of),
        schedule=named("schedule", given["schedule"], Schedule, schedule_of), loss=loss,
        batch=checks.whole_number("batch", given["batch"], least, most), replaced=order == "with_replacement",
        clipping=clipping_of(given["clipping"]),
        weight_decay=checks.number("weight_decay", given["weight_decay"], 0.0),
        seed=checks.whole_number("seed", given["seed"], 0, LARGEST_SEED), record=_recorded(given["record"], steps),
        output_activation=named("output_activation", given["output_activation"], Activation, activation_of),
        output_weights=output_weights, train_biases=given["train_biases"],
        perturbation=checks.number("perturbation", given["perturbation"], 0.0),
        running_momentum=checks.factor("running_momentum", given["running_momentum"]),
        normalize_output=given["normalize_output"], precision=precision,
        loss_scale=loss_scale_of(given["loss_scale"], precision), master_weights=given["master_weights"],
    )  # fmt: skip
    _check_effect(training)
    training.check_range()
    return training


def _check_effect(training: Training) -> None:
    """Refuse what would change nothing."""
    network, needs = training.network, "needs {} to have an effect"
    without = {
        "master_weights=False": ("a precision of " + ", ".join(FORMATS), training.master_weights or training.rounded),
        "normalize_output=True": (
            "a normalization", network.normalization is not None or not training.normalize_output,
        ),
        f"running_momentum={training.running_momentum!r}": (
            "batch normalization", training.runs or training.running_momentum == MOMENTUM,
        ),
        f"output_activation={str(training.output_activation)!r}": (
            "a last layer with f, where no branch ends without,",
            not training.ends_without_f or str(training.output_activation) == "linear",
        ),
    }  # fmt: skip
    for argument, (what, fine) in without.items():
        if not fine:
            raise ValueError(f"{argument} {needs.format(what)}")


def _data_of(data: Any, network: Network, loss: Loss) -> tuple[Any, int]:
    """Return data, checked, and how many samples there are of each net."""
    if not isinstance(data, Regression):
        arrays = _arrays("data", data, network, loss)
        return arrays, arrays[0].shape[1]
    ends = (data.teacher.widths[0], data.teacher.widths[-1])
    if ends != (network.widths[0], network.widths[-1]):
        raise ValueError(
            f"the teacher of data has {ends[0]} inputs and {ends[1]} outputs, the network {network.widths[0]} and "
            f"{network.widths[-1]}"
        )
    if loss.name != "mean_squared_error":
        raise ValueError(f"loss must be 'mean_squared_error' with a Regression, not {loss.name!r}")
    return data, data.samples


def _test_of(test: Any, data: Any, network: Network, loss: Loss) -> Any:
    """Return the test, checked, if there is one: with as many targets as the data."""
    if test is None:
        return None
    return _arrays("test", test, network, loss, None if isinstance(data, Regression) else data[1].shape[-1])


def _arrays(argument: str, given: Any, network: Network, loss: Loss, outputs: int | None = None) -> Any:
    inputs, targets = given_arrays(given, network, argument, outputs)
    loss.check(targets[0])
    return inputs, targets


def _recorded(record: Any, steps: int) -> tuple[int, ...]:
    if record is None:
        record = (0, steps)
    wrong = f"record must be one or more numbers of steps from 0 to steps={steps}, not {checks.brief(record)}"
    try:
        found = checks.whole_numbers("record", record, 0)
    except (TypeError, ValueError) as error:
        raise type(error)(wrong) from None
    if max(found) > steps:
        raise ValueError(wrong)
    return tuple(sorted(set(found)))


def named(argument: str, spec: Any, kind: type[T], make: Callable[[Any], T]) -> T:
    """Return what a name stands for; errors say which argument it was."""
    if not isinstance(spec, str | kind):
        raise TypeError(f"{argument} must be a name or a stabsim {kind.__name__}, not {checks.brief(spec)}")
    try:
        return make(spec)
    except (TypeError, ValueError) as error:
        raise type(error)(f"{argument}: {error}") from None
