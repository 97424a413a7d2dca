# SPDX-License-Identifier: MIT
"""How a filter moves over images."""

from typing import NamedTuple

from ...errors import ModelError
from ..schema import Op, Tensor
from .common import Unsupported

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


class Window(NamedTuple):
    """Twin of struct mlk_window."""

    batches: int
    in_h: int
    in_w: int
    out_h: int
    out_w: int
    filter_h: int
    filter_w: int
    stride_h: int
    stride_w: int
    dilation_h: int
    dilation_w: int
    pad_h: int
    pad_w: int


def window(
    op: Op,
    source: Tensor,
    kernel: tuple[int, int],
    dilation: int = 0,
) -> Window:
    """How a filter moves over a source.

    Options of all such operators are padding, strides of columns and rows, and, for
    those that have them, dilations of columns and rows from number `dilation` on.
    """
    options = op.options
    same = options.enum(0) == 0
    strides = options.integer(2), options.integer(1)
    dilations = 1, 1
    if dilation:
        dilations = options.integer(dilation + 1, 1), options.integer(dilation, 1)
    batches, height, width, _ = source.shape
    pad_h, out_h = padding(op, same, height, kernel[0], strides[0], dilations[0])
    pad_w, out_w = padding(op, same, width, kernel[1], strides[1], dilations[1])
    return Window(
        batches,
        height,
        width,
        out_h,
        out_w,
        *kernel,
        *strides,
        *dilations,
        pad_h,
        pad_w,
    )


def check_result(op: Op, way: Window, given: str, result: Tensor, width: int) -> None:
    """Refuse a result that is not what the window gives."""
    if result.shape != (way.batches, way.out_h, way.out_w, width):
        raise ModelError(f"{op}: {given} does not give {result}")
