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


def dense(rows: int, depth: int, width: int, rng: random.Random) -> bytes:
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
    return compile_model(build(tensors, [op], [0], [2]))


def test_this_machine_has_a_vector_unit() -> None:
    """Otherwise this file would test nothing."""
    if os.uname().machine == "x86_64":
        assert "sse41" in FAST


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


def filtered(kind: str, rng: random.Random) -> tuple[bytes, object]:
    """A convolution whose filter reaches beyond the image, or not."""
    kernel = rng.randint(1, 5), rng.randint(1, 5)
    stride = rng.randint(1, 3), rng.randint(1, 3)
    dilation = (1, 1) if rng.random() < 0.6 else (rng.randint(1, 3), rng.randint(1, 3))
    reach = [(k - 1) * d + 1 for k, d in zip(kernel, dilation, strict=True)]
    size = [r + rng.randint(0, 20) for r in reach]
    same = rng.random() < 0.5
    out = [
        -(-n // s) if same else (n - r) // s + 1
        for n, r, s in zip(size, reach, stride, strict=True)
    ]
    channels = rng.choice((1, 2, 3, 4, 8, 16, 17, 32, 63, 64, 65, 80, 130))
    if kind == "CONV_2D":
        width = rng.choice((1, 8, 15, 16, 17, 33))
        shape, dimension = (width, *kernel, channels), 0
    else:
        width = channels
        shape, dimension = (1, *kernel, width), 3
    count = channels * kernel[0] * kernel[1] * (width if kind == "CONV_2D" else 1)
    scales = [2.0 ** rng.uniform(-12, 2) for _ in range(width)]
    bias = [rng.randint(-(2**20), 2**20) for _ in range(width)]
    batches = rng.randint(1, 2)
    image = (batches, *size, channels)
    tensors = [
        Tensor("x", image, "int8", (0.5,), (rng.randint(-128, 127),)),
        Tensor(
            "w", shape, "int8", scales, (0,) * width, dimension, rng.randbytes(count)
        ),
        Tensor("y", (batches, *out, width), "int8", (0.25,), (rng.randint(-128, 127),)),
        Tensor(
            "b",
            (width,),
            "int32",
            [0.5 * s for s in scales],
            data=struct.pack(f"<{width}i", *bias),
        ),
    ]
    options = {
        "padding": "SAME" if same else "VALID",
        "stride_h": stride[0],
        "stride_w": stride[1],
        "dilation_h": dilation[0],
        "dilation_w": dilation[1],
        "activation": rng.choice(("NONE", "RELU", "RELU6")),
    }
    if kind == "DEPTHWISE_CONV_2D":
        options["depth_multiplier"] = 1
    data = build(tensors, [Op(kind, (0, 1, 3), (2,), 3, options)], [0], [2])
    return compile_model(data), (kind, image, shape, options)


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
        height, width = rng.randint(1, 9), rng.randint(1, 9)
        down, across = rng.randint(1, height), rng.randint(1, width)
        channels = rng.choice((1, 3, 8, 15, 16, 17, 64, 65, 100))
        shapes = (
            (1, height, width, channels),
            (1, height - down + 1, width - across + 1, channels),
        )
        tensors = [
            Tensor("xy"[i], s, "int8", (0.5,), (3,)) for i, s in enumerate(shapes)
        ]
        options = {"padding": "VALID", "stride_h": 1, "stride_w": 1}
        options |= {"filter_height": down, "filter_width": across}
        op = Op(kind, (0,), (1,), 2, options)
        data = compile_model(build(tensors, [op], [0], [1]))
        assert_same(name, data, rng, shapes)


@pytest.mark.parametrize("kind", ["ADD", "SUB", "MUL"])
@pytest.mark.parametrize("name", FAST)
def test_elementwise_equal_plain_c(name: str, kind: str) -> None:
    rng = random.Random(f"{name} {kind}")
    for _ in range(120):
        shape = (rng.randint(1, 3), rng.choice((1, 3, 15, 16, 17, 64, 100)))
        other = tuple(n if rng.random() < 0.7 else 1 for n in shape)
        operands = [shape, other] if rng.random() < 0.5 else [other, shape]
        tensors = [
            Tensor(
                letter,
                dims,
                "int8",
                (2.0 ** rng.uniform(-6, 3),),
                (rng.randint(-128, 127),),
            )
            for letter, dims in zip("aby", [*operands, shape], strict=True)
        ]
        op = Op(kind, (0, 1), (2,), 2, {"activation": rng.choice(("NONE", "RELU"))})
        data = compile_model(build(tensors, [op], [0, 1], [2]))
        assert_same(name, data, rng, (kind, operands))


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
