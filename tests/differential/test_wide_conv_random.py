# SPDX-License-Identifier: MIT
"""Random products of int16 with int8 weights against the reference, byte for byte."""

import math
import random
import struct

import pytest
from helpers.random_models import check, examples, f32, scales, seeds
from helpers.reference import (
    Reference,
    contents,
    describe,
    fill,
    need_tflite,
    random_inputs,
)
from hypothesis import given
from hypothesis import strategies as st

from pymlk import Model, ModelError
from pymlk.write import Op, Tensor, build

ACTIVATIONS = st.sampled_from(("NONE", "RELU", "RELU_N1_TO_1", "RELU6"))


@pytest.fixture(scope="module", autouse=True)
def _reference():
    need_tflite()


class Draw:
    """What all such layers have: quantised weights, biases, a range of results."""

    def __init__(self, draw, width, depth, per_channel=None):
        self.draw = draw
        self.rng = random.Random(draw(seeds))
        self.width = width
        self.s_in = draw(scales(1e-6, 1.0))
        if per_channel is None:
            per_channel = draw(st.booleans())
        middle = draw(st.floats(math.log(1e-6), math.log(1.0)))
        count = width if per_channel else 1
        self.s_w = [
            f32(math.exp(middle + self.rng.uniform(-2, 2))) for _ in range(count)
        ]
        # so that results fill their range now and then
        most = max(self.s_w) * self.s_in * math.sqrt(depth) * 70
        self.s_out = f32(most * draw(scales(0.02, 20.0)))
        self.activation = draw(ACTIVATIONS)
        if self.activation in ("RELU6", "RELU_N1_TO_1"):
            self.s_out = max(self.s_out, 1e-7)

    def x(self, *shape):
        return Tensor("x", shape, "int16", (self.s_in,), (0,))

    def y(self, *shape):
        return Tensor("y", shape, "int16", (self.s_out,), (0,))

    def w(self, *shape, dimension=0, zero=0):
        raw = bytes(self.rng.randrange(256) for _ in range(math.prod(shape)))
        zeros = (zero,) * len(self.s_w)
        return Tensor("w", shape, "int8", self.s_w, zeros, dimension, raw)

    def b(self, dtype, bits):
        values = [self.rng.randint(-(2**bits), 2**bits) for _ in range(self.width)]
        code = "q" if dtype == "int64" else "i"
        data = struct.pack(f"<{self.width}{code}", *values)
        quants = [f32(self.s_in * s) for s in self.s_w]
        return Tensor("b", (self.width,), dtype, quants, (0,) * len(quants), data=data)


def bias_dtype(draw):
    """Dtype of a bias, and how large it is."""
    dtype = draw(st.sampled_from(("int64", "int32")))
    return dtype, draw(st.sampled_from((0, 10, 20, 36 if dtype == "int64" else 26)))


@st.composite
def dense(draw):
    rows, depth, width = (
        draw(st.integers(1, 3)),
        draw(st.one_of(st.integers(1, 20), st.integers(60, 200))),
        draw(st.integers(1, 70)),
    )
    d = Draw(draw, width, depth)
    zero = draw(st.sampled_from((0, 0, 0, 5, -128, 127))) if len(d.s_w) == 1 else 0
    tensors = [d.x(rows, depth), d.w(width, depth, zero=zero), d.y(rows, width)]
    bias = draw(st.booleans())
    if bias:
        tensors.append(d.b(*bias_dtype(draw)))
    op = Op(
        "FULLY_CONNECTED",
        (0, 1, 3 if bias else -1),
        (2,),
        draw(st.sampled_from((4, 7, 9))),
        {"activation": d.activation},
    )
    return build(tensors, [op], [0], [2])


@examples(300)
@given(dense(), seeds)
def test_fully_connected(data, seed):
    """Rows, widths and depths of every size, with and without a bias."""
    check(data, 4, seed)


@st.composite
def einsums(draw):
    """A BATCH_MATMUL, and the FULLY_CONNECTED that it is."""
    rows, depth, width = (draw(st.integers(1, 40)) for _ in range(3))
    d = Draw(draw, width, depth)
    w, turned = d.w(width, depth), draw(st.booleans())
    columns = b"".join(w.data[i::depth] for i in range(depth))
    matrix = Tensor("w", (depth, width), "int8", w.scales, w.zero_points, 1, columns)
    quants = [f32(d.s_in * s) for s in d.s_w]
    zeros = (0,) * len(quants), 0, bytes(8 * width)
    bias = Tensor("b", (width,), "int64", quants, *zeros)
    x, y = d.x(rows, depth), d.y(rows, width)
    op = Op("BATCH_MATMUL", (0, 1), (2,), 1, {"adj_y": turned})
    product = build([x, w if turned else matrix, y], [op], [0], [2])
    op = Op("FULLY_CONNECTED", (0, 1, 3), (2,), 7, {})
    return product, build([x, w, y, bias], [op], [0], [2])


@examples(150)
@given(einsums(), seeds)
def test_batch_matmul_with_int8(models, seed):
    """No runtime has this form of BATCH_MATMUL."""
    data, same = models
    with pytest.raises(ModelError, match="refuses the model"):
        Reference(data)
    model, reference = Model(data, backend="engine"), Reference(same)
    for inputs in random_inputs(model, 6, seed):
        fill(model.inputs, inputs)
        model.invoke()
        found, expected = contents(model.outputs), reference(*inputs)
        assert found == expected, describe(found, expected)


def outputs(size, kernel, stride, dilation, same):
    reach = (kernel - 1) * dilation + 1
    return -(-size // stride) if same else (size - reach) // stride + 1


def pairs(low, high):
    return st.tuples(st.integers(low, high), st.integers(low, high))


@st.composite
def geometry(draw):
    """Padding, kernel, stride, dilation, and sizes that give an output."""
    same = draw(st.booleans())
    kernel, stride = draw(pairs(1, 4)), draw(pairs(1, 3))
    # the reference has no strides with dilations
    dilation = draw(pairs(1, 2)) if stride == (1, 1) else (1, 1)
    least = [
        1 if same else (k - 1) * d + 1 for k, d in zip(kernel, dilation, strict=True)
    ]
    size = [draw(st.integers(low, low + 5)) for low in least]
    out = [
        outputs(n, k, s, d, same)
        for n, k, s, d in zip(size, kernel, stride, dilation, strict=True)
    ]
    options = {
        "padding": "SAME" if same else "VALID",
        "stride_h": stride[0],
        "stride_w": stride[1],
        "dilation_h": dilation[0],
        "dilation_w": dilation[1],
    }
    return kernel, size, out, options


@st.composite
def convolution(draw):
    kernel, size, out, options = draw(geometry())
    batch = draw(st.integers(1, 2))
    groups = draw(st.sampled_from((1, 1, 1, 2, 3, 5)))
    depth, fold = draw(st.integers(1, 6)), draw(st.integers(1, 20))
    width = groups * fold
    d = Draw(draw, width, depth * kernel[0] * kernel[1])
    tensors = [
        d.x(batch, *size, groups * depth),
        d.w(width, *kernel, depth),
        d.y(batch, *out, width),
        d.b(*bias_dtype(draw)),
    ]
    options["activation"] = d.activation
    return build(tensors, [Op("CONV_2D", (0, 1, 3), (2,), 4, options)], [0], [2])


@examples(300)
@given(convolution(), seeds)
def test_conv_2d(data, seed):
    """Windows and groups of every size."""
    check(data, 4, seed)


@st.composite
def depthwise(draw):
    kernel, size, out, options = draw(geometry())
    batch, channels = draw(st.integers(1, 2)), draw(st.integers(1, 9))
    fold = draw(st.integers(1, 8))
    width = channels * fold
    d = Draw(draw, width, kernel[0] * kernel[1])
    tensors = [
        d.x(batch, *size, channels),
        # the reference does not look at a zero point
        d.w(1, *kernel, width, dimension=3, zero=3),
        d.y(batch, *out, width),
    ]
    bias = draw(st.booleans())
    if bias:
        tensors.append(d.b("int64", draw(st.sampled_from((0, 10, 20, 36)))))
    options |= {"activation": d.activation, "depth_multiplier": fold}
    inputs = (0, 1, 3) if bias else (0, 1)
    op = Op("DEPTHWISE_CONV_2D", inputs, (2,), 5, options)
    return build(tensors, [op], [0], [2])


@examples(300)
@given(depthwise(), seeds)
def test_depthwise_conv_2d(data, seed):
    """Channels that become one or more, with dilation."""
    check(data, 4, seed)


@st.composite
def transposed(draw):
    same = draw(st.booleans())
    kernel, stride = draw(pairs(1, 4)), draw(pairs(1, 3))
    size = draw(pairs(1, 4))
    out = [
        n * s - (draw(st.integers(0, s - 1)) if same else 0)
        if same
        else (n - 1) * s + k
        for n, k, s in zip(size, kernel, stride, strict=True)
    ]
    batch, channels, width = (
        draw(st.integers(1, 2)),
        draw(st.integers(1, 6)),
        draw(st.integers(1, 9)),
    )
    d = Draw(draw, width, channels * kernel[0] * kernel[1])
    tensors = [
        d.x(batch, *size, channels),
        d.w(width, *kernel, channels),
        d.y(batch, *out, width),
        Tensor("s", (4,), "int32", data=struct.pack("<4i", batch, *out, width)),
    ]
    inputs = [3, 1, 0]
    if draw(st.booleans()):
        tensors.append(d.b(*bias_dtype(draw)))
        inputs.append(4)
    options = {
        "padding": "SAME" if same else "VALID",
        "stride_h": stride[0],
        "stride_w": stride[1],
        "activation": d.activation,
    }
    op = Op("TRANSPOSE_CONV", inputs, (2,), 3, options)
    return build(tensors, [op], [0], [2])


@examples(300)
@given(transposed(), seeds)
def test_transpose_conv(data, seed):
    """Windows over the result."""
    check(data, 4, seed)
