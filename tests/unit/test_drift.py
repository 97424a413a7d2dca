# SPDX-License-Identifier: MIT
"""Drift: found where there is some, and not where there is none."""

import math
import random
from collections.abc import Iterator
from typing import Any

import pytest
from helpers.malloc_count import count_mallocs

from pymlk.drift import Drift

SCALE, ZERO = 0.03, 5
NAMES = ["reads", "faults", "size", "rate"]


def row(values: list[float]) -> bytes:
    steps = (round(value / SCALE) + ZERO for value in values)
    return bytes(max(-128, min(127, q)) & 0xFF for q in steps)


def watch() -> Drift:
    return Drift(NAMES, in_scale=SCALE, in_zero=ZERO)


def independent(rng: random.Random) -> Iterator[list[float]]:
    while True:
        yield [rng.gauss(0, 1) for _ in NAMES]


def sluggish(rng: random.Random) -> Iterator[list[float]]:
    """Each value is mostly the one before it."""
    now = [0.0] * len(NAMES)
    while True:
        now = [0.95 * x + math.sqrt(1 - 0.95**2) * rng.gauss(0, 1) for x in now]
        yield now


def phases(rng: random.Random) -> Iterator[list[float]]:
    """Long phases of two workloads, whose mixture has mean 0 and deviation 1."""
    while True:
        side = rng.choice((-0.8, 0.8))
        for _ in range(rng.randint(200, 400)):
            yield [side + rng.gauss(0, 0.6) for _ in NAMES]


@pytest.mark.parametrize("make", [independent, sluggish, phases])
def test_no_false_alarms_on_what_is_like_the_training(make: Any) -> None:
    drift, rows = watch(), make(random.Random(1))
    for second in range(100_000):
        assert not drift.note(row(next(rows)), float(second)), drift.report()
    assert (drift.rows, drift.drifting, drift.report()) == (100_000, 0, [])


@pytest.mark.parametrize(
    ("shift", "within", "way"),
    [
        (2.0, 250, "above"),
        (-2.0, 250, "below"),
        (1.5, 500, "above"),
        (3.5, 80, "above"),
    ],
)
@pytest.mark.parametrize("make", [independent, sluggish])
def test_a_shift_is_found_and_told(
    make: Any, shift: float, within: int, way: str
) -> None:
    drift, rows = watch(), make(random.Random(2))
    for second in range(5000):
        drift.note(row(next(rows)), float(second))
    for delay in range(1000):
        values = next(rows)
        values = [*values[:2], values[2] + shift, values[3]]
        if drift.note(row(values), 5000.0 + delay):
            break
    assert delay <= within
    (found,) = drift.report()
    assert (found["feature"], found["way"]) == ("size", way)
    assert found["off"] == pytest.approx(abs(shift), abs=0.8)
    # not before the values were there, but for what was above by chance
    assert 4900.0 <= found["since_s"] <= 5000.0 + within / 2
    assert f"size: {found['off']:.1f} deviations {way} the training" in found["text"]


def test_values_that_scatter_more_are_found() -> None:
    drift, rng = watch(), random.Random(3)
    for second in range(1000):
        values = [rng.gauss(0, 1), rng.gauss(0, 3), rng.gauss(0, 1), 0.0]
        if drift.note(row(values), float(second)):
            break
    (found,) = drift.report()
    assert (found["feature"], found["way"]) == ("faults", "wider")
    assert found["off"] > 2.0
    assert second < 400


def test_it_ends_when_the_inputs_are_back() -> None:
    drift, rows = watch(), independent(random.Random(4))
    for second in range(2000):
        drift.note(row([x + 3.0 for x in next(rows)]), float(second))
    assert drift.drifting == 4
    for second in range(2000, 2600):
        drift.note(row(next(rows)), float(second))
    assert (drift.drifting, drift.report()) == (0, [])


def test_reset_and_far_values() -> None:
    drift = watch()
    for second in range(1000):
        drift.note(b"\x7f\x80\x7f\x80", float(second))
    assert [found["way"] for found in drift.report()] == ["above", "below"] * 2
    for second in range(1000):
        drift.note((b"\x7f" if second % 2 else b"\x80") * 4, float(second))
    assert {found["way"] for found in drift.report()} >= {"wider"}
    assert all(math.isfinite(found["off"]) for found in drift.report())
    drift.reset()
    assert (drift.rows, drift.drifting, drift.report()) == (0, 0, [])


@pytest.mark.parametrize(
    "parameters",
    [
        {"in_scale": 0.0},
        {"in_scale": math.nan},
        {"in_scale": 0.1, "in_zero": 128},
        {"in_scale": 0.1, "tolerated": 0.0},
        {"in_scale": 0.1, "alarm": -1.0},
    ],
)
def test_impossible_parameters_are_refused(parameters: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="expected"):
        Drift(NAMES, **parameters)
    with pytest.raises(ValueError, match="expected"):
        watch().note(b"123", 0.0)


SETUP = """
from pymlk.drift import Drift
note, row, now = Drift(list("abcdefgh"), in_scale=0.03).note, bytes(8), 1.5
"""


def test_nothing_is_allocated() -> None:
    assert count_mallocs(SETUP, "note(row, now)", python_objects=False) == 0
