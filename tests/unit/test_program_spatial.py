# SPDX-License-Identifier: MIT
"""The verifier: parameters of the operators on images and of reductions."""

import errno

import pytest
from helpers.engine_c import verify
from unit.test_program import CONV, NAMES, WINDOW, Edit, refuses_other_work

from pymlk.compile.program import PARAM_WORDS

REQUANT = (
    "weights bias multiplier shift in_zero_point out_zero_point act_min act_max"
).split()
# the structs of mlk_engine.h
PARAMS = {
    "conv_2d": CONV,
    "depthwise_conv": CONV,
    "transpose_conv": [*WINDOW, "channels", "width", *REQUANT],
    "average_pool": [*WINDOW, "channels", "kind", "act_min", "act_max"],
    "mean": (
        "keep0 keep1 keep2 keep_stride0 keep_stride1 keep_stride2 over0 over1 over2 "
        "over_stride0 over_stride1 over_stride2 kind is_unsigned bias multiplier "
        "shift out_zero_point act_min act_max"
    ).split(),
    "arg_max": ["outer", "depth", "inner", "is_min"],
    "resize_bilinear": ("batches in_h in_w out_h out_w channels rows columns").split(),
    "space_to_batch": (
        "batches space_h space_w block_h block_w cells_h cells_w pad_h pad_w depth "
        "fill to_space"
    ).split(),
    "l2_normalization": ["rows", "depth", "in_zero_point"],
}
PARAMS["max_pool"] = PARAMS["average_pool"]
PARAMS["batch_to_space"] = PARAMS["space_to_batch"]
PARAMS["sum"] = PARAMS["reduce_max"] = PARAMS["mean"]
PARAMS["arg_min"] = PARAMS["arg_max"]
HUGE = 0xFFFFFFFF
REACH = 1 << 29  # MLK_MAX_REACH


def damaged(name, **changes):
    """A program of the corpus with some parameters changed."""
    names = PARAMS[name]
    return Edit(name).op(0, **{f"word{names.index(k)}": v for k, v in changes.items()})


def array(name, param, index, *values):
    """A program of the corpus with a changed s32 in one of its arrays."""
    program = Edit(name)
    at = program.word(PARAMS[name].index(param)) + 4 * index
    return program.put(at, f"<{len(values)}i", *values)


def dims(name, tensor, *shape):
    """A program of the corpus with a tensor of another shape."""
    changes = {f"dim{i}": size for i, size in enumerate(shape)}
    size = 1
    for length in shape:
        size *= length
    changes |= {f"dim{i}": 0 for i in range(len(shape), 6)}
    return Edit(name).tensor(tensor, rank=len(shape), bytes=size, **changes)


def each(name, params, *values):
    """One program per parameter and value."""
    return [(name, {param: value}) for param in params.split() for value in values]


PACKED = ("conv_2d", "depthwise_conv")
CONVOLUTIONS = (*PACKED, "transpose_conv")
POOLS = ("average_pool", "max_pool")
NOT_ZERO = " ".join(WINDOW[:11])

PARAM = [
    *(c for n in (*CONVOLUTIONS, *POOLS) for c in each(n, NOT_ZERO, 0)),
    *(c for n in ("transpose_conv", *POOLS) for c in each(n, "channels", 0)),
    *(
        c
        for n in (*CONVOLUTIONS, *POOLS)
        for c in each(n, "pad_h pad_w stride_h stride_w", REACH + 1, HUGE)
    ),
    *(c for n in (*CONVOLUTIONS, *POOLS) for c in each(n, "filter_h filter_w", HUGE)),
    *(c for n in CONVOLUTIONS for c in each(n, "in_zero_point", 128, -129)),
    *(c for n in CONVOLUTIONS for c in each(n, "out_zero_point", 128, -129)),
    *(c for n in (*CONVOLUTIONS, *POOLS) for c in each(n, "act_min", -129, 128)),
    *(c for n in (*CONVOLUTIONS, *POOLS) for c in each(n, "act_max", 128, -129)),
    *(c for n in PACKED for c in each(n, "dilation_h dilation_w", REACH + 1, HUGE)),
    # weights of another number of taps
    *(c for n in PACKED for c in each(n, "filter_h filter_w", 100, REACH)),
    *(c for n in PACKED for c in each(n, "depth", 0, 17, HUGE)),
    *each("transpose_conv", "width", 0),
    *(
        c
        for n in ("transpose_conv", *POOLS)
        for c in each(n, "dilation_h dilation_w", 2, HUGE)
    ),
    *(c for n in POOLS for c in each(n, "kind", 2, HUGE)),
    # a position without a tap inside the image
    *each("average_pool", "pad_h", 2),
    *each("average_pool", "pad_w", 3),
    *each("average_pool", "stride_h", 2),
    *each("average_pool", "stride_w", 2),
    *each("max_pool", "stride_h", 3),
    *each("mean", "keep0 keep1 keep2 over0 over1 over2", 0),
    *each("mean", "keep_stride1 over_stride2", REACH + 1, HUGE),
    *each("mean", "kind", 3, HUGE),
    *each("mean", "is_unsigned", 2, HUGE),
    *each("mean", "multiplier", -1),
    *each("mean", "shift", 31, -32),
    *each("mean", "out_zero_point", 128, -129),
    *each("mean", "act_min", -129, 128),
    *each("mean", "act_max", 256, -129),
    *each("arg_max", "outer depth inner", 0),
    *each("arg_max", "is_min", 2, HUGE),
    *each("resize_bilinear", "batches in_h in_w out_h out_w channels", 0),
    *(
        c
        for n in ("space_to_batch", "batch_to_space")
        for c in [
            *each(n, "batches space_h space_w block_h block_w", 0),
            *each(n, "cells_h cells_w depth", 0),
            *each(n, "block_h block_w pad_h pad_w", REACH + 1, HUGE),
            *each(n, "fill", 128, -129),
            *each(n, "to_space", 2, HUGE),
        ]
    ),
    # the image's last row or column would be in no cell
    *each("batch_to_space", "pad_h pad_w", 2, REACH),
    *each("l2_normalization", "rows depth", 0),
    *each("l2_normalization", "depth", 32769, HUGE),
    *each("l2_normalization", "in_zero_point", 128, -129),
]
OPERAND = [
    *(c for n in (*CONVOLUTIONS, *POOLS) for c in each(n, "batches", 5, REACH, HUGE)),
    *(
        c
        for n in ("transpose_conv", *POOLS)
        for c in each(n, "channels", 5, REACH, HUGE)
    ),
    *(c for n in CONVOLUTIONS for c in each(n, "in_h in_w out_h out_w", 5)),
    *(c for n in PACKED for c in each(n, "width", 0, 5, HUGE)),
    # more scratch than there is
    *each("conv_2d", "stride_w", 100, REACH),
    *each("transpose_conv", "width", 1, 3, HUGE),
    *each("mean", "keep0 keep1 keep2", 5, HUGE),
    *each("mean", "over0 over1 over2", 5, HUGE),
    *each("mean", "keep_stride1", 13, REACH),
    *each("mean", "keep_stride2", 2, REACH),
    *each("mean", "over_stride2", 5, REACH),
    *each("arg_max", "outer depth inner", 4, HUGE),
    *each("resize_bilinear", "batches in_h in_w out_h out_w channels", 5, HUGE),
    *(
        c
        for n in ("space_to_batch", "batch_to_space")
        for c in [
            *each(n, "batches space_h space_w block_h block_w", 5),
            *each(n, "cells_h cells_w depth", 5, HUGE),
        ]
    ),
    *each("space_to_batch", "to_space", 1),
    *each("l2_normalization", "rows", 3, HUGE),
    *each("l2_normalization", "depth", 2, 32768),
]
DATA = [
    *(
        c
        for n in CONVOLUTIONS
        for c in each(n, "bias multiplier shift", 0, 8, REACH, HUGE - 15)
    ),
    *(
        c
        for n in PACKED
        for c in each(n, "packed bias_unsigned", 0, 8, REACH, HUGE - 15)
    ),
    *each("transpose_conv", "weights", 0, 8, REACH, HUGE - 15),
    *each("transpose_conv", "filter_h filter_w", 100, REACH),
    *each("resize_bilinear", "rows columns", 0, 8, REACH, HUGE - 15),
]
ARRAYS = [
    *(("PARAM", (n, "multiplier", i, -1)) for n in CONVOLUTIONS for i in (0, 1)),
    *(("PARAM", (n, "shift", 1, s)) for n in CONVOLUTIONS for s in (31, -32)),
    # lower, upper, fraction of the last row, and of the first column
    ("PARAM", ("resize_bilinear", "rows", 6, 2)),
    ("PARAM", ("resize_bilinear", "rows", 7, 2)),
    ("PARAM", ("resize_bilinear", "rows", 7, -1)),
    ("PARAM", ("resize_bilinear", "rows", 8, 1025)),
    ("PARAM", ("resize_bilinear", "rows", 8, -1025)),
    ("PARAM", ("resize_bilinear", "columns", 0, 3)),
    ("PARAM", ("resize_bilinear", "columns", 1, 3)),
]
CASES = [
    *(("PARAM", name, changes) for name, changes in PARAM),
    *(("OPERAND", name, changes) for name, changes in OPERAND),
    *(("DATA", name, changes) for name, changes in DATA),
]


def refused(program, reason):
    """The verifier says no, with this reason, at the operator."""
    rc, diag = verify(program.done())
    assert NAMES[diag.reason] == reason
    assert rc == -errno.EINVAL
    assert diag.op == 0


@pytest.mark.parametrize("name", [n for n, p in PARAMS.items() if len(p) < PARAM_WORDS])
def test_params_are_known(name):
    """Each word is known here: what lies behind the last one is reserved."""
    refused(Edit(name).op(0, **{f"word{len(PARAMS[name])}": 1}), "RESERVED")


@pytest.mark.parametrize(
    ("reason", "name", "changes"),
    CASES,
    ids=[f"{n}-{'-'.join(f'{k}={v}' for k, v in c.items())}" for _, n, c in CASES],
)
def test_parameter_out_of_range(reason, name, changes):
    """One parameter that no honest program has."""
    refused(damaged(name, **changes), reason)


@pytest.mark.parametrize(("reason", "case"), ARRAYS)
def test_array_out_of_range(reason, case):
    """One entry of an array that no honest program has."""
    refused(array(*case), reason)


@pytest.mark.parametrize(
    "program",
    [
        dims("average_pool", 0, 1, 2, 4, 3),
        dims("average_pool", 1, 1, 2, 4, 1),
        dims("mean", 1, 2, 3),
        dims("l2_normalization", 1, 2, 2),
        Edit("arg_max").tensor(1, dtype=9, host_dtype=9, dim0=16),
        Edit("arg_min").tensor(1, dim0=2, bytes=8),
    ],
)
def test_tensor_of_another_size(program):
    """Operand and result must be what the parameters say."""
    refused(program, "OPERAND")


def test_a_large_pool_is_refused():
    """A window whose sum would not fit 31 bits; one of many rows costs nothing."""
    side = 3000
    many = {"filter_h": side, "filter_w": side}
    program = damaged("max_pool", in_h=side, in_w=side, out_h=1, **many)
    program.tensor(0, dim1=side, dim2=side, bytes=side * side)
    program.tensor(1, dim1=1, dim2=1, bytes=1)
    program.set(arena_bytes=(side * side + 31) // 16 * 16)
    refused(program, "PARAM")
    # larger than the image is as large as the image
    whole = damaged("max_pool", filter_h=1000, filter_w=1000)
    assert verify(whole.set(macs=2 * 9).done())[0] == 0


@pytest.mark.parametrize("name", [*CONVOLUTIONS, *POOLS])
@pytest.mark.parametrize("more", [-1, 1])
def test_work_is_counted(name, more):
    """The header says what a run costs, no more and no less."""
    refuses_other_work(name, more)
