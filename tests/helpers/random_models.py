# SPDX-License-Identifier: MIT
"""What tests with random models share: quantisations, seeds, the comparison."""

import math
import os
import struct

from helpers.engine_steps import assert_bounded
from helpers.reference import Reference, assert_same, contents, describe, fill
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st

from pymlk import Model
from pymlk.compile import arith
from pymlk.write import Op, Tensor, build

FACTOR = int(os.environ.get("PYMLK_EXAMPLES", "0"))
seeds = st.integers(0, 2**32 - 1)


def examples(count):
    """Settings of one test: the same examples each time, unless more are wanted."""
    return settings(
        max_examples=count * max(FACTOR, 1),
        derandomize=not FACTOR,
        deadline=None,
        print_blob=True,
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
    )


def f32(value):
    """The float32 nearest to a value, as the file will hold it."""
    return struct.unpack("<f", struct.pack("<f", value))[0]


def scales(low=1e-6, high=1e2):
    """Scales spread evenly over their logarithm, and exact powers of two."""
    spread = st.floats(math.log(low), math.log(high)).map(lambda x: f32(math.exp(x)))
    powers = st.integers(math.ceil(math.log2(low)), math.floor(math.log2(high))).map(
        lambda e: 2.0**e
    )
    return st.one_of(spread, spread, powers)


zero_points = st.one_of(st.sampled_from((0, -128, 127, -1, 1)), st.integers(-128, 127))


activations = st.sampled_from(("NONE", "RELU", "RELU_N1_TO_1", "RELU6"))


def s8(values):
    """Values as bytes."""
    return struct.pack(f"{len(values)}b", *values)


def unary(name, dtype, shape, quant_in, quant_out, version=1, options=None, out=None):
    """Build a model of one operator with one operand."""
    tensors = [
        Tensor("x", shape, dtype[0], *(((q,) for q in quant_in) if quant_in else ())),
        Tensor(
            "y",
            shape if out is None else out,
            dtype[1],
            *(((q,) for q in quant_out) if quant_out else ()),
        ),
    ]
    return build(tensors, [Op(name, (0,), (1,), version, options or {})], [0], [1])


def every_byte(data):
    """Compare all 256 operands of an elementwise operator in one call."""
    model = Model(data, backend="engine")
    reference = Reference(data)
    assert math.prod(model.input.shape) == 256
    raw = bytes(range(256))
    fill(model.inputs, (raw,))
    model.invoke()
    found, expected = contents(model.outputs), reference(raw)
    assert found == expected, describe(found, expected)


def boundary(multiplier, shift, level):
    """Find the least accumulator that is requantised to a level or more."""
    low, high = -(2**31), 2**31 - 1
    while low < high:
        middle = (low + high) // 2
        if arith.requantize(middle, multiplier, shift) >= level:
            high = middle
        else:
            low = middle + 1
    return low


def check(data, rows, seed=0):
    """Compile and compare; whatever the reference runs the engine must run."""
    model = Model(data, backend="engine")
    assert model.program is not None
    assert_bounded(bytes(model.program))
    assert_same(data, model, rows, seed)
