# SPDX-License-Identifier: MIT
"""The verifier: parameters of the operators of int16 with a form of their own."""

import errno

import pytest
from helpers.engine_c import verify
from unit.test_program import NAMES, TENSOR, TENSOR_FIELDS, Edit
from unit.test_program_spatial import PARAMS as NARROW
from unit.test_program_spatial import REACH, WINDOW

HUGE = 0xFFFFFFFF
# the structs of mlk_engine.h
CONV = [
    *WINDOW,
    *"channels width groups weights bias multiplier shift".split(),
    *"weight_offset act_min act_max wide".split(),
]
CONVOLUTIONS = ("conv_s16", "depthwise_conv_s16", "fully_connected_s16")
PARAMS = {
    **dict.fromkeys(CONVOLUTIONS, CONV),
    "average_pool_s16": NARROW["average_pool"],
    "batch_matmul_s16": (
        "batch0 batch1 batch2 batch3 repeat1 repeat2 rows depth columns transposed1 "
        "transposed2 offset1 offset2 multiplier shift out_zero_point"
    ).split(),
    "mean_s16": NARROW["mean"],
    "resize_bilinear_s16": NARROW["resize_bilinear"],
    "rsqrt_s16": ["multiplier", "shift"],
    "abs_s16": (
        "in_zero_point positive_multiplier positive_shift negative_multiplier "
        "negative_shift out_zero_point act_min act_max absolute"
    ).split(),
}
WINDOWED = (*CONVOLUTIONS, "average_pool_s16")


def damaged(name, **changes):
    """A program of the corpus with some parameters changed."""
    names = PARAMS[name]
    return Edit(name).op(0, **{f"word{names.index(k)}": v for k, v in changes.items()})


def each(name, params, *values):
    """One program per parameter and value."""
    return [(name, {param: value}) for param in params.split() for value in values]


PARAM = [
    *(c for n in WINDOWED for c in each(n, " ".join([*WINDOW[:11], "channels"]), 0)),
    *(c for n in WINDOWED for c in each(n, "pad_h pad_w", REACH + 1, HUGE)),
    *(c for n in WINDOWED for c in each(n, "stride_h stride_w", REACH + 1, HUGE)),
    *(c for n in WINDOWED for c in each(n, "dilation_h dilation_w", REACH + 1, HUGE)),
    *(c for n in WINDOWED for c in each(n, "filter_h filter_w", HUGE)),
    *(c for n in WINDOWED for c in each(n, "act_min", -32769, 32768)),
    *(c for n in WINDOWED for c in each(n, "act_max", 32768, -32769)),
    *(c for n in CONVOLUTIONS for c in each(n, "width groups", 0)),
    *(c for n in CONVOLUTIONS for c in each(n, "groups", 3, 8, HUGE)),
    *(c for n in CONVOLUTIONS for c in each(n, "weight_offset", 129, -128)),
    *(c for n in CONVOLUTIONS for c in each(n, "wide", 2, HUGE)),
    *each("average_pool_s16", "dilation_h dilation_w", 2),
    *each("average_pool_s16", "kind", 2, HUGE),
    # a sum of 65,536 values would not fit 31 bits
    *each("average_pool_s16", "filter_h", 65536),
    *each("batch_matmul_s16", "offset1 offset2 out_zero_point", 1, -1),
    *each("batch_matmul_s16", "multiplier", -1),
    *each("batch_matmul_s16", "shift", 15, -32),
    *each("mean_s16", "kind", 3),
    *each("mean_s16", "out_zero_point", 1, -1),
    *each("mean_s16", "shift", 31, -32),
    ("mean_s16", {"act_min": 1, "act_max": 0}),
    *each("resize_bilinear_s16", "batches in_h in_w out_h out_w channels", 0),
    *each("rsqrt_s16", "multiplier", -1),
    *each("rsqrt_s16", "shift", 31, -32),
    *each("abs_s16", "in_zero_point out_zero_point", -32769, 32768),
    *each("abs_s16", "absolute", 2, HUGE),
]
OPERAND = [
    *(c for n in WINDOWED for c in each(n, "batches channels", 6, REACH)),
    *(c for n in WINDOWED for c in each(n, "in_h in_w out_h out_w", 5)),
    *(c for n in CONVOLUTIONS for c in each(n, "width", 8, HUGE & ~7)),
    *each("batch_matmul_s16", "rows columns depth", 4, HUGE),
    *each("mean_s16", "keep0 keep1 keep2 over0 over1 over2", 5, HUGE),
    *each("mean_s16", "keep_stride2", 2, REACH),
    *each("mean_s16", "over_stride2", 5, REACH),
    *each("resize_bilinear_s16", "batches in_h in_w out_h out_w channels", 5, HUGE),
]
DATA = [
    *(
        c
        for n in CONVOLUTIONS
        for c in each(n, "weights bias multiplier shift", 0, 8, REACH, HUGE - 15)
    ),
    *(c for n in CONVOLUTIONS for c in each(n, "filter_h filter_w", 100, REACH)),
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


@pytest.mark.parametrize("name", PARAMS)
def test_params_are_known(name):
    """Each word is known here: what lies behind the last one is reserved."""
    if len(PARAMS[name]) < 24:
        refused(Edit(name).op(0, **{f"word{len(PARAMS[name])}": 1}), "RESERVED")
    assert verify(Edit(name).done())[0] == 0


@pytest.mark.parametrize(
    ("reason", "name", "changes"),
    CASES,
    ids=[f"{n}-{'-'.join(f'{k}={v}' for k, v in c.items())}" for _, n, c in CASES],
)
def test_parameter_out_of_range(reason, name, changes):
    """One parameter that no honest program has."""
    refused(damaged(name, **changes), reason)


@pytest.mark.parametrize("name", CONVOLUTIONS)
@pytest.mark.parametrize(
    ("param", "value"), [("multiplier", -1), ("shift", -32), ("shift", 31)]
)
@pytest.mark.parametrize("index", [0, 3])
def test_array_out_of_range(name, param, value, index):
    """One entry of an array that no honest program has."""
    program = Edit(name)
    at = program.word(CONV.index(param)) + 4 * index
    refused(program.put(at, "<i", value), "PARAM")


@pytest.mark.parametrize("shift", [14, 15])
def test_shifts_of_wide_sums(shift):
    """Sums of 64 bits have less room to the left than those of 32."""
    for name in CONVOLUTIONS:
        program = Edit(name)
        program.put(program.word(CONV.index("shift")) + 4, "<i", shift)
        if shift == 15 and program.word(CONV.index("wide")):
            refused(program, "PARAM")
        else:
            assert verify(program.done())[0] == 0


@pytest.mark.parametrize("name", PARAMS)
@pytest.mark.parametrize("number", [0, 1])
def test_operand_of_another_dtype(name, number):
    """The bytes would suffice, but they mean something else."""
    program = Edit(name)
    at = program.header()["tensors"] + number * TENSOR.size
    fields = dict(zip(TENSOR_FIELDS, TENSOR.unpack_from(program.data, at), strict=True))
    last = f"dim{fields['rank'] - 1}"
    changes = {"dtype": 9, "host_dtype": 9, last: 2 * fields[last]}
    refused(program.tensor(number, **changes), "OPERAND")


@pytest.mark.parametrize("name", [*WINDOWED, "batch_matmul_s16"])
@pytest.mark.parametrize("more", [-1, 1])
def test_work_is_counted(name, more):
    """The header says what a run costs, no more and no less."""
    program = Edit(name)
    macs = program.header()["macs"]
    assert macs > 0
    rc, diag = verify(program.set(macs=macs + more).done())
    assert (rc, NAMES[diag.reason]) == (-errno.EINVAL, "MACS")
