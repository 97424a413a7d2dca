# SPDX-License-Identifier: MIT
"""What tests with random models share: quantisations, seeds, the comparison."""

import math
import os
import struct

from helpers.engine_steps import assert_bounded
from helpers.reference import assert_same
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st

from pymlk import Model

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


def check(data, rows, seed=0):
    """Compile and compare; whatever the reference runs the engine must run."""
    model = Model(data, backend="engine")
    assert model.program is not None
    assert_bounded(bytes(model.program))
    assert_same(data, model, rows, seed)
