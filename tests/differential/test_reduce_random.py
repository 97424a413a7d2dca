# SPDX-License-Identifier: MIT
"""Random models of one reducing operator, against the reference kernels."""

import math
import struct

import pytest
from helpers.random_models import check, examples, f32, scales, seeds, zero_points
from helpers.reference import Reference, contents, fill, need_tflite
from hypothesis import given
from hypothesis import strategies as st

from pymlk import Model, ModelError, UnsupportedOpError
from pymlk.write import Op, Tensor, build


@pytest.fixture(scope="module", autouse=True)
def _reference():
    need_tflite()


def vector(values):
    """A constant int32 vector."""
    raw = struct.pack(f"<{len(values)}i", *values)
    return Tensor("axes", (len(values),), "int32", data=raw)


def reduction(name, shape, axes, keep, quants, out=None, dtype="int8"):
    """Build a model of one reduction."""
    rank = len(shape)
    gone = {axis % rank for axis in axes}
    result = [
        1 if i in gone else size
        for i, size in enumerate(shape)
        if keep or i not in gone
    ]
    tensors = [
        Tensor("x", shape, dtype, *((q,) for q in quants[0])),
        vector(axes),
        Tensor("y", result if out is None else out, dtype, *((q,) for q in quants[1])),
    ]
    op = Op(name, (0, 1), (2,), 2, {"keep_dims": keep})
    return build(tensors, [op], [0], [2])


@st.composite
def shapes(draw):
    """A shape, and some of its axes in any order, from either end, also twice."""
    shape = draw(st.lists(st.integers(1, 7), min_size=1, max_size=4))
    shape[-1] = draw(st.one_of(st.just(shape[-1]), st.integers(1, 80)))
    rank = len(shape)
    return shape, draw(
        st.lists(st.integers(-rank, rank - 1), min_size=1, max_size=rank)
    )


@examples(300)
@given(
    st.sampled_from(("MEAN", "SUM")),
    shapes(),
    st.booleans(),
    st.booleans(),
    st.tuples(scales(1e-4, 10.0), zero_points),
    st.tuples(scales(2.0**-10, 2.0**10), zero_points),
    seeds,
)
def test_mean_and_sum(name, form, keep, same, quant, other, seed):
    """Equal and different quantisations; the reference has one way for all axes."""
    out = quant if same else (f32(quant[0] / other[0]), other[1])
    check(reduction(name, *form, keep, (quant, out)), 8, seed)


@examples(200)
@given(shapes(), st.booleans(), scales(1e-4, 10.0), scales(2.0**-10, 2.0**10), seeds)
def test_mean_of_int16(form, keep, scale, ratio, seed):
    """Without zero points."""
    quants = (scale, 0), (f32(scale / ratio), 0)
    check(reduction("MEAN", *form, keep, quants, dtype="int16"), 8, seed)


@examples(200)
@given(
    st.sampled_from(("REDUCE_MAX", "REDUCE_MIN", "SUM")), shapes(), st.booleans(), seeds
)
def test_reductions_of_int16(name, form, keep, seed):
    """The reference takes one scale only, and lets sums wrap."""
    quants = (0.5, 0), (0.5, 0)
    check(reduction(name, *form, keep, quants, dtype="int16"), 8, seed)


@examples(150)
@given(st.sampled_from(("REDUCE_MAX", "REDUCE_MIN")), shapes(), st.booleans(), seeds)
def test_extremes(name, form, keep, seed):
    """The greatest and the least of any axes."""
    quant = (0.5, 3)
    check(reduction(name, *form, keep, (quant, quant)), 8, seed)


@pytest.mark.parametrize("name", ["MEAN", "SUM", "REDUCE_MAX", "REDUCE_MIN"])
@pytest.mark.parametrize("axes", [(0, 2, 4), (1, 3), (4,), (0,), (1, 2, 4)])
def test_rank_5(name, axes):
    """Kept and reduced dimensions that alternate."""
    quant = (0.5, 3)
    check(reduction(name, (2, 3, 4, 5, 6), axes, True, (quant, quant)), 8, 1)


@pytest.mark.parametrize("side", [1, 2, 3, 7, 8, 31, 32, 33, 100])
def test_mean_of_large_images(side):
    """The number of values takes bits off the multiplier."""
    quants = (0.02, -7), (0.013, 5)
    check(reduction("MEAN", (1, side, side, 3), (1, 2), True, quants), 12, side)


def test_mean_of_extreme_scales():
    """A multiplier that has hardly a bit to shift."""
    for scale in (1e-7, 1e-5, 1e-3, 1e3):
        quants = (scale, 1), (1.0, -2)
        check(reduction("MEAN", (3, 50), (1,), False, quants), 8)


def test_sum_takes_int8_for_uint8():
    """What the reference kernel of SUM does, see pymlk/compile/lower/reduce.py."""
    quant = (0.5, 0)
    data = reduction("SUM", (4, 2), (1,), False, (quant, quant))
    model, reference = Model(data, backend="engine"), Reference(data)
    row = struct.pack("8b", 1, 2, -1, 1, -100, -100, 100, 100)
    fill(model.inputs, (row,))
    model.invoke()
    assert contents(model.outputs) == reference(row)
    assert contents(model.outputs)[0] == bytes((3, 255, 255, 200))


@examples(200)
@given(
    st.sampled_from(("ARG_MAX", "ARG_MIN")),
    st.lists(st.integers(1, 7), min_size=1, max_size=4),
    st.sampled_from(("int32", "int64")),
    st.data(),
    seeds,
)
def test_arg(name, shape, dtype, data, seed):
    """Where the first extreme is, along any axis; ties are frequent."""
    rank = len(shape)
    axis = data.draw(st.integers(-rank, rank - 1))
    out = [size for i, size in enumerate(shape) if i != axis % rank]
    tensors = [
        Tensor("x", shape, "int8", (0.5,), (3,)),
        vector((axis,)),
        Tensor("y", out, dtype),
    ]
    op = Op(name, (0, 1), (2,), 2, {"output_type": dtype})
    check(build(tensors, [op], [0], [2]), 8, seed)


@examples(200)
@given(
    st.lists(st.integers(1, 6), max_size=3),
    st.one_of(st.integers(1, 9), st.integers(1, 700)),
    scales(1e-4, 10.0),
    zero_points,
    seeds,
)
def test_l2_normalization(outer, depth, scale, zero, seed):
    """Short and long vectors, also of zeros."""
    shape = (*(outer or [1]), depth)
    tensors = [
        Tensor("x", shape, "int8", (scale,), (zero,)),
        Tensor("y", shape, "int8", (1 / 128,), (0,)),
    ]
    op = Op("L2_NORMALIZATION", (0,), (1,), 2)
    data = build(tensors, [op], [0], [1])
    check(data, 10, seed)
    # vectors of length 0 and 1, where the square root is no general one
    model, reference = Model(data, backend="engine"), Reference(data)
    zeros = [zero] * math.prod(shape)
    for change in (0, -1 if zero > 0 else 1, -2 if zero > 0 else 2):
        zeros[0] = zero + change
        row = struct.pack(f"{len(zeros)}b", *zeros)
        fill(model.inputs, (row,))
        model.invoke()
        assert contents(model.outputs) == reference(row)


QUANT = (0.5, 3)


@pytest.mark.parametrize(
    ("kind", "message", "data"),
    [
        (
            ModelError,
            "axis 2 of",
            reduction("MEAN", (3, 4), (2,), False, (QUANT, QUANT), out=(3,)),
        ),
        (
            ModelError,
            "does not give",
            reduction("MEAN", (3, 4), (1,), False, (QUANT, QUANT), out=(4,)),
        ),
        (
            ModelError,
            "quantised differently",
            reduction("REDUCE_MAX", (3, 4), (1,), False, (QUANT, (0.5, 4))),
        ),
        (
            UnsupportedOpError,
            "INT16 with zero point 3",
            reduction("MEAN", (3, 4), (1,), False, (QUANT, QUANT), dtype="int16"),
        ),
        (
            ModelError,
            "scales of",
            reduction("SUM", (3, 4), (1,), False, ((0.5, 0), (0.25, 0)), dtype="int16"),
        ),
        (
            UnsupportedOpError,
            "reduced over",
            reduction("SUM", (2,) * 8, (0, 2, 4, 6), True, (QUANT, QUANT)),
        ),
        (
            ModelError,
            "not scale 1/128",
            build(
                [
                    Tensor("x", (1, 4), "int8", (0.5,), (3,)),
                    Tensor("y", (1, 4), "int8", (0.5,), (3,)),
                ],
                [Op("L2_NORMALIZATION", (0,), (1,), 2)],
                [0],
                [1],
            ),
        ),
    ],
)
def test_refused(kind, message, data):
    """What makes no sense or is not there is refused, with the reason."""
    with pytest.raises(kind, match=message):
        Model(data, backend="engine")
