# SPDX-License-Identifier: MIT
"""Random models of one operator, and random networks, against the reference kernels.

Byte for byte with tflite-runtime 2.14's ``BUILTIN_REF``. PYMLK_EXAMPLES=N tries N
times as many examples, and other ones in each run.
"""

import itertools
import math
import random
import struct

import pytest
from helpers.random_models import (
    activations,
    boundary,
    check,
    every_byte,
    examples,
    f32,
    s8,
    scales,
    seeds,
    unary,
    zero_points,
)
from helpers.reference import (
    Reference,
    assert_same,
    contents,
    describe,
    fill,
    need_tflite,
)
from hypothesis import given
from hypothesis import strategies as st

from pymlk import Model
from pymlk.compile import arith
from pymlk.write import Layer, Op, Tensor, build, mlp


@pytest.fixture(scope="module", autouse=True)
def _reference():
    need_tflite()


unsigned_zero_points = st.one_of(
    st.sampled_from((0, 255, 128, 127)), st.integers(0, 255)
)
# The reference knows RELU and RELU6 up to version 2, RELU_N1_TO_1 in version 1 alone,
# and refuses newer ones.
versions = {"RELU": (1, 2), "RELU6": (1, 2), "RELU_N1_TO_1": (1,)}


@st.composite
def fully_connected(draw):
    rows, depth, width = (
        draw(st.integers(1, 5)),
        draw(st.integers(1, 70)),
        draw(st.integers(1, 40)),
    )
    rng = random.Random(draw(seeds))
    s_in = draw(scales())
    per_channel = draw(st.booleans())
    if per_channel:
        middle = draw(st.floats(math.log(1e-6), math.log(1.0)))
        s_w = [f32(math.exp(middle + rng.uniform(-3, 3))) for _ in range(width)]
    else:
        s_w = [draw(scales(1e-6, 10.0))]
    # The multiplier decides what is hard: from all-zero results to saturation.
    s_out = f32(s_in * max(s_w) / draw(scales(2.0**-20, 2.0**12)))
    activation = draw(activations)
    if activation in ("RELU6", "RELU_N1_TO_1"):
        # The reference refuses bounds that do not fit int32 steps.
        s_out = max(s_out, 1e-8)
    # nonzero weight zero points exist per tensor only
    w_zero = 0 if per_channel else draw(st.one_of(st.just(0), zero_points))
    weights = [rng.randint(-128, 127) for _ in range(width * depth)]
    keep = draw(st.booleans())
    shape = (rows, depth)
    if draw(st.booleans()):
        shape = (1, rows, depth)
    # With scales per channel the reference computes only outputs of rank 2 (it takes
    # dimensions 0 and 1 for rows and width) and leaves the rest of others unset.
    keep = keep and not per_channel
    out = (*shape[:-1], width) if keep else (rows, width)
    bound = draw(st.sampled_from((0, 1000, 2**20, 2**31 - 1)))
    bias = [rng.randint(-bound - (bound > 2**30), bound) for _ in range(width)]
    tensors = [
        Tensor("x", shape, "int8", (s_in,), (draw(zero_points),)),
        Tensor("w", (width, depth), "int8", s_w, (w_zero,) * len(s_w), 0, s8(weights)),
        Tensor("y", out, "int8", (s_out,), (draw(zero_points),)),
    ]
    inputs = [0, 1]
    how = draw(st.sampled_from(("bias", "bias", "absent", "short")))
    if how == "bias":
        scale = [f32(s_in * s) for s in s_w]
        raw = struct.pack(f"<{width}i", *bias)
        tensors.append(Tensor("b", (width,), "int32", scale, data=raw))
        inputs.append(3)
    elif how == "absent":
        inputs.append(-1)
    options = {"activation": activation, "keep_num_dims": keep}
    version = draw(st.sampled_from((1, 2, 3, 4, 5, 7, 9)))
    op = Op("FULLY_CONNECTED", inputs, (2,), version, options)
    return build(tensors, [op], [0], [2])


@examples(400)
@given(fully_connected(), seeds)
def test_fully_connected(data, seed):
    """Every form of FULLY_CONNECTED that an int8 model can have."""
    check(data, 12, seed)


def test_per_channel_of_higher_rank():
    """Where the reference has no answer: the same numbers as with rank 2."""
    rng = random.Random(3)
    weights = s8([rng.randint(-127, 127) for _ in range(6 * 4)])
    row = bytes(rng.randrange(256) for _ in range(2 * 3 * 4))
    results = set()
    for shape in ((6, 4), (2, 3, 4), (1, 2, 3, 4)):
        tensors = [
            Tensor("x", shape, "int8", (0.1,), (3,)),
            Tensor(
                "w", (6, 4), "int8", [0.01 + i / 999 for i in range(6)], (), 0, weights
            ),
            Tensor("y", (*shape[:-1], 6), "int8", (0.5,), (1,)),
        ]
        op = Op("FULLY_CONNECTED", (0, 1, -1), (2,), 4, {"keep_num_dims": True})
        model = Model(build(tensors, [op], [0], [2]), backend="engine")
        fill(model.inputs, (row,))
        model.invoke()
        assert model.output.shape == (*shape[:-1], 6)
        results.add(contents(model.outputs)[0])
    assert len(results) == 1
    assert len(set(results.pop())) > 10


@examples(150)
@given(
    st.sampled_from([(name, v) for name in versions for v in versions[name]]),
    scales(1e-4, 10.0),
    zero_points,
    scales(2.0**-14, 2.0**14),
    zero_points,
)
def test_relu(form, scale, zero, ratio, out_zero):
    """The rescaling RELU family."""
    name, version = form
    out = f32(scale / ratio)
    quants = (scale, zero), (out, out_zero)
    every_byte(unary(name, ("int8", "int8"), (1, 256), *quants, version))


@examples(250)
@given(scales(1e-6, 1e3), zero_points)
def test_logistic(scale, zero):
    """The reference accepts 1/256 and -128 alone as the output's parameters."""
    quants = (scale, zero), (1 / 256, -128)
    every_byte(unary("LOGISTIC", ("int8", "int8"), (1, 256), *quants))


@examples(250)
@given(scales(1e-6, 1e3), zero_points)
def test_tanh(scale, zero):
    """The reference accepts 1/128 and 0 alone as the output's parameters."""
    quants = (scale, zero), (1 / 128, 0)
    every_byte(unary("TANH", ("int8", "int8"), (1, 256), *quants))


@examples(250)
@given(
    scales(1e-4, 50.0),
    zero_points,
    scales(1e-2, 1e2),
    st.lists(st.integers(1, 6), max_size=2),
    st.one_of(st.integers(1, 40), st.integers(1, 500)),
    st.booleans(),
    seeds,
)
def test_softmax(scale, zero, beta, outer, depth, wide, seed):
    """Rows of any length, from one-hot to nearly even; results of int8 or int16."""
    options = {"beta": beta}
    shape = (*(outer or [1]), depth)
    dtype, levels = ("int16", 65536) if wide else ("int8", 256)
    quants = (scale, zero), (1 / levels, -levels // 2)
    data = unary("SOFTMAX", ("int8", dtype), shape, *quants, 2, options)
    check(data, 8, seed)


@examples(60)
@given(st.lists(st.integers(1, 7), min_size=1, max_size=4), zero_points, seeds)
def test_reshape(shape, zero, seed):
    """RESHAPE moves no byte, whatever the shapes."""
    rng = random.Random(seed)
    left = math.prod(shape)
    out = []
    while left > 1 and len(out) < 4:
        factor = rng.choice([f for f in range(1, left + 1) if left % f == 0])
        out.append(factor)
        left //= factor
    out.append(left)
    quant = (0.5, zero)
    data = unary(
        "RESHAPE", ("int8", "int8"), shape, quant, quant, 1, {"new_shape": out}, out
    )
    model = Model(data, backend="engine")
    assert model.output.shape == tuple(out)
    check(data, 4, seed)


@examples(200)
@given(
    st.sampled_from((("int8", "int8"), ("int8", "uint8"), ("uint8", "int8"))),
    st.booleans(),
    scales(1e-5, 10.0),
    st.data(),
)
def test_requantise(dtypes, same_scale, scale, data):
    """QUANTIZE between 8-bit types, also the pure change of sign."""
    kinds = {"int8": zero_points, "uint8": unsigned_zero_points}
    zero, out_zero = (data.draw(kinds[d]) for d in dtypes)
    out = scale if same_scale else f32(scale / data.draw(scales(2.0**-14, 2.0**14)))
    every_byte(unary("QUANTIZE", dtypes, (1, 256), (scale, zero), (out, out_zero)))


@examples(120)
@given(st.sampled_from(("int8", "uint8")), scales(1e-6, 1e3), st.data())
def test_quantise(dtype, scale, data):
    """QUANTIZE at a float input, with values far beyond the range."""
    kinds = {"int8": zero_points, "uint8": unsigned_zero_points}
    quant = scale, data.draw(kinds[dtype])
    model = unary("QUANTIZE", ("float32", dtype), (2, 50), None, quant)
    check(model, 10, data.draw(seeds))


@examples(120)
@given(st.sampled_from(("int8", "uint8")), scales(1e-30, 1e30), st.data())
def test_dequantise(dtype, scale, data):
    """DEQUANTIZE at a float output: the same float32, bit for bit."""
    kinds = {"int8": zero_points, "uint8": unsigned_zero_points}
    quant = scale, data.draw(kinds[dtype])
    every_byte(unary("DEQUANTIZE", (dtype, "float32"), (1, 256), quant, None, 2))


@st.composite
def networks(draw):
    rng = random.Random(draw(seeds))
    widths = draw(st.lists(st.integers(1, 48), min_size=2, max_size=5))
    per_channel = draw(st.booleans())
    softmax = draw(st.booleans())
    first = scale = f32(rng.uniform(0.001, 0.1))
    layers = []
    for depth, width in itertools.pairwise(widths):
        rows = [[rng.randint(-127, 127) for _ in range(depth)] for _ in range(width)]
        count = width if per_channel else 1
        weight_scales = [f32(rng.uniform(0.001, 0.02)) for _ in range(count)]
        # about what a calibrated network has, so that few outputs saturate
        out = f32(scale * 0.01 * 60 * math.sqrt(depth) * rng.uniform(0.5, 2))
        bias = [rng.randint(-3000, 3000) for _ in range(width)]
        activation = rng.choice(("NONE", "RELU", "RELU6"))
        zero = -128 if activation != "NONE" else rng.randint(-128, 127)
        layer = Layer(
            rows,
            bias if rng.random() < 0.8 else None,
            weight_scales,
            out,
            zero,
            activation,
        )
        layers.append(layer)
        scale = out
    return mlp(layers, first, rng.randint(-128, 127), softmax=softmax)


@examples(80)
@given(networks(), seeds)
def test_networks(data, seed):
    """Whole random networks."""
    check(data, 30, seed)


@pytest.mark.parametrize("depth", [511, 512, 513, 1000, 1025, 2048, 4095])
@pytest.mark.parametrize("scale", [1e-5, 0.05, 20.0])
def test_softmax_of_many_even_classes(depth, scale):
    """From a sum of 512 on the reference is far from the truth, and so are we."""
    quants = (scale, 3), (1 / 256, -128)
    data = unary("SOFTMAX", ("int8", "int8"), (1, depth), *quants, 2)
    check(data, 12, depth)


@pytest.mark.parametrize("scale", [1e-4, 0.05, 0.3, 1.0, 20.0])
def test_softmax_of_two_levels(scale):
    """Many classes at the maximum, the others any fixed distance below."""
    quants = (scale, 3), (1 / 256, -128)
    for depth, at_most in ((700, 600), (700, 300), (20, 3)):
        data = unary("SOFTMAX", ("int8", "int8"), (1, depth), *quants, 2)
        model, reference = Model(data, backend="engine"), Reference(data)
        for difference in range(256):
            row = s8([127] * at_most + [127 - difference] * (depth - at_most))
            fill(model.inputs, (row,))
            model.invoke()
            found, expected = contents(model.outputs), reference(row)
            assert found == expected, f"{difference}: {describe(found, expected)}"


@pytest.mark.parametrize("per_channel", [True, False])
@pytest.mark.parametrize("seed", range(6))
def test_at_the_edge_of_rounding(per_channel, seed):
    """Accumulators at which the last bit of a multiplier decides about the output.

    Random inputs hardly ever see whether a scale was multiplied in float or double.
    """
    rng = random.Random(seed)
    width = 600
    s_in, s_out = (f32(rng.uniform(0.001, 0.1)) for _ in range(2))
    count = width if per_channel else 1
    s_w = [f32(s_out / s_in * rng.uniform(1, 2) * 2.0**-26) for _ in range(count)]
    bias = []
    for channel in range(width):
        scale = s_w[channel % count]
        product = s_in * scale if per_channel else arith.f32(s_in * scale)
        multiplier = arith.quantize_multiplier(product / s_out)
        bias.append(boundary(*multiplier, rng.randint(-31, 32)) - channel % 2)
    tensors = [
        Tensor("x", (1, 1), "int8", (s_in,), (0,)),
        Tensor("w", (width, 1), "int8", s_w, (), 0, bytes(width)),
        Tensor(
            "b",
            (width,),
            "int32",
            [f32(s_in * s) for s in s_w],
            data=struct.pack(f"<{width}i", *bias),
        ),
        Tensor("y", (1, width), "int8", (s_out,), (0,)),
    ]
    data = build(tensors, [Op("FULLY_CONNECTED", (0, 1, 2), (3,), 4)], [0], [3])
    check(data, 1)


def test_a_wrong_rounding_would_show():
    """The comparison can fail: one bit of a multiplier is enough."""
    from pymlk.compile import compile_model
    from pymlk.compile.program import checksum

    rng = random.Random(1)
    rows = [[rng.randint(-127, 127) for _ in range(40)] for _ in range(32)]
    data = mlp([Layer(rows, [0] * 32, [0.01], 0.3, 0)], 0.05, 0, softmax=False)
    program = bytearray(compile_model(data))
    multiplier, shift = arith.quantize_multiplier(arith.f32(0.05 * 0.01) / f32(0.3))
    at = program.index(struct.pack("<i", multiplier))
    program[at : at + 32 * 4] = struct.pack("<i", multiplier - (1 << 20)) * 32
    program[16:24] = struct.pack("<Q", checksum(bytes(program[24:])))
    assert shift < 0
    model = Model(bytes(program))
    with pytest.raises(AssertionError, match="bytes differ"):
        assert_same(data, model, 300)
