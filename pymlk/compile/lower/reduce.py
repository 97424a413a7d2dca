# SPDX-License-Identifier: MIT
"""Operators that reduce dimensions: MEAN, SUM, REDUCE_*, ARG_*, L2_NORMALIZATION."""

import math
from collections.abc import Callable

from ...errors import ModelError
from .. import arith
from ..program import OP_ARG_EXTREME, OP_L2_NORM, OP_REDUCE
from ..schema import Op, Tensor
from .common import LIMITS, Builder, Unsupported, need, quantization, symmetric
from .move import constants

_SUM, _MAX, _MIN = 0, 1, 2  # enum mlk_reduce_kind
_DIMS = 3  # MLK_REDUCE_DIMS
_MAX_DEPTH = 32768  # MLK_L2_NORM_MAX_DEPTH


def _axes(builder: Builder, op: Op, source: Tensor) -> set[int]:
    """The dimensions that operand 1 names, from the front."""
    rank = len(source.shape)
    axes = set()
    for axis in constants(builder, op, 1):
        if not -rank <= axis < rank:
            raise ModelError(f"{op}: axis {axis} of {source}")
        axes.add(axis % rank)
    return axes


def _geometry(source: Tensor, axes: set[int]) -> tuple[int, ...]:
    """Lengths and strides of what stays, then of what is reduced."""
    groups: list[tuple[bool, int, int]] = []  # reduced?, length, stride; inner first
    stride = 1
    for axis in reversed(range(len(source.shape))):
        size = source.shape[axis]
        if size > 1:
            reduced = axis in axes
            if groups and groups[-1][0] == reduced:
                _, length, inner = groups.pop()
                groups.append((reduced, length * size, inner))
            else:
                groups.append((reduced, size, stride))
        stride *= size
    words: list[int] = []
    for kind in (False, True):
        mine = [(length, step) for reduced, length, step in groups if reduced == kind]
        if len(mine) > _DIMS:
            raise Unsupported(f"{source} is reduced over axes {sorted(axes)}")
        mine += [(1, 0)] * (_DIMS - len(mine))
        words += [length for length, _ in reversed(mine)]
        words += [step for _, step in reversed(mine)]
    return tuple(words)


def _result_shape(source: Tensor, axes: set[int], keep: bool) -> tuple[int, ...]:
    return tuple(
        1 if axis in axes else size
        for axis, size in enumerate(source.shape)
        if keep or axis not in axes
    )


def _operands(builder: Builder, op: Op) -> tuple[Tensor, Tensor, set[int], int]:
    """Operand, result, axes, and how many values each result is made of."""
    source, result = builder.operand(op, 0), builder.result(op)
    need(source, "INT8", "INT16")
    need(result, source.dtype)
    if source.dtype == "INT16":
        symmetric(source)
        symmetric(result)
    axes = _axes(builder, op, source)
    shape = _result_shape(source, axes, op.options.flag(0))
    if not source.elements or result.shape != shape:
        raise ModelError(f"{op}: {source} does not give {result}")
    return source, result, axes, source.elements // result.elements


def _mean_multiplier(multiplier: int, shift: int, count: int) -> tuple[int, int]:
    """Divide a multiplier by the number of values, with the bits that it loses."""
    more = min(count.bit_length() - 1, 32, 31 + shift)
    return (multiplier << more) // count, shift - more


def _sum(mean: bool) -> Callable[[Builder, Op], None]:
    """QuantizedMeanOrSum in internal/reference/reduce.h.

    The reference kernel of SUM takes int8 for uint8 (tensorflow issue 102490), and
    to be the reference bit for bit is the contract. Of int16 it takes sums without
    scales, and keeps their lower half.
    """

    def lower(builder: Builder, op: Op) -> None:
        source, result, axes, count = _operands(builder, op)
        (in_scale, in_zero), (scale, zero) = quantization(source), quantization(result)
        wide = source.dtype == "INT16"
        is_unsigned = not mean and not wide
        bounds = LIMITS["UINT8" if is_unsigned else source.dtype]
        if wide and not mean:
            if in_scale != scale:
                raise ModelError(f"{op}: scales of {source} and {result} differ")
            bounds = (-(2**31), 2**31 - 1)
        multiplier, shift = arith.quantize_multiplier(in_scale / scale)
        if mean:
            multiplier, shift = _mean_multiplier(multiplier, shift, count)
        builder.step(
            OP_REDUCE,
            op,
            [source],
            [result],
            (
                *_geometry(source, axes),
                _SUM,
                int(is_unsigned),
                arith.wrap32(-in_zero * count),
                multiplier,
                shift,
                zero,
                *bounds,
            ),
        )

    return lower


def _extreme(kind: int) -> Callable[[Builder, Op], None]:
    """ReduceGeneric in internal/reference/reduce.h."""

    def lower(builder: Builder, op: Op) -> None:
        source, result, axes, _ = _operands(builder, op)
        if quantization(source) != quantization(result):
            raise ModelError(f"{op}: {source} and {result} are quantised differently")
        builder.step(
            OP_REDUCE,
            op,
            [source],
            [result],
            (*_geometry(source, axes), kind, *(0,) * 7),
        )

    return lower


def _arg(is_min: bool) -> Callable[[Builder, Op], None]:
    """ArgMinMax in internal/reference/arg_min_max.h."""

    def lower(builder: Builder, op: Op) -> None:
        source, result = builder.operand(op, 0), builder.result(op)
        need(source, "INT8")
        need(result, "INT32", "INT64")
        axes = _axes(builder, op, source)
        if len(axes) != 1 or result.shape != _result_shape(source, axes, False):
            raise ModelError(f"{op}: {source} does not give {result}")
        axis = axes.pop()
        builder.step(
            OP_ARG_EXTREME,
            op,
            [source],
            [result],
            (
                math.prod(source.shape[:axis]),
                source.shape[axis],
                math.prod(source.shape[axis + 1 :]),
                int(is_min),
            ),
        )

    return lower


def l2_normalization(builder: Builder, op: Op) -> None:
    """L2_NORMALIZATION: kernels/l2norm.cc, integer_ops/l2normalization.h."""
    source, result = builder.operand(op, 0), builder.result(op)
    need(source, "INT8")
    need(result, "INT8")
    if not source.shape or not source.elements or source.shape != result.shape:
        raise ModelError(f"{op}: {source} does not give {result}")
    if quantization(result) != (1 / 128, 0):
        raise ModelError(f"{op}: {result} has not scale 1/128 and zero point 0")
    if op.options.enum(0):
        raise Unsupported("a fused activation")
    depth = source.shape[-1]
    if depth > _MAX_DEPTH:
        raise Unsupported(f"vectors of {depth} values, at most {_MAX_DEPTH}")
    builder.step(
        OP_L2_NORM,
        op,
        [source],
        [result],
        (source.elements // depth, depth, quantization(source)[1]),
    )


LOWER: dict[str, Callable[[Builder, Op], None]] = {
    "ARG_MAX": _arg(False),
    "ARG_MIN": _arg(True),
    "L2_NORMALIZATION": l2_normalization,
    "MEAN": _sum(mean=True),
    "REDUCE_MAX": _extreme(_MAX),
    "REDUCE_MIN": _extreme(_MIN),
    "SUM": _sum(mean=False),
}

# for docs/operators.md
DTYPES = dict.fromkeys(("ARG_MAX", "ARG_MIN"), "int8 to int32, int64") | dict.fromkeys(
    ("MEAN", "REDUCE_MAX", "REDUCE_MIN", "SUM"), "int8, int16"
)
EXCEPTIONS = {
    "SUM": "bit-exact, so as wrong as 2.14's reference for negative sums of int8 "
    "(TensorFlow issue 102490: it takes int8 for uint8)"
}
