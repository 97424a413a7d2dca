# SPDX-License-Identifier: MIT
"""The verifier: parameters of the operators that keep a state."""

import errno

import pytest
from helpers.engine_c import verify
from unit.test_program import NAMES, Edit, refuses_other_work

# the structs of mlk_engine.h
PARAMS = {
    "svdf": (
        "batches inputs units rank memory feature feature_bias time bias "
        "feature_multiplier feature_shift state_zero_point multiplier shift "
        "out_zero_point"
    ).split(),
    "lstm": (
        "batches steps inputs cells time_major gates input_weights state_weights "
        "input_bias state_bias multipliers shifts cell_bits clip multiplier shift "
        "out_zero_point"
    ).split(),
}
PARAMS["svdf_s8"] = PARAMS["svdf"]
SVDFS = ("svdf", "svdf_s8")
# operators that run at a reset stand before the one in question
AT = {"svdf": 0, "svdf_s8": 1, "lstm": 1}
# the state's tensor, and how wide it is if it is made of bytes
STATES = [("svdf", 2, 16), ("svdf_s8", 0, 8), ("lstm", 3, 4)]
HUGE = 0xFFFFFFFF


def damaged(name, **changes):
    """A program of the corpus with some parameters changed."""
    words = {f"word{PARAMS[name].index(k)}": v for k, v in changes.items()}
    return Edit(name).op(AT[name], **words)


def each(names, params, *values):
    """One program per name, parameter and value."""
    return [
        (name, param, value)
        for name in names
        for param in params.split()
        for value in values
    ]


PARAM = [
    *each(SVDFS, "feature_multiplier multiplier", -1),
    *each(SVDFS, "feature_shift shift", 31, -32),
    *each(SVDFS, "state_zero_point out_zero_point", 128, -129),
    *each(SVDFS, "units rank memory", HUGE, 1 << 29),
    *each(["lstm"], "time_major", 2, HUGE),
    *each(["lstm"], "gates", 0, 2, 5, HUGE),
    *each(["lstm"], "cell_bits", 7, HUGE),
    *each(["lstm"], "clip", 32768, HUGE),
    *each(["lstm"], "multiplier", -1),
    *each(["lstm"], "shift", 31, -32),
    *each(["lstm"], "out_zero_point", 128, -129),
]
OPERAND = [
    *each(SVDFS, "batches inputs units rank memory", 0),
    *each(SVDFS, "batches inputs", 5, HUGE),
    *each(SVDFS, "units rank memory", 5, 1 << 20),
    *each(["lstm"], "batches steps inputs cells", 0, 7, 1 << 28, HUGE),
]
DATA = [
    *each(SVDFS, "feature feature_bias time bias", 0, 8, 1 << 28, HUGE - 15),
    *each(
        ["lstm"],
        "input_weights state_weights input_bias state_bias multipliers shifts",
        0,
        8,
        1 << 28,
        HUGE - 15,
    ),
]
CASES = [
    *(("PARAM", *case) for case in PARAM),
    *(("OPERAND", *case) for case in OPERAND),
    *(("DATA", *case) for case in DATA),
]


def refused(program, name, reason):
    """The verifier says no, with this reason, at the operator."""
    rc, diag = verify(program.done())
    assert NAMES[diag.reason] == reason
    assert rc == -errno.EINVAL
    assert diag.op == AT[name]


@pytest.mark.parametrize("name", PARAMS)
def test_params_are_known(name):
    """Each word is known here: what lies behind the last one is reserved."""
    program = Edit(name).op(AT[name], **{f"word{len(PARAMS[name])}": 1})
    refused(program, name, "RESERVED")


@pytest.mark.parametrize(("reason", "name", "param", "value"), CASES)
def test_parameter_out_of_range(reason, name, param, value):
    """One parameter that no honest program has."""
    refused(damaged(name, **{param: value}), name, reason)


@pytest.mark.parametrize("array", ["multipliers", "shifts"])
@pytest.mark.parametrize("entry", range(8))
def test_a_gate_s_scaling_out_of_range(array, entry):
    """Each of the eight."""
    program = Edit("lstm")
    at = program.word(PARAMS["lstm"].index(array), AT["lstm"]) + 4 * entry
    refused(program.put(at, "<i", -32), "lstm", "PARAM")


@pytest.mark.parametrize(("name", "tensor", "width"), STATES)
def test_a_state_of_another_dtype(name, tensor, width):
    """It has as many bytes, but means something else."""
    program = Edit(name).tensor(tensor, dtype=3, host_dtype=3, zero_point=3, dim1=width)
    refused(program, name, "OPERAND")


@pytest.mark.parametrize("name", PARAMS)
@pytest.mark.parametrize("more", [-1, 1])
def test_work_is_counted(name, more):
    """The header says what a run costs, no more and no less."""
    refuses_other_work(name, more)
