# SPDX-License-Identifier: MIT
"""The same bytes under another shape; and arithmetic of shapes, which is done now.

Keras writes a reshape of a model with an open batch as SHAPE, STRIDED_SLICE, PACK
and RESHAPE; with fixed shapes nothing of that is left to run.
"""

import math
import struct
from collections.abc import Callable, Sequence

from ...errors import ModelError
from ..schema import Op, Tensor
from .common import Builder, Unsupported, need
from .move import axis_of, constants, ends

_CODES = {"INT32": "i", "INT64": "q"}


def _view(builder: Builder, op: Op, source: Tensor, shape: Sequence[int]) -> None:
    """Make the result the operand's memory, or its bytes if they are known."""
    result = builder.result(op)
    if math.prod(shape) != source.elements or not source.elements:
        raise ModelError(f"{op}: {source} does not give {result}")
    builder.tensors[result.index] = result._replace(shape=tuple(shape))
    if source.data is not None:
        builder.fold(op, source.data)
    else:
        builder.alias[result.index] = source.index


def reshape(builder: Builder, op: Op) -> None:
    """RESHAPE: kernels/reshape.cc; a shape in a tensor goes before the option."""
    source, result = ends(builder, op)
    shape = list(op.options.integers(0) or result.shape)
    if builder.has(op, 1):
        shape = list(constants(builder, op, 1))
    if shape == [0]:
        # how old converters write a scalar's
        shape = []
    if shape.count(-1) > 1 or any(dim < -1 for dim in shape):
        raise ModelError(f"{op}: shape {shape} found")
    if -1 in shape:
        known = -math.prod(shape)
        if not known or source.elements % known:
            raise ModelError(f"{op}: {source} does not give shape {shape}")
        shape[shape.index(-1)] = source.elements // known
    _view(builder, op, source, shape)


def expand_dims(builder: Builder, op: Op) -> None:
    """EXPAND_DIMS: kernels/expand_dims.cc."""
    source, result = ends(builder, op)
    axes = constants(builder, op, 1)
    if len(axes) != 1:
        raise ModelError(f"{op}: {len(axes)} axes found, expected 1")
    axis = axis_of(op, axes[0], len(source.shape) + 1)
    _same(op, result, (*source.shape[:axis], 1, *source.shape[axis:]))
    _view(builder, op, source, result.shape)


def squeeze(builder: Builder, op: Op) -> None:
    """SQUEEZE: kernels/squeeze.cc; without a list all dimensions of 1 go."""
    source, result = ends(builder, op)
    rank = len(source.shape)
    axes = {axis_of(op, a, rank) for a in op.options.integers(0)}
    if any(source.shape[a] != 1 for a in axes):
        raise ModelError(f"{op}: squeezes {sorted(axes)} of {source}")
    if not op.options.integers(0):
        axes = {a for a, dim in enumerate(source.shape) if dim == 1}
    _same(op, result, tuple(d for a, d in enumerate(source.shape) if a not in axes))
    _view(builder, op, source, result.shape)


def _same(op: Op, result: Tensor, shape: tuple[int, ...]) -> None:
    if result.shape != shape:
        raise ModelError(f"{op}: {result} found, expected shape {shape}")


def _folded(builder: Builder, op: Op, values: Sequence[int]) -> None:
    """The result, as numbers."""
    result = builder.result(op)
    need(result, *_CODES)
    if len(values) != result.elements:
        raise ModelError(f"{op}: {len(values)} numbers found, {result} expected")
    wrap = 32 if result.dtype == "INT32" else 64
    half = 1 << wrap - 1
    wrapped = [(v + half) % (1 << wrap) - half for v in values]
    data = struct.pack(f"<{len(values)}{_CODES[result.dtype]}", *wrapped)
    builder.fold(op, data)


def shape_of(builder: Builder, op: Op) -> None:
    """SHAPE: kernels/shape.cc."""
    _folded(builder, op, builder.operand(op, 0).shape)


def _all_known(builder: Builder, op: Op) -> bool:
    """Are these few whole numbers, all known?"""
    tensors = [builder.tensors[i] for i in (*op.inputs, *op.outputs) if i >= 0]
    return all(t.dtype in _CODES and t.elements <= 64 for t in tensors) and all(
        builder.tensors[i].data is not None for i in op.inputs if i >= 0
    )


def _cast(builder: Builder, op: Op) -> None:
    """CAST: kernels/cast.cc."""
    _folded(builder, op, constants(builder, op, 0))


def _binary(function: Callable[[int, int], int]) -> Callable[[Builder, Op], None]:
    def fold(builder: Builder, op: Op) -> None:
        a, b = constants(builder, op, 0), constants(builder, op, 1)
        result = builder.result(op)
        if len(a) != len(b) and 1 not in (len(a), len(b)):
            raise Unsupported("broadcast of shapes")
        if op.options.enum(0) != 0:
            raise Unsupported("fused activation on whole numbers")
        # equal ones, or one number with all
        if not {builder.operand(op, i).shape for i in (0, 1)} <= {
            result.shape,
            (),
            (1,),
        }:
            raise Unsupported("broadcast of shapes")
        count = max(len(a), len(b))
        pairs = zip(a * (count // len(a)), b * (count // len(b)), strict=True)
        _folded(builder, op, [function(x, y) for x, y in pairs])

    return fold


def _reduce_prod(builder: Builder, op: Op) -> None:
    """REDUCE_PROD of a list: kernels/reduce.cc."""
    source = builder.operand(op, 0)
    axes = {axis_of(op, a, len(source.shape)) for a in constants(builder, op, 1)}
    if len(source.shape) != 1 or axes != {0}:
        raise Unsupported("a product along some dimensions")
    _folded(builder, op, [math.prod(constants(builder, op, 0))])


# What is computed when all operands are few whole numbers that are known.
_FOLD: dict[str, Callable[[Builder, Op], None]] = {
    "ADD": _binary(lambda a, b: a + b),
    "CAST": _cast,
    "MAXIMUM": _binary(max),
    "MINIMUM": _binary(min),
    "MUL": _binary(lambda a, b: a * b),
    "REDUCE_PROD": _reduce_prod,
    "SUB": _binary(lambda a, b: a - b),
}


def folded(builder: Builder, op: Op) -> bool:
    """Compute an operator on shapes now, whatever else it may do to activations."""
    if op.name not in _FOLD or not _all_known(builder, op):
        return False
    _FOLD[op.name](builder, op)
    return True


LOWER: dict[str, Callable[[Builder, Op], None]] = {
    "EXPAND_DIMS": expand_dims,
    "RESHAPE": reshape,
    "SHAPE": shape_of,
    "SQUEEZE": squeeze,
}

# for docs/operators.md
DTYPES = dict.fromkeys(LOWER, "int8, uint8, int16, int32, int64")
