# SPDX-License-Identifier: MIT
"""Random models of one elementwise operator or BATCH_MATMUL, of int8 and of int16.

Byte for byte with tflite-runtime 2.14's ``BUILTIN_REF``, as in `test_ops_random`.
"""

import math
import random
import struct
from fractions import Fraction

import pytest
from helpers.micro import MicroReference
from helpers.random_models import (
    activations,
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
    contents,
    describe,
    fill,
    need_tflite,
)
from hypothesis import given
from hypothesis import strategies as st

from pymlk import Model, ModelError, UnsupportedOpError
from pymlk.compile import arith
from pymlk.write import Op, Tensor, build


@pytest.fixture(scope="module", autouse=True)
def _reference():
    need_tflite()


def raw(dtype, values):
    """Values as a tensor's bytes."""
    return struct.pack(f"<{len(values)}{'b' if dtype == 'int8' else 'h'}", *values)


LIMITS = {"int8": (-128, 127), "int16": (-32768, 32767)}
# Up to where the reference knows how to repeat an operand; beyond it aborts.
RANKS = {
    "ADD": 6,
    "SUB": 5,
    "MUL": 4,
    "MINIMUM": 5,
    "MAXIMUM": 5,
    "PRELU": 4,
    "SQUARED_DIFFERENCE": 6,
}


@st.composite
def shapes(draw, most):
    """Two shapes, and what they give together."""
    dims = draw(st.lists(st.sampled_from((1, 2, 3, 4, 7)), min_size=1, max_size=most))
    last = draw(st.one_of(st.just(dims[-1]), st.integers(1, 150 if most < 6 else 20)))
    dims[-1] = last
    while math.prod(dims) > 3000:
        dims[dims.index(max(dims))] = 2
    both = []
    for _ in range(2):
        how = draw(st.sampled_from(("whole", "whole", "last", "scalar", "mixed")))
        if how == "whole":
            both.append(tuple(dims))
        elif how == "last":
            both.append((dims[-1],))
        elif how == "scalar":
            both.append(draw(st.sampled_from(((), (1,), (1,) * len(dims)))))
        else:
            cut = draw(st.integers(0, len(dims) - 1))
            keep = [draw(st.booleans()) for _ in dims]
            mixed = [d if k else 1 for d, k in zip(dims, keep, strict=True)]
            both.append(tuple(mixed[cut:]))
    rank = max(map(len, both))
    ones = [(1,) * (rank - len(s)) + s for s in both]
    out = tuple(max(pair) for pair in zip(*ones, strict=True))
    return *both, out


def binary(draw, name, dtype, both, quants, options):
    """A model of one operator, with up to one constant operand."""
    tensors = [
        Tensor(letter, shape, dtype, (scale,), (zero,))
        for letter, shape, (scale, zero) in zip("aby", both, quants, strict=True)
    ]
    inputs = [0, 1]
    constant = draw(st.sampled_from((None, None, 0, 1)))
    if constant is not None:
        rng = random.Random(draw(seeds))
        shape = both[constant]
        values = [rng.randint(*LIMITS[dtype]) for _ in range(math.prod(shape))]
        data = raw(dtype, values)
        tensors[constant] = Tensor(
            "c",
            shape,
            dtype,
            (quants[constant][0],),
            (quants[constant][1],),
            data=data,
        )
        inputs.remove(constant)
    version = 1 if name == "PRELU" else 2
    return build(tensors, [Op(name, (0, 1), (2,), version, options)], inputs, [2])


@st.composite
def binaries(draw, names, dtype="int8"):
    name = draw(st.sampled_from(names))
    both = draw(shapes(RANKS[name] if dtype == "int8" else 4))
    if name == "PRELU":
        # the second operand is repeated, never the first
        both = both[2], both[1], both[2]
    zeros = zero_points if dtype == "int8" else st.just(0)
    one = draw(scales(1e-4, 10.0))
    two = draw(st.one_of(st.just(one), scales(1e-4, 10.0)))
    if name in ("ADD", "SUB"):
        out = max(one, two) * draw(scales(1e-3, 1e3))
        out = max(out, max(one, two) * 2.0 ** (-18 if dtype == "int8" else -13))
    elif name == "SQUARED_DIFFERENCE":
        out = max(one, two) ** 2 * draw(scales(2e-3, 1e3))
    elif name == "MUL":
        out = one * two * draw(scales(2.0**-8, 2.0**14))
    elif name == "PRELU":
        out = max(one, one * two) * draw(scales(2.0**-4, 2.0**4))
    else:
        out = two = one
    quants = [(f32(s), draw(zeros)) for s in (one, two, out)]
    options = {}
    if name in ("ADD", "SUB", "MUL"):
        options["activation"] = draw(activations)
    if dtype == "int16" and name in ("ADD", "SUB"):
        options["pot_scale_int16"] = False
    return binary(draw, name, dtype, both, quants, options)


@examples(300)
@given(binaries(("ADD", "SUB")), seeds)
def test_sum(data, seed):
    """ADD and SUB: two rescalings, the sum, another."""
    check(data, 8, seed)


@examples(250)
@given(binaries(("MUL",)), seeds)
def test_mul(data, seed):
    """MUL, whose scale is computed in float32."""
    check(data, 8, seed)


@examples(250)
@given(binaries(("MINIMUM", "MAXIMUM", "PRELU", "SQUARED_DIFFERENCE")), seeds)
def test_other_binary(data, seed):
    """The rest of the operators with two operands."""
    check(data, 8, seed)


@examples(250)
@given(binaries(("ADD", "SUB", "MUL", "MINIMUM", "MAXIMUM"), "int16"), seeds)
def test_binary_of_int16(data, seed):
    """The same with 16 bits and general scales."""
    check(data, 8, seed)


@examples(80)
@given(
    st.sampled_from(("ADD", "SUB")),
    st.integers(-14, -2),
    st.integers(0, 12),
    st.booleans(),
    activations,
    seeds,
)
def test_sum_of_powers_of_two(name, log, shift, first, activation, seed):
    """Int16 as old models have it: scales that are powers of two."""
    logs = [log - shift, log, log] if first else [log, log - shift, log]
    tensors = [
        Tensor(n, (3, 70), "int16", (2.0**k,), (0,))
        for n, k in zip("aby", logs, strict=True)
    ]
    options = {"activation": activation, "pot_scale_int16": True}
    check(build(tensors, [Op(name, (0, 1), (2,), 2, options)], [0, 1], [2]), 8, seed)


def test_mul_at_the_edge_of_rounding():
    """All products, with scales whose float32 and double quotients differ."""
    rng = random.Random(4)
    for _ in range(60):
        one, two = (f32(rng.uniform(0.001, 0.1)) for _ in range(2))
        out = f32(one * two * rng.uniform(20, 200))
        tensors = [
            Tensor("a", (256, 1), "int8", (one,), (rng.randint(-128, 127),)),
            Tensor("b", (1, 256), "int8", (two,), (rng.randint(-128, 127),)),
            Tensor("y", (256, 256), "int8", (out,), (rng.randint(-128, 127),)),
        ]
        data = build(tensors, [Op("MUL", (0, 1), (2,), 2)], [0, 1], [2])
        model, reference = Model(data, backend="engine"), Reference(data)
        row = bytes(range(256))
        fill(model.inputs, (row, row))
        model.invoke()
        found, expected = contents(model.outputs), reference(row, row)
        assert found == expected, describe(found, expected)


@examples(200)
@given(
    scales(1e-4, 10.0),
    zero_points,
    scales(2.0**-10, 2.0**10),
    zero_points,
    st.one_of(st.sampled_from((0.0, 0.1, 0.2, 1.0, -0.5)), st.floats(-3, 3, width=32)),
)
def test_leaky_relu(scale, zero, ratio, out_zero, alpha):
    """Any slope, also above 1 and below 0."""
    quants = (scale, zero), (f32(scale / ratio), out_zero)
    options = {"alpha": alpha}
    dtypes = "int8", "int8"
    every_byte(unary("LEAKY_RELU", dtypes, (1, 256), *quants, 2, options))


@examples(200)
@given(scales(1e-4, 20.0), zero_points, scales(1e-3, 127.0), zero_points)
def test_hard_swish(scale, zero, ratio, out_zero):
    """From scales that only see the middle to those that only see the ends."""
    quants = (scale, zero), (f32(scale / ratio), out_zero)
    every_byte(unary("HARD_SWISH", ("int8", "int8"), (1, 256), *quants))


@examples(150)
@given(
    scales(1e-4, 10.0),
    zero_points,
    st.one_of(st.just(1.0), scales(2.0**-10, 2.0**10)),
    zero_points,
)
def test_abs(scale, zero, ratio, out_zero):
    """With and without a change of scale."""
    quants = (scale, zero), (f32(scale / ratio), out_zero)
    every_byte(unary("ABS", ("int8", "int8"), (1, 256), *quants))


@examples(40)
@given(scales(1e-4, 10.0), st.one_of(st.just(1.0), scales(2.0**-14, 2.0**14)))
def test_abs_of_int16(scale, ratio):
    """Its result has no zero point either."""
    quants = (scale, 0), (f32(scale / ratio), 0)
    every_word(wide_pair("ABS", quants, (1, 65536), 1))


@examples(100)
@given(scales(1e-4, 10.0), zero_points, scales(2.0**-10, 2.0**10), zero_points)
def test_neg(scale, zero, ratio, out_zero):
    """No runtime has it: half a step from the real result, if that is in range."""
    out = f32(scale / ratio)
    data = unary("NEG", ("int8", "int8"), (1, 256), (scale, zero), (out, out_zero))
    with pytest.raises(ModelError, match="Neg only currently supports"):
        Reference(data)(s8(range(-128, 128)))
    model = Model(data, backend="engine")
    fill(model.inputs, (s8(range(-128, 128)),))
    model.invoke()
    found = struct.unpack("256b", contents(model.outputs)[0])
    for q, result in zip(range(-128, 128), found, strict=True):
        real = (zero - q) * Fraction(scale) / Fraction(out) + out_zero
        if -128 < real < 127:
            assert abs(result - real) <= Fraction(1, 2)
        else:
            assert result in (-128, 127)


@examples(150)
@given(scales(1e-4, 10.0), zero_points, scales(2.0**-10, 2.0**10), zero_points)
def test_relu_0_to_1(scale, zero, ratio, out_zero):
    """The fourth of the RELU family."""
    quants = (scale, zero), (f32(scale / ratio), out_zero)
    every_byte(unary("RELU_0_TO_1", ("int8", "int8"), (1, 256), *quants))


@examples(200)
@given(scales(1e-5, 1.0), zero_points, scales(1e-4, 1e3), zero_points)
def test_exp(scale, zero, out_scale, out_zero):
    """Where a result is beyond int32 the engine leaves the model to tflite."""
    quants = (scale, zero), (out_scale, out_zero)
    data = unary("EXP", ("int8", "int8"), (1, 256), *quants)
    if math.exp(scale * (127 - zero)) / out_scale > 2**31 - 300:
        with pytest.raises(UnsupportedOpError, match="far beyond the scale"):
            Model(data, backend="engine")
    else:
        every_byte(data)


@examples(200)
@given(
    scales(1e-4, 10.0),
    zero_points,
    scales(2.0**-8, 2.0**8),
    zero_points,
    st.booleans(),
)
def test_gelu(scale, zero, ratio, out_zero, approximate):
    """Exact and approximate."""
    quants = (scale, zero), (f32(scale / ratio), out_zero)
    options = {"approximate": approximate}
    every_byte(unary("GELU", ("int8", "int8"), (1, 256), *quants, 1, options))


@examples(200)
@given(scales(1e-5, 10.0), zero_points, scales(1e-3, 1e3), zero_points)
def test_rsqrt(scale, zero, ratio, out_zero):
    """The reference refuses negative operands; for them the engine has the most."""
    out = f32(ratio / math.sqrt(scale) / 128)
    quants = (scale, zero), (out, out_zero)
    data = unary("RSQRT", ("int8", "int8"), (1, 256), *quants)
    model, reference = Model(data, backend="engine"), Reference(data)
    row = s8([max(q, zero) for q in range(-128, 128)])
    fill(model.inputs, (row,))
    model.invoke()
    found, expected = contents(model.outputs), reference(row)
    assert found == expected, describe(found, expected)
    fill(model.inputs, (s8(range(-128, 128)),))
    model.invoke()
    assert set(contents(model.outputs)[0][: zero + 128]) <= {127}


@examples(40)
@given(scales(1e-5, 0.1), scales(1e-2, 1e2), seeds)
def test_rsqrt_of_int16(scale, ratio, seed):
    """2.14 lacks it, so tflite-micro is the reference, which refuses negatives too."""
    out = f32(ratio / math.sqrt(scale) / 32768)
    quants = (scale, 0), (out, 0)
    data = unary("RSQRT", ("int16", "int16"), (1, 4096), *quants)
    model, reference = Model(data, backend="engine"), MicroReference(data)
    rng = random.Random(seed)
    row = raw("int16", [*range(2048), *(rng.randrange(32768) for _ in range(2048))])
    fill(model.inputs, (row,))
    model.invoke()
    found, expected = contents(model.outputs), reference(row)
    assert found == expected, describe(found, expected)


@examples(250)
@given(
    scales(1e-4, 50.0),
    zero_points,
    st.lists(st.integers(1, 6), max_size=2),
    st.one_of(st.integers(1, 40), st.integers(1, 500), st.sampled_from((4095, 2000))),
    seeds,
)
def test_log_softmax(scale, zero, outer, depth, seed):
    """The output's scale and zero point are given."""
    shape = (*(outer or [1]), depth)
    quants = (scale, zero), (1 / 16, 127)
    check(unary("LOG_SOFTMAX", ("int8", "int8"), shape, *quants), 8, seed)


def test_log_softmax_of_two_levels():
    """Sums from 1 to 4095 ones, the others any fixed distance below."""
    for scale, counts in ((0.01, range(1, 4095, 37)), (0.3, range(1, 60)), (9.0, (7,))):
        quants = (scale, 3), (1 / 16, 127)
        for at_most in counts:
            depth = at_most + 1
            data = unary("LOG_SOFTMAX", ("int8", "int8"), (256, depth), *quants)
            model, reference = Model(data, backend="engine"), Reference(data)
            row = b"".join(
                s8([127] * at_most + [127 - difference]) for difference in range(256)
            )
            fill(model.inputs, (row,))
            model.invoke()
            found, expected = contents(model.outputs), reference(row)
            assert found == expected, describe(found, expected)


@st.composite
def matmuls(draw, dtype):
    rows, depth, columns = (draw(st.integers(1, 20)) for _ in range(3))
    depth = draw(st.one_of(st.just(depth), st.integers(1, 120)))
    batch = draw(st.lists(st.integers(1, 4), max_size=3))
    adj = draw(st.booleans()), draw(st.booleans())
    sides = []
    for side, (one, two) in enumerate(((rows, depth), (depth, columns))):
        # With the left side transposed and the right one repeated, the reference
        # transposes one batch only and reads on behind it.
        keep = [adj[0] or draw(st.integers(0, 4)) > 0 for _ in batch]
        dims = [d if k else 1 for d, k in zip(batch, keep, strict=True)]
        cut = 0 if adj[0] else draw(st.sampled_from((0, 0, len(batch))))
        sides.append((*dims[cut:], *((two, one) if adj[side] else (one, two))))
    rank = max(map(len, sides))
    ones = [(1,) * (rank - len(s)) + s for s in sides]
    out = tuple(max(pair) for pair in zip(*(s[:-2] for s in ones), strict=True))
    out += (rows, columns)
    one, two = draw(scales(1e-4, 1.0)), draw(scales(1e-4, 1.0))
    # sums of int16 have 15 bits more
    more = 0 if dtype == "int8" else 12
    s_out = f32(one * two * draw(scales(2.0 ** (more - 4), 2.0 ** (16 + more))))
    zeros = zero_points if dtype == "int8" else st.just(0)
    tensors = [
        Tensor("a", sides[0], dtype, (one,), (draw(zeros),)),
        Tensor("b", sides[1], dtype, (two,), (draw(zeros),)),
        Tensor("y", out, dtype, (s_out,), (draw(zeros),)),
    ]
    inputs = [0, 1]
    if draw(st.booleans()):
        rng = random.Random(draw(seeds))
        count = math.prod(sides[1])
        data = raw(dtype, [rng.randint(*LIMITS[dtype]) for _ in range(count)])
        quant = (two,), tensors[1].zero_points
        tensors[1] = Tensor("b", sides[1], dtype, *quant, data=data)
        inputs = [0]
    options = {"adj_x": adj[0], "adj_y": adj[1]}
    op = Op("BATCH_MATMUL", (0, 1), (2,), draw(st.integers(2, 3)), options)
    return build(tensors, [op], inputs, [2])


@examples(250)
@given(matmuls("int8"), seeds)
def test_batch_matmul(data, seed):
    """Transposed sides, repeated batches, a constant or an activation on the right."""
    check(data, 6, seed)


@examples(250)
@given(matmuls("int16"), seeds)
def test_batch_matmul_of_int16(data, seed):
    """The same with 16 bits and 64-bit sums."""
    check(data, 6, seed)


def test_batch_matmul_where_the_reference_fails():
    """A transposed left side, a repeated right one: as with the left side turned."""
    rng = random.Random(7)
    left = [
        [[rng.randint(-128, 127) for _ in range(5)] for _ in range(4)] for _ in "ab"
    ]
    turned = [list(zip(*matrix, strict=True)) for matrix in left]
    right = s8([rng.randint(-128, 127) for _ in range(4 * 3)])
    results = []
    for matrices, shape, adj in ((left, (2, 4, 5), True), (turned, (2, 5, 4), False)):
        tensors = [
            Tensor("a", shape, "int8", (0.1,), (3,)),
            Tensor("b", (1, 4, 3), "int8", (0.1,), (-4,)),
            Tensor("y", (2, 5, 3), "int8", (3.0,), (1,)),
        ]
        op = Op("BATCH_MATMUL", (0, 1), (2,), 2, {"adj_x": adj})
        model = Model(build(tensors, [op], [0, 1], [2]), backend="engine")
        flat = [value for matrix in matrices for row in matrix for value in row]
        fill(model.inputs, (s8(flat), right))
        model.invoke()
        results += contents(model.outputs)
    assert results[0] == results[1]
    assert len(set(results[0])) > 10


def wide_pair(name, quants, shape, version=2, options=None, dtypes=("int16", "int16")):
    """A model of one int16 operator."""
    quants = [(scale, zero) for scale, zero in quants]
    return unary(name, dtypes, shape, *quants, version, options)


EVERY = struct.pack("<65536h", *range(-32768, 32768))


def every_word(data):
    """Compare all 65,536 operands of an elementwise operator in one call."""
    model, reference = Model(data, backend="engine"), Reference(data)
    fill(model.inputs, (EVERY,))
    model.invoke()
    found, expected = contents(model.outputs), reference(EVERY)
    assert found == expected, describe(found, expected)


@examples(40)
@given(
    st.sampled_from(("LOGISTIC", "TANH")),
    st.one_of(st.sampled_from((2.0**-12, 2.0**-11, 2.0**-15)), scales(1e-7, 2.0)),
)
def test_sigmoid_of_int16(name, scale):
    """The interpolated table, with any input scale."""
    every_word(wide_pair(name, ((scale, 0), (2.0**-15, 0)), (1, 65536)))


@examples(40)
@given(
    scales(1e-5, 1.0),
    scales(2.0**-10, 2.0**10),
    st.one_of(st.sampled_from((0.0, 0.1, 1.0)), st.floats(0, 3, width=32)),
)
def test_leaky_relu_of_int16(scale, ratio, alpha):
    """Two multipliers."""
    quants = (scale, 0), (f32(scale / ratio), 0)
    every_word(wide_pair("LEAKY_RELU", quants, (1, 65536), 2, {"alpha": alpha}))


@examples(40)
@given(st.sampled_from(("RELU", "RELU6")), scales(1e-4, 1.0), scales(2.0**-10, 2.0**10))
def test_relu_of_int16(name, scale, ratio):
    """Bounds in output steps."""
    every_word(wide_pair(name, ((scale, 0), (f32(scale / ratio), 0)), (1, 65536), 3))


@examples(40)
@given(scales(1e-6, 2e-3), scales(1e-6, 1e3))
def test_exp_of_int16(scale, out_scale):
    """The table of 513 samples."""
    every_word(wide_pair("EXP", ((scale, 0), (out_scale, 0)), (1, 65536)))


@examples(60)
@given(
    st.sampled_from(("int8", "int16", "int32")),
    scales(1e-6, 10.0),
    scales(2.0**-14, 2.0**14),
    zero_points,
    st.one_of(st.sampled_from((0, 0, -32768, 32767)), st.integers(-32768, 32767)),
)
def test_requantise_from_int16(dtype, scale, ratio, zero, in_zero):
    """QUANTIZE from int16, to int16 without zero points."""
    in_zero = 0 if dtype == "int16" else in_zero
    quants = (scale, in_zero), (f32(scale / ratio), zero if dtype == "int8" else 0)
    dtypes = "int16", dtype
    every_word(wide_pair("QUANTIZE", quants, (1, 65536), 2, None, dtypes))


@examples(60)
@given(
    st.sampled_from(("int8", "int16")),
    scales(1e-6, 10.0),
    scales(2.0**-14, 2.0**14),
    zero_points,
    seeds,
)
def test_requantise_from_int32(dtype, scale, ratio, zero, seed):
    """QUANTIZE of sums."""
    quants = (scale, 0), (f32(scale / ratio), zero if dtype == "int8" else zero * 256)
    data = wide_pair("QUANTIZE", quants, (1, 300), 2, None, ("int32", dtype))
    model, reference = Model(data, backend="engine"), Reference(data)
    rng = random.Random(seed)
    for bits in (8, 16, 24):
        values = [rng.randint(-(2**bits), 2**bits) for _ in range(300)]
        row = struct.pack("<300i", *values)
        fill(model.inputs, (row,))
        model.invoke()
        found, expected = contents(model.outputs), reference(row)
        assert found == expected, describe(found, expected)


@examples(40)
@given(scales(1e-6, 10.0), zero_points, scales(2.0**-14, 2.0**14))
def test_requantise_to_int16(scale, zero, ratio):
    """2.14 refuses QUANTIZE from int8 to int16; later releases compute this."""
    out = f32(scale / ratio)
    quants = (scale, zero), (out, 0)
    data = wide_pair("QUANTIZE", quants, (1, 256), 2, None, ("int8", "int16"))
    multiplier = arith.quantize_multiplier(scale / out)
    model = Model(data, backend="engine")
    fill(model.inputs, (s8(range(-128, 128)),))
    model.invoke()
    expected = [
        arith.clamp(arith.requantize(q - zero, *multiplier), -32768, 32767)
        for q in range(-128, 128)
    ]
    assert contents(model.outputs)[0] == struct.pack("<256h", *expected)


@examples(60)
@given(scales(1e-6, 1e3), seeds)
def test_quantise_to_int16(scale, seed):
    """QUANTIZE and DEQUANTIZE at a float border."""
    check(unary("QUANTIZE", ("float32", "int16"), (2, 50), None, (scale, 0)), 8, seed)
    data = unary("DEQUANTIZE", ("int16", "float32"), (1, 99), (scale, 0), None, 3)
    check(data, 8, seed)


@examples(120)
@given(
    scales(1e-6, 1e-2),
    scales(1e-1, 10.0),
    st.lists(st.integers(1, 6), max_size=2),
    st.one_of(st.integers(1, 40), st.integers(1, 500), st.just(40_000)),
    seeds,
)
def test_softmax_of_int16(scale, beta, outer, depth, seed):
    """Rows of any length."""
    shape = (*(outer or [1]), depth)
    if depth > 500:
        shape = (1, depth)
    quants = (scale, 0), (2.0**-15, 0)
    check(wide_pair("SOFTMAX", quants, shape, 3, {"beta": beta}), 6, seed)


@pytest.mark.parametrize("scale", [1e-4, 3e-4, 1e-3])
def test_softmax_of_all_differences(scale):
    """Two classes, every difference: every entry of both tables."""
    quants = (scale, 0), (2.0**-15, 0)
    every = struct.pack("<65536h", *(v for q in range(32768) for v in (q, -1)))
    data = wide_pair("SOFTMAX", quants, (32768, 2), 3, {"beta": 1.0})
    model, reference = Model(data, backend="engine"), Reference(data)
    fill(model.inputs, (every,))
    model.invoke()
    found, expected = contents(model.outputs), reference(every)
    assert found == expected, describe(found, expected)


def test_what_does_not_fit_is_refused():
    """Shapes and scales that no operator could mean."""

    def add(*sizes, zeros=(0, 0, 0), dtype="int8", quants=(0.1, 0.1, 0.1), name="ADD"):
        tensors = [
            Tensor("t", shape, dtype, (scale,), (zero,))
            for shape, scale, zero in zip(sizes, quants, zeros, strict=True)
        ]
        return Model(
            build(tensors, [Op(name, (0, 1), (2,), 2)], [0, 1], [2]), backend="engine"
        )

    add((2, 3), (3,), (2, 3))
    for shapes_ in (((2, 3), (2,), (2, 3)), ((2, 3), (3,), (3,)), ((2,), (2,), (1,))):
        with pytest.raises(ModelError, match="do not"):
            add(*shapes_)
    with pytest.raises(ModelError, match="expected 0 to 1"):
        add((2,), (2,), (2,), quants=(1.0, 1.0, 1e-9))
    with pytest.raises(UnsupportedOpError, match="zero point 3"):
        add((2,), (2,), (2,), dtype="int16", zeros=(3, 0, 0))
    alternating = [(2, 1) * 4, (1, 2) * 4, (2,) * 8]
    with pytest.raises(UnsupportedOpError, match="more than 6 dimensions"):
        add(*alternating)
    for wrong in (((2, 3), (2, 3), (2, 3)), ((3,), (3, 3), (3,))):
        with pytest.raises(ModelError, match=r"fit|matrices"):
            add(*wrong, name="BATCH_MATMUL")
