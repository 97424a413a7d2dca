#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Write the fuzzers' small corpus: one program of each operator and form.

Usage: make_corpus.py FOLDER. The committed corpus is what this gives; a test compares.
"""

import math
import random
import struct
import sys
from pathlib import Path

from pymlk.compile import compile_model
from pymlk.compile.program import join
from pymlk.write import Layer, Op, Tensor, build, mlp

# Small, so that each of their bytes can be tried with each value: a network with
# hidden layers, one with convolutions, one with state, and what only moves data.
SMALL = ("mlp", "conv_net", "variable", "logistic_border", "transpose", "take")


def _spatial() -> dict[str, bytes]:
    """Operators on images, and those that reduce dimensions."""
    rng = random.Random(12)

    def x(*shape: int, dtype: str = "int8", scale: float = 0.1) -> Tensor:
        quant = ((scale,), (3,)) if dtype == "int8" else ()
        return Tensor("x", shape, dtype, *quant)

    def weights(*shape: int, dimension: int) -> Tensor:
        count = shape[dimension]
        raw = bytes(rng.randrange(256) for _ in range(math.prod(shape)))
        scales = [0.01 * (i + 1) for i in range(count)]
        return Tensor("w", shape, "int8", scales, (0,) * count, dimension, raw)

    def ints(*values: int) -> Tensor:
        data = struct.pack(f"<{len(values)}i", *values)
        return Tensor("n", (len(values),), "int32", data=data)

    def one(name: str, *tensors: Tensor, at: int = 0, **options: object) -> bytes:
        last = len(tensors) - 1
        op = Op(name, range(last), (last,), 2, options)
        return build(tensors, [op], [at], [last])

    pool = {"padding": "SAME", "filter_height": 2, "filter_width": 3}
    edges = Tensor("e", (2, 2), "int32", data=struct.pack("<4i", 1, 0, 0, 1))
    return {
        "arg_max": one("ARG_MAX", x(2, 3), ints(1), x(2, dtype="int64")),
        "arg_min": one("ARG_MIN", x(2, 3), ints(0), x(3, dtype="int32")),
        "average_pool": one("AVERAGE_POOL_2D", x(1, 2, 4, 2), x(1, 2, 4, 2), **pool),
        "batch_to_space": one(
            "BATCH_TO_SPACE_ND", x(4, 2, 2, 2), ints(2, 2), edges, x(1, 3, 3, 2)
        ),
        "depthwise_conv": one(
            "DEPTHWISE_CONV_2D",
            x(1, 3, 4, 2),
            weights(1, 2, 3, 2, dimension=3),
            x(1, 2, 2, 2, scale=0.5),
            padding="SAME",
            stride_h=2,
            stride_w=2,
        ),
        "l2_normalization": one(
            "L2_NORMALIZATION", x(2, 3), Tensor("y", (2, 3), "int8", (1 / 128,), (0,))
        ),
        "max_pool": one(
            "MAX_POOL_2D", x(1, 3, 3, 1), x(1, 2, 1, 1), **(pool | {"padding": "VALID"})
        ),
        "mean": one("MEAN", x(2, 3, 4), ints(1), x(2, 4)),
        "reduce_max": one("REDUCE_MAX", x(2, 3, 2), ints(0, 2), x(3)),
        "resize_bilinear": one(
            "RESIZE_BILINEAR", x(1, 2, 3, 2), ints(3, 4), x(1, 3, 4, 2)
        ),
        "space_to_batch": one(
            "SPACE_TO_BATCH_ND", x(1, 3, 3, 2), ints(2, 2), edges, x(4, 2, 2, 2)
        ),
        "sum": one("SUM", x(3, 4), ints(1), x(3)),
        "transpose_conv": one(
            "TRANSPOSE_CONV",
            ints(1, 3, 4, 2),
            weights(2, 2, 3, 2, dimension=0),
            x(1, 2, 2, 2),
            x(1, 3, 4, 2, scale=0.5),
            at=2,
            padding="SAME",
            stride_h=2,
            stride_w=2,
        ),
    }


def _conv_net() -> bytes:
    """Convolution, the same by channel, mean over the image, dense layer."""
    rng = random.Random(13)

    def act(name: str, *shape: int) -> Tensor:
        return Tensor(name, shape, "int8", (0.1,), (-3,))

    def weights(*shape: int, dimension: int) -> Tensor:
        scales = [0.01 * (i + 1) for i in range(shape[dimension])]
        raw = bytes(rng.randrange(256) for _ in range(math.prod(shape)))
        zeros = (0,) * len(scales)
        return Tensor("w", shape, "int8", scales, zeros, dimension, raw)

    axes = Tensor("n", (2,), "int32", data=struct.pack("<2i", 1, 2))
    tensors = [
        act("x", 1, 4, 3, 1),
        weights(2, 2, 2, 1, dimension=0),
        act("a", 1, 2, 2, 2),
        weights(1, 2, 1, 2, dimension=3),
        act("b", 1, 2, 2, 2),
        axes,
        act("c", 1, 2),
        weights(3, 2, dimension=0),
        act("y", 1, 3),
    ]
    step = {"stride_h": 1, "stride_w": 1}
    ops = [
        Op("CONV_2D", (0, 1), (2,), 2, {"stride_h": 2, "stride_w": 2}),
        Op("DEPTHWISE_CONV_2D", (2, 3), (4,), 2, step),
        Op("MEAN", (4, 5), (6,), 2),
        Op("FULLY_CONNECTED", (6, 7), (8,), 2),
    ]
    return build(tensors, ops, [0], [8])


def _wide() -> dict[str, bytes]:
    """Operators of int16."""
    rng = random.Random(14)

    def x(*shape: int, scale: float = 0.1) -> Tensor:
        return Tensor("x", shape, "int16", (scale,), (0,))

    def weights(*shape: int, dimension: int = 0, zero: int = 0) -> Tensor:
        count = 1 if zero else shape[dimension]
        scales = [0.01 * (i + 1) for i in range(count)]
        data = rng.randbytes(math.prod(shape))
        return Tensor("w", shape, "int8", scales, (zero,) * count, dimension, data)

    def ints(*values: int, dtype: str = "int32") -> Tensor:
        code = "q" if dtype == "int64" else "i"
        data = struct.pack(f"<{len(values)}{code}", *values)
        return Tensor("n", (len(values),), dtype, data=data)

    def one(name: str, *tensors: Tensor, inputs: int = 1, **options: object) -> bytes:
        last = len(tensors) - 1
        op = Op(name, range(last), (last,), 2, options)
        return build(tensors, [op], range(inputs), [last])

    window = {"padding": "SAME", "stride_h": 2, "stride_w": 2}
    bias = ints(5, -(1 << 40), 1 << 40, 7, dtype="int64")
    return {
        "abs_s16": one("ABS", x(2, 3), x(2, 3, scale=0.3)),
        "average_pool_s16": one(
            "AVERAGE_POOL_2D",
            x(1, 2, 4, 2),
            x(1, 2, 4, 2),
            padding="SAME",
            filter_height=2,
            filter_width=3,
        ),
        "batch_matmul_s16": one(
            "BATCH_MATMUL",
            x(2, 1, 2, 3),
            x(3, 2, 3),
            x(2, 3, 2, 2, scale=40.0),
            inputs=2,
            adj_y=True,
        ),
        "conv_s16": one(
            "CONV_2D",
            x(1, 3, 4, 4),
            weights(4, 2, 3, 2),
            bias,
            x(1, 2, 2, 4, scale=8.0),
            **window,
        ),
        "depthwise_conv_s16": one(
            "DEPTHWISE_CONV_2D",
            x(1, 3, 4, 2),
            weights(1, 2, 3, 4, dimension=3),
            bias,
            x(1, 2, 2, 4, scale=8.0),
            **window,
        ),
        "fully_connected_s16": one(
            "FULLY_CONNECTED",
            x(2, 67),
            weights(4, 67, zero=5),
            ints(1, 2, -3, 4),
            x(2, 4, scale=9.0),
        ),
        "mean_s16": one("MEAN", x(2, 3, 4), ints(1), x(2, 4)),
        "resize_bilinear_s16": one(
            "RESIZE_BILINEAR", x(1, 2, 3, 2), ints(3, 4), x(1, 3, 4, 2)
        ),
        "rsqrt_s16": one("RSQRT", x(2, 3), x(2, 3, scale=1e-3)),
    }


def _recurrent() -> dict[str, bytes]:
    """Operators with a state of their own."""
    rng = random.Random(13)

    def x(*shape: int) -> Tensor:
        return Tensor("x", shape, "int8", (0.1,), (3,))

    def weights(*shape: int, dtype: str = "int8") -> Tensor:
        count = math.prod(shape) * (2 if dtype == "int16" else 1)
        return Tensor("w", shape, dtype, (0.02,), (0,), data=rng.randbytes(count))

    def state(*shape: int, dtype: str = "int8") -> Tensor:
        scale, zero = (2.0**-12, 0) if dtype == "int16" else (0.1, 3)
        return Tensor("s", shape, dtype, (scale,), (zero,), is_variable=True)

    def svdf(dtype: str) -> bytes:
        tensors = [
            x(2, 3),
            weights(4, 3),
            weights(4, 2, dtype=dtype),
            state(2, 8, dtype=dtype),
            x(2, 2),
        ]
        op = Op("SVDF", (0, 1, 2, -1, 3), (4,), 3, {"rank": 2})
        return build(tensors, [op], [0], [4])

    gates = [weights(2, 3)] * 4 + [weights(2, 2)] * 4
    bias = Tensor("b", (2,), "int32", (1e-3,), (0,), data=rng.randbytes(3) * 2 + b"aa")
    lstm = [
        x(1, 2, 3),
        *gates,
        bias,
        state(1, 2),
        state(1, 2, dtype="int16"),
        x(1, 2, 2),
    ]
    operands = (*range(9), -1, -1, -1, 9, 9, 9, 9, -1, -1, 10, 11, -1, -1, -1, -1)
    op = Op("UNIDIRECTIONAL_SEQUENCE_LSTM", operands, (12,), intermediates=(12,) * 5)
    return {
        "lstm": build(lstm, [op], [0], [12]),
        "svdf": svdf("int16"),
        "svdf_s8": svdf("int8"),
    }


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
    kernel = bytes(rng.randrange(256) for _ in range(3 * 2 * 3 * 2))
    convolution = build(
        [
            x((1, 3, 4, 2)),
            Tensor("w", (3, 2, 3, 2), "int8", (0.02, 0.01, 0.03), (0,) * 3, 0, kernel),
            Tensor("y", (1, 2, 2, 3), "int8", (0.3,), (-7,)),
        ],
        [
            Op(
                "CONV_2D",
                (0, 1, -1),
                (2,),
                options={"padding": "SAME", "stride_h": 2, "stride_w": 2},
            )
        ],
        [0],
        [2],
    )

    def whole(name: str, *values: int, shape: tuple[int, ...] | None = None) -> Tensor:
        raw = struct.pack(f"<{len(values)}i", *values)
        return Tensor(
            name, (len(values),) if shape is None else shape, "int32", data=raw
        )

    def moved(name: str, first: Tensor, how: Tensor, last: tuple[int, ...]) -> bytes:
        op = Op(name, (0, 1), (2,))
        out = Tensor("y", last, "int8", (0.1,), (3,))
        return build([first, how, out], [op], [0], [2])

    state = {"shared_name": "s"}
    handle = Tensor("h", (), "resource")
    variable = build(
        [
            x((1, 2)),
            handle,
            x((1, 3)),
            x((1, 5)),
            x((1, 3)),
            whole("b", 0, 2),
            whole("e", 0, 5),
            whole("s", 1, 1),
        ],
        [
            Op("CALL_ONCE", (), (), options={"init_subgraph_index": 1}),
            Op("VAR_HANDLE", (), (1,), options=state),
            Op("READ_VARIABLE", (1,), (2,)),
            Op("CONCATENATION", (2, 0), (3,), options={"axis": 1}),
            Op(
                "STRIDED_SLICE",
                (3, 5, 6, 7),
                (4,),
                options={"begin_mask": 1, "end_mask": 1},
            ),
            Op("ASSIGN_VARIABLE", (1, 4), ()),
        ],
        [0],
        [3],
        others=[
            (
                [handle, Tensor("v", (1, 3), "int8", (0.1,), (3,), data=b"abc")],
                [
                    Op("VAR_HANDLE", (), (0,), options=state),
                    Op("ASSIGN_VARIABLE", (0, 1), ()),
                ],
            )
        ],
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
        **_spatial(),
        **_wide(),
        **_recurrent(),
        "conv_2d": convolution,
        "conv_net": _conv_net(),
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
        "pad": moved("PAD", x((2, 3)), whole("p", 1, 0, 0, 2, shape=(2, 2)), (3, 5)),
        "mul": two("MUL", Tensor("y", (2, 3), "int8", (0.3,), (7,)), row),
        "prelu": two("PRELU", Tensor("y", (2, 3), "int8", (0.3,), (7,)), row),
        "relu6": one("RELU6", x(), Tensor("y", (1, 4), "int8", (0.05,), (-128,))),
        "requantize": wide("QUANTIZE", 0.3, "int8"),
        "requantise_unsigned": one("QUANTIZE", x(dtype="uint8"), y()),
        "reshape": one("RESHAPE", x((2, 3)), Tensor("y", (6,), "int8", (0.1,), (3,))),
        "sigmoid_s16": wide("TANH", 2.0**-15),
        "softmax": one("SOFTMAX", x((2, 3)), y((2, 3))),
        "take": moved(
            "RESIZE_NEAREST_NEIGHBOR",
            x((1, 2, 3, 2)),
            whole("p", 2, 4),
            (1, 2, 4, 2),
        ),
        "transpose": moved("TRANSPOSE", x((2, 3)), whole("p", 1, 0), (3, 2)),
        "variable": variable,
        "softmax_s16": wide("SOFTMAX", 2.0**-15),
        "softmax_to_s16": one(
            "SOFTMAX", x((2, 3)), Tensor("y", (2, 3), "int16", (2.0**-16,), (-32768,))
        ),
        "sub_s16": sum_s16,
    }


def programs() -> dict[str, bytes]:
    """Their programs by file name."""
    return {f"{name}.mlk": compile_model(data) for name, data in models().items()}


def files() -> dict[str, bytes]:
    """The whole corpus: the programs, and a file with several that have names."""
    given = models()
    several = [compile_model(given[name], name) for name in ("add", "relu6", "sum")]
    return programs() | {"several.mlk": join(several)}


def main() -> None:
    """Write it."""
    folder = Path(sys.argv[1])
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in files().items():
        (folder / name).write_bytes(content)


if __name__ == "__main__":
    main()
