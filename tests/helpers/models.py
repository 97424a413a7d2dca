# SPDX-License-Identifier: MIT
"""Small models that several tests use."""

import itertools
import math
import random
from typing import Any

from pymlk.write import Layer, Op, Tensor, build, mlp


def int8(
    name: str, shape: tuple[int, ...], scale: float = 0.1, zero: int = 0
) -> Tensor:
    """An int8 tensor."""
    return Tensor(name, shape, "int8", (scale,), (zero,))


def unary(name: str, first: Tensor, last: Tensor, **options: Any) -> bytes:
    """A model of one operator."""
    return build([first, last], [Op(name, (0,), (1,), options=options)], [0], [1])


def network(
    widths: tuple[int, ...] = (5, 15, 5, 4),
    seed: int = 1,
    softmax: bool = True,
    zero: int = 3,
) -> bytes:
    """A random network; its input has scale 0.05 and zero point 3."""
    rng = random.Random(seed)
    layers = []
    for depth, width in itertools.pairwise(widths):
        rows = [[rng.randint(-127, 127) for _ in range(depth)] for _ in range(width)]
        bias = [rng.randint(-500, 500) for _ in range(width)]
        scale = 0.05 * 0.01 * 60 * math.sqrt(depth) / 0.05
        layers.append(Layer(rows, bias, [0.01], scale * 0.05, 0, "NONE"))
    return mlp(layers, 0.05, zero, softmax=softmax)


def border(first: bool, last: bool, scale: float = 0.1) -> bytes:
    """FLOAT32 -> int8 -> LOGISTIC -> int8 -> FLOAT32, or one side of it."""
    tensors = [int8("q", (2, 3), scale, 5), int8("p", (2, 3), 1 / 256, -128)]
    ops, inputs, outputs = [Op("LOGISTIC", (0,), (1,))], [0], [1]
    if first:
        inputs = [len(tensors)]
        tensors.append(Tensor("x", (2, 3), "float32"))
        ops.insert(0, Op("QUANTIZE", tuple(inputs), (0,)))
    if last:
        outputs = [len(tensors)]
        tensors.append(Tensor("y", (2, 3), "float32"))
        ops.append(Op("DEQUANTIZE", (1,), tuple(outputs)))
    return build(tensors, ops, inputs, outputs)


def several() -> bytes:
    """Two inputs and two outputs that have nothing to do with each other."""
    tensors = [
        int8("a", (1, 4), 0.1, 1),
        int8("b", (3,), 0.2, 2),
        int8("c", (1, 4), 0.1),
        int8("d", (3,), 0.2),
    ]
    ops = [Op("RELU", (0,), (2,)), Op("RELU6", (1,), (3,))]
    return build(tensors, ops, [0, 1], [2, 3])
