# SPDX-License-Identifier: MIT
"""Random CONV_2D models against the reference kernels, byte for byte."""

import math
import random
import struct

import pytest
from helpers.random_models import check, examples, f32, scales, seeds, zero_points
from helpers.reference import Reference, need_tflite
from hypothesis import given
from hypothesis import strategies as st

from pymlk import Model, ModelError, UnsupportedOpError
from pymlk.write import Op, Tensor, build


@pytest.fixture(scope="module", autouse=True)
def _reference():
    need_tflite()


def outputs(size, kernel, stride, dilation, same):
    reach = (kernel - 1) * dilation + 1
    return -(-size // stride) if same else (size - reach) // stride + 1


@st.composite
def convolution(draw, groups=1):
    same = draw(st.booleans())
    kernel = draw(st.integers(1, 4)), draw(st.integers(1, 4))
    stride = draw(st.integers(1, 3)), draw(st.integers(1, 3))
    dilation = draw(st.integers(1, 2)), draw(st.integers(1, 2))
    # a valid convolution has at least one output
    least = [
        1 if same else (k - 1) * d + 1 for k, d in zip(kernel, dilation, strict=True)
    ]
    size = [draw(st.integers(low, low + 6)) for low in least]
    batch, channels, width = (
        draw(st.integers(1, 2)),
        draw(st.integers(1, 9)),
        groups * draw(st.integers(1, 35 // groups)),
    )
    rng = random.Random(draw(seeds))
    s_in = draw(scales())
    per_channel = draw(st.booleans())
    middle = draw(st.floats(math.log(1e-6), math.log(1.0)))
    count = width if per_channel else 1
    s_w = [f32(math.exp(middle + rng.uniform(-3, 3))) for _ in range(count)]
    s_out = f32(s_in * max(s_w) / draw(scales(2.0**-20, 2.0**12)))
    activation = draw(st.sampled_from(("NONE", "RELU", "RELU_N1_TO_1", "RELU6")))
    if activation in ("RELU6", "RELU_N1_TO_1"):
        s_out = max(s_out, 1e-8)
    taps = width * kernel[0] * kernel[1] * channels
    weights = struct.pack(f"{taps}b", *(rng.randint(-128, 127) for _ in range(taps)))
    out = [
        outputs(n, k, s, d, same)
        for n, k, s, d in zip(size, kernel, stride, dilation, strict=True)
    ]
    bound = draw(st.sampled_from((0, 1000, 2**20)))
    tensors = [
        Tensor(
            "x",
            (batch, *size, groups * channels),
            "int8",
            (s_in,),
            (draw(zero_points),),
        ),
        Tensor("w", (width, *kernel, channels), "int8", s_w, (0,) * count, 0, weights),
        Tensor("y", (batch, *out, width), "int8", (s_out,), (draw(zero_points),)),
        Tensor(
            "b",
            (width,),
            "int32",
            [f32(s_in * s) for s in s_w],
            data=struct.pack(
                f"<{width}i", *(rng.randint(-bound, bound) for _ in range(width))
            ),
        ),
    ]
    options = {
        "padding": "SAME" if same else "VALID",
        "stride_h": stride[0],
        "stride_w": stride[1],
        "dilation_h": dilation[0],
        "dilation_w": dilation[1],
        "activation": activation,
    }
    op = Op("CONV_2D", (0, 1, 3), (2,), draw(st.sampled_from((1, 3, 5))), options)
    return build(tensors, [op], [0], [2])


@examples(400)
@given(convolution(), seeds)
def test_conv_2d(data, seed):
    """Strides, dilations, paddings, channels and quantisations of every size."""
    check(data, 4, seed)


@examples(200)
@given(st.integers(2, 18).flatmap(lambda groups: convolution(groups)), seeds)
def test_groups(data, seed):
    """Each output sees its group's channels only."""
    check(data, 4, seed)


def test_groups_that_do_not_fit():
    """Channels that are no multiple of the filter's, or outputs of the groups'."""
    for channels, depth, width in ((5, 2, 4), (4, 2, 3), (2, 4, 4)):
        tensors = [
            Tensor("x", (1, 2, 2, channels), "int8", (0.5,), (0,)),
            Tensor(
                "w", (width, 1, 1, depth), "int8", (1.0,), (0,), 0, bytes(width * depth)
            ),
            Tensor("y", (1, 2, 2, width), "int8", (0.5,), (0,)),
        ]
        data = build(tensors, [Op("CONV_2D", (0, 1), (2,), 3)], [0], [2])
        with pytest.raises(ModelError, match="does not suit"):
            Model(data, backend="engine")


@pytest.mark.parametrize("dtype", ["int8", "int16"])
@pytest.mark.parametrize("depth", [2, 4])
def test_zero_points_of_filters(dtype, depth):
    """Neither the reference nor the engine has them, and both say so."""
    tensors = [
        Tensor("x", (1, 2, 2, 4), dtype, (0.5,), (0,)),
        Tensor("w", (4, 1, 1, depth), "int8", (1.0,), (3,), 0, bytes(4 * depth)),
        Tensor("y", (1, 2, 2, 4), dtype, (0.5,), (0,)),
        Tensor("b", (4,), "int32", (0.5,), (0,), data=bytes(16)),
    ]
    data = build(tensors, [Op("CONV_2D", (0, 1, 3), (2,), 3)], [0], [2])
    with pytest.raises(UnsupportedOpError, match=r"'w' .* has a zero point"):
        Model(data, backend="engine")
    with pytest.raises(ModelError, match="zero_point"):
        Reference(data)
