# SPDX-License-Identifier: MIT
"""CONV_2D and DEPTHWISE_CONV_2D."""

import struct

from ...errors import ModelError
from ..program import (
    BLOCK_OUTPUTS,
    OP_CONV_2D,
    OP_DEPTHWISE_CONV,
    OP_FULLY_CONNECTED,
    OP_TAKE,
)
from ..schema import Op, Tensor
from ._moves import emit, strides
from .common import Builder, Unsupported, constant, need, quantization
from .move import region, whole
from .weights import Product, biases, lower_weights, multipliers, weight_zero
from .window import Window, check_image, check_result, window

# MLK_CONV_SHORT, MLK_CONV_GATHER, MLK_CONV_ROWS
_SHORT, _GATHER, _ROWS = 16, 1024, 8


def _images(builder: Builder, op: Op) -> tuple[Tensor, Tensor, Tensor]:
    """Source, weights and result of a convolution."""
    tensors = builder.operand(op, 0), builder.operand(op, 1), builder.result(op)
    for tensor in tensors:
        need(tensor, "INT8")
        check_image(op, tensor)
    return tensors


def _turned(way: Window) -> Window:
    """An image of one column is one of one row: lines of outputs are long then."""
    if (way.in_w, way.out_w, way.filter_w, way.pad_w) != (1, 1, 1, 0):
        return way
    return Window(
        way.batches,
        *(way.in_w, way.in_h, way.out_w, way.out_h, way.filter_w, way.filter_h),
        *(way.stride_w, way.stride_h, way.dilation_w, way.dilation_h),
        *(way.pad_w, way.pad_h),
    )


def _convolve(builder: Builder, product: Product, way: Window) -> None:
    """Add a CONV_2D step; one of single pixels is a FULLY_CONNECTED."""
    op, source, result = product.op, product.source, product.result
    channels = source.shape[3]
    taps = way.filter_h * way.filter_w * channels
    macs = result.elements * taps
    if (way.filter_h, way.filter_w, way.stride_h, way.stride_w) == (1, 1, 1, 1):
        words = lower_weights(builder, product)
        pixels = source.elements // channels
        builder.step(
            OP_FULLY_CONNECTED, op, [source], [result], (*words, pixels, 0), macs
        )
        return
    way = _turned(way)
    dense = way.filter_w == 1 or way.dilation_w == 1
    piece = channels * (way.filter_w if dense else 1)
    columns = (way.out_w - 1) * way.stride_w + (way.filter_w - 1) * way.dilation_w + 1
    reach = (way.filter_h - 1) * way.dilation_h + 1
    span = (way.out_h - 1) * way.stride_h + reach
    scratch_bytes = min(reach + 1, span) * columns * channels + _SHORT
    if piece < _SHORT:
        words = lower_weights(builder, product)
        rows = _GATHER // taps
        rows = rows & ~15 if rows > 16 else max(rows, _ROWS)
        scratch_bytes += rows * taps + _SHORT
    else:
        words = lower_weights(builder, product, piece)
    scratch = builder.temporary(source, "scratch", shape=(scratch_bytes,))
    _, zero = quantization(source)
    # huge strides copy what no filter looks at
    macs = max(macs, span * columns * channels * way.batches)
    builder.step(
        OP_CONV_2D, op, [source], [result, scratch], (*words, *way, zero), macs
    )


def conv_2d(builder: Builder, op: Op) -> None:
    """Lower CONV_2D (kernels/conv.cc, integer_ops/conv.h)."""
    source, weights, result = _images(builder, op)
    width, kernel_h, kernel_w, depth = weights.shape
    groups = source.shape[3] // depth
    if not groups or source.shape[3] % depth or width % groups:
        raise ModelError(f"{op}: {weights} does not suit {source}")
    if weight_zero(weights):
        raise Unsupported(f"{weights} has a zero point")
    way = window(op, source, (kernel_h, kernel_w), dilation=4)
    check_result(op, way, f"{source} with {weights}", result, width)
    product = Product(op, source, weights, result, 2, op.options.enum(3), False)
    if groups == 1:
        _convolve(builder, product, way)
    elif depth == 1:
        _by_channels(builder, product, way)
    else:
        _in_groups(builder, product, way, groups)


def _repeated(builder: Builder, op: Op, source: Tensor, fold: int) -> Tensor:
    """Repeat each channel so often."""
    channels = source.shape[3]
    result = builder.temporary(
        source, "repeated", shape=(*source.shape[:3], channels * fold)
    )
    table = [i // fold for i in range(channels * fold)]
    builder.step(
        OP_TAKE,
        op,
        [source],
        [result],
        (
            source.elements // channels,
            channels,
            channels * fold,
            1,
            builder.data.add(struct.pack(f"<{len(table)}I", *table)),
        ),
    )
    return result


def _by_channels(builder: Builder, product: Product, way: Window) -> None:
    """Add a DEPTHWISE_CONV step: each output sees one channel."""
    op, source, result = product.op, product.source, product.result
    # the reference takes this from the shapes, too, whatever the option says
    fold = result.shape[3] // source.shape[3]
    if fold != 1:
        source = _repeated(builder, op, source, fold)
    words = lower_weights(builder, product, by_taps=True)
    _, zero = quantization(source)
    macs = result.elements * way.filter_h * way.filter_w
    builder.step(
        OP_DEPTHWISE_CONV, op, [source], [result], (*words, *_turned(way), zero), macs
    )


def _widened(
    builder: Builder, weights: Tensor, first: int, together: int, fold: int
) -> Tensor:
    """Weights of neighbouring groups, for the channels of them all: zeros elsewhere."""
    depth, count = weights.shape[3], together * fold
    size = weights.elements // weights.shape[0]
    data, taps = constant(weights), bytearray()
    for i in range(count):
        before, behind = depth * (i // fold), depth * (together - 1 - i // fold)
        start = (first + i) * size
        for at in range(start, start + size, depth):
            taps += bytes(before) + data[at : at + depth] + bytes(behind)
    scales = weights.scales
    return builder.temporary(
        weights,
        weights.name,
        shape=(count, *weights.shape[1:3], together * depth),
        data=bytes(taps),
        scales=scales if len(scales) == 1 else scales[first : first + count],
        zero_points=(),
    )


def _in_groups(builder: Builder, product: Product, way: Window, groups: int) -> None:
    """Several convolutions, each of some channels to some outputs.

    As many groups as fill a block of packed weights go together: its zeros are there
    anyway.
    """
    op, source, weights, result = product[:4]
    # scales and biases of all outputs are there
    multipliers(product, result.shape[3])
    bias = biases(builder, op, product.bias, result.shape[3])
    depth, fold = weights.shape[3], result.shape[3] // groups
    together = max(
        n
        for n in range(1, groups + 1)
        if groups % n == 0 and (n == 1 or n * fold <= BLOCK_OUTPUTS)
    )
    count = together * fold

    def part(tensor: Tensor, name: str, channels: int) -> Tensor:
        return builder.temporary(tensor, name, shape=(*tensor.shape[:3], channels))

    for group in range(0, groups, together):
        first = group * fold
        inner, outer = (
            part(source, "channels", together * depth),
            part(result, "outputs", count),
        )
        start = region(source, inner, group * depth, strides(source.shape))
        emit(builder, op, [start])
        packed = struct.pack(f"<{count}i", *bias[first : first + count])
        part_bias = builder.temporary(
            weights, "bias", dtype="INT32", shape=(count,), data=packed
        )
        some = product._replace(
            op=op._replace(inputs=(inner.index, -1, part_bias.index)),
            source=inner,
            weights=_widened(builder, weights, first, together, fold),
            result=outer,
        )
        _convolve(builder, some, way)
        emit(builder, op, [whole(outer, result, first, strides(result.shape))])


def depthwise_conv_2d(builder: Builder, op: Op) -> None:
    """DEPTHWISE_CONV_2D: kernels/depthwise_conv.cc, integer_ops/depthwise_conv.h."""
    source, weights, result = _images(builder, op)
    channels, width = source.shape[3], weights.shape[3]
    if weights.shape[0] != 1 or width % channels:
        raise ModelError(f"{op}: {weights} does not suit {source}")
    way = window(op, source, (weights.shape[1], weights.shape[2]), dilation=5)
    check_result(op, way, f"{source} with {weights}", result, width)
    # the reference does not look at zero points of the weights
    weights = weights._replace(zero_points=())
    product = Product(op, source, weights, result, 2, op.options.enum(4), False, 3)
    if channels == 1:
        _convolve(builder, product, way)
    else:
        _by_channels(builder, product, way)


LOWER = {"CONV_2D": conv_2d, "DEPTHWISE_CONV_2D": depthwise_conv_2d}
