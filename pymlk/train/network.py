# SPDX-License-Identifier: MIT
"""Small networks of dense layers and convolutions over the history, as floats."""

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import autograd.numpy as ag
import numpy as np
from autograd import value_and_grad
from numpy.typing import NDArray

F = NDArray[np.float64]
I = NDArray[np.int64]  # noqa: E741
B = NDArray[np.bool_]

# the share of cross-entropy beside the worth: it keeps the gradient alive where the
# output is sure; at first it leads alone
CROSS_ENTROPY, WARM_UP = 0.1, 10
BATCH, MOST_BATCHES = 256, 64  # 32 examples of few, 256 of many

ACTIVATIONS: dict[str, Callable[[Any], Any]] = {
    "none": lambda y: y,
    "relu": lambda y: ag.maximum(y, 0.0),
    "tanh": ag.tanh,
    # of the half, so that no exponential overflows
    "sigmoid": lambda y: 0.5 * (ag.tanh(0.5 * y) + 1.0),
}


@dataclass(frozen=True)
class Layer:
    """A layer of a `Network`.

    Parameters
    ----------
    weights : array of float64, shape (outputs, inputs)
        Of a convolution, shape (filters, width * channels): the oldest window first.
    bias : array of float64, shape (outputs,)
        Added to the product.
    activation : str
        ``none``, ``relu``, ``tanh`` or ``sigmoid``.
    width : int
        Windows that a filter sees; 0 is a dense layer, which sees all.

    Thread safety
    -------------
    Immutable, as long as nobody writes into the arrays.
    """

    weights: F
    bias: F
    activation: str = "none"
    width: int = 0


@dataclass(frozen=True)
class Network:
    """Layers, the last of which gives a logit for each choice.

    Parameters
    ----------
    layers : tuple of Layer
        At least one; convolutions come first.
    windows : int
        How many windows a row has, oldest first.

    Thread safety
    -------------
    Immutable, as long as nobody writes into the arrays.

    Examples
    --------
    >>> net = Network((Layer(np.eye(2), np.zeros(2)),))
    >>> net.probabilities(np.array([[0.0, 0.0]])).tolist()
    [[0.5, 0.5]]
    """

    layers: tuple[Layer, ...]
    windows: int = 1

    @property
    def parameters(self) -> list[F]:
        """Weights and biases in turn, as `forward` takes them."""
        return [a for layer in self.layers for a in (layer.weights, layer.bias)]

    def with_parameters(self, parameters: Sequence[F]) -> "Network":
        """Make the same network with other weights and biases."""
        pairs = zip(parameters[::2], parameters[1::2], strict=True)
        return Network(
            tuple(
                Layer(w, b, old.activation, old.width)
                for (w, b), old in zip(pairs, self.layers, strict=True)
            ),
            self.windows,
        )

    def logits(self, rows: F) -> F:
        """Compute the last layer of each row; shape (rows, choices)."""
        return np.asarray(forward(self, self.parameters, rows))

    def probabilities(self, rows: F) -> F:
        """Compute the softmax of the logits."""
        return np.asarray(softmax(self.logits(rows)))


class Rounding(Protocol):
    """What `forward` does to numbers on the way, as quantising does."""

    def weights(self, layer: int, values: Any) -> Any:
        """Round a layer's weights."""

    def product(self, layer: int, values: Any) -> Any:
        """Round what a layer gives before its activation."""

    def output(self, layer: int, values: Any) -> Any:
        """Round what it gives behind it."""


def forward(
    net: Network, parameters: Sequence[Any], rows: Any, rounding: Rounding | None = None
) -> Any:
    """Compute the logits, in operations that can be differentiated."""
    x = rows
    for i, layer in enumerate(net.layers):
        w, b = parameters[2 * i], parameters[2 * i + 1]
        if rounding is not None:
            w = rounding.weights(i, w)
        x = patches(x, layer, net.windows) if layer.width else x
        y = ag.dot(x, ag.transpose(w)) + b
        if rounding is not None:
            y = rounding.product(i, y)
        x = ACTIVATIONS[layer.activation](y)
        if rounding is not None:
            x = rounding.output(i, x)
        if layer.width:
            x = ag.reshape(x, (len(rows), -1))
    return x


def patches(x: Any, layer: Layer, windows: int) -> Any:
    """Lay out what a convolution's filter sees at each place.

    Rows of shape (rows, places * channels) become (rows, places, width * channels).
    """
    channels = layer.weights.shape[1] // layer.width
    x = ag.reshape(x, (len(x), -1, channels))
    places = x.shape[1] - layer.width + 1
    return ag.concatenate([x[:, i : i + places] for i in range(layer.width)], axis=2)


def softmax(logits: Any) -> Any:
    """Give exp(logits), scaled to a sum of 1 per row."""
    e = ag.exp(logits - ag.max(logits, axis=1, keepdims=True))
    return e / ag.sum(e, axis=1, keepdims=True)


def start(
    inputs: int,
    windows: int,
    hidden: Sequence[int],
    outputs: int,
    *,
    activation: str = "relu",
    filters: int = 0,
    width: int = 0,
    seed: int = 0,
) -> Network:
    """Make an untrained network.

    Parameters
    ----------
    inputs, windows : int
        Features of a window, and windows of a row.
    hidden : sequence of int
        Sizes of the dense layers before the last; none is logistic regression.
    outputs : int
        Choices.
    activation : str
        Of all layers but the last.
    filters, width : int
        Of a convolution over the windows in front; none if 0.
    seed : int
        Decides the weights.

    Returns
    -------
    Network
        He's initial weights, no bias.

    Raises
    ------
    ValueError
        If the filter is wider than the history.

    Thread safety
    -------------
    Pure function.
    """
    rng = np.random.default_rng(seed)
    layers = []
    size = inputs * windows
    if filters:
        if width > windows:
            raise ValueError(f"width {width} found, at most {windows} windows expected")
        seen = width * inputs
        weights = rng.normal(0, np.sqrt(2 / seen), (filters, seen))
        layers.append(Layer(weights, np.zeros(filters), activation, width))
        size = filters * (windows - width + 1)
    for a, b in itertools.pairwise([size, *hidden, outputs]):
        weights = rng.normal(0, np.sqrt(2 / a), (b, a))
        layers.append(Layer(weights, np.zeros(b), activation))
    layers[-1] = Layer(layers[-1].weights, layers[-1].bias)
    return Network(tuple(layers), windows)


class Adam:
    """Adam over a list of arrays, which it changes in place (Kingma and Ba, 2015)."""

    def __init__(self, parameters: Sequence[F], rates: Sequence[float]) -> None:
        self._rates, self._t = rates, 0
        self._first = [np.zeros_like(p) for p in parameters]
        self._second = [np.zeros_like(p) for p in parameters]

    def step(
        self, parameters: Sequence[F], gradients: Sequence[F], share: float = 1.0
    ) -> None:
        """Go one step down, or a share of it."""
        self._t += 1
        for p, g, m, v, rate in zip(
            parameters, gradients, self._first, self._second, self._rates, strict=True
        ):
            m += 0.1 * (g - m)
            v += 0.001 * (g * g - v)
            step = (m / (1 - 0.9**self._t)) / (np.sqrt(v / (1 - 0.999**self._t)) + 1e-8)
            p -= share * rate * step


@dataclass(frozen=True)
class Lesson:
    """What a network is to learn; all arrays have a row for each example.

    Parameters
    ----------
    rows : array of float64
        Inputs.
    worth : array of float64, shape (rows, choices)
        What each choice is worth.
    label : array of int64
        The best choice.
    weight : array of float64
        How much an example counts.
    by_worth : bool
        Maximise the expected worth of a draw from the output (with a little
        cross-entropy) instead of the label's likelihood alone.
    soft : bool
        `worth` has probabilities that the output shall equal.

    Thread safety
    -------------
    Immutable, as long as nobody writes into the arrays.
    """

    rows: F
    worth: F
    label: I
    weight: F
    by_worth: bool = False
    soft: bool = False

    def part(self, mask: B | I) -> "Lesson":
        """Take some examples."""
        return Lesson(
            self.rows[mask],
            self.worth[mask],
            self.label[mask],
            self.weight[mask],
            self.by_worth,
            self.soft,
        )


def loss(p: Any, lesson: Lesson, share: float) -> Any:
    """Mean loss of probabilities; `share` is that of cross-entropy."""
    weight = lesson.weight / lesson.weight.sum()
    if lesson.soft:
        return -ag.sum(weight * ag.sum(lesson.worth * ag.log(p + 1e-9), axis=1))
    chosen = np.eye(lesson.worth.shape[1])[lesson.label]
    likely = ag.sum(ag.log(p + 1e-9) * chosen, axis=1)
    if not lesson.by_worth:
        return -ag.sum(weight * likely)
    gain = ag.sum(p * lesson.worth, axis=1)
    return -ag.sum(weight * (share * likely + (1 - share) * gain))


def fit(
    net: Network,
    lesson: Lesson,
    hold: B,
    *,
    seed: int = 0,
    rate: float = 3e-3,
    decay: float = 1e-4,
    epochs: int = 300,
    patience: int = 40,
    rounding: Rounding | None = None,
    progress: Callable[[int], None] | None = None,
) -> Network:
    """Train with Adam; keep what did best on the examples that were held out.

    Parameters
    ----------
    net : Network
        Where to start; it is not changed.
    lesson : Lesson
        The examples.
    hold : array of bool
        Which of them decide when to stop, instead of being learnt.
    seed : int
        Decides the order of the examples.
    rate, decay : float
        Adam's step, and how much weights are pulled to 0.
    epochs, patience : int
        Most rounds, and most without an improvement.
    rounding : Rounding, optional
        Train as it will be quantised.
    progress : callable, optional
        Called with the number of each epoch.

    Returns
    -------
    Network
        The best one.

    Thread safety
    -------------
    Pure function.
    """
    rng = np.random.default_rng(seed)
    taught, held = lesson.part(~hold), lesson.part(hold)
    if not len(held.rows):
        held = taught
    parameters = [p.copy() for p in net.parameters]

    def cost(at: list[Any], batch: Lesson, share: float) -> Any:
        p = softmax(forward(net, at, batch.rows, rounding))
        pull = sum(ag.sum(w * w) for w in at[::2])
        return loss(p, batch, share) + 0.5 * decay * pull

    gradient = value_and_grad(cost)
    # of what is there already, steps are a share
    sizes = [1.0 if rounding is None else float(np.std(p)) or 1.0 for p in parameters]
    adam = Adam(parameters, [rate * size for size in sizes])
    best, kept, wait = np.inf, parameters, 0
    order = np.arange(len(taught.rows))
    for epoch in range(epochs):
        rng.shuffle(order)
        share = CROSS_ENTROPY if epoch >= WARM_UP else 1.0
        # rounded weights jump to and fro between two steps unless steps get small
        slower = 1.0 if rounding is None else 1.0 - epoch / epochs
        batches = max(1, len(order) // min(BATCH, 32 + len(order) // 16))
        for batch in np.array_split(order, batches)[:MOST_BATCHES]:
            _, gradients = gradient(parameters, taught.part(batch), share)
            adam.step(parameters, gradients, slower)
        p = softmax(forward(net, parameters, held.rows, rounding))
        # what is wanted, without the help
        now = float(loss(p, held, 0.0))
        wait += 1
        if now < best:
            best, kept, wait = now, [q.copy() for q in parameters], 0
        if progress is not None:
            progress(epoch)
        if wait > patience:
            break
    return net.with_parameters(kept)
