# SPDX-License-Identifier: MIT
"""From a float network to an int8 ``.tflite`` file, by representative rows."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..write import Op, Tensor, build
from .network import B, F, Layer, Lesson, Network, fit, forward

INT8, INT16 = (-128, 127), (-32768, 32767)
# of 8 bits a logistic function beyond these is 0 or 1, a tanh -1 or 1
_SATURATED = {8: {"sigmoid": 7.0, "tanh": 3.5}, 16: {"sigmoid": 10.6, "tanh": 5.3}}


@dataclass(frozen=True)
class Scale:
    """How real values stand as integers: ``real = scale * (integer - zero)``.

    Parameters
    ----------
    scale : float
        A step.
    zero : int
        What stands for 0.
    limits : tuple of (int, int)
        Least and greatest integer.

    Thread safety
    -------------
    Immutable.

    Examples
    --------
    >>> Scale(0.5, 0).integers(np.array([0.75, 1000.0])).tolist()
    [2, 127]
    """

    scale: float
    zero: int
    limits: tuple[int, int] = INT8

    def integers(self, values: F) -> NDArray[np.int64]:
        """Round half away from zero, as features are, and saturate."""
        steps = values / self.scale
        steps = np.trunc(steps + np.copysign(0.5, steps)) + self.zero
        return np.asarray(np.clip(steps, *self.limits), np.int64)

    def reals(self, integers: NDArray[np.int64]) -> F:
        """Give the values that integers stand for."""
        return np.asarray((integers - self.zero) * self.scale, np.float64)

    def rounded(self, values: F) -> F:
        """Give what is left of values that went through integers."""
        return self.reals(self.integers(values))


@dataclass(frozen=True)
class Options:
    """How to quantise.

    Parameters
    ----------
    input_scale : float or None
        Of the model's input; None takes it from the rows, one for all features. A
        policy's features have 6/127.
    input_bits : int
        8, or 16 for inputs of int16 (no policy has those); 16 needs `bits` 16.
    bits : int
        Of activations: 8, or 16 (with weights of 8, TFLite's int16x8): twice the time,
        and hardly anything lost.
    weight_bits : int
        8, or 16 with `bits` 16: a second product has what the first one's weights lose,
        and an ADD joins them.
    per_channel : bool
        A scale for each output's weights instead of one for a layer.
    tune : int
        Epochs of fine-tuning with rounded weights and activations (straight-through
        gradients) towards what the float network gives on the rows: no labels needed.
    tune_rate : float
        Its learning rate.
    seed : int
        Decides the order of the rows in it.
    end : str
        ``softmax``, which a policy needs, or ``none``: the logits are the output.

    Thread safety
    -------------
    Immutable.
    """

    input_scale: float | None = None
    input_bits: int = 8
    bits: int = 8
    weight_bits: int = 8
    per_channel: bool = True
    tune: int = 0
    tune_rate: float = 1e-3
    seed: int = 0
    end: str = "softmax"

    def check(self) -> None:
        """Refuse what makes no sense."""
        if self.bits not in (8, 16) or self.input_bits not in (8, 16):
            raise ValueError(
                f"bits {self.bits} and input_bits {self.input_bits} found, each 8 or "
                "16 expected"
            )
        if self.input_bits > self.bits:
            raise ValueError("input_bits 16 found, but bits is 8: 16 expected")
        if self.weight_bits not in (8, 16) or self.weight_bits > self.bits:
            raise ValueError(
                f"weight_bits {self.weight_bits} and bits {self.bits} found, 8, or 16 "
                "with bits 16 expected"
            )
        if self.end not in ("softmax", "none"):
            raise ValueError(f"end {self.end!r} found, softmax or none expected")


def quantise(
    net: Network,
    rows: F,
    options: Options = Options(),
    description: str = "",
) -> bytes:
    """Write a float network as a quantised ``.tflite`` file.

    Parameters
    ----------
    net : Network
        Trained; ``sigmoid`` and ``tanh`` become LOGISTIC and TANH.
    rows : array of float64, shape (rows, windows * features)
        Representative inputs: the ranges of all activations come from them, so they
        should be the training's. At least one.
    options : Options
        How.
    description : str
        Free text kept in the file.

    Returns
    -------
    bytes
        The file; its input is of shape (1, windows * features), with a convolution
        (1, windows, 1, features).

    Raises
    ------
    ValueError
        If options make no sense, or a value is not finite.

    Thread safety
    -------------
    Pure function; the same arguments give the same bytes on the same machine.

    Examples
    --------
    >>> from pymlk.train.network import Layer
    >>> net = Network((Layer(np.array([[3.0], [-3.0]]), np.zeros(2)),))
    >>> data = quantise(net, np.linspace(-1, 1, 9)[:, None])
    >>> from pymlk import Model
    >>> model = Model(data)
    >>> model.input[0, 0] = 127
    >>> model.invoke()
    >>> model.output.tolist()
    [[127, -127]]
    """
    options.check()
    rows = np.asarray(rows, np.float64)
    if not len(rows) or not all(np.isfinite(a).all() for a in (rows, *net.parameters)):
        raise ValueError("quantise: at least one row and finite numbers expected")
    source = _input_scale(rows, options)
    rows = source.rounded(rows)
    ranges = _measure(net, rows, options)
    if options.tune:
        net = _tuned(net, rows, ranges, options)
        ranges = _measure(net, rows, options)
    return _write(net, source, ranges, options, description)


def _input_scale(rows: F, options: Options) -> Scale:
    limits = INT8 if options.input_bits == 8 else INT16
    scale = options.input_scale or max(float(np.abs(rows).max()), 1e-6) / limits[1]
    return Scale(scale, 0, limits)


def _tuned(net: Network, rows: F, ranges: "list[_Range]", options: Options) -> Network:
    """Train further as it will be quantised, towards what the float network gives."""
    p = net.probabilities(rows)
    lesson = Lesson(rows, p, p.argmax(axis=1), np.ones(len(rows)), soft=True)
    hold = np.zeros(len(rows), bool)
    return fit(
        net,
        lesson,
        hold,
        seed=options.seed,
        rate=options.tune_rate,
        decay=0.0,
        epochs=options.tune,
        patience=options.tune,
        rounding=Straight(ranges, options),
    )


@dataclass(frozen=True)
class _Range:
    """Scales of what a layer gives before and behind its activation."""

    product: Scale
    output: Scale


class _Watch:
    """Notes the least and greatest value of each product."""

    def __init__(self) -> None:
        self.seen: list[tuple[float, float]] = []

    def weights(self, _layer: int, values: F) -> F:
        return values

    def product(self, _layer: int, values: F) -> tuple[F, B]:
        self.seen.append((float(values.min()), float(values.max())))
        return values, np.ones(values.shape, bool)

    def output(self, _layer: int, values: F) -> tuple[F, B]:
        return values, np.ones(values.shape, bool)


def _measure(net: Network, rows: F, options: Options) -> list[_Range]:
    watch = _Watch()
    forward(net, net.parameters, rows, watch)
    return [
        _range(layer.activation, low, high, options.bits)
        for layer, (low, high) in zip(net.layers, watch.seen, strict=True)
    ]


def _range(activation: str, low: float, high: float, bits: int) -> _Range:
    if activation in ("sigmoid", "tanh"):
        most = _SATURATED[bits][activation]
        low, high = max(low, -most), min(high, most)
    if activation == "relu":
        low = 0.0
    product = _spread(min(low, 0.0), max(high, 0.0), bits)
    fixed = {
        "sigmoid": Scale(1 / 256, -128) if bits == 8 else Scale(2.0**-15, 0, INT16),
        "tanh": Scale(1 / 128, 0) if bits == 8 else Scale(2.0**-15, 0, INT16),
    }
    return _Range(product, fixed.get(activation, product))


def _spread(low: float, high: float, bits: int) -> Scale:
    if bits == 16:
        return Scale(max(-low, high, 1e-6) / 32767, 0, INT16)
    scale = max(high - low, 1e-6) / 255
    return Scale(scale, round(-128 - low / scale))


def _weight_scales(weights: F, per_channel: bool) -> F:
    """The finest scales in which the largest weights fit; shape (outputs,)."""
    largest = np.abs(weights).max(axis=1)
    if not per_channel:
        largest = np.full_like(largest, largest.max())
    # no row of zeros has a scale of 0, and none is so fine that a bias overflows
    return np.asarray(np.maximum(largest, largest.max() * 1e-3 + 1e-9) / 127)


class Straight:
    """Rounds as the quantised network does, and lets gradients pass."""

    def __init__(self, ranges: Sequence[_Range], options: Options) -> None:
        self._ranges, self._per_channel = ranges, options.per_channel

    def weights(self, _layer: int, values: F) -> F:
        """Round weights to 8 bits, at scales of their own."""
        scales = _weight_scales(values, self._per_channel)[:, None]
        return np.asarray(np.rint(values / scales) * scales)

    def product(self, layer: int, values: F) -> tuple[F, B]:
        """Round what a layer gives before its activation."""
        return _through(values, self._ranges[layer].product)

    def output(self, layer: int, values: F) -> tuple[F, B]:
        """Round what it gives behind it."""
        return _through(values, self._ranges[layer].output)


def _through(values: F, s: Scale) -> tuple[F, B]:
    """Rounded and saturated values, and which were within the limits."""
    steps = np.rint(values / s.scale) + s.zero
    kept = np.clip(steps, *s.limits)
    return (kept - s.zero) * s.scale, steps == kept


class Graph:
    """A ``.tflite`` graph that grows one operator at a time, all in one line.

    Parameters
    ----------
    shape : sequence of int
        Of the input.
    scale : Scale
        Of the input.

    Thread safety
    -------------
    None.
    """

    def __init__(self, shape: Sequence[int], scale: Scale) -> None:
        self.tensors: list[Tensor] = []
        self.ops: list[Op] = []
        self.scale = scale
        self.last = self._tensor("input", shape, scale)

    def _tensor(self, name: str, shape: Sequence[int], scale: Scale) -> int:
        dtype = "int8" if scale.limits == INT8 else "int16"
        made = Tensor(name, tuple(shape), dtype, (scale.scale,), (scale.zero,))
        return self._add(made)

    def _add(self, tensor: Tensor) -> int:
        self.tensors.append(tensor)
        return len(self.tensors) - 1

    def function(self, name: str, scale: Scale, version: int = 1) -> None:
        """Append an operator of one operand, which keeps the shape."""
        shape = self.tensors[self.last].shape
        result = self._tensor(f"{name.lower()}{len(self.ops)}", shape, scale)
        self.ops.append(Op(name, (self.last,), (result,), version))
        self.last, self.scale = result, scale

    def product(
        self,
        weights: NDArray[np.int64],
        bias: NDArray[np.int64],
        scales: F,
        result: Scale,
        *,
        activation: str = "NONE",
        width: int = 0,
    ) -> None:
        """Append a FULLY_CONNECTED, or with a width a CONV_2D along the history.

        `weights` are int8 of shape (outputs, inputs), `scales` theirs: one, or one for
        each output.
        """
        wide = self.scale.limits != INT8
        before = self.tensors[self.last].shape
        outputs = len(weights)
        shape: tuple[int, ...] = weights.shape
        after: tuple[int, ...] = (1, outputs)
        if width:
            shape = (outputs, width, 1, weights.shape[1] // width)
            after = (1, before[1] - width + 1, 1, outputs)
        n = len(self.ops)
        data = weights.astype("<i1").tobytes()
        w = self._add(Tensor(f"w{n}", shape, "int8", tuple(scales), data=data))
        # TFLite compares these with the products of the float32 scales
        products = np.float32(self.scale.scale) * np.asarray(scales, np.float32)
        made = Tensor(
            f"b{n}",
            (outputs,),
            "int64" if wide else "int32",
            tuple(map(float, products)),
            data=bias.astype("<i8" if wide else "<i4").tobytes(),
        )
        b = self._add(made)
        y = self._tensor(f"y{n}", after, result)
        name = "CONV_2D" if width else "FULLY_CONNECTED"
        options: dict[str, Any] = {"activation": activation}
        if width:
            options["padding"] = "VALID"
        # the first versions with these dtypes: lite/tools/versioning/op_version.cc
        version = (4 if wide else 3) if width else (7 if wide else 4)
        self.ops.append(Op(name, (self.last, w, b), (y,), version, options))
        self.last, self.scale = y, result

    def add(self, other: int, result: Scale, activation: str) -> None:
        """Append an ADD of the last tensor and another one."""
        y = self._tensor(f"sum{len(self.ops)}", self.tensors[other].shape, result)
        options = {"activation": activation, "pot_scale_int16": False}
        self.ops.append(Op("ADD", (other, self.last), (y,), 3, options))
        self.last, self.scale = y, result

    def softmax(self) -> None:
        """Append a SOFTMAX that gives int8 confidences."""
        if self.scale.limits == INT8:
            self.function("SOFTMAX", Scale(1 / 256, -128), 2)
        else:
            self.function("SOFTMAX", Scale(2.0**-15, 0, INT16), 3)
            self.function("QUANTIZE", Scale(1 / 256, -128), 2)

    def file(self, description: str) -> bytes:
        """Write the graph."""
        return build(self.tensors, self.ops, [0], [self.last], description=description)


def _write_product(graph: Graph, layer: Layer, result: Scale, options: Options) -> None:
    source, scale, before = graph.scale, graph.scale.scale, graph.last
    scales = _weight_scales(layer.weights, options.per_channel)
    stated = scales if options.per_channel else scales[:1]
    weights = np.rint(layer.weights / scales[:, None])
    fused = "RELU" if layer.activation == "relu" else "NONE"
    split = options.weight_bits == 16
    graph.product(
        weights.astype(np.int64),
        np.rint(layer.bias / (scale * scales)).astype(np.int64),
        stated,
        result,
        activation="NONE" if split else fused,
        width=layer.width,
    )
    if not split:
        return
    first, graph.last, graph.scale = graph.last, before, source
    rest = (layer.weights / scales[:, None] - weights) * 254
    # the most that it can come to
    most = float((np.abs(rest).sum(axis=1) * scales).max()) / 254 * 32767 * scale
    graph.product(
        np.clip(np.rint(rest), -127, 127).astype(np.int64),
        np.zeros(len(weights), np.int64),
        stated / 254,
        Scale(max(most, result.scale) / 32767, 0, INT16),
        width=layer.width,
    )
    graph.add(first, result, fused)


def _write(
    net: Network,
    source: Scale,
    ranges: list[_Range],
    options: Options,
    description: str,
) -> bytes:
    first = net.layers[0]
    shape: tuple[int, ...] = (1, first.weights.shape[1])
    if first.width:
        shape = (1, net.windows, 1, first.weights.shape[1] // first.width)
    graph = Graph(shape, source)
    if options.bits == 16 and options.input_bits == 8:
        graph.function(
            "QUANTIZE", replace(source, scale=source.scale / 256, limits=INT16), 2
        )
    for layer, span in zip(net.layers, ranges, strict=True):
        _write_product(graph, layer, span.product, options)
        if layer.activation in ("sigmoid", "tanh"):
            name = "LOGISTIC" if layer.activation == "sigmoid" else "TANH"
            graph.function(name, span.output, 2)
    if options.end == "softmax":
        graph.softmax()
    return graph.file(description)
