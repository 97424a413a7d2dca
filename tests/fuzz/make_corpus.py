#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Write the fuzzers' small corpus: one program of each operator and form.

Usage: make_corpus.py FOLDER. The committed corpus is what this gives; a test compares.
"""

import random
import sys
from pathlib import Path

from pymlk.compile import compile_model
from pymlk.write import Layer, Op, Tensor, build, mlp

# Small, so that each of their bytes can be tried with each value.
SMALL = ("fully_connected", "softmax", "logistic_border")


def models() -> dict[str, bytes]:
    """Tiny ``.tflite`` models by name."""
    rng = random.Random(11)

    def rows(width: int, depth: int) -> list[list[int]]:
        return [[rng.randint(-127, 127) for _ in range(depth)] for _ in range(width)]

    def x(shape: tuple[int, ...] = (1, 4), dtype: str = "int8") -> Tensor:
        if dtype == "float32":
            return Tensor("x", shape, dtype)
        return Tensor("x", shape, dtype, (0.1,), (3,))

    def y(shape: tuple[int, ...] = (1, 4), dtype: str = "int8") -> Tensor:
        if dtype == "float32":
            return Tensor("y", shape, dtype)
        return Tensor("y", shape, dtype, (1 / 256,), (-128 if dtype == "int8" else 0,))

    def one(name: str, first: Tensor, last: Tensor) -> bytes:
        options = {"beta": 1.0} if name == "SOFTMAX" else {}
        return build([first, last], [Op(name, (0,), (1,), options=options)], [0], [1])

    border = build(
        [
            x(dtype="float32"),
            Tensor("q", (1, 4), "int8", (0.1,), (0,)),
            Tensor("p", (1, 4), "int8", (1 / 256,), (-128,)),
            y(dtype="float32"),
        ],
        [
            Op("QUANTIZE", (0,), (1,)),
            Op("LOGISTIC", (1,), (2,)),
            Op("DEQUANTIZE", (2,), (3,)),
        ],
        [0],
        [3],
    )
    weights = Tensor("w", (3, 4), "int8", (0.02,), (5,), data=bytes(range(12)))
    with_zero = build(
        [x((2, 4)), weights, Tensor("y", (2, 3), "int8", (0.3,), (-7,))],
        [Op("FULLY_CONNECTED", (0, 1, -1), (2,), options={"activation": "RELU6"})],
        [0],
        [2],
    )
    bias = [1, -2, 300]
    layer = Layer(rows(3, 2), bias, [0.02, 0.01, 0.03], 0.2, -5, "RELU")

    def two(name: str, last: Tensor, b: Tensor, **options: object) -> bytes:
        operands = [x(last.shape, last.dtype), b, last]
        if last.dtype == "int16":
            operands[0] = Tensor("x", last.shape, "int16", (0.1,), (0,))
        inputs = [0] if b.data else [0, 1]
        op = Op(name, (0, 1), (2,), options=options)
        return build(operands, [op], inputs, [2])

    def wide(name: str, scale: float, dtype: str = "int16") -> bytes:
        options = {"beta": 1.0} if name == "SOFTMAX" else {}
        tensors = [
            Tensor("x", (2, 3), "int16", (0.001,), (0,)),
            Tensor("y", (2, 3), dtype, (scale,), (0,)),
        ]
        return build(tensors, [Op(name, (0,), (1,), 2, options)], [0], [1])

    row = Tensor("b", (2, 1), "int8", (0.2,), (-4,))
    sum_s16 = two(
        "SUB",
        Tensor("y", (2, 3), "int16", (0.4,), (0,)),
        Tensor("b", (3,), "int16", (0.2,), (0,), data=bytes(range(6))),
        pot_scale_int16=False,
    )
    matmul = build(
        [
            x((2, 1, 2, 3)),
            Tensor("b", (3, 2, 3), "int8", (0.2,), (-4,)),
            Tensor("y", (2, 3, 2, 2), "int8", (2.0,), (1,)),
        ],
        [Op("BATCH_MATMUL", (0, 1), (2,), 2, {"adj_y": True})],
        [0, 1],
        [2],
    )
    return {
        "add": two("ADD", Tensor("y", (2, 3), "int8", (0.3,), (7,)), row),
        "batch_matmul": matmul,
        "copy": build([x()], [], [0], [0]),
        "fully_connected": mlp([layer], 0.1, 4, softmax=False),
        "fully_connected_zero_point": with_zero,
        "log_softmax": one(
            "LOG_SOFTMAX", x((2, 3)), Tensor("y", (2, 3), "int8", (1 / 16,), (127,))
        ),
        "logistic_border": border,
        "lut_s16": wide("EXP", 0.1),
        "mlp": mlp(
            [
                Layer(rows(9, 5), [0] * 9, [0.01], 0.3, -128, "RELU"),
                Layer(rows(4, 9), [7] * 4, [0.01], 0.4, 0),
            ],
            0.05,
            0,
        ),
        "mul": two("MUL", Tensor("y", (2, 3), "int8", (0.3,), (7,)), row),
        "prelu": two("PRELU", Tensor("y", (2, 3), "int8", (0.3,), (7,)), row),
        "relu6": one("RELU6", x(), Tensor("y", (1, 4), "int8", (0.05,), (-128,))),
        "requantize": wide("QUANTIZE", 0.3, "int8"),
        "requantise_unsigned": one("QUANTIZE", x(dtype="uint8"), y()),
        "reshape": one("RESHAPE", x((2, 3)), Tensor("y", (6,), "int8", (0.1,), (3,))),
        "sigmoid_s16": wide("TANH", 2.0**-15),
        "softmax": one("SOFTMAX", x((2, 3)), y((2, 3))),
        "softmax_s16": wide("SOFTMAX", 2.0**-15),
        "sub_s16": sum_s16,
    }


def programs() -> dict[str, bytes]:
    """Their programs by file name."""
    return {f"{name}.mlk": compile_model(data) for name, data in models().items()}


def main() -> None:
    """Write them."""
    folder = Path(sys.argv[1])
    folder.mkdir(parents=True, exist_ok=True)
    for name, program in programs().items():
        (folder / name).write_bytes(program)


if __name__ == "__main__":
    main()
