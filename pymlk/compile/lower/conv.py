# SPDX-License-Identifier: MIT
"""CONV_2D and DEPTHWISE_CONV_2D."""

import struct

from ...errors import ModelError
from ..program import OP_CONV_2D, OP_DEPTHWISE_CONV, OP_FULLY_CONNECTED, OP_TAKE
from ..schema import Op, Tensor
from .common import Builder, Unsupported, need, quantization
from .weights import Product, lower_weights, weight_zero
from .window import Window, check_image, window

_SHORT, _ROWS = 16, 64  # MLK_CONV_SHORT, MLK_CONV_ROWS


def _images(builder: Builder, op: Op) -> tuple[Tensor, Tensor, Tensor]:
    """Source, weights and result of a convolution."""
    tensors = builder.operand(op, 0), builder.operand(op, 1), builder.result(op)
    for tensor in tensors:
        need(tensor, "INT8")
        check_image(op, tensor)
    if weight_zero(tensors[1]):
        raise Unsupported(f"{tensors[1]} has a zero point")
    return tensors


def _check_result(product: Product, way: Window, width: int) -> None:
    if product.result.shape != (way.batches, way.out_h, way.out_w, width):
        raise ModelError(
            f"{product.op}: {product.source} with {product.weights} does not give "
            f"{product.result}"
        )


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
    scratch_bytes = min(2 * reach, span) * columns * channels + _SHORT
    if piece < _SHORT:
        words = lower_weights(builder, product)
        scratch_bytes += _ROWS * taps
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
    options = op.options
    width, kernel_h, kernel_w, channels = weights.shape
    if channels != source.shape[3]:
        raise Unsupported(f"groups: {source} with {weights}")
    way = window(
        op,
        source,
        (kernel_h, kernel_w),
        (options.integer(2), options.integer(1)),
        (options.integer(5, 1), options.integer(4, 1)),
    )
    product = Product(op, source, weights, result, 2, options.enum(3), False)
    _check_result(product, way, width)
    _convolve(builder, product, way)


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


def depthwise_conv_2d(builder: Builder, op: Op) -> None:
    """DEPTHWISE_CONV_2D: kernels/depthwise_conv.cc, integer_ops/depthwise_conv.h."""
    source, weights, result = _images(builder, op)
    options = op.options
    channels, width = source.shape[3], weights.shape[3]
    if weights.shape[0] != 1 or width % channels:
        raise ModelError(f"{op}: {weights} does not suit {source}")
    way = window(
        op,
        source,
        (weights.shape[1], weights.shape[2]),
        (options.integer(2), options.integer(1)),
        (options.integer(6, 1), options.integer(5, 1)),
    )
    product = Product(op, source, weights, result, 2, options.enum(4), False, 3)
    _check_result(product, way, width)
    if channels == 1:
        _convolve(builder, product, way)
        return
    # the reference takes this from the shapes, too, whatever the option says
    if width != channels:
        source = _repeated(builder, op, source, width // channels)
    words = lower_weights(builder, product, by_taps=True)
    _, zero = quantization(source)
    macs = result.elements * way.filter_h * way.filter_w
    builder.step(
        OP_DEPTHWISE_CONV, op, [source], [result], (*words, *_turned(way), zero), macs
    )


LOWER = {"CONV_2D": conv_2d, "DEPTHWISE_CONV_2D": depthwise_conv_2d}
