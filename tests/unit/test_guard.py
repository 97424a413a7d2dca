# SPDX-License-Identifier: MIT
"""The guard: every reason can be had, and no change ever leaves the limits."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pymlk.guard import REASON_NAMES, REASON_TEXTS, Guard

VALUES = [8, 32, 128, 512, 2048]


def test_every_reason_has_a_text() -> None:
    assert len(REASON_NAMES) == len(REASON_TEXTS) == len(set(REASON_NAMES))


def test_shadow_never_applies() -> None:
    guard = Guard(VALUES)
    assert guard.check(0, 1.0, 8, 0.0) == ("same", 8)
    assert guard.check(4, 1.0, 8, 0.0) == ("would-apply", 2048)


def test_unsure_is_refused() -> None:
    guard = Guard(VALUES, min_confidence=0.7, apply=True)
    assert guard.check(0, 0.69, 128, 0.0) == ("unsure", 128)
    assert guard.check(0, 0.7, 128, 0.0) == ("applied", 8)


def test_settles_only_on_equal_recommendations_in_a_row() -> None:
    guard = Guard(VALUES, settle=3, apply=True)
    reasons = [guard.check(c, 1.0, 128, 0.0)[0] for c in (0, 0, 1, 0, 0, 0)]
    assert reasons == ["settling"] * 5 + ["applied"]


def test_the_way_back_is_not_put_off() -> None:
    """A try that made it worse is over with the first recommendation to end it."""
    guard = Guard(VALUES, settle=3, apply=True)
    tried = [guard.check(0, 1.0, 128, 0.0)[0] for _ in range(3)]
    assert tried == ["settling", "settling", "applied"]
    assert guard.check(1, 1.0, 8, 0.0) == ("settling", 8)
    assert guard.check(2, 1.0, 8, 0.0) == ("applied", 128)


def test_step_limit_moves_part_of_the_way() -> None:
    guard = Guard(VALUES, max_step=2, apply=True)
    assert guard.check(4, 1.0, 8, 0.0) == ("applied", 128)
    assert guard.check(4, 1.0, 128, 1.0) == ("applied", 2048)
    assert guard.check(0, 1.0, 2048, 2.0) == ("applied", 128)


def test_rate_limit_counts_from_the_last_change() -> None:
    guard = Guard(VALUES, min_interval_s=2.0, apply=True)
    assert guard.check(0, 1.0, 128, 10.0)[0] == "applied"
    assert guard.check(1, 1.0, 8, 11.9) == ("rate-limit", 8)
    assert guard.check(1, 1.0, 8, 12.1) == ("applied", 32)


def test_hands_off_after_a_foreign_change_for_good() -> None:
    guard = Guard(VALUES, apply=True)
    assert guard.check(0, 1.0, 128, 0.0) == ("applied", 8)
    assert guard.check(1, 1.0, 64, 1.0) == ("hands-off", 64)
    assert guard.check(1, 1.0, 8, 2.0) == ("hands-off", 8)
    assert guard.hands_off


def test_shadow_claims_nothing_so_follows_foreign_changes() -> None:
    guard = Guard(VALUES)
    guard.check(0, 1.0, 128, 0.0)
    assert guard.check(0, 1.0, 64, 1.0) == ("would-apply", 8)


def test_a_value_that_is_not_listed_counts_as_the_one_below() -> None:
    guard = Guard(VALUES, max_step=1, apply=True)
    assert guard.check(3, 1.0, 100, 0.0) == ("applied", 128)
    guard = Guard(VALUES, max_step=1, apply=True)
    assert guard.check(4, 1.0, 8192, 0.0) == ("applied", 2048)


@pytest.mark.parametrize("values", [[], [2, 1], [1, 1], list(range(65))])
def test_bad_values_are_refused(values: list[int]) -> None:
    with pytest.raises(ValueError, match="ascending knob values expected"):
        Guard(values)


@pytest.mark.parametrize("choice", [-1, 5])
def test_a_choice_without_a_value_is_refused(choice: int) -> None:
    with pytest.raises(ValueError, match=r"0 to 4 expected"):
        Guard(VALUES).check(choice, 1.0, 8, 0.0)


@given(
    st.lists(
        st.tuples(
            st.integers(0, 4), st.floats(0, 1), st.floats(0, 5, allow_subnormal=False)
        ),
        max_size=60,
    ),
    st.integers(1, 5),
    st.floats(0, 3),
    st.integers(1, 4),
)
def test_changes_stay_within_all_limits(
    asks: list[tuple[int, float, float]], max_step: int, interval: float, settle: int
) -> None:
    guard = Guard(
        VALUES,
        min_confidence=0.5,
        max_step=max_step,
        min_interval_s=interval,
        settle=settle,
        apply=True,
    )
    current, now, changed = 128, 1.0, None
    seen: list[int] = []
    for choice, confidence, pause in asks:
        now += pause
        seen.append(choice)
        reason, target = guard.check(choice, confidence, current, now)
        if reason != "applied":
            assert target == current
            continue
        assert target in VALUES
        assert abs(VALUES.index(target) - VALUES.index(current)) <= max_step
        assert abs(VALUES.index(target) - choice) < abs(VALUES.index(current) - choice)
        assert confidence >= 0.5
        assert VALUES[choice] == 128 or seen[-settle:] == [choice] * settle
        assert changed is None or now - changed >= interval - 1e-6
        current, changed = target, now
