# SPDX-License-Identifier: MIT
"""Operators that only move data: random shapes and options against the reference.

As test_ops_random.py. Where the reference has no kernel for int8 the same form is
compared with another dtype, since no operator here looks at what it moves.
"""

import math
import random
import struct

import pytest
from helpers.random_models import check, examples, seeds
from helpers.reference import (
    Reference,
    assert_same,
    contents,
    fill,
    need_data,
    need_tflite,
)
from hypothesis import given
from hypothesis import strategies as st

from pymlk import Model, ModelError, UnsupportedOpError
from pymlk.write import Op, Tensor, build


@pytest.fixture(scope="module", autouse=True)
def _reference():
    need_tflite()


QUANT = {"int8": -7, "uint8": 9, "int16": 0}


def tensor(name, shape, dtype, data=None):
    """Describe a tensor; quantised dtypes have one and the same quantisation."""
    if dtype in QUANT:
        return Tensor(name, shape, dtype, (0.5,), (QUANT[dtype],), 0, data)
    return Tensor(name, shape, dtype, data=data)


def ints(name, values, shape=None):
    """Make an int32 constant."""
    raw = struct.pack(f"<{len(values)}i", *values)
    return Tensor(name, (len(values),) if shape is None else shape, "int32", data=raw)


def model(name, sources, constants, results, options=None, order=None, version=1):
    """One operator. Bytes go in and out through an operator that the verifier sees.

    `order` says which of sources and constants is which operand. An input of another
    dtype than int8 would make no quantised model, so a small one is added.
    """
    tensors = [*sources, *constants, *results]
    count = len(sources) + len(constants)
    operands = list(range(count)) if order is None else order
    outs = list(range(count, len(tensors)))
    inputs = list(range(len(sources)))
    op = Op(name, operands, tuple(outs), version, options or {})
    ops = [op]
    if not any(t.dtype in QUANT for t in sources):
        tensors += [tensor("extra", (1, 2), "int8"), tensor("same", (2,), "int8")]
        extra = len(tensors) - 2
        ops.append(Op("RESHAPE", (extra,), (extra + 1,), 1, {"new_shape": (2,)}))
        inputs.append(extra)
        outs.append(extra + 1)
    return build(tensors, ops, inputs, outs)


def shapes(low=1, high=4, most=6):
    """Shapes of some ranks."""
    return st.lists(st.integers(1, most), min_size=low, max_size=high)


@examples(150)
@given(
    shapes(1, 4),
    st.sampled_from(("int8", "int8", "uint8", "int16", "int32", "int64")),
    st.lists(st.integers(1, 5), min_size=1, max_size=6),
    st.data(),
)
def test_concatenation(shape, dtype, parts, data):
    """Any number of operands along any dimension."""
    axis = data.draw(st.integers(-len(shape), len(shape) - 1))
    sources = []
    for number, part in enumerate(parts):
        one = list(shape)
        one[axis] = part
        sources.append(tensor(f"x{number}", one, dtype))
    out = list(shape)
    out[axis] = sum(parts)
    version = {"int8": 2, "int16": 3}.get(dtype, 1)
    file = model(
        "CONCATENATION",
        sources,
        [],
        [tensor("y", out, dtype)],
        {"axis": axis},
        None,
        version,
    )
    check(file, 4, data.draw(seeds))


@examples(120)
@given(st.floats(0.01, 4), st.integers(0, 255), st.floats(0.01, 4), st.integers(0, 255))
def test_concatenation_rescales_uint8(scale, zero, out_scale, out_zero):
    """All 256 values of an operand with another scale than the result."""
    tensors = [
        Tensor("a", (2, 128), "uint8", (scale,), (zero,)),
        Tensor("b", (2, 3), "uint8", (out_scale,), (out_zero,)),
        Tensor("y", (2, 131), "uint8", (out_scale,), (out_zero,)),
    ]
    op = Op("CONCATENATION", (0, 1), (2,), 1, {"axis": 1})
    file = build(tensors, [op], [0, 1], [2])
    ours, reference = Model(file, backend="engine"), Reference(file)
    values = bytes(range(256)), bytes(range(6))
    fill(ours.inputs, values)
    ours.invoke()
    assert contents(ours.outputs) == reference(*values)


@examples(60)
@given(
    shapes(1, 4),
    st.integers(1, 5),
    st.sampled_from(("int8", "int16", "int32")),
    st.data(),
)
def test_pack(shape, count, dtype, data):
    """PACK along any new dimension."""
    axis = data.draw(st.integers(-len(shape) - 1, len(shape)))
    out = list(shape)
    out.insert(axis % (len(shape) + 1), count)
    sources = [tensor(f"x{i}", shape, dtype) for i in range(count)]
    options = {"values_count": count, "axis": axis}
    version = {"int8": 2, "int16": 3}.get(dtype, 1)
    check(
        model("PACK", sources, [], [tensor("y", out, dtype)], options, None, version), 4
    )


@examples(60)
@given(shapes(1, 5), st.sampled_from(("int8", "int16", "int32")), st.data())
def test_unpack(shape, dtype, data):
    """UNPACK along any dimension, to as many results."""
    axis = data.draw(st.integers(-len(shape), len(shape) - 1))
    count = shape[axis]
    out = list(shape)
    del out[axis]
    results = [tensor(f"y{i}", out, dtype) for i in range(count)]
    options = {"num": count, "axis": axis}
    version = {"int8": 2, "int16": 4}.get(dtype, 1)
    check(
        model(
            "UNPACK", [tensor("x", shape, dtype)], [], results, options, None, version
        ),
        4,
    )


@examples(80)
@given(
    shapes(1, 4),
    st.integers(1, 4),
    st.sampled_from(("int8", "int16", "int32")),
    st.data(),
)
def test_split(shape, count, dtype, data):
    """SPLIT in equal parts."""
    axis = data.draw(st.integers(-len(shape), len(shape) - 1))
    part = list(shape)
    shape[axis] *= count
    results = [tensor(f"y{i}", part, dtype) for i in range(count)]
    file = model(
        "SPLIT",
        [tensor("x", shape, dtype)],
        [ints("axis", [axis], ())],
        results,
        {"num_splits": count},
        (1, 0),
        {"int8": 2, "int16": 4, "int32": 3}[dtype],
    )
    check(file, 4, data.draw(seeds))


@examples(80)
@given(
    shapes(1, 4),
    st.lists(st.integers(1, 4), min_size=1, max_size=5),
    st.booleans(),
    st.sampled_from(("int8", "int16")),
    st.data(),
)
def test_split_v(shape, sizes, rest, dtype, data):
    """SPLIT_V, with one size left open."""
    axis = data.draw(st.integers(-len(shape), len(shape) - 1))
    results = []
    for number, size in enumerate(sizes):
        part = list(shape)
        part[axis] = size
        results.append(tensor(f"y{number}", part, dtype))
    shape[axis] = sum(sizes)
    count = len(sizes)
    if rest:
        sizes[data.draw(st.integers(0, count - 1))] = -1
    file = model(
        "SPLIT_V",
        [tensor("x", shape, dtype)],
        [ints("sizes", sizes), ints("axis", [axis], ())],
        results,
        {"num_splits": count},
        None,
        2,
    )
    check(file, 4, data.draw(seeds))


@examples(100)
@given(
    shapes(1, 5), st.sampled_from(("int8", "uint8", "int16", "int32", "int64")), seeds
)
def test_slice(shape, dtype, seed):
    """SLICE of any box, with sizes left open."""
    rng = random.Random(seed)
    begin = [rng.randrange(d) for d in shape]
    size = [rng.randint(1, d - b) for d, b in zip(shape, begin, strict=True)]
    asked = [
        -1 if b + s == d and rng.random() < 0.5 else s
        for d, b, s in zip(shape, begin, size, strict=True)
    ]
    file = model(
        "SLICE",
        [tensor("x", shape, dtype)],
        [ints("begin", begin), ints("size", asked)],
        [tensor("y", size, dtype)],
        None,
        None,
        {"int16": 4}.get(dtype, 3),
    )
    check(file, 4, seed)


def reference_shape(data):
    """Tell the shape of the first output that the reference computes."""
    from tflite_runtime.interpreter import Interpreter, OpResolverType

    other = Interpreter(
        model_content=data,
        experimental_op_resolver_type=OpResolverType.BUILTIN_REF,
    )
    other.allocate_tensors()
    return tuple(other.get_output_details()[0]["shape"])


@examples(700)
@given(shapes(1, 4), st.sampled_from(("int8", "int16", "int32")), seeds)
def test_strided_slice(shape, dtype, seed):
    """All masks, negative strides, ends out of range; the reference names the shape."""
    rng = random.Random(seed)
    rank = len(shape)
    count = rng.randint(1, rank + 1)
    masks = {
        name: rng.getrandbits(count) if rng.random() < chance else 0
        for name, chance in (
            ("begin_mask", 0.5),
            ("end_mask", 0.5),
            ("new_axis_mask", 0.3),
            ("shrink_axis_mask", 0.4),
        )
    }
    masks["ellipsis_mask"] = 1 << rng.randrange(count) if rng.random() < 0.3 else 0
    begin = [rng.randint(-8, 7) for _ in range(count)]
    end = [rng.randint(-8, 9) for _ in range(count)]
    # of one element taken backwards the reference leaves the result unset
    choice = (1, 1, 2, 3) if masks["shrink_axis_mask"] else (1, 2, 3, -1, -1, -2)
    step = [rng.choice(choice) for _ in range(count)]

    def file(out):
        return model(
            "STRIDED_SLICE",
            [tensor("x", shape, dtype)],
            [ints("begin", begin), ints("end", end), ints("strides", step)],
            [tensor("y", out, dtype)],
            masks,
            None,
            {"int8": 2, "int16": 4, "int32": 1}[dtype],
        )

    try:
        out = reference_shape(file((1,)))
    except (RuntimeError, ValueError):
        # refused: a senseless slice, or more dimensions than it takes
        return
    try:
        Model(file(out), backend="engine")
    except ModelError as error:
        if "leaves no element" in str(error) and masks["shrink_axis_mask"]:
            # one element out of range: the reference reads what lies there
            return
        assert not math.prod(out)
    if not math.prod(out):
        with pytest.raises(ModelError):
            Model(file(out), backend="engine")
        return
    check(file(out), 2, seed)


@examples(100)
@given(
    st.permutations(range(4)),
    shapes(4, 4),
    st.integers(1, 4),
    st.sampled_from(("int8", "int16", "int32", "int64")),
    seeds,
)
def test_transpose(order, shape, rank, dtype, seed):
    """All orders of up to four dimensions."""
    order, shape = [a for a in order if a < rank], shape[:rank]
    out = [shape[a] for a in order]
    version = {"int8": 2, "int16": 4}.get(dtype, 1)
    file = model(
        "TRANSPOSE",
        [tensor("x", shape, dtype)],
        [ints("perm", order)],
        [tensor("y", out, dtype)],
        None,
        None,
        version,
    )
    check(file, 4, seed)


@examples(30)
@given(st.permutations(range(6)), shapes(6, 6, 3), seeds)
def test_transpose_of_six(order, shape, seed):
    """The most dimensions that a tensor of the engine has."""
    out = [shape[a] for a in order]
    file = model(
        "TRANSPOSE",
        [tensor("x", shape, "int8")],
        [ints("perm", order)],
        [tensor("y", out, "int8")],
        None,
        None,
        2,
    )
    check(file, 4, seed)


@examples(150)
@given(
    st.sampled_from(("PAD", "PADV2")),
    shapes(1, 5, 4),
    st.sampled_from(("int8", "int8", "uint8", "int16", "int32", "int64")),
    seeds,
)
def test_pad(name, shape, dtype, seed):
    """PAD with the zero point, PADV2 with any value."""
    rng = random.Random(seed)
    pads = [rng.choice((0, 0, 1, 2, 3)) for _ in range(2 * len(shape))]
    out = [d + pads[2 * i] + pads[2 * i + 1] for i, d in enumerate(shape)]
    size = {"uint8": 1, "int8": 1, "int16": 2, "int32": 4, "int64": 8}[dtype]
    extra = [ints("pads", pads, (len(shape), 2))]
    if name == "PADV2":
        raw = bytes(rng.randrange(256) for _ in range(size))
        extra.append(tensor("value", (1,), dtype, raw))
    file = model(
        name,
        [tensor("x", shape, dtype)],
        extra,
        [tensor("y", out, dtype)],
        None,
        None,
        3 if dtype == "int16" else 2,
    )
    try:
        Reference(file)
    except (RuntimeError, ValueError):
        assert dtype == "int16"
        return
    check(file, 4, seed)


@examples(80)
@given(
    shapes(1, 4, 5),
    st.sampled_from(("REFLECT", "SYMMETRIC")),
    st.sampled_from(("int8", "int32", "int64")),
    seeds,
)
def test_mirror_pad(shape, mode, dtype, seed):
    """MIRROR_PAD of both kinds along several dimensions."""
    rng = random.Random(seed)
    most = [d - (mode == "REFLECT") for d in shape]
    pads = [rng.randint(0, m) for m in most for _ in (0, 1)]
    out = [d + pads[2 * i] + pads[2 * i + 1] for i, d in enumerate(shape)]
    file = model(
        "MIRROR_PAD",
        [tensor("x", shape, dtype)],
        [ints("pads", pads, (len(shape), 2))],
        [tensor("y", out, dtype)],
        {"mode": mode},
        None,
        2,
    )
    check(file, 4, seed)


@examples(60)
@given(shapes(1, 3, 4), st.sampled_from(("uint8", "int32", "int64")), seeds)
def test_tile(shape, dtype, seed):
    """TILE along several dimensions."""
    rng = random.Random(seed)
    times = [rng.randint(1, 3) for _ in shape]
    out = [a * b for a, b in zip(shape, times, strict=True)]
    file = model(
        "TILE",
        [tensor("x", shape, dtype)],
        [ints("times", times)],
        [tensor("y", out, dtype)],
    )
    check(file, 4, seed)
    # the reference has no int8 kernel
    if dtype == "uint8":
        like = model(
            "TILE",
            [tensor("x", shape, "int8")],
            [ints("times", times)],
            [tensor("y", out, "int8")],
        )
        ours, other = Model(like, backend="engine"), Reference(file)
        raw = bytes(rng.randrange(256) for _ in range(math.prod(shape)))
        fill(ours.inputs, (raw,))
        ours.invoke()
        assert contents(ours.outputs) == other(raw)


@examples(60)
@given(
    shapes(1, 4, 4),
    st.integers(0, 2),
    st.sampled_from(("int8", "int16", "int32")),
    seeds,
)
def test_broadcast_to(shape, lead, dtype, seed):
    """BROADCAST_TO, with new dimensions in front."""
    rng = random.Random(seed)
    full = [rng.randint(1, 3) for _ in range(lead)] + shape
    source = [1 if rng.random() < 0.4 else d for d in shape]
    file = model(
        "BROADCAST_TO",
        [tensor("x", source, dtype)],
        [ints("shape", full)],
        [tensor("y", full, dtype)],
        None,
        None,
        3,
    )
    check(file, 4, seed)


@examples(60)
@given(
    st.integers(1, 3),
    st.tuples(*[st.integers(1, 4)] * 4),
    st.sampled_from(("int8", "uint8", "int32")),
    seeds,
)
def test_blocks(block, shape, dtype, seed):
    """DEPTH_TO_SPACE and SPACE_TO_DEPTH."""
    batch, rows, columns, channels = shape
    space = (batch, rows * block, columns * block, channels)
    depth = (batch, rows, columns, channels * block * block)
    for name, source, result in (
        ("DEPTH_TO_SPACE", depth, space),
        ("SPACE_TO_DEPTH", space, depth),
    ):
        file = model(
            name,
            [tensor("x", source, dtype)],
            [],
            [tensor("y", result, dtype)],
            {"block_size": block},
        )
        check(file, 4, seed)


@examples(200)
@given(
    st.tuples(*[st.integers(1, 9)] * 4),
    st.tuples(st.integers(1, 30), st.integers(1, 30)),
    st.sampled_from(((0, 0), (1, 0), (0, 1))),
    st.sampled_from(("int8", "uint8", "int16")),
    seeds,
)
def test_resize_nearest_neighbor(shape, size, options, dtype, seed):
    """Any factor, up and down, with either rule for the corners."""
    if seed % 3 == 0:
        size = (shape[1] * (seed % 4 + 1), shape[2] * (seed % 5 + 1))
    out = (shape[0], *size, shape[3])
    file = model(
        "RESIZE_NEAREST_NEIGHBOR",
        [tensor("x", shape, dtype)],
        [ints("size", size)],
        [tensor("y", out, dtype)],
        {"align_corners": options[0], "half_pixel_centers": options[1]},
        None,
        4 if dtype == "int16" else 3,
    )
    check(file, 2, seed)


@pytest.mark.parametrize("corners", [0, 1])
@pytest.mark.parametrize("centers", [0, 1])
def test_resize_every_size(corners, centers):
    """Sizes at which float32 decides about the neighbour."""
    if corners and centers:
        return
    rng = random.Random(corners * 2 + centers)
    for _ in range(150):
        small, large = rng.randint(1, 250), rng.randint(1, 600)
        file = model(
            "RESIZE_NEAREST_NEIGHBOR",
            [tensor("x", (1, small, 1, 1), "int8")],
            [ints("size", (large, 1))],
            [tensor("y", (1, large, 1, 1), "int8")],
            {"align_corners": corners, "half_pixel_centers": centers},
            None,
            3,
        )
        ours, other = Model(file, backend="engine"), Reference(file)
        raw = bytes(range(small))
        fill(ours.inputs, (raw,))
        ours.invoke()
        assert contents(ours.outputs) == other(raw), (small, large)


@examples(80)
@given(
    shapes(1, 4),
    shapes(1, 2, 4),
    st.sampled_from(("int8", "uint8", "int16", "int32")),
    seeds,
)
def test_gather(shape, indices, dtype, seed):
    """GATHER with constant indices along any dimension."""
    rng = random.Random(seed)
    axis = rng.randrange(-len(shape), len(shape))
    numbers = [rng.randrange(shape[axis]) for _ in range(math.prod(indices))]
    at = axis % len(shape)
    out = (*shape[:at], *indices, *shape[at + 1 :])
    file = model(
        "GATHER",
        [tensor("x", shape, dtype)],
        [ints("indices", numbers, indices)],
        [tensor("y", out, dtype)],
        {"axis": axis},
        None,
        4 if dtype == "int16" else 2,
    )
    check(file, 4, seed)


@examples(40)
@given(shapes(1, 4), st.sampled_from(("uint8", "int16", "int32")), seeds)
def test_reverse(shape, dtype, seed):
    """REVERSE_V2 of one dimension."""
    axis = random.Random(seed).randrange(-len(shape), len(shape))
    file = model(
        "REVERSE_V2",
        [tensor("x", shape, dtype)],
        [ints("axis", [axis])],
        [tensor("y", shape, dtype)],
    )
    check(file, 4, seed)


@examples(60)
@given(shapes(1, 4), st.sampled_from(("int8", "int16", "int32")), seeds)
def test_expand_and_squeeze(shape, dtype, seed):
    """EXPAND_DIMS and SQUEEZE, with a list and without."""
    rng = random.Random(seed)
    axis = rng.randint(-len(shape) - 1, len(shape))
    out = list(shape)
    out.insert(axis % (len(shape) + 1), 1)
    x, y = tensor("x", shape, dtype), tensor("y", out, dtype)
    check(model("EXPAND_DIMS", [x], [ints("axis", [axis], ())], [y]), 4)
    drop = [i for i, d in enumerate(out) if d == 1]
    named = rng.sample(drop, rng.randint(0, len(drop)))
    gone = named or drop
    left = [d for i, d in enumerate(out) if i not in gone]
    z = tensor("z", left, dtype)
    check(model("SQUEEZE", [y], [], [z], {"squeeze_dims": named}), 4)


@examples(60)
@given(shapes(2, 4, 6), st.booleans(), seeds)
def test_the_reshape_idiom_vanishes(shape, product, seed):
    """What Keras writes for a reshape with an open batch costs no operator."""
    last = math.prod(shape[1:])
    tensors = [
        tensor("x", shape, "int8"),
        Tensor("shape", (len(shape),), "int32"),
        ints("begin", [0]),
        ints("end", [1]),
        ints("step", [1]),
        Tensor("batch", (), "int32"),
        ints("last", [last], ()),
        Tensor("new", (2,), "int32"),
        tensor("y", (shape[0], last), "int8"),
    ]
    ops = [
        Op("SHAPE", (0,), (1,), 1, {"out_type": "int32"}),
        Op("STRIDED_SLICE", (1, 2, 3, 4), (5,), 1, {"shrink_axis_mask": 1}),
        Op("PACK", (5, 6), (7,), 1, {"values_count": 2, "axis": 0}),
        Op("RESHAPE", (0, 7), (8,)),
    ]
    if product:
        # batch * 1 as int64 and back, by CAST and MUL
        tensors += [
            Tensor("wide", (), "int64"),
            Tensor("narrow", (), "int32"),
            ints("one", [1], ()),
            Tensor("times", (), "int32"),
        ]
        ops[2:3] = [
            Op(
                "CAST",
                (5,),
                (9,),
                1,
                {"in_data_type": "int32", "out_data_type": "int64"},
            ),
            Op(
                "CAST",
                (9,),
                (10,),
                1,
                {"in_data_type": "int64", "out_data_type": "int32"},
            ),
            Op("MUL", (10, 11), (12,)),
            Op("PACK", (12, 6), (7,), 1, {"values_count": 2, "axis": 0}),
        ]
    file = build(tensors, ops, [0], [8])
    ours = Model(file, backend="engine")
    # what is left is the copy that keeps input and output apart
    assert ours.ops == ("COPY",)
    check(file, 4, seed)


def streaming(first, shape, new, assign=True):
    """Build a window over the rows so far: what a streaming layer does.

    `first` are the variable's first bytes.
    """
    kept, rows = shape[1], new
    wide = (1, kept + rows, shape[2])
    x = tensor("x", (1, rows, shape[2]), "int8")
    tensors = [
        x,
        Tensor("handle", (), "resource"),
        tensor("old", shape, "int8"),
        tensor("all", wide, "int8"),
        ints("begin", [0, rows, 0]),
        ints("end", [0, 0, 0]),
        ints("step", [1, 1, 1]),
        tensor("next", shape, "int8"),
        tensor("again", shape, "int8"),
    ]
    variable = {"shared_name": "states"}
    masks = {"begin_mask": 5, "end_mask": 7}
    ops = [
        Op("CALL_ONCE", (), (), 1, {"init_subgraph_index": 1}),
        Op("VAR_HANDLE", (), (1,), 1, variable),
        Op("READ_VARIABLE", (1,), (2,)),
        Op("CONCATENATION", (2, 0), (3,), 2, {"axis": 1}),
        Op("STRIDED_SLICE", (3, 4, 5, 6), (7,), 2, masks),
        Op("ASSIGN_VARIABLE", (1, 7), ()),
    ]
    outputs = [3]
    if not assign:
        # the old value is needed behind the assignment, and the new one, too
        ops.append(Op("READ_VARIABLE", (1,), (8,)))
        outputs = [2, 8, 3]
    init = (
        [Tensor("handle", (), "resource"), tensor("zeros", shape, "int8", first)],
        [Op("VAR_HANDLE", (), (0,), 1, variable), Op("ASSIGN_VARIABLE", (0, 1), ())],
    )
    return build(tensors, ops, [0], outputs, others=[init])


@examples(60)
@given(
    st.integers(1, 6),
    st.integers(1, 4),
    st.integers(1, 20),
    st.sampled_from(("zeros", "one value", "any")),
    st.booleans(),
    seeds,
)
def test_variables(kept, rows, channels, kind, simple, seed):
    """State carries over from one run to the next, from its first value on."""
    rng = random.Random(seed)
    size = kept * channels
    first = {
        "zeros": bytes(size),
        "one value": bytes([249]) * size,
        "any": bytes(rng.randrange(256) for _ in range(size)),
    }[kind]
    file = streaming(first, (1, kept, channels), rows, simple)
    ours = Model(file, backend="engine")
    assert_same(file, ours, 8, seed)
    # from the start again
    ours.reset()
    assert_same(file, ours, 4, seed + 1)


def test_copies_of_variables_vanish():
    """A window costs two copies and nothing for reading and assigning."""
    ours = Model(streaming(bytes(12), (1, 3, 4), 2), backend="engine")
    moves = ("CONCATENATION", "CONCATENATION", "STRIDED_SLICE")
    assert ours.ops == ("CALL_ONCE", *moves)
    kept = Model(streaming(bytes(12), (1, 3, 4), 2, assign=False), backend="engine")
    assert kept.ops.count("READ_VARIABLE") == 2


def test_unread_results_cost_nothing():
    """One of three results of a SPLIT is one copy."""
    tensors = [
        ints("axis", [1], ()),
        tensor("x", (2, 6), "int8"),
        *(tensor(f"y{i}", (2, 2), "int8") for i in range(3)),
    ]
    file = build(
        tensors, [Op("SPLIT", (0, 1), (2, 3, 4), 2, {"num_splits": 3})], [1], [3]
    )
    ours = Model(file, backend="engine")
    assert ours.ops == ("SPLIT",)
    check(file, 4)


def test_uint8_of_2018():
    """An old model that only moves bytes."""
    path = need_data() / "models" / "coral__split_concat.tflite"
    check(path.read_bytes(), 10, 0)


def test_what_is_refused():
    """Forms that the engine lacks, and nonsense."""
    x = tensor("x", (1, 4), "int8")
    indices = Tensor("i", (1,), "int32")
    file = model("GATHER", [x, indices], [], [tensor("y", (1, 1), "int8")], {"axis": 1})
    with pytest.raises(UnsupportedOpError, match="is not constant"):
        Model(file, backend="engine")
    far = ints("i", [4])
    file = model("GATHER", [x], [far], [tensor("y", (1, 1), "int8")], {"axis": 1})
    with pytest.raises(ModelError, match="out of range"):
        Model(file, backend="engine")
    other = Tensor("y", (1, 8), "int8", (0.25,), (0,))
    file = model("CONCATENATION", [x, x], [], [other], {"axis": 1})
    with pytest.raises(ModelError, match="scales"):
        Model(file, backend="engine")
    # a model of a few bytes that would need a gigabyte when it is compiled
    big = Tensor("y", (1 << 15, 1 << 15), "int8", (0.5,), (0,))
    shape = ints("shape", [1 << 15, 1 << 15])
    const = tensor("c", (1, 1), "int8", b"a")
    sizes = [tensor("x", (1,), "int8"), const, shape, big]
    file = build(sizes, [Op("BROADCAST_TO", (1, 2), (3,))], [0], [3])
    with pytest.raises(UnsupportedOpError, match="bytes of constants"):
        Model(file, backend="engine")
