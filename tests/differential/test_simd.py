# SPDX-License-Identifier: MIT
"""Every instruction set gives what plain C gives, byte for byte."""

import os
import random

import pytest
from helpers.models import dense, dense_int16, elementwise, filtered, pooled

from pymlk import Model, Program
from pymlk.engine import instruction_sets
from pymlk.write import Layer, mlp

FAST = [name for name in instruction_sets() if name != "c"]


def test_this_machine_has_a_vector_unit() -> None:
    """Otherwise this file would test nothing."""
    always = {"x86_64": "sse2", "aarch64": "neon"}
    machine = os.uname().machine
    assert machine not in always or always[machine] in FAST


def assert_same(name: str, data: bytes, rng: random.Random, what: object) -> None:
    """Random inputs and extreme ones, with plain C and with an instruction set."""
    models = []
    with pytest.MonkeyPatch.context() as patch:
        for cpu in ("c", name):
            patch.setenv("PYMLK_CPU", cpu)
            models.append(Model(Program(data)))
    for value in (None, None, -128, 127, 0):
        results = []
        inputs = [
            rng.randbytes(view.nbytes)
            if value is None
            else bytes([value & 0xFF]) * view.nbytes
            for view in models[0].inputs
        ]
        for model in models:
            for view, row in zip(model.inputs, inputs, strict=True):
                view.cast("B")[:] = row
            model.invoke()
            results.append(bytes(model.output.cast("B")))
        assert results[0] == results[1], what


@pytest.mark.parametrize("name", FAST)
def test_products_equal_plain_c(name: str) -> None:
    rng = random.Random(name)
    shapes = [
        (rows, depth, width)
        for rows in (1, 2, 4, 5, 9, 13, 67)
        for depth in (1, 2, 3, 4, 5, 15, 16, 17, 63, 64, 65, 130)
        for width in (1, 3, 4, 5, 15, 16, 17, 31, 32, 33, 64, 65, 130)
    ]
    for rows, depth, width in rng.sample(shapes, 260):
        assert_same(name, dense(rows, depth, width, rng), rng, (rows, depth, width))


@pytest.mark.parametrize("name", FAST)
def test_int16_products_equal_plain_c(name: str) -> None:
    rng = random.Random(name)
    depths = (*range(1, 26), 255, 256, 257, 263, 600)
    for depth in depths:
        rows, width = rng.randint(1, 3), rng.choice((1, 4, 15, 64, 70))
        program = dense_int16(rows, depth, width, rng)
        assert_same(name, program, rng, (rows, depth, width))


@pytest.mark.parametrize("name", instruction_sets())
def test_sums_of_a_long_row(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The first output's sum is a huge one; the second's lacks nothing."""
    depth = 70_000
    rows = [[127] * depth, [1, -1] * (depth // 2)]
    layer = Layer(rows, [0, 9], [1.0], 2.0, 0, "NONE")
    monkeypatch.setenv("PYMLK_CPU", name)
    model = Model(mlp([layer], 1.0, 0, softmax=False), backend="engine")
    model.input.cast("B")[:] = b"\x80" * depth
    model.invoke()
    assert list(model.output.cast("B").cast("b")) == [-128, 5]


@pytest.mark.parametrize("kind", ["CONV_2D", "DEPTHWISE_CONV_2D"])
@pytest.mark.parametrize("name", FAST)
def test_filters_equal_plain_c(name: str, kind: str) -> None:
    rng = random.Random(f"{name} {kind}")
    for _ in range(200):
        data, what = filtered(kind, rng)
        assert_same(name, data, rng, what)


@pytest.mark.parametrize("kind", ["AVERAGE_POOL_2D", "MAX_POOL_2D"])
@pytest.mark.parametrize("name", FAST)
def test_pools_equal_plain_c(name: str, kind: str) -> None:
    rng = random.Random(f"{name} {kind}")
    for _ in range(60):
        data, what = pooled(kind, rng)
        assert_same(name, data, rng, what)


@pytest.mark.parametrize("kind", ["ADD", "SUB", "MUL"])
@pytest.mark.parametrize("name", FAST)
def test_elementwise_equal_plain_c(name: str, kind: str) -> None:
    rng = random.Random(f"{name} {kind}")
    for _ in range(120):
        data, what = elementwise(kind, rng)
        assert_same(name, data, rng, what)


def test_the_tail_of_an_arena_is_not_passed(monkeypatch: pytest.MonkeyPatch) -> None:
    """One output too many in the last block must not reach the next tensor."""
    rng = random.Random(5)
    for width in (1, 7, 15, 17):
        program = Program(dense(3, 8, width, rng))
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
        Model(Program(dense(1, 1, 1, random.Random(1))))
