# SPDX-License-Identifier: MIT
"""Every instruction set gives what plain C gives, byte for byte."""

import os
import random
import struct

import pytest

from pymlk import Model, Program
from pymlk.compile import compile_model
from pymlk.engine import instruction_sets
from pymlk.write import Op, Tensor, build

FAST = [name for name in instruction_sets() if name != "c"]


def dense(rows: int, depth: int, width: int, rng: random.Random) -> Program:
    """A FULLY_CONNECTED whose multipliers and biases are all over their range."""
    weights = bytes(rng.randrange(256) for _ in range(width * depth))
    scales = [2.0 ** rng.uniform(-12, 2) for _ in range(width)]
    bias = [rng.randint(-(2**20), 2**20) for _ in range(width)]
    tensors = [
        Tensor("x", (rows, depth), "int8", (0.5,), (rng.randint(-128, 127),)),
        Tensor("w", (width, depth), "int8", scales, (0,) * width, 0, weights),
        Tensor("y", (rows, width), "int8", (0.25,), (rng.randint(-128, 127),)),
        Tensor(
            "b",
            (width,),
            "int32",
            [0.5 * s for s in scales],
            data=struct.pack(f"<{width}i", *bias),
        ),
    ]
    op = Op("FULLY_CONNECTED", (0, 1, 3), (2,), 4, {"activation": "NONE"})
    return Program(compile_model(build(tensors, [op], [0], [2])))


def test_this_machine_has_a_vector_unit() -> None:
    """Otherwise this file would test nothing."""
    always = {"x86_64": "sse2", "aarch64": "neon"}
    machine = os.uname().machine
    assert machine not in always or always[machine] in FAST


@pytest.mark.parametrize("name", FAST)
def test_products_equal_plain_c(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    rng = random.Random(name)
    shapes = [
        (rows, depth, width)
        for rows in (1, 2, 4, 5, 9)
        for depth in (1, 2, 3, 4, 5, 15, 16, 17, 63, 64, 65, 130)
        for width in (1, 3, 4, 5, 15, 16, 17, 31, 32, 33, 64, 65, 130)
    ]
    for rows, depth, width in rng.sample(shapes, 260):
        program = dense(rows, depth, width, rng)
        monkeypatch.setenv("PYMLK_CPU", "c")
        plain = Model(program)
        monkeypatch.setenv("PYMLK_CPU", name)
        fast = Model(program)
        for value in (None, -128, 127, 0):
            row = bytes(
                (rng.randrange(256) if value is None else value & 0xFF)
                for _ in range(rows * depth)
            )
            for model in (plain, fast):
                model.input.cast("B")[:] = row
                model.invoke()
            assert bytes(plain.output) == bytes(fast.output), (rows, depth, width)


def test_the_tail_of_an_arena_is_not_passed(monkeypatch: pytest.MonkeyPatch) -> None:
    """One output too many in the last block must not reach the next tensor."""
    rng = random.Random(5)
    for width in (1, 7, 15, 17):
        program = dense(3, 8, width, rng)
        for name in FAST:
            monkeypatch.setenv("PYMLK_CPU", name)
            model = Model(program)
            model.input.cast("B")[:] = bytes(rng.randrange(256) for _ in range(24))
            before = bytes(model.input)
            model.invoke()
            assert bytes(model.input) == before


def test_a_wrong_name_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYMLK_CPU", "mmx")
    with pytest.raises(ValueError, match=r"PYMLK_CPU is 'mmx', expected one of .*c"):
        Model(dense(1, 1, 1, random.Random(1)))
