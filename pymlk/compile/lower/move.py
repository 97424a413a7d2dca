# SPDX-License-Identifier: MIT
"""Operators that only move data: no arithmetic, so any integer dtype will do."""

import math
import struct
from collections.abc import Callable, Sequence

from ...errors import ModelError
from .. import arith
from ..program import OP_LUT
from ..schema import Op, Tensor
from ._moves import (
    Fill,
    Move,
    Record,
    Take,
    count_folded,
    emit,
    item_bytes,
    strides,
)
from .common import Builder, Unsupported, constant, need, quantization

INTEGERS = ("INT8", "UINT8", "INT16", "INT32", "INT64")


def constants(builder: Builder, op: Op, position: int) -> tuple[int, ...]:
    """The numbers of an operand that must be known when the program is made."""
    tensor = builder.operand(op, position)
    need(tensor, "INT32", "INT64")
    code = "i" if tensor.dtype == "INT32" else "q"
    return struct.unpack(f"<{tensor.elements}{code}", constant(tensor))


def ends(
    builder: Builder, op: Op, position: int = 0, result: int = 0, results: int = 1
) -> tuple[Tensor, Tensor]:
    """An operand and a result of the same integer dtype."""
    source = builder.operand(op, position)
    out = builder.result(op, result, results)
    need(source, *INTEGERS)
    if out.dtype != source.dtype:
        raise ModelError(f"{op}: {source} does not give {out}")
    return source, out


def is_shape(op: Op, result: Tensor, shape: Sequence[int]) -> None:
    """Refuse a result of another shape than the operator gives."""
    if result.shape != tuple(shape):
        text = "x".join(map(str, shape)) or "a scalar"
        raise ModelError(f"{op}: {result} found, expected shape {text}")
    if not result.elements:
        raise ModelError(f"{op}: {result} has no elements")


def axis_of(op: Op, axis: int, rank: int) -> int:
    """A dimension's number; negative ones count from the end."""
    if not -rank <= axis < rank:
        raise ModelError(f"{op}: axis {axis} found, with {rank} dimensions")
    return axis % rank


def whole(source: Tensor, result: Tensor, out_start: int, outs: Sequence[int]) -> Move:
    """All of a tensor into a region of another one."""
    return Move(
        source, result, source.shape, strides(source.shape), tuple(outs), 0, out_start
    )


def region(source: Tensor, result: Tensor, start: int, ins: Sequence[int]) -> Move:
    """A region of a tensor that is all of another one."""
    return Move(source, result, result.shape, tuple(ins), strides(result.shape), start)


def concatenation(builder: Builder, op: Op) -> None:
    """CONCATENATION: kernels/concatenation.cc.

    int8 operands must have the result's quantisation, int16 ones are copied whatever
    they have; ConcatenationWithScaling rescales uint8 ones.
    """
    result = builder.result(op)
    if op.options.enum(1) != 0:
        raise Unsupported("fused activation")
    need(result, *INTEGERS)
    if not op.inputs:
        raise ModelError(f"{op}: no operands")
    axis = axis_of(op, op.options.integer(0), len(result.shape))
    steps = strides(result.shape)
    records: list[Record] = []
    total = 0
    for position in range(len(op.inputs)):
        source, _ = ends(builder, op, position)
        if len(source.shape) != len(result.shape) or any(
            a != b
            for d, (a, b) in enumerate(zip(source.shape, result.shape, strict=True))
            if d != axis
        ):
            raise ModelError(f"{op}: {source} found, does not fit {result}")
        start = total * steps[axis]
        total += source.shape[axis]
        if not source.elements:
            continue
        source = _rescaled(builder, op, source, result)
        records.append(whole(source, result, start, steps))
    is_shape(op, result, (*result.shape[:axis], total, *result.shape[axis + 1 :]))
    emit(builder, op, records)


def _rescaled(builder: Builder, op: Op, source: Tensor, result: Tensor) -> Tensor:
    """An operand of a CONCATENATION, with the quantisation of its result."""
    if source.dtype not in ("INT8", "UINT8"):
        return source
    (scale, zero), (out_scale, out_zero) = quantization(source), quantization(result)
    if (scale, zero) == (out_scale, out_zero):
        return source
    if source.dtype == "INT8":
        raise ModelError(f"{op}: scales of {source} and {result} differ")
    # internal/reference/concatenation.h, all in float32
    factor = arith.f32(scale * arith.f32(1.0 / out_scale))
    bias = arith.f32(-zero * factor)

    def entry(q: int) -> int:
        scaled = arith.f32(arith.f32((q & 0xFF) * factor) + bias)
        return arith.clamp(arith.round_away(scaled) + out_zero, 0, 255)

    like = builder.temporary(result, f"{source.name} rescaled", shape=source.shape)
    table = builder.data.add(arith.table_s8(entry))
    builder.step(OP_LUT, op, [source], [like], (table,))
    return like


def pack(builder: Builder, op: Op) -> None:
    """PACK: kernels/pack.cc."""
    result = builder.result(op)
    need(result, *INTEGERS)
    axis = axis_of(op, op.options.integer(1), len(result.shape))
    shape = (*result.shape[:axis], *result.shape[axis + 1 :])
    is_shape(op, result, (*shape[:axis], len(op.inputs), *shape[axis:]))
    steps = strides(result.shape)
    rest = (*steps[:axis], *steps[axis + 1 :])
    records = []
    for position in range(len(op.inputs)):
        source, _ = ends(builder, op, position)
        if source.shape != shape:
            raise ModelError(f"{op}: {source} found, does not fit {result}")
        records.append(whole(source, result, position * steps[axis], rest))
    emit(builder, op, records)


def unpack(builder: Builder, op: Op) -> None:
    """UNPACK: kernels/unpack.cc."""
    source = builder.operand(op, 0)
    axis = axis_of(op, op.options.integer(1), len(source.shape))
    count = len(op.outputs)
    if op.options.integer(0) != count or source.shape[axis] != count:
        raise ModelError(f"{op}: {source} does not give {count} results")
    steps = strides(source.shape)
    records = []
    for position in range(count):
        _, result = ends(builder, op, 0, position, count)
        is_shape(op, result, (*source.shape[:axis], *source.shape[axis + 1 :]))
        rest = (*steps[:axis], *steps[axis + 1 :])
        records.append(region(source, result, position * steps[axis], rest))
    emit(builder, op, records)


def _split(
    builder: Builder, op: Op, position: int, axis: int, sizes: Sequence[int]
) -> None:
    source = builder.operand(op, position)
    axis = axis_of(op, axis, len(source.shape))
    steps = strides(source.shape)
    records = []
    start = 0
    for number, size in enumerate(sizes):
        _, result = ends(builder, op, position, number, len(sizes))
        is_shape(op, result, (*source.shape[:axis], size, *source.shape[axis + 1 :]))
        records.append(region(source, result, start * steps[axis], steps))
        start += size
    if start != source.shape[axis]:
        raise ModelError(f"{op}: parts of {start} found, does not fit {source}")
    emit(builder, op, records)


def _only(op: Op, values: Sequence[int]) -> int:
    if len(values) != 1:
        raise ModelError(f"{op}: {len(values)} numbers found, expected 1")
    return values[0]


def split(builder: Builder, op: Op) -> None:
    """SPLIT: kernels/split.cc."""
    source = builder.operand(op, 1)
    axis = axis_of(op, _only(op, constants(builder, op, 0)), len(source.shape))
    count = len(op.outputs)
    if not count or op.options.integer(0) != count or source.shape[axis] % count:
        raise ModelError(f"{op}: {source} does not give {count} results")
    _split(builder, op, 1, axis, [source.shape[axis] // count] * count)


def split_v(builder: Builder, op: Op) -> None:
    """SPLIT_V: kernels/split_v.cc; one size may be -1, the rest."""
    source = builder.operand(op, 0)
    sizes = list(constants(builder, op, 1))
    axis = axis_of(op, _only(op, constants(builder, op, 2)), len(source.shape))
    if len(sizes) != len(op.outputs) or sizes.count(-1) > 1:
        raise ModelError(f"{op}: sizes {sizes} for {len(op.outputs)} results")
    if -1 in sizes:
        sizes[sizes.index(-1)] = source.shape[axis] - sum(sizes) - 1
    if any(size < 0 for size in sizes):
        raise ModelError(f"{op}: sizes {sizes} found, with {source}")
    _split(builder, op, 0, axis, sizes)


def slice_(builder: Builder, op: Op) -> None:
    """SLICE: kernels/slice.cc; size -1 is all that is left."""
    source, result = ends(builder, op)
    begin, size = constants(builder, op, 1), constants(builder, op, 2)
    rank = len(source.shape)
    if len(begin) != rank or len(size) != rank:
        raise ModelError(f"{op}: begin and size do not fit {source}")
    shape = []
    for dim, first, count in zip(source.shape, begin, size, strict=True):
        left = dim - first if count == -1 else count
        if first < 0 or left < 1 or first + left > dim:
            raise ModelError(f"{op}: {begin} and {size} found, with {source}")
        shape.append(left)
    is_shape(op, result, shape)
    steps = strides(source.shape)
    start = sum(a * b for a, b in zip(begin, steps, strict=True))
    emit(builder, op, [region(source, result, start, steps)])


class _Axis:
    """One dimension of a STRIDED_SLICE: what begin, end and the masks say of it."""

    def __init__(self, size: int, whole: bool = True) -> None:
        self.size = size
        self.begin, self.end, self.step = 0, 0, 1
        self.from_edge = self.to_edge = whole
        self.shrink = False

    def walk(self, op: Op) -> tuple[int, int]:
        """First element and number of elements.

        Source: StridedSliceStartForAxis, StridedSliceEndForAxis in
        internal/strided_slice_logic.h; ResizeOutputTensor in kernels/strided_slice.cc.
        """
        if not self.step or (self.shrink and self.step < 0):
            raise ModelError(f"{op}: stride {self.step} found")
        low, high = (0, self.size) if self.step > 0 else (-1, self.size - 1)

        def clamped(value: int) -> int:
            return arith.clamp(value + self.size * (value < 0), low, high)

        first = clamped(self.begin)
        if self.from_edge:
            first = low if self.step > 0 else high
        end = clamped(self.end)
        if self.to_edge:
            end = high if self.step > 0 else low
        if self.shrink:
            end = first + 1
        count = -((first - end) // self.step)
        if count < 1 or not 0 <= first < self.size:
            raise ModelError(f"{op}: dimension of {self.size} leaves no element")
        return first, count


def _slice_axes(builder: Builder, op: Op, shape: tuple[int, ...]) -> list[_Axis]:
    """BuildStridedSliceParams in kernels/strided_slice.cc."""
    begin, end, step = (constants(builder, op, i) for i in (1, 2, 3))
    if not len(begin) == len(end) == len(step):
        raise ModelError(f"{op}: begin, end and strides differ in length")
    if op.options.flag(5):
        raise Unsupported("ends that count from begin")
    begin_mask, end_mask, ellipsis, new_axis, shrink = (
        op.options.integer(i) for i in range(5)
    )
    given = len(begin)
    added = sum((new_axis & ~ellipsis) >> i & 1 for i in range(given))
    total = len(shape) + added
    left = iter(shape)
    axes: list[_Axis] = []
    # so many dimensions more than numbers: an ellipsis stands for several
    extra = 0
    while len(axes) < total:
        at = len(axes)
        if ellipsis >> at & 1:
            count = max(1, min(1 + total - given, total - at))
            axes += [_Axis(next(left, 0)) for _ in range(count)]
            extra = count - 1
        elif new_axis >> (at - extra) & 1:
            axes.append(_Axis(1))
        elif at >= given + extra:
            axes.append(_Axis(next(left, 0)))
        else:
            position = at - extra
            axis = _Axis(next(left, 0), whole=False)
            axis.begin, axis.end, axis.step = (v[position] for v in (begin, end, step))
            axis.from_edge = bool(begin_mask >> position & 1)
            axis.to_edge = bool(end_mask >> position & 1)
            axis.shrink = bool(shrink >> position & 1)
            axes.append(axis)
    return axes


def strided_slice(builder: Builder, op: Op) -> None:
    """STRIDED_SLICE: kernels/strided_slice.cc."""
    source, result = ends(builder, op)
    axes = _slice_axes(builder, op, source.shape)
    steps = strides([axis.size for axis in axes])
    start = 0
    shape, ins = [], []
    for axis, step in zip(axes, steps, strict=True):
        first, count = axis.walk(op)
        start += first * step
        if not axis.shrink:
            shape.append(count)
            ins.append(step * axis.step)
    is_shape(op, result, shape)
    emit(builder, op, [region(source, result, start, ins)])


def transpose(builder: Builder, op: Op) -> None:
    """TRANSPOSE: kernels/transpose.cc."""
    source, result = ends(builder, op)
    rank = len(source.shape)
    order = [axis_of(op, a, rank) for a in constants(builder, op, 1)]
    if sorted(order) != list(range(rank)):
        raise ModelError(f"{op}: {order} is no order of {rank} dimensions")
    is_shape(op, result, [source.shape[a] for a in order])
    steps = strides(source.shape)
    emit(builder, op, [region(source, result, 0, [steps[a] for a in order])])


def _paddings(builder: Builder, op: Op, source: Tensor) -> list[tuple[int, int]]:
    flat = constants(builder, op, 1)
    if len(flat) != 2 * len(source.shape) or min(flat, default=0) < 0:
        raise ModelError(f"{op}: paddings {flat} found, with {source}")
    return list(zip(flat[::2], flat[1::2], strict=True))


def _padded(source: Tensor, pads: Sequence[tuple[int, int]]) -> list[int]:
    return [a + d + b for d, (a, b) in zip(source.shape, pads, strict=True)]


def pad(builder: Builder, op: Op) -> None:
    """PAD and PADV2: kernels/pad.cc; without a value it is the zero point."""
    source, result = ends(builder, op)
    pads = _paddings(builder, op, source)
    is_shape(op, result, _padded(source, pads))
    size = item_bytes(result)
    if op.name == "PADV2":
        value = builder.operand(op, 2)
        element = constant(value)
        if value.dtype != result.dtype or value.elements != 1:
            raise ModelError(f"{op}: {value} found, does not fit {result}")
        if result.dtype in ("INT8", "UINT8", "INT16") and (
            _scale(value) != _scale(result)
        ):
            raise ModelError(f"{op}: scales of {value} and {result} differ")
    else:
        _, zero = _scale(result)
        element = zero.to_bytes(size, "little", signed=zero < 0)
    steps = strides(result.shape)
    start = sum(a * s for (a, _), s in zip(pads, steps, strict=True))
    records: list[Record] = [whole(source, result, start, steps)]
    if source.shape != result.shape:
        records.insert(0, Fill(result, element))
    emit(builder, op, records)


def _scale(tensor: Tensor) -> tuple[float, int]:
    """Scale and zero point; integers without quantisation have none."""
    return quantization(tensor) if tensor.scales else (0.0, 0)


def mirror_pad(builder: Builder, op: Op) -> None:
    """MIRROR_PAD: kernels/mirror_pad.cc; one dimension after the other."""
    source, result = ends(builder, op)
    pads = _paddings(builder, op, source)
    shape = _padded(source, pads)
    is_shape(op, result, shape)
    # REFLECT leaves the edge itself out
    edge = 1 if op.options.enum(0) == 0 else 0

    def mirrored(dim: int, before: int, after: int) -> list[int] | None:
        if not before and not after:
            return None
        if max(before, after) > dim - edge:
            raise ModelError(f"{op}: pads {before} and {after} a dimension of {dim}")
        count_folded(builder, 4 * (before + dim + after))
        head = [before - 1 - i + edge for i in range(before)]
        return [*head, *range(dim), *(dim - 1 - edge - i for i in range(after))]

    lists = [mirrored(d, *p) for d, p in zip(source.shape, pads, strict=True)]
    _take_along(builder, op, source, result, lists)


def _take_along(
    builder: Builder,
    op: Op,
    source: Tensor,
    result: Tensor,
    lists: Sequence[Sequence[int] | None],
) -> None:
    """Pick by a list along some dimensions, the innermost first: the rest is longer."""
    records: list[Record] = []
    at = source
    left = [(axis, tuple(picks)) for axis, picks in enumerate(lists) if picks]
    for axis, picks in reversed(left):
        shape = (*at.shape[:axis], len(picks), *at.shape[axis + 1 :])
        to = result
        if axis != left[0][0]:
            name = f"{result.name} dimension {axis}"
            to = builder.temporary(result, name, shape=shape)
        outer, inner = math.prod(shape[:axis]), math.prod(shape[axis + 1 :])
        records.append(Take(at, to, outer, at.shape[axis], picks, inner))
        at = to
    if not records:
        records = [whole(source, result, 0, strides(result.shape))]
    emit(builder, op, records)


def gather(builder: Builder, op: Op) -> None:
    """GATHER with constant indices: kernels/gather.cc."""
    source, result = ends(builder, op)
    indices = constants(builder, op, 1)
    axis = axis_of(op, op.options.integer(0), len(source.shape))
    if op.options.integer(1):
        raise Unsupported("batch dimensions")
    shape = builder.operand(op, 1).shape
    is_shape(op, result, (*source.shape[:axis], *shape, *source.shape[axis + 1 :]))
    if not all(0 <= i < source.shape[axis] for i in indices):
        raise ModelError(f"{op}: an index is out of range")
    outer = math.prod(source.shape[:axis])
    inner = math.prod(source.shape[axis + 1 :])
    emit(
        builder,
        op,
        [Take(source, result, outer, source.shape[axis], indices, inner)],
    )


def reverse(builder: Builder, op: Op) -> None:
    """REVERSE_V2: kernels/reverse.cc, one dimension."""
    source, result = ends(builder, op)
    is_shape(op, result, source.shape)
    steps = list(strides(source.shape))
    start = 0
    for axis in {axis_of(op, a, len(steps)) for a in constants(builder, op, 1)}:
        start += (source.shape[axis] - 1) * steps[axis]
        steps[axis] = -steps[axis]
    emit(builder, op, [region(source, result, start, steps)])


def tile(builder: Builder, op: Op) -> None:
    """TILE: kernels/tile.cc."""
    source, result = ends(builder, op)
    times = constants(builder, op, 1)
    if len(times) != len(source.shape) or min(times, default=1) < 1:
        raise ModelError(f"{op}: {times} times {source}")
    is_shape(op, result, [n * d for n, d in zip(times, source.shape, strict=True)])
    ins, outs = strides(source.shape), strides(result.shape)
    walks = [
        ((n, 0, d * o), (d, i, o))
        for n, d, i, o in zip(times, source.shape, ins, outs, strict=True)
    ]
    dims, ins, outs = zip(*(w for pair in walks for w in pair), strict=True)
    emit(builder, op, [Move(source, result, dims, ins, outs)])


def broadcast_to(builder: Builder, op: Op) -> None:
    """BROADCAST_TO: kernels/broadcast_to.cc."""
    source, result = ends(builder, op)
    shape = constants(builder, op, 1)
    is_shape(op, result, shape)
    lead = len(shape) - len(source.shape)
    full = (1,) * lead + source.shape
    if lead < 0 or any(d not in (1, n) for d, n in zip(full, shape, strict=True)):
        raise ModelError(f"{op}: {source} does not give {result}")
    steps = [0 if d == 1 else s for d, s in zip(full, strides(full), strict=True)]
    emit(builder, op, [region(source, result, 0, steps)])


def _blocks(op: Op, space: Tensor, depth: Tensor) -> tuple[int, ...]:
    """Batch, rows, columns, block, block, channels of the side with more channels."""
    block = op.options.integer(0)
    if len(space.shape) != 4 or block < 1:
        raise ModelError(f"{op}: blocks of {block} found, with {space}")
    batch, height, width, channels = space.shape
    if height % block or width % block:
        raise ModelError(f"{op}: blocks of {block} found, with {space}")
    rows, columns = height // block, width // block
    is_shape(op, depth, (batch, rows, columns, channels * block * block))
    return batch, rows, columns, block, block, channels


def _block_strides(space: Tensor, block: int) -> tuple[int, ...]:
    """Of the side with more rows and columns, in the order of `_blocks`."""
    batch, row, column, channel = strides(space.shape)
    return batch, row * block, column * block, row, column, channel


def depth_to_space(builder: Builder, op: Op) -> None:
    """DEPTH_TO_SPACE: internal/reference/depth_to_space.h."""
    source, result = ends(builder, op)
    dims = _blocks(op, result, source)
    steps = _block_strides(result, dims[3])
    emit(builder, op, [Move(source, result, dims, strides(dims), steps)])


def space_to_depth(builder: Builder, op: Op) -> None:
    """SPACE_TO_DEPTH: internal/reference/space_to_depth.h."""
    source, result = ends(builder, op)
    dims = _blocks(op, source, result)
    steps = _block_strides(source, dims[3])
    emit(builder, op, [Move(source, result, dims, steps, strides(dims))])


def _nearest(size: int, count: int, corners: bool, centers: bool) -> list[int]:
    """GetNearestNeighbor in internal/reference/resize_nearest_neighbor.h."""
    scale = arith.f32(size / count)
    if corners and count > 1:
        scale = arith.f32((size - 1) / (count - 1))
    picks = []
    for at in range(count):
        place = arith.f32(arith.f32(at + 0.5 * centers) * scale)
        near = arith.round_away(place) if corners else math.floor(place)
        picks.append(max(0, min(near, size - 1)))
    return picks


def resize_nearest_neighbor(builder: Builder, op: Op) -> None:
    """RESIZE_NEAREST_NEIGHBOR: kernels/resize_nearest_neighbor.cc."""
    source, result = ends(builder, op)
    size = constants(builder, op, 1)
    if len(source.shape) != 4 or not source.elements:
        raise ModelError(f"{op}: {source} found, expected four dimensions")
    if len(size) != 2 or min(size) < 1:
        raise ModelError(f"{op}: size {size} found, with {source}")
    corners, centers = op.options.flag(0), op.options.flag(1)
    if corners and centers:
        raise ModelError(f"{op}: align_corners and half_pixel_centers exclude another")
    batch, height, width, channels = source.shape
    is_shape(op, result, (batch, *size, channels))
    count_folded(builder, 4 * sum(size))
    rows = _nearest(height, size[0], corners, centers)
    columns = _nearest(width, size[1], corners, centers)
    tall, wide = size[0] // height, size[1] // width

    def whole_factor(picks: list[int], factor: int) -> bool:
        return factor > 0 and picks == [i // factor for i in range(len(picks))]

    if not (whole_factor(rows, tall) and whole_factor(columns, wide)):
        # a dimension that stays as it is costs nothing
        down = None if size[0] == height and whole_factor(rows, 1) else rows
        across = None if size[1] == width and whole_factor(columns, 1) else columns
        _take_along(builder, op, source, result, (None, down, across, None))
        return
    # whole factors: every element again and again
    dims = (batch, height, tall, width, wide, channels)
    per_batch, row, column, channel = strides(source.shape)
    steps = (per_batch, row, 0, column, 0, channel)
    emit(builder, op, [Move(source, result, dims, steps, strides(dims))])


LOWER: dict[str, Callable[[Builder, Op], None]] = {
    "BROADCAST_TO": broadcast_to,
    "CONCATENATION": concatenation,
    "DEPTH_TO_SPACE": depth_to_space,
    "GATHER": gather,
    "MIRROR_PAD": mirror_pad,
    "PACK": pack,
    "PAD": pad,
    "PADV2": pad,
    "RESIZE_NEAREST_NEIGHBOR": resize_nearest_neighbor,
    "REVERSE_V2": reverse,
    "SLICE": slice_,
    "SPACE_TO_DEPTH": space_to_depth,
    "SPLIT": split,
    "SPLIT_V": split_v,
    "STRIDED_SLICE": strided_slice,
    "TILE": tile,
    "TRANSPOSE": transpose,
    "UNPACK": unpack,
}

# for docs/operators.md
DTYPES = dict.fromkeys(LOWER, "int8, uint8, int16, int32, int64")
