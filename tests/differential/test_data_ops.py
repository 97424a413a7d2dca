# SPDX-License-Identifier: MIT
"""Single operators sliced out of real models, with recorded and live references."""

import pytest
from helpers.need import need_module
from helpers.reference import (
    SUPPORTED,
    assert_same,
    contents,
    describe,
    fill,
    manifest,
    model_path,
    need_data,
    need_tflite,
    operators,
)

from pymlk import Model

ENTRIES = manifest("ops")
OURS = [e for e in ENTRIES if operators(e) <= SUPPORTED]
OTHERS = [e for e in ENTRIES if not operators(e) <= SUPPORTED]
# One model of each operator that the engine lacks.
FALLBACK = list({e["op"]: e for e in OTHERS}.values())


def name(entry):
    """A test's id."""
    return entry["name"]


def test_the_data_are_there():
    """Without them the tests below are none at all."""
    need_data()
    assert len(OURS) >= 430
    # in all forms that are in the data
    assert {e["op"] for e in OURS} == SUPPORTED & {e["op"] for e in ENTRIES}
    # and nothing is left over; what the engine lacks is tried with whole models
    assert not OTHERS


@pytest.mark.parametrize("entry", OURS, ids=name)
def test_recorded(entry):
    """Outputs recorded from the reference kernels, byte for byte."""
    np = need_module("numpy")
    model = Model(model_path("ops", entry), backend="engine")
    vectors = np.load(model_path("ops", entry).with_suffix(".npz"))
    rows = len(vectors["in0"])
    assert rows > 0
    for row in range(rows):
        fill(model.inputs, [vectors[f"in{i}"][row] for i in range(len(model.inputs))])
        model.invoke()
        found = contents(model.outputs)
        expected = [vectors[f"ref{i}"][row].tobytes() for i in range(len(found))]
        assert found == expected, f"row {row}: {describe(found, expected)}"


@pytest.mark.parametrize("entry", OURS, ids=name)
def test_live(entry):
    """Random inputs and corner cases against the running reference."""
    need_tflite()
    data = model_path("ops", entry).read_bytes()
    assert_same(data, Model(data, backend="engine"), 304)
