# SPDX-License-Identifier: MIT
"""CONV_2D."""

from ...errors import ModelError
from ..program import OP_CONV_2D, OP_FULLY_CONNECTED
from ..schema import Op, Tensor
from .common import Builder, Unsupported, need
from .weights import Product, lower_weights, weight_zero

# Bytes of gathered input that should fit into a first-level cache with the weights.
_SCRATCH = 4096
_MAX = 0x7FFF


def padding(
    op: Op, same: bool, size: int, kernel: int, stride: int, dilation: int
) -> tuple[int, int]:
    """Zeros in front of one dimension, and how many outputs it has.

    Source: ComputePaddingHeightWidth in tensorflow/lite/kernels/padding.h.
    """
    if min(size, kernel, stride, dilation) < 1 or max(kernel, stride, dilation) > _MAX:
        raise ModelError(
            f"{op}: size {size}, kernel {kernel}, stride {stride}, dilation {dilation}"
        )
    reach = (kernel - 1) * dilation + 1
    outputs = (
        (size + stride - 1) // stride if same else (size + stride - reach) // stride
    )
    return max(0, (outputs - 1) * stride + reach - size) // 2, outputs


def check_image(op: Op, tensor: Tensor) -> None:
    """An image is of rank 4: batch, height, width, channels."""
    if len(tensor.shape) != 4 or not tensor.elements:
        raise ModelError(f"{op}: {tensor} found, expected rank 4")
    if max(tensor.shape[1:]) > _MAX:
        raise Unsupported(f"{tensor} has a dimension over {_MAX}")


def conv_2d(builder: Builder, op: Op) -> None:
    """Lower CONV_2D (kernels/conv.cc, integer_ops/conv.h)."""
    source, weights = builder.operand(op, 0), builder.operand(op, 1)
    result = builder.result(op)
    for tensor in (source, weights, result):
        need(tensor, "INT8")
        check_image(op, tensor)
    options = op.options
    same = options.enum(0) == 0
    stride_w, stride_h = options.integer(1), options.integer(2)
    dilation_w, dilation_h = options.integer(4, 1), options.integer(5, 1)
    width, kernel_h, kernel_w, channels = weights.shape
    if channels != source.shape[3]:
        raise ModelError(f"{op}: {weights} does not suit {source}")
    if weight_zero(weights):
        raise Unsupported(f"{weights} has a zero point")
    top, out_h = padding(op, same, source.shape[1], kernel_h, stride_h, dilation_h)
    left, out_w = padding(op, same, source.shape[2], kernel_w, stride_w, dilation_w)
    if result.shape != (source.shape[0], out_h, out_w, width):
        raise ModelError(f"{op}: {source} with {weights} does not give {result}")
    product = Product(op, source, weights, result, 2, options.enum(3), False)
    words = lower_weights(builder, product)
    depth = kernel_h * kernel_w * channels
    pixels = result.elements // width
    macs = pixels * depth * width
    if kernel_h == kernel_w == stride_h == stride_w == 1:
        builder.step(
            OP_FULLY_CONNECTED, op, [source], [result], (*words, pixels, 0), macs
        )
        return
    tile = max(4, min(_SCRATCH // depth, pixels))
    scratch = builder.temporary(source, "scratch", shape=(tile, depth))
    zero = source.zero_points[0] if source.zero_points else 0
    geometry = (
        kernel_h,
        kernel_w,
        stride_h,
        stride_w,
        dilation_h,
        dilation_w,
        top,
        left,
        zero,
        tile,
    )
    builder.step(OP_CONV_2D, op, [source], [result, scratch], (*words, *geometry), macs)


LOWER = {"CONV_2D": conv_2d}
