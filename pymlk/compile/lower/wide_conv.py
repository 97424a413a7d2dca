# SPDX-License-Identifier: MIT
"""Products of int16 activations with int8 weights: windows over images, in groups."""

import struct
from typing import NamedTuple

from ...errors import ModelError
from .. import arith
from ..program import OP_CONV_S16
from ..schema import Op, Tensor
from ._moves import Fill, Move, emit, strides
from .common import (
    LIMITS,
    Builder,
    Unsupported,
    activation_range,
    constant,
    need,
    symmetric,
)
from .dense import check_rows
from .spatial import transposed
from .weights import Product, multipliers, weight_zero
from .window import Window, check_image, check_result, window


class _Layer(NamedTuple):
    """What a convolution has besides its window; `taps` as the program keeps them."""

    product: Product
    groups: int
    taps: bytes
    weight_offset: int = 0
    # what biases may be; sums are of their dtype, and without any of the first
    sums: tuple[str, ...] = ("INT32", "INT64")


def _operands(
    builder: Builder, op: Op, positions: tuple[int, int] = (0, 1)
) -> tuple[Tensor, Tensor, Tensor, bytes]:
    """Activations, weights and result with their dtypes, and the weights' bytes."""
    source, weights = (builder.operand(op, position) for position in positions)
    result = builder.result(op)
    for tensor in (source, result):
        need(tensor, "INT16")
        symmetric(tensor)
    need(weights, "INT8")
    taps = builder.weights(weights)
    if not weights.elements:
        raise ModelError(f"{op}: {weights} is empty")
    return source, weights, result, taps


def side_by_side(taps: bytes, width: int) -> bytes:
    """Turn [width][n] weights into [n][width], for groups of one channel."""
    count = len(taps) // width
    return b"".join(taps[i::count] for i in range(count))


def _biases(builder: Builder, layer: _Layer, width: int) -> tuple[list[int], bool]:
    """Biases, and whether sums have 64 bits."""
    p = layer.product
    if not builder.has(p.op, p.bias):
        return [0] * width, layer.sums[0] == "INT64"
    bias = builder.operand(p.op, p.bias)
    need(bias, *layer.sums)
    data = constant(bias)
    if bias.elements != width:
        raise ModelError(f"{p.op}: {bias} found, expected {width} biases")
    wide = bias.dtype == "INT64"
    code = "q" if wide else "i"
    return list(struct.unpack(f"<{width}{code}", data)), wide


def _step(
    builder: Builder, layer: _Layer, way: Window, source: Tensor, width: int
) -> None:
    """One step; `source` has the activations, maybe spread out."""
    p = layer.product
    bias, wide = _biases(builder, layer, width)
    scaling = multipliers(p, width)
    if wide:
        scaling = [arith.wide_multiplier(*each) for each in scaling]
    channels = source.shape[-1]
    result = p.result
    data = builder.data
    builder.step(
        OP_CONV_S16,
        p.op,
        [source],
        [result],
        (
            *way,
            channels,
            width,
            layer.groups,
            data.add(layer.taps),
            data.add(struct.pack(f"<{width}q", *bias)),
            data.add_s32([m for m, _ in scaling]),
            data.add_s32([s for _, s in scaling]),
            layer.weight_offset,
            *activation_range(
                p.op, p.activation, symmetric(result), 0, LIMITS["INT16"]
            ),
            int(wide),
        ),
        macs=result.elements
        * (way.filter_h * way.filter_w * (channels // layer.groups)),
    )


def _product(builder: Builder, layer: _Layer, rows: int) -> None:
    """Rows of activations times weights [width][depth]: a window of one pixel."""
    p = layer.product
    depth = p.source.elements // rows
    pixel = p.source._replace(shape=(rows, 1, 1, depth))
    way = Window(rows, *(1,) * 10, 0, 0)
    # with a depth of 1 both orders of weights are the same
    _step(builder, layer, way, pixel, p.result.elements // rows)


def fully_connected(builder: Builder, op: Op) -> None:
    """FULLY_CONNECTED (kernels/fully_connected.cc, integer_ops/fully_connected.h)."""
    source, weights, result, taps = _operands(builder, op)
    rows = check_rows(op, source, weights, result)
    product = Product(op, source, weights, result, 2, op.options.enum(0), True)
    _product(builder, _Layer(product, 1, taps, -weight_zero(weights)), rows)


def batch_matmul(builder: Builder, op: Op) -> None:
    """BATCH_MATMUL with a constant int8 matrix: FULLY_CONNECTED with an int64 bias.

    No runtime computes this form. Converters write it for int16 activations.
    """
    source, weights, result, taps = _operands(builder, op)
    if len(weights.shape) != 2 or len(source.shape) < 2:
        raise Unsupported(f"{weights} is no matrix")
    if op.options.flag(0):
        raise Unsupported(f"{source} is transposed")
    transposed = op.options.flag(1)
    width, depth = weights.shape[:: 1 if transposed else -1]
    if result.shape != (*source.shape[:-1], width) or source.shape[-1] != depth:
        raise ModelError(f"{op}: {source} times {weights} does not give {result}")
    if not transposed:
        taps = side_by_side(taps, depth)
    if weight_zero(weights):
        raise Unsupported(f"{weights} has a zero point")
    outputs = 0 if transposed else 1
    product = Product(op, source, weights, result, 2, 0, True, outputs)
    layer = _Layer(product, 1, taps, sums=("INT64",))
    _product(builder, layer, source.elements // depth)


def conv_2d(builder: Builder, op: Op) -> None:
    """CONV_2D, also in groups (kernels/conv.cc, integer_ops/conv.h)."""
    source, weights, result, taps = _operands(builder, op)
    for tensor in (source, weights, result):
        check_image(op, tensor)
    if weight_zero(weights):
        raise Unsupported(f"{weights} has a zero point")
    options = op.options
    width, filter_h, filter_w, depth = weights.shape
    groups = source.shape[3] // depth
    if source.shape[3] % depth or width % groups:
        raise ModelError(f"{op}: {weights} does not suit {source}")
    way = window(op, source, (filter_h, filter_w), dilation=4)
    check_result(op, way, f"{source} with {weights}", result, width)
    product = Product(op, source, weights, result, 2, options.enum(3), False)
    if depth == 1:
        taps = side_by_side(taps, width)
    _step(builder, _Layer(product, groups, taps), way, source, width)


def depthwise_conv_2d(builder: Builder, op: Op) -> None:
    """DEPTHWISE_CONV_2D (kernels/depthwise_conv.cc, integer_ops/depthwise_conv.h)."""
    source, weights, result, taps = _operands(builder, op)
    for tensor in (source, weights, result):
        check_image(op, tensor)
    options = op.options
    channels, width = source.shape[3], weights.shape[3]
    if weights.shape[0] != 1 or width % channels:
        raise ModelError(f"{op}: {weights} does not suit {source}")
    way = window(op, source, (weights.shape[1], weights.shape[2]), dilation=5)
    check_result(op, way, f"{source} with {weights}", result, width)
    # the reference does not look at zero points of the weights
    weights = weights._replace(zero_points=())
    product = Product(op, source, weights, result, 2, options.enum(4), False, 3)
    layer = _Layer(product, channels, taps, sums=("INT64",))
    _step(builder, layer, way, source, width)


def _spread(
    builder: Builder, op: Op, source: Tensor, strides_hw: tuple[int, int]
) -> Tensor:
    """The same image with zeros between its pixels."""
    if strides_hw == (1, 1):
        return source
    batches, height, width, channels = source.shape
    shape = (
        batches,
        (height - 1) * strides_hw[0] + 1,
        (width - 1) * strides_hw[1] + 1,
        channels,
    )
    spread = builder.temporary(source, "spread", shape=shape)
    out = strides(shape)
    steps = (out[0], out[1] * strides_hw[0], out[2] * strides_hw[1], 1)
    move = Move(source, spread, source.shape, strides(source.shape), steps)
    emit(builder, op, [Fill(spread, b"\0\0"), move])
    return spread


def transpose_conv(builder: Builder, op: Op) -> None:
    """TRANSPOSE_CONV (kernels/transpose_conv.cc, integer_ops/transpose_conv.h).

    The reference moves the filter over the result. That is a convolution with the
    filter turned round, over a source with zeros between its pixels.
    """
    source, weights, result, taps = _operands(builder, op, (2, 1))
    over = transposed(builder, op, source, weights, result)
    width, filter_h, filter_w, channels = weights.shape
    spread = _spread(builder, op, source, (over.stride_h, over.stride_w))
    way = over._replace(
        in_h=spread.shape[1],
        in_w=spread.shape[2],
        out_h=result.shape[1],
        out_w=result.shape[2],
        stride_h=1,
        stride_w=1,
        pad_h=filter_h - 1 - over.pad_h,
        pad_w=filter_w - 1 - over.pad_w,
    )
    pixels = [taps[i : i + channels] for i in range(0, len(taps), channels)]
    area = filter_h * filter_w
    turned = b"".join(
        b"".join(reversed(pixels[i : i + area])) for i in range(0, len(pixels), area)
    )
    if channels == 1:
        turned = side_by_side(turned, width)
    weights = weights._replace(zero_points=())
    product = Product(op, source, weights, result, 3, op.options.enum(3), False)
    _step(builder, _Layer(product, 1, turned), way, spread, width)
