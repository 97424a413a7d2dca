# SPDX-License-Identifier: MIT
"""Small models that several tests use."""

import itertools
import math
import random
import struct
from collections.abc import Sequence
from typing import Any

from pymlk.compile import compile_model
from pymlk.write import Layer, Op, Tensor, build, mlp


def int8(name: str, shape: Sequence[int], scale: float = 0.1, zero: int = 0) -> Tensor:
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


def images(seed: int) -> bytes:
    """A random chain of convolutions, pools and a dense layer, with residuals."""
    rng = random.Random(seed)
    shape = (
        rng.randint(1, 2),
        rng.randint(3, 9),
        rng.randint(3, 9),
        rng.randint(1, 40),
    )
    tensors = [int8("x", shape, 0.05, rng.randint(-128, 127))]
    ops = []
    last = 0

    def weighted(
        name: str, kernel: Sequence[int], out: Sequence[int], **of: Any
    ) -> None:
        """Append an operator with weights of its own."""
        nonlocal last
        by_channel = name == "DEPTHWISE_CONV_2D"
        count, fan = out[-1], math.prod(kernel[int(not by_channel) :])
        fan = fan // count if by_channel else fan
        scales = [rng.uniform(0.002, 0.02) for _ in range(count)]
        raw = rng.randbytes(math.prod(kernel))
        bias = struct.pack(f"<{count}i", *(rng.randint(-999, 999) for _ in scales))
        at = len(tensors)
        first, result = tensors[last].scales[0], rng.uniform(0.02, 0.2) * math.sqrt(fan)
        tensors.extend(
            (
                Tensor("w", kernel, "int8", scales, (0,) * count, 3 * by_channel, raw),
                Tensor("b", (count,), "int32", [first * s for s in scales], data=bias),
                int8("y", out, result, rng.randint(-128, 127)),
            )
        )
        options = {"activation": rng.choice(("NONE", "RELU", "RELU6"))} | of
        ops.append(Op(name, (last, at, at + 1), (at + 2,), 3, options))
        last = at + 2

    for _ in range(rng.randint(1, 5)):
        n, height, width, channels = tensors[last].shape
        size = rng.choice((1, 1, 2, 3)), rng.choice((1, 1, 2, 3))
        step = rng.randint(1, 2)
        room = (n, -(-height // step), -(-width // step))
        same = {"padding": "SAME", "stride_h": step, "stride_w": step}
        kind = rng.choice(("conv", "conv", "depthwise", "pool", "residual"))
        if kind == "conv":
            count = rng.randint(1, 70)
            weighted("CONV_2D", (count, *size, channels), (*room, count), **same)
        elif kind == "depthwise":
            count = channels * rng.choice((1, 1, 2))
            weighted("DEPTHWISE_CONV_2D", (1, *size, count), (*room, count), **same)
        elif kind == "pool":
            name = rng.choice(("MAX_POOL_2D", "AVERAGE_POOL_2D"))
            old = tensors[last]
            new = Tensor("y", (*room, channels), "int8", old.scales, old.zero_points)
            same |= {"filter_height": size[0], "filter_width": size[1]}
            ops.append(Op(name, (last,), (len(tensors),), 2, same))
            tensors.append(new)
            last = len(tensors) - 1
        else:
            before = last
            weighted(
                "CONV_2D", (channels, *size, channels), tensors[last].shape,
                padding="SAME", stride_h=1, stride_w=1,
            )  # fmt: skip
            ops.append(Op("ADD", (before, last), (len(tensors),), 2, {}))
            tensors.append(int8("y", tensors[last].shape, 0.3, 5))
            last = len(tensors) - 1
    n, *rest = tensors[last].shape
    depth, width = math.prod(rest), rng.randint(1, 40)
    weighted("FULLY_CONNECTED", (width, depth), (n, width))
    return build(tensors, ops, [0], [last])


def dense(rows: int, depth: int, width: int, rng: random.Random) -> bytes:
    """A program of FULLY_CONNECTED; multipliers and biases all over their range."""
    weights = bytes(rng.randrange(256) for _ in range(width * depth))
    scales = [2.0 ** rng.uniform(-12, 2) for _ in range(width)]
    bias = [rng.randint(-(2**20), 2**20) for _ in range(width)]
    tensors = [
        Tensor("x", (rows, depth), "int8", (0.5,), (rng.randint(-128, 127),)),
        Tensor("w", (width, depth), "int8", scales, (0,) * width, 0, weights),
        Tensor("y", (rows, width), "int8", (0.25,), (rng.randint(-128, 127),)),
        Tensor(
            "b",
            (width,),
            "int32",
            [0.5 * s for s in scales],
            data=struct.pack(f"<{width}i", *bias),
        ),
    ]
    op = Op("FULLY_CONNECTED", (0, 1, 3), (2,), 4, {"activation": "NONE"})
    return compile_model(build(tensors, [op], [0], [2]))


def dense_int16(rows: int, depth: int, width: int, rng: random.Random) -> bytes:
    """A program of FULLY_CONNECTED, activations int16; weights at their ends, too."""
    weights = bytes(
        rng.choice((127, 128, rng.randrange(256))) for _ in range(width * depth)
    )
    scales = [2.0 ** rng.uniform(-12, -2) / depth for _ in range(width)]
    bias = [rng.randint(-(2**35), 2**35) for _ in range(width)]
    tensors = [
        Tensor("x", (rows, depth), "int16", (0.5,)),
        Tensor("w", (width, depth), "int8", scales, (0,) * width, 0, weights),
        Tensor("y", (rows, width), "int16", (0.25,)),
        Tensor(
            "b",
            (width,),
            "int64",
            [0.5 * s for s in scales],
            data=struct.pack(f"<{width}q", *bias),
        ),
    ]
    op = Op("FULLY_CONNECTED", (0, 1, 3), (2,), 7, {"activation": "NONE"})
    return compile_model(build(tensors, [op], [0], [2]))


def filtered(kind: str, rng: random.Random) -> tuple[bytes, object]:
    """A program of a convolution whose filter reaches beyond the image, or not."""
    kernel = rng.randint(1, 5), rng.randint(1, 5)
    stride = rng.randint(1, 3), rng.randint(1, 3)
    dilation = (1, 1) if rng.random() < 0.6 else (rng.randint(1, 3), rng.randint(1, 3))
    reach = [(k - 1) * d + 1 for k, d in zip(kernel, dilation, strict=True)]
    size = [r + rng.randint(0, 20) for r in reach]
    same = rng.random() < 0.5
    out = [
        -(-n // s) if same else (n - r) // s + 1
        for n, r, s in zip(size, reach, stride, strict=True)
    ]
    channels = rng.choice((1, 2, 3, 4, 8, 16, 17, 32, 63, 64, 65, 80, 130))
    if kind == "CONV_2D":
        width = rng.choice((1, 8, 15, 16, 17, 33))
        shape, dimension = (width, *kernel, channels), 0
    else:
        width = channels
        shape, dimension = (1, *kernel, width), 3
    count = channels * kernel[0] * kernel[1] * (width if kind == "CONV_2D" else 1)
    scales = [2.0 ** rng.uniform(-12, 2) for _ in range(width)]
    bias = [rng.randint(-(2**20), 2**20) for _ in range(width)]
    batches = rng.randint(1, 2)
    image = (batches, *size, channels)
    tensors = [
        Tensor("x", image, "int8", (0.5,), (rng.randint(-128, 127),)),
        Tensor(
            "w", shape, "int8", scales, (0,) * width, dimension, rng.randbytes(count)
        ),
        Tensor("y", (batches, *out, width), "int8", (0.25,), (rng.randint(-128, 127),)),
        Tensor(
            "b",
            (width,),
            "int32",
            [0.5 * s for s in scales],
            data=struct.pack(f"<{width}i", *bias),
        ),
    ]
    options = {
        "padding": "SAME" if same else "VALID",
        "stride_h": stride[0],
        "stride_w": stride[1],
        "dilation_h": dilation[0],
        "dilation_w": dilation[1],
        "activation": rng.choice(("NONE", "RELU", "RELU6")),
    }
    if kind == "DEPTHWISE_CONV_2D":
        options["depth_multiplier"] = 1
    data = build(tensors, [Op(kind, (0, 1, 3), (2,), 3, options)], [0], [2])
    return compile_model(data), (kind, image, shape, options)


def pooled(kind: str, rng: random.Random) -> tuple[bytes, object]:
    """A program of a pool of any number of channels."""
    height, width = rng.randint(1, 9), rng.randint(1, 9)
    down, across = rng.randint(1, height), rng.randint(1, width)
    channels = rng.choice((1, 3, 8, 15, 16, 17, 64, 65, 100))
    shapes = (
        (1, height, width, channels),
        (1, height - down + 1, width - across + 1, channels),
    )
    tensors = [Tensor("xy"[i], s, "int8", (0.5,), (3,)) for i, s in enumerate(shapes)]
    options = {"padding": "VALID", "stride_h": 1, "stride_w": 1}
    options |= {"filter_height": down, "filter_width": across}
    op = Op(kind, (0,), (1,), 2, options)
    data = compile_model(build(tensors, [op], [0], [1]))
    return data, shapes


def elementwise(kind: str, rng: random.Random) -> tuple[bytes, object]:
    """A program of ADD, SUB or MUL, maybe with broadcasting."""
    shape = (rng.randint(1, 3), rng.choice((1, 3, 15, 16, 17, 64, 100)))
    other = tuple(n if rng.random() < 0.7 else 1 for n in shape)
    operands = [shape, other] if rng.random() < 0.5 else [other, shape]
    tensors = [
        Tensor(
            letter,
            dims,
            "int8",
            (2.0 ** rng.uniform(-6, 3),),
            (rng.randint(-128, 127),),
        )
        for letter, dims in zip("aby", [*operands, shape], strict=True)
    ]
    op = Op(kind, (0, 1), (2,), 2, {"activation": rng.choice(("NONE", "RELU"))})
    data = compile_model(build(tensors, [op], [0, 1], [2]))
    return data, (kind, operands)


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
