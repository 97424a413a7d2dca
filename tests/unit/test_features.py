# SPDX-License-Identifier: MIT
"""Features against the same formulas written in plain Python."""

import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pymlk.features import KINDS, Features

FIELDS = {"a": (0, 1), "b": (1, 100)}
COUNTER = st.integers(0, 2**52)


def expected(
    feature: dict[str, Any], now: list[int], then: list[int], s: float
) -> float:
    a, b = now[0], now[1] / 100
    da, db = now[0] - then[0], (now[1] - then[1]) / 100
    x: float = {
        "value": a,
        "delta": da,
        "rate": da / s if s else 0.0,
        "ratio": a / b if b else 0.0,
        "delta_ratio": da / db if db else 0.0,
    }[feature["kind"]]
    if feature["log2"]:
        x = math.copysign(math.log2(1 + abs(x)), x)
    low, high = feature["clip"]
    return min(max(x, low), high)


@given(
    st.sampled_from(KINDS),
    st.tuples(COUNTER, COUNTER),
    st.tuples(COUNTER, COUNTER),
    st.floats(0.001, 100),
    st.booleans(),
    st.floats(-1e3, 1e3),
    st.floats(0.1, 1e3),
)
def test_kinds_match_their_formulas(
    kind: str,
    now: tuple[int, int],
    then: tuple[int, int],
    seconds: float,
    log2: bool,
    mean: float,
    std: float,
) -> None:
    feature: dict[str, Any] = {
        "name": "f",
        "kind": kind,
        "field": "a",
        "over": "b",
        "log2": log2,
        "clip": (-1e6, 1e6),
        "mean": mean,
        "std": std,
    }
    features = Features([feature], FIELDS, 0.05, 3)
    state, row = features.step(list(now), list(then), seconds)
    assert state == 0
    want = expected(feature, list(now), list(then), seconds)
    got = memoryview(features)[0]
    assert got == pytest.approx(want, rel=1e-9, abs=1e-9)
    q = (got - mean) / std / 0.05
    rounded = math.floor(abs(q) + 0.5) * (1 if q >= 0 else -1) + 3
    assert int.from_bytes(row, signed=True) == max(-128, min(127, rounded))


def test_average_starts_at_the_first_value_and_can_be_reset() -> None:
    feature = {"name": "f", "kind": "value", "field": "a", "ema": 0.25}
    features = Features([feature], FIELDS)
    got = []
    for value in (8, 16, 16):
        features.step([value, 0], [0, 0], 1.0)
        got.append(memoryview(features)[0])
    assert got == [8.0, 10.0, 11.5]
    features.reset()
    features.step([100, 0], [0, 0], 1.0)
    assert memoryview(features)[0] == 100.0


def rates(features: Features, values: list[int], seconds: float = 1.0) -> list[float]:
    """The one feature's value for each of these changes."""
    got = []
    for value in values:
        features.step([value, 0], [0, 0], seconds)
        got.append(memoryview(features)[0])
    return got


PEAK: dict[str, Any] = {
    "name": "f",
    "kind": "rate",
    "field": "a",
    "log2": True,
    "peak_s": 8.0,
}


def test_peak_is_a_maximum_that_halves_with_time() -> None:
    # 1 + 1023 = 2^10: two octaves below at 2^8, and an eighth less with each second
    got = rates(Features([PEAK], FIELDS), [1023, 255, 255, 1023, 2047, 255])
    assert got == pytest.approx([0, -1.875, -1.75, 0, 0, -2.875])
    # after as many half-lives as there are octaves the present value is the peak
    assert rates(Features([PEAK], FIELDS), [1023] + [255] * 17)[-2:] == [0, 0]


TROUGH: dict[str, Any] = PEAK | {"peak_s": None, "trough_s": 8.0}


def test_trough_is_a_minimum_that_doubles_with_time() -> None:
    got = rates(Features([TROUGH], FIELDS), [1023, 255, 255, 1023, 127, 255])
    assert got == pytest.approx([0, 0, 0, 1.875, 0, 0.875])
    assert rates(Features([TROUGH], FIELDS), [255] + [1023] * 17)[-2:] == [0, 0]


def test_state_carries_averages_peaks_and_troughs() -> None:
    smooth = {"name": "g", "kind": "value", "field": "a", "ema": 0.5}
    first, second = (Features([smooth, PEAK, TROUGH], FIELDS) for _ in range(2))
    assert first.get_state() == [None] * 5
    rates(first, [7, 4095])
    state = first.get_state()
    assert state == pytest.approx([2051.0, None, None, 12.0, -3.0 - 1 / 8])
    second.set_state(state)
    assert rates(second, [99, 3]) == rates(first, [99, 3])
    with pytest.raises(ValueError, match="2 averages, peaks and troughs found, 5 "):
        second.set_state([1.0, 2.0])
    second.reset()
    assert second.get_state() == [None] * 5


@pytest.mark.parametrize("kind", ["delta", "rate", "delta_ratio"])
def test_changes_need_a_second_snapshot(kind: str) -> None:
    feature = {"name": "f", "kind": kind, "field": "a", "over": "b"}
    assert Features([feature], FIELDS).step([1, 1], [0, 0], 0.0)[0] == 1


def test_extreme_values_stay_in_int8() -> None:
    feature = {"name": "f", "kind": "value", "field": "a"}
    features = Features([feature], FIELDS, 1e-30, 0)
    assert features.step([2**62, 0], [0, 0], 1.0)[1] == b"\x7f"
    assert features.step([-(2**62), 0], [0, 0], 1.0)[1] == b"\x80"


def test_values_are_read_only_and_named() -> None:
    features = Features([{"name": "kb", "kind": "value", "field": "a"}], FIELDS)
    assert features.names == ("kb",)
    view = memoryview(features)
    assert (view.format, view.shape, view.readonly) == ("d", (1,), True)


def test_unknown_kind_and_field_are_refused() -> None:
    with pytest.raises(ValueError, match="'median' found"):
        Features([{"name": "f", "kind": "median", "field": "a"}], FIELDS)
    with pytest.raises(KeyError):
        Features([{"name": "f", "kind": "value", "field": "zz"}], FIELDS)


def test_short_rows_are_refused() -> None:
    features = Features([{"name": "f", "kind": "value", "field": "b"}], FIELDS)
    with pytest.raises(ValueError, match="needs a longer row"):
        features.step([1], [1], 1.0)
