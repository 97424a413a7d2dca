# SPDX-License-Identifier: MIT
"""CONV_2D of int8 whose channels are in groups: several smaller ones."""

from ...errors import ModelError
from ..program import BLOCK_OUTPUTS
from ..schema import Op, Tensor
from . import conv
from ._moves import emit, strides
from .common import Builder, Unsupported
from .move import region, whole


def _widened(weights: Tensor, taps: bytes, first: int, groups: int, fold: int) -> bytes:
    """Weights of neighbouring groups for the channels of them all: zeros elsewhere."""
    depth = weights.shape[3]
    pixels = weights.shape[1] * weights.shape[2]
    rows = []
    for i in range(groups * fold):
        before = bytes(depth * (i // fold))
        behind = bytes(depth * (groups - 1 - i // fold))
        start = (first + i) * pixels * depth
        for at in range(start, start + pixels * depth, depth):
            rows += [before, taps[at : at + depth], behind]
    return b"".join(rows)


def _part(
    builder: Builder, tensor: Tensor, first: int, count: int, item: int
) -> Tensor:
    """Some entries of a constant of one number per output channel."""
    data = tensor.data and tensor.data[first * item : (first + count) * item]
    changes = {"shape": (count,), "data": data}
    return builder.temporary(tensor, tensor.name, **changes)


def _weights(
    builder: Builder, weights: Tensor, first: int, groups: int, fold: int
) -> Tensor:
    assert weights.data is not None
    count = groups * fold
    per_channel = len(weights.scales) > 1
    return builder.temporary(
        weights,
        weights.name,
        shape=(count, *weights.shape[1:3], groups * weights.shape[3]),
        data=_widened(weights, weights.data, first, groups, fold),
        scales=weights.scales[first : first + count] if per_channel else weights.scales,
        zero_points=(0,) * (count if per_channel else 1),
    )


def conv_2d(builder: Builder, op: Op) -> None:
    """Lower CONV_2D, in groups where the weights have fewer channels than the image.

    As many groups as fill a block of packed weights are one convolution: its zeros
    are there anyway.
    """
    source, weights = builder.operand(op, 0), builder.operand(op, 1)
    result = builder.result(op)
    for tensor in (source, weights, result):
        conv.check_image(op, tensor)
    channels, depth, width = source.shape[3], weights.shape[3], weights.shape[0]
    groups = channels // depth
    if groups == 1:
        conv.conv_2d(builder, op)
        return
    if channels % depth or not groups or width % groups or result.shape[3] != width:
        raise ModelError(f"{op}: {weights} does not suit {source}")
    if weights.data is None:
        raise Unsupported(f"{weights} is not constant")
    if any(weights.zero_points):
        raise Unsupported(f"{weights} has a zero point")
    if len(weights.scales) not in (1, width):
        raise ModelError(f"{op}: {weights} has {len(weights.scales)} scales")
    fold = width // groups
    together = max(
        n
        for n in range(1, groups + 1)
        if groups % n == 0 and (n == 1 or n * fold <= BLOCK_OUTPUTS)
    )
    for group in range(0, groups, together):
        _convolve(builder, op, group, together, fold)


def _convolve(builder: Builder, op: Op, group: int, together: int, fold: int) -> None:
    """One convolution, of the channels of some groups."""
    source, weights = builder.operand(op, 0), builder.operand(op, 1)
    result = builder.result(op)
    depth, first = weights.shape[3], group * fold
    inputs = [
        builder.temporary(
            source, "channels", shape=(*source.shape[:3], together * depth)
        ),
        _weights(builder, weights, first, together, fold),
    ]
    if builder.has(op, 2):
        inputs.append(_part(builder, builder.operand(op, 2), first, together * fold, 4))
    out = builder.temporary(
        result, "outputs", shape=(*result.shape[:3], together * fold)
    )
    emit(builder, op, [region(source, inputs[0], group * depth, strides(source.shape))])
    part = op._replace(inputs=tuple(t.index for t in inputs), outputs=(out.index,))
    conv.conv_2d(builder, part)
    emit(builder, op, [whole(out, result, first, strides(result.shape))])
