# SPDX-License-Identifier: MIT
"""Small networks of dense layers and convolutions over the history, as floats.

Forward and backward are written out: networks of this size cost a library that
differentiates any function several times what their products take.
"""

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

F = NDArray[np.float64]
I = NDArray[np.int64]  # noqa: E741
B = NDArray[np.bool_]

# the share of cross-entropy beside the worth: it keeps the gradient alive where the
# output is sure; at first it leads alone
CROSS_ENTROPY, WARM_UP = 0.1, 10
BATCH, MOST_BATCHES = 128, 64


class _Function(NamedTuple):
    """An activation, and its slope by what it gives."""

    value: Callable[[F], F]
    slope: Callable[[F], F]


ACTIVATIONS = {
    "none": _Function(lambda y: y, np.ones_like),
    "relu": _Function(lambda y: np.maximum(y, 0.0), lambda x: (x > 0).astype(float)),
    "tanh": _Function(np.tanh, lambda x: 1 - x * x),
    # of the half, so that no exponential overflows
    "sigmoid": _Function(lambda y: 0.5 * (np.tanh(0.5 * y) + 1), lambda x: x * (1 - x)),
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
        return forward(self, self.parameters, rows)[0]

    def probabilities(self, rows: F) -> F:
        """Compute the softmax of the logits."""
        return softmax(self.logits(rows))


class Rounding(Protocol):
    """What `forward` does to numbers on the way, as quantising does."""

    def weights(self, layer: int, values: F) -> F:
        """Round a layer's weights; all of them pass gradients."""

    def product(self, layer: int, values: F) -> tuple[F, B]:
        """Round what a layer gives before its activation; what passes gradients."""

    def output(self, layer: int, values: F) -> tuple[F, B]:
        """Round what it gives behind it; what passes gradients."""


class _Trace(NamedTuple):
    """What `backward` needs to know of a layer's way forward."""

    weights: F
    source: F
    activated: F
    product_passes: B | None
    output_passes: B | None


def forward(
    net: Network, parameters: Sequence[F], rows: F, rounding: Rounding | None = None
) -> tuple[F, list[_Trace]]:
    """Compute the logits, and note what `backward` needs."""
    x, traces = rows, []
    for i, layer in enumerate(net.layers):
        w, b = parameters[2 * i], parameters[2 * i + 1]
        activation = ACTIVATIONS[layer.activation].value
        source = patches(x, layer) if layer.width else x
        if rounding is None:
            x = y = activation(source @ w.T + b)
            traces.append(_Trace(w, source, y, None, None))
        else:
            w = rounding.weights(i, w)
            product, first = rounding.product(i, source @ w.T + b)
            y = activation(product)
            x, second = rounding.output(i, y)
            traces.append(_Trace(w, source, y, first, second))
        x = x.reshape(len(rows), -1)
    return x, traces


def backward(net: Network, traces: Sequence[_Trace], grad: F) -> list[F]:
    """Gradients of all parameters from that of the logits."""
    found: list[F] = []
    for layer, trace in zip(net.layers[::-1], traces[::-1], strict=True):
        grad = grad.reshape(trace.activated.shape)
        if trace.output_passes is not None:
            grad = grad * trace.output_passes
        grad = grad * ACTIVATIONS[layer.activation].slope(trace.activated)
        if trace.product_passes is not None:
            grad = grad * trace.product_passes
        flat = grad.reshape(-1, grad.shape[-1])
        source = trace.source.reshape(-1, trace.source.shape[-1])
        found = [flat.T @ source, flat.sum(axis=0), *found]
        grad = grad @ trace.weights
        if layer.width:
            grad = _unpatched(grad, layer)
    return found


def patches(x: F, layer: Layer) -> F:
    """Lay out what a convolution's filter sees at each place.

    Rows of shape (rows, windows * channels) become (rows, places, width * channels).
    """
    channels = layer.weights.shape[1] // layer.width
    x = x.reshape(len(x), -1, channels)
    places = x.shape[1] - layer.width + 1
    return np.concatenate([x[:, i : i + places] for i in range(layer.width)], axis=2)


def _unpatched(grad: F, layer: Layer) -> F:
    """Add up what each number of a row was part of."""
    channels = layer.weights.shape[1] // layer.width
    rows, places, _ = grad.shape
    out = np.zeros((rows, places + layer.width - 1, channels))
    for i in range(layer.width):
        out[:, i : i + places] += grad[:, :, i * channels : (i + 1) * channels]
    return out.reshape(rows, -1)


def softmax(logits: F) -> F:
    """Give exp(logits), scaled to a sum of 1 per row."""
    e = np.exp(logits - logits.max(axis=1, keepdims=True))
    return np.asarray(e / e.sum(axis=1, keepdims=True))


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


def loss(p: F, lesson: Lesson, share: float) -> tuple[float, F]:
    """Mean loss of probabilities, and its gradient by the logits.

    `share` is that of cross-entropy where the worth counts.
    """
    weight = (lesson.weight / lesson.weight.sum())[:, None]
    wanted = lesson.worth if lesson.soft else np.eye(p.shape[1])[lesson.label]
    likely = float((weight * wanted * np.log(p + 1e-12)).sum())
    slope = weight * (p - wanted)
    if not lesson.by_worth:
        return -likely, slope
    mean = (p * lesson.worth).sum(axis=1, keepdims=True)
    gain = float((weight * mean).sum())
    slope = share * slope - (1 - share) * weight * p * (lesson.worth - mean)
    return -share * likely - (1 - share) * gain, slope


def fit(
    net: Network,
    lesson: Lesson,
    hold: B,
    *,
    seed: int = 0,
    rate: float = 3e-3,
    decay: float = 1e-3,
    epochs: int = 300,
    patience: int = 60,
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
    # of what is there already, steps are a share
    sizes = [1.0 if rounding is None else float(np.std(p)) or 1.0 for p in parameters]
    adam = Adam(parameters, [rate * size for size in sizes])
    best, kept, wait = np.inf, parameters, 0
    order = np.arange(len(taught.rows))
    for epoch in range(epochs):
        rng.shuffle(order)
        share = CROSS_ENTROPY if epoch >= WARM_UP else 1.0
        # rounded weights jump between two steps unless steps get small
        slower = 1.0 if rounding is None else 1.0 - epoch / epochs
        batches = max(1, len(order) // min(BATCH, 32 + len(order) // 16))
        for batch in np.array_split(order, batches)[:MOST_BATCHES]:
            part = taught.part(batch)
            logits, traces = forward(net, parameters, part.rows, rounding)
            _, slope = loss(softmax(logits), part, share)
            gradients = backward(net, traces, slope)
            for weights, gradient in zip(parameters[::2], gradients[::2], strict=True):
                gradient += decay * weights
            adam.step(parameters, gradients, slower)
        p = softmax(forward(net, parameters, held.rows, rounding)[0])
        # what is wanted, without the help
        now, _ = loss(p, held, 0.0)
        wait += 1
        if now < best:
            best, kept, wait = now, [q.copy() for q in parameters], 0
        if progress is not None:
            progress(epoch)
        if wait > patience:
            break
    return net.with_parameters(kept)
