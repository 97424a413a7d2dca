# SPDX-License-Identifier: MIT
"""Operators on images: TRANSPOSE_CONV, RESIZE_BILINEAR, phases."""

import struct

from ...errors import ModelError
from ..program import (
    OP_RESIZE_BILINEAR,
    OP_SPACE_BATCH,
    OP_TRANSPOSE_CONV,
    Ref,
)
from ..schema import Op, Tensor
from .common import (
    Builder,
    Unsupported,
    activation_range,
    constant,
    need,
    quantization,
    symmetric,
)
from .weights import Product, biases, multipliers
from .window import Window, check_image, window

_LERP_ONE = 1024


def constants(builder: Builder, op: Op, position: int, count: int) -> tuple[int, ...]:
    """Return an int32 operand that is known now."""
    tensor = builder.operand(op, position)
    need(tensor, "INT32")
    data = constant(tensor)
    if tensor.elements != count:
        raise ModelError(f"{op}: {tensor} found, expected {count} numbers")
    return struct.unpack(f"<{count}i", data)


def _scaling(builder: Builder, p: Product, width: int) -> list[Ref]:
    """Multipliers and shifts of all outputs."""
    scaling = multipliers(p, width)
    return [
        builder.data.add_s32([m for m, _ in scaling]),
        builder.data.add_s32([s for _, s in scaling]),
    ]


def transposed(
    builder: Builder, op: Op, source: Tensor, weights: Tensor, result: Tensor
) -> Window:
    """Check the shapes of a TRANSPOSE_CONV: its filter moves over the result."""
    for tensor in (source, weights, result):
        check_image(op, tensor)
    shape = constants(builder, op, 0, 4)
    width, filter_h, filter_w, channels = weights.shape
    if (
        shape != result.shape
        or shape[0] != source.shape[0]
        or (shape[3], channels) != (width, source.shape[3])
    ):
        raise ModelError(f"{op}: {source} with {weights} does not give {result}")
    return window(op, result, (filter_h, filter_w))


def transpose_conv(builder: Builder, op: Op) -> None:
    """TRANSPOSE_CONV: kernels/transpose_conv.cc, integer_ops/transpose_conv.h."""
    weights, source = builder.operand(op, 1), builder.operand(op, 2)
    result = builder.result(op)
    for tensor in (source, weights, result):
        need(tensor, "INT8")
    way = transposed(builder, op, source, weights, result)._replace(
        in_h=source.shape[1],
        in_w=source.shape[2],
        out_h=result.shape[1],
        out_w=result.shape[2],
    )
    width, filter_h, filter_w, channels = weights.shape
    taps = builder.weights(weights)
    # the reference does not look at zero points of the weights
    weights = weights._replace(zero_points=())
    product = Product(op, source, weights, result, 3, op.options.enum(3), False)
    scaling = _scaling(builder, product, width)
    _, in_zero = quantization(source)
    out_scale, out_zero = quantization(result)
    reached = -(-filter_h // way.stride_h) * -(-filter_w // way.stride_w)
    builder.step(
        OP_TRANSPOSE_CONV,
        op,
        [source],
        [result],
        (
            *way,
            channels,
            width,
            builder.data.add(taps),
            builder.data.add_s32(biases(builder, op, 3, width)),
            *scaling,
            in_zero,
            out_zero,
            *activation_range(op, op.options.enum(3), out_scale, out_zero),
        ),
        macs=result.elements * reached * channels,
    )


def _lerps(op: Op, size: int, count: int, corners: bool, centers: bool) -> list[int]:
    """Lower and upper index and fraction of each result along one dimension."""
    scale = (_LERP_ONE * size + count // 2) // count
    if corners and count > 1:
        scale = (_LERP_ONE * (size - 1) + (count - 1) // 2) // (count - 1)
    words = []
    for i in range(count):
        at = i * scale + (scale // 2 - _LERP_ONE // 2 if centers else 0)
        # C divides towards zero
        lower = max(at // _LERP_ONE, 0)
        upper = min(max(at + _LERP_ONE - 1, 0) // _LERP_ONE, size - 1)
        if lower >= size:
            raise Unsupported(f"{op}: rounding leads beyond the operand")
        words += [lower, upper, at - _LERP_ONE * lower]
    return words


def resize_bilinear(builder: Builder, op: Op) -> None:
    """RESIZE_BILINEAR: ResizeBilinear in internal/reference/resize_bilinear.h."""
    source, result = builder.operand(op, 0), builder.result(op)
    need(source, "INT8", "INT16")
    for tensor in (source, result):
        need(tensor, source.dtype)
        check_image(op, tensor)
        quantization(tensor)
    height, width = constants(builder, op, 1, 2)
    if result.shape != (source.shape[0], height, width, source.shape[3]):
        raise ModelError(f"{op}: {source} does not give {result}")
    corners, centers = op.options.flag(2), op.options.flag(3)
    if corners and centers:
        raise ModelError(f"{op}: aligned corners and half pixel centres exclude both")
    builder.step(
        OP_RESIZE_BILINEAR,
        op,
        [source],
        [result],
        (
            *source.shape[:3],
            height,
            width,
            source.shape[3],
            builder.data.add_s32(_lerps(op, source.shape[1], height, corners, centers)),
            builder.data.add_s32(_lerps(op, source.shape[2], width, corners, centers)),
        ),
    )


def _phases(builder: Builder, op: Op, to_space: bool) -> None:
    """Lower both directions; an image of rank 3 has a width of 1."""
    source, result = builder.operand(op, 0), builder.result(op)
    need(source, "INT8", "INT16")
    need(result, source.dtype)
    item = 1
    if source.dtype == "INT16":
        symmetric(source)
        item = 2
    if quantization(source) != quantization(result):
        raise ModelError(f"{op}: {source} and {result} are quantised differently")
    rank = len(source.shape)
    if rank not in (3, 4) or len(result.shape) != rank:
        raise ModelError(f"{op}: {source} found, expected rank 3 or 4")
    block = constants(builder, op, 1, rank - 2)
    edges = constants(builder, op, 2, 2 * (rank - 2))
    if min(block) < 1 or min(edges) < 0 or max(*block, *edges) > 0x7FFF:
        raise ModelError(f"{op}: blocks of {block} and edges of {edges}")
    space, phases = (result, source) if to_space else (source, result)
    cells = [
        (size + before + after) // length
        for size, length, before, after in zip(
            space.shape[1:], block, edges[::2], edges[1::2], strict=False
        )
    ]
    wanted = [size * length for size, length in zip(cells, block, strict=True)]
    found = [
        size + before + after
        for size, before, after in zip(
            space.shape[1:], edges[::2], edges[1::2], strict=False
        )
    ]
    blocks = block[0] * (block[1] if rank == 4 else 1)
    batches, depth = space.shape[0], space.shape[-1]
    if wanted != found or phases.shape != (batches * blocks, *cells, depth):
        raise ModelError(f"{op}: {source} does not give {result}")
    one = (1,) * (4 - rank)
    builder.step(
        OP_SPACE_BATCH,
        op,
        [source],
        [result],
        (
            batches,
            *space.shape[1:-1],
            *one,
            *block,
            *one,
            *cells,
            *one,
            *edges[::2],
            *(0 for _ in one),
            depth * item,
            0 if to_space else quantization(result)[1],
            int(to_space),
        ),
    )


def space_to_batch_nd(builder: Builder, op: Op) -> None:
    """SPACE_TO_BATCH_ND: internal/reference/space_to_batch_nd.h."""
    _phases(builder, op, to_space=False)


def batch_to_space_nd(builder: Builder, op: Op) -> None:
    """BATCH_TO_SPACE_ND: internal/reference/batch_to_space_nd.h."""
    _phases(builder, op, to_space=True)


LOWER = {
    "BATCH_TO_SPACE_ND": batch_to_space_nd,
    "RESIZE_BILINEAR": resize_bilinear,
    "SPACE_TO_BATCH_ND": space_to_batch_nd,
    "TRANSPOSE_CONV": transpose_conv,
}

# for docs/operators.md
DTYPES = dict.fromkeys(
    ("BATCH_TO_SPACE_ND", "RESIZE_BILINEAR", "SPACE_TO_BATCH_ND"), "int8, int16"
)
