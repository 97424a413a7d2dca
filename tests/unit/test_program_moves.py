# SPDX-License-Identifier: MIT
"""The verifier on strided copies, fills, slices by a list: every word out of range."""

import errno
import importlib.util
import struct
from pathlib import Path

import pytest
from helpers.engine_c import verify

_SPEC = importlib.util.spec_from_file_location(
    "program_tests", Path(__file__).with_name("test_program.py")
)
_TESTS = importlib.util.module_from_spec(_SPEC)
_SPEC.loader.exec_module(_TESTS)
edit, NAMES = _TESTS.edit, _TESTS.NAMES

BIG = 2**31 - 1
# Words of struct mlk_move_params; the transposition of 2x3 to 3x2 has dims 3, 2 last.
DIM, IN, OUT = range(6), range(6, 12), range(12, 18)
IN_START, OUT_START, ITEM = 18, 19, 20


def word(program, op=0, **changes):
    """Set words of an operator, wN=value."""
    fields = {f"word{name[1:]}": value for name, value in changes.items()}
    return edit(program).op(op, **fields)


def move(**changes):
    """Change the transposition."""
    return word("transpose", **changes)


def resized(size):
    """Give the transposition a result of other size."""
    return edit("transpose").tensor(1, rank=1, dim0=size, dim1=0, bytes=size)


PARAM = [
    *(lambda d=d, v=v: move(**{f"w{d}": v}) for d in DIM for v in (0, 7, 2**32 - 1)),
    # twice the elements, though each of them is inside
    *(lambda d=d: move(**{f"w{d}": 2}) for d in range(4)),
    *(
        lambda d=d, v=v: move(**{f"w{d}": v})
        for d in (10, 11, 16, 17)
        for v in (-1, 6, BIG, -(2**31), 2**28)
    ),
    *(
        lambda w=w, v=v: move(**{f"w{w}": v})
        for w in (IN_START, OUT_START)
        for v in (1, 6, BIG, 2**32 - 1)
    ),
    *(lambda v=v: move(w20=v) for v in (0, 3, 5, 16, 2**31, 2**32 - 1)),
    # a whole number of items, but fewer
    lambda: move(w20=2),
    *(lambda v=v: word("pad", w0=v) for v in (0, 3, 7, 16, 2**32 - 1)),
    lambda: word("pad", w1=1),
    lambda: word("pad", w1=2**32 - 1, w2=16),
    lambda: word("pad", w2=0),
    lambda: word("pad", w2=16),
    lambda: word("pad", w2=2**32 - 1),
    lambda: word("pad", w3=256),
    lambda: word("pad", w3=2**32 - 1),
    lambda: word("pad", w4=1),
    *(lambda w=w: word("take", **{f"w{w}": 0}) for w in range(4)),
    lambda: edit("take").put(edit("take").word(4), "<I", 3),
    lambda: edit("take").put(edit("take").word(4) + 12, "<I", 2**32 - 1),
]
OPERAND = [
    # a result that is no whole number of items
    lambda: move(w20=4),
    lambda: word("pad", w0=2, w2=7),
    lambda: edit("pad").op(0, in0=0),
    lambda: edit("pad").op(1, out0=0xFFFF),
    lambda: edit("transpose").op(0, in1=0),
    lambda: edit("take").op(0, in0=9),
    *(
        lambda w=w, v=v: word("take", **{f"w{w}": v})
        for w in range(4)
        for v in (1000, 2**31, 2**32 - 1)
    ),
    lambda: word("take", w0=1),
    lambda: word("take", w3=1),
    lambda: word("take", w0=2**32 - 1, w1=2**32 - 1, w2=2**32 - 1, w3=2**32 - 1),
]
DATA = [
    lambda: word("take", w4=0),
    lambda: word("take", w4=edit("take").word(4) + 4),
    lambda: word("take", w4=edit("take").header()["names"]),
    lambda: word("take", w4=2**32 - 16),
]
RESERVED = [
    lambda: move(w21=1),
    lambda: word("pad", w5=1),
    lambda: word("take", w5=1),
]
CASES = [
    (reason, case)
    for reason, cases in (
        ("PARAM", PARAM),
        ("OPERAND", OPERAND),
        ("DATA", DATA),
        ("RESERVED", RESERVED),
    )
    for case in cases
]


@pytest.mark.parametrize("number", range(len(CASES)))
def test_structured_damage(number):
    """One word out of its range, with the checksum right: the exact reason."""
    reason, case = CASES[number]
    rc, diag = verify(case().done())
    assert (NAMES[diag.reason], rc) == (reason, -errno.EINVAL)


def test_what_is_in_range():
    """Strides may be 0 or negative; what reaches the last element is fine."""
    for changes in (
        {"w10": 0, "w11": 0},
        {"w11": 0, "w18": 3},
        {"w16": -2, "w19": 4},
        {"w10": -1, "w11": -3, "w18": 5},
        # of a dimension of one the stride is never added
        {"w6": BIG, "w12": -BIG},
    ):
        rc, diag = verify(move(**changes).done())
        assert rc == 0, (changes, NAMES[diag.reason])
    assert verify(word("pad", w1=14, w2=1, w3=255).done())[0] == 0
    last = edit("take").put(edit("take").word(4) + 12, "<I", 2)
    assert verify(last.done())[0] == 0


def test_the_programs_are_as_these_tests_take_them():
    """The words that the cases above change."""
    words = [edit("transpose").word(i) for i in range(21)]
    assert words == [1, 1, 1, 1, 3, 2, 0, 0, 0, 0, 1, 3, 0, 0, 0, 0, 2, 1, 0, 0, 1]
    assert [edit("pad").word(i) for i in range(5)] == [1, 0, 15, 3, 0]
    take = edit("take")
    assert [take.word(i) for i in range(4)] == [2, 3, 4, 2]
    table = struct.unpack_from("<4I", take.data, take.word(4))
    assert table == (0, 0, 1, 2)
