# SPDX-License-Identifier: MIT
"""Random models of one operator on images, against the reference kernels."""

import math
import random
import struct

import pytest
from helpers.random_models import (
    activations,
    boundary,
    check,
    examples,
    f32,
    scales,
    seeds,
    zero_points,
)
from helpers.reference import Reference, contents, fill, need_tflite
from hypothesis import given
from hypothesis import strategies as st

from pymlk import Model, ModelError, UnsupportedOpError
from pymlk.compile import arith
from pymlk.write import Op, Tensor, build


@pytest.fixture(scope="module", autouse=True)
def _reference():
    need_tflite()


def outputs(size, kernel, stride, dilation, same):
    """How many positions a filter has."""
    reach = (kernel - 1) * dilation + 1
    return -(-size // stride) if same else (size - reach) // stride + 1


def words(values, code="i"):
    """Little-endian constants."""
    return struct.pack(f"<{len(values)}{code}", *values)


def ints(name, values):
    """A constant int32 vector."""
    return Tensor(name, (len(values),), "int32", data=words(values))


class Images:
    """Draws what all filters have: kernel, strides, sizes that fit."""

    def __init__(self, draw, dilated=False, largest=4, channels=70):
        self.same = draw(st.booleans())
        pair = st.tuples
        self.kernel = draw(pair(*[st.integers(1, largest)] * 2))
        self.stride = draw(pair(*[st.integers(1, 3)] * 2))
        steps = st.integers(1, 3 if dilated else 1)
        self.dilation = draw(pair(steps, steps))
        # without padding there must be room for one position
        low = [
            1 if self.same else (k - 1) * d + 1
            for k, d in zip(self.kernel, self.dilation, strict=True)
        ]
        self.size = [draw(st.integers(n, n + 7)) for n in low]
        self.batch = draw(st.integers(1, 2))
        self.channels = draw(st.one_of(st.integers(1, 9), st.integers(1, channels)))
        self.rng = random.Random(draw(seeds))

    @property
    def shape(self):
        """Of the operand."""
        return (self.batch, *self.size, self.channels)

    @property
    def out(self):
        """Height and width of the result."""
        return [
            outputs(n, k, s, d, self.same)
            for n, k, s, d in zip(
                self.size, self.kernel, self.stride, self.dilation, strict=True
            )
        ]

    @property
    def options(self):
        """Padding and strides."""
        return {
            "padding": "SAME" if self.same else "VALID",
            "stride_h": self.stride[0],
            "stride_w": self.stride[1],
        }


def weight_scales(draw, rng, width):
    """Per tensor or per channel."""
    count = width if draw(st.booleans()) else 1
    middle = draw(st.floats(math.log(1e-6), math.log(1.0)))
    return [f32(math.exp(middle + rng.uniform(-3, 3))) for _ in range(count)]


def unused_zeros(draw, s_w):
    """Zero points of weights, at which the reference does not look."""
    return (draw(zero_points),) * len(s_w)


def quantised(draw, s_in, s_w, activation):
    """Scale of a result, from all-zero results to saturation."""
    s_out = f32(s_in * max(s_w) / draw(scales(2.0**-20, 2.0**12)))
    # The reference refuses bounds that do not fit int32 steps.
    return max(s_out, 1e-8) if activation in ("RELU6", "RELU_N1_TO_1") else s_out


@st.composite
def depthwise(draw):
    image = Images(draw, dilated=True)
    rng = image.rng
    fold = draw(st.sampled_from((1, 1, 1, 2, 3, 8)))
    if draw(st.integers(0, 4)) == 0:
        image.channels, fold = 1, draw(st.integers(1, 70))
    width = image.channels * fold
    s_in = draw(scales())
    s_w = weight_scales(draw, rng, width)
    activation = draw(activations)
    s_out = quantised(draw, s_in, s_w, activation)
    taps = width * image.kernel[0] * image.kernel[1]
    weights = words([rng.randint(-128, 127) for _ in range(taps)], "b")
    bound = draw(st.sampled_from((0, 1000, 2**20, 2**30)))
    tensors = [
        Tensor("x", image.shape, "int8", (s_in,), (draw(zero_points),)),
        Tensor(
            "w",
            (1, *image.kernel, width),
            "int8",
            s_w,
            unused_zeros(draw, s_w),
            3,
            weights,
        ),
        Tensor(
            "y",
            (image.batch, *image.out, width),
            "int8",
            (s_out,),
            (draw(zero_points),),
        ),
        Tensor(
            "b",
            (width,),
            "int32",
            [f32(s_in * s) for s in s_w],
            data=words([rng.randint(-bound, bound) for _ in range(width)]),
        ),
    ]
    options = {
        **image.options,
        "dilation_h": image.dilation[0],
        "dilation_w": image.dilation[1],
        # what the option says does not matter
        "depth_multiplier": draw(st.sampled_from((fold, fold, 0, 3))),
        "activation": activation,
    }
    op = Op("DEPTHWISE_CONV_2D", (0, 1, 3), (2,), 3, options)
    return build(tensors, [op], [0], [2])


@examples(400)
@given(depthwise(), seeds)
def test_depthwise_conv(data, seed):
    """Any padding, stride, dilation, channel multiplier and activation."""
    check(data, 6, seed)


@st.composite
def pools(draw, dtype):
    image = Images(draw, largest=6)
    quant = (draw(scales(1e-4 if dtype == "int16" else 1e-6)),), (draw(zero_points),)
    activation = draw(activations)
    # the reference does not ask whether operand and result are quantised alike
    other = ((0.5,), (7,)) if draw(st.integers(0, 3)) == 0 else quant
    tensors = [
        Tensor("x", image.shape, dtype, *other),
        Tensor("y", (image.batch, *image.out, image.channels), dtype, *quant),
    ]
    options = {
        **image.options,
        "filter_height": image.kernel[0],
        "filter_width": image.kernel[1],
        "activation": activation,
    }
    name = draw(st.sampled_from(("AVERAGE_POOL_2D", "MAX_POOL_2D")))
    return build(tensors, [Op(name, (0,), (1,), 3, options)], [0], [1])


@examples(300)
@given(pools("int8"), seeds)
def test_pools(data, seed):
    """Any window; borders count only what lies inside."""
    check(data, 8, seed)


@examples(300)
@given(pools("int16"), seeds)
def test_pools_of_int16(data, seed):
    """The same with 16 bits."""
    check(data, 8, seed)


@pytest.mark.parametrize("dtype", ["int8", "int16"])
@pytest.mark.parametrize("size", [2, 3, 63, 64, 65, 90, 255])
def test_average_of_large_windows(size, dtype):
    """Around 4096 values, where the way to divide changes; ties included."""
    quant = (0.5,), (3,)
    tensors = [
        Tensor("x", (1, size, size, 1), dtype, *quant),
        Tensor("y", (1, 1, 1, 1), dtype, *quant),
    ]
    options = {"padding": "VALID", "filter_height": size, "filter_width": size}
    op = Op("AVERAGE_POOL_2D", (0,), (1,), 3, options)
    data = build(tensors, [op], [0], [1])
    model, reference = Model(data, backend="engine"), Reference(data)
    count = size * size
    low, high = (-128, 127) if dtype == "int8" else (-32768, 32767)
    for level in (low, low + 1, -3, -1, 0, 1, high - 1):
        for more in (0, 1, count // 2 - 1, count // 2, count // 2 + 1, count - 1):
            row = [level + 1] * more + [level] * (count - more)
            row = words(row, "b" if dtype == "int8" else "h")
            fill(model.inputs, (row,))
            model.invoke()
            assert contents(model.outputs) == reference(row), (level, more)


@st.composite
def transpose_convolutions(draw):
    # the filter moves over the result, whose size is therefore drawn
    image = Images(draw, channels=20)
    rng = image.rng
    width = draw(st.integers(1, 70))
    s_in = draw(scales())
    s_w = weight_scales(draw, rng, width)
    s_out = quantised(draw, s_in, s_w, "NONE")
    taps = width * image.kernel[0] * image.kernel[1] * image.channels
    weights = words([rng.randint(-128, 127) for _ in range(taps)], "b")
    result = (image.batch, *image.size, width)
    tensors = [
        ints("shape", result),
        Tensor(
            "w",
            (width, *image.kernel, image.channels),
            "int8",
            s_w,
            unused_zeros(draw, s_w),
            0,
            weights,
        ),
        Tensor(
            "x",
            (image.batch, *image.out, image.channels),
            "int8",
            (s_in,),
            (draw(zero_points),),
        ),
        Tensor("y", result, "int8", (s_out,), (draw(zero_points),)),
        Tensor(
            "b",
            (width,),
            "int32",
            [f32(s_in * s) for s in s_w],
            data=words([rng.randint(-1000, 1000) for _ in range(width)]),
        ),
    ]
    inputs, version = ((0, 1, 2, 4), 3) if draw(st.booleans()) else ((0, 1, 2), 1)
    op = Op("TRANSPOSE_CONV", inputs, (3,), version, image.options)
    return build(tensors, [op], [2], [3])


@examples(200)
@given(transpose_convolutions(), seeds)
def test_transpose_conv(data, seed):
    """Strides smaller and larger than the kernel, with and without bias."""
    check(data, 5, seed)


@examples(200)
@given(
    st.tuples(*[st.integers(1, 9)] * 2),
    st.tuples(*[st.integers(1, 30)] * 2),
    st.integers(1, 9),
    st.sampled_from(((False, False), (True, False), (False, True))),
    zero_points,
    st.sampled_from(("int8", "int16")),
    seeds,
)
def test_resize_bilinear(size, out, channels, form, zero, dtype, seed):
    """Larger and smaller, with all three meanings of a position."""
    quant = (0.5,), (zero,)
    tensors = [
        Tensor("x", (2, *size, channels), dtype, *quant),
        ints("size", out),
        Tensor("y", (2, *out, channels), dtype, *quant),
    ]
    options = {"align_corners": form[0], "half_pixel_centers": form[1]}
    op = Op("RESIZE_BILINEAR", (0, 1), (2,), 3, options)
    check(build(tensors, [op], [0], [2]), 5, seed)


@st.composite
def phases(draw):
    rank = draw(st.sampled_from((3, 4)))
    axes = range(rank - 2)
    block = [draw(st.integers(1, 3)) for _ in axes]
    cells = [draw(st.integers(1, 4)) for _ in axes]
    edges, size = [], []
    for length, count in zip(block, cells, strict=True):
        before = draw(st.integers(0, length * count - 1))
        after = draw(st.integers(0, length * count - 1 - before))
        edges.append((before, after))
        size.append(length * count - before - after)
    batch, depth = draw(st.integers(1, 3)), draw(st.integers(1, 20))
    dtype = draw(st.sampled_from(("int8", "int8", "int16")))
    quant = (0.5,), (draw(zero_points) if dtype == "int8" else 0,)
    image = (batch, *size, depth)
    many = (batch * math.prod(block), *cells, depth)
    to_space = draw(st.booleans())
    tensors = [
        Tensor("x", many if to_space else image, dtype, *quant),
        ints("block", block),
        Tensor(
            "edges",
            (rank - 2, 2),
            "int32",
            data=words([edge for pair in edges for edge in pair]),
        ),
        Tensor("y", image if to_space else many, dtype, *quant),
    ]
    name = "BATCH_TO_SPACE_ND" if to_space else "SPACE_TO_BATCH_ND"
    return build(tensors, [Op(name, (0, 1, 2), (3,), 3)], [0], [3])


@examples(200)
@given(phases(), seeds)
def test_phases(data, seed):
    """Images to batches and back, with any edges."""
    check(data, 4, seed)


@pytest.mark.parametrize("per_channel", [True, False])
@pytest.mark.parametrize("seed", range(4))
def test_depthwise_at_the_edge_of_rounding(per_channel, seed):
    """Even a single scale is multiplied in double here, unlike FULLY_CONNECTED's."""
    rng = random.Random(seed)
    width = 600
    s_in, s_out = (f32(rng.uniform(0.001, 0.1)) for _ in range(2))
    count = width if per_channel else 1
    s_w = [f32(s_out / s_in * rng.uniform(1, 2) * 2.0**-26) for _ in range(count)]
    bias = []
    for channel in range(width):
        real = s_in * s_w[channel % count] / s_out
        at = boundary(*arith.quantize_multiplier(real), rng.randint(-31, 32))
        bias.append(at - channel % 2)
    tensors = [
        Tensor("x", (1, 1, 1, 1), "int8", (s_in,), (0,)),
        Tensor("w", (1, 1, 1, width), "int8", s_w, (0,) * count, 3, bytes(width)),
        Tensor("b", (width,), "int32", [f32(s_in * s) for s in s_w], data=words(bias)),
        Tensor("y", (1, 1, 1, width), "int8", (s_out,), (0,)),
    ]
    options = {"padding": "VALID", "depth_multiplier": width}
    op = Op("DEPTHWISE_CONV_2D", (0, 1, 2), (3,), 3, options)
    check(build(tensors, [op], [0], [3]), 1)


def one(name, operands, result, options, version=2):
    """Build a model of one operator whose first operand is the input."""
    tensors = [*operands, result]
    op = Op(name, range(len(operands)), (len(operands),), version, options)
    return build(tensors, [op], [0], [len(operands)])


def x(*shape, dtype="int8", scale=0.5, zero=3):
    """An activation."""
    return Tensor("x", shape, dtype, (scale,), (zero,))


WEIGHTS = Tensor("w", (1, 2, 2, 4), "int8", (0.1,), (0,), 3, bytes(16))
POOL = {"filter_height": 2, "filter_width": 2, "padding": "VALID"}
SIZE = ints("size", (3, 3))


@pytest.mark.parametrize(
    ("kind", "message", "data"),
    [
        (
            ModelError,
            "does not suit",
            one("DEPTHWISE_CONV_2D", [x(1, 3, 3, 3), WEIGHTS], x(1, 2, 2, 4), {}),
        ),
        (
            ModelError,
            "does not give",
            one(
                "DEPTHWISE_CONV_2D",
                [x(1, 3, 3, 4), WEIGHTS],
                x(1, 2, 2, 4),
                {"padding": "SAME"},
            ),
        ),
        (
            ModelError,
            "does not give",
            one("AVERAGE_POOL_2D", [x(1, 3, 3, 4)], x(1, 2, 3, 4), POOL),
        ),
        (
            ModelError,
            "exclude both",
            one(
                "RESIZE_BILINEAR",
                [x(1, 2, 2, 4), SIZE],
                x(1, 3, 3, 4),
                {"align_corners": True, "half_pixel_centers": True},
            ),
        ),
        (
            ModelError,
            "does not give",
            one("RESIZE_BILINEAR", [x(1, 2, 2, 4), SIZE], x(1, 3, 4, 4), {}),
        ),
        (
            UnsupportedOpError,
            "is UINT8",
            one(
                "MAX_POOL_2D",
                [x(1, 3, 3, 4, dtype="uint8")],
                x(1, 2, 2, 4, dtype="uint8"),
                POOL,
            ),
        ),
        (
            UnsupportedOpError,
            "a window of 65536 pixels",
            one(
                "MAX_POOL_2D",
                [x(1, 3, 3, 4, dtype="int16", zero=0)],
                x(1, 3, 3, 4, dtype="int16", zero=0),
                {"filter_height": 256, "filter_width": 256, "padding": "SAME"},
            ),
        ),
        (
            ModelError,
            "blocks of",
            one(
                "SPACE_TO_BATCH_ND",
                [
                    x(1, 4, 4, 1),
                    ints("block", (2, 0)),
                    Tensor("e", (2, 2), "int32", data=bytes(16)),
                ],
                x(4, 2, 2, 1),
                {},
            ),
        ),
    ],
)
def test_refused(kind, message, data):
    """What makes no sense or is not there is refused, with the reason."""
    with pytest.raises(kind, match=message):
        Model(data, backend="engine")
