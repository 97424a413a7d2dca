# SPDX-License-Identifier: MIT
"""Gain, ladder and holdout: their error rates in simulations with fixed seeds."""

import math
import random
from collections.abc import Callable
from typing import Any

import pytest
from helpers.malloc_count import count_mallocs

from pymlk.evidence import Gain, Holdout, Ladder

Draw = Callable[[random.Random], float]
SCORES: dict[str, Draw] = {
    "normal": lambda rng: rng.gauss(100, 20),
    "skewed": lambda rng: 100 * math.exp(rng.gauss(0, 0.6)),
    "two kinds": lambda rng: 10.0 if rng.random() < 0.3 else 150.0,
    "costs": lambda rng: -rng.gauss(100, 20),
}


def mean_of(draw: Draw) -> float:
    """The true mean, from many."""
    rng = random.Random(0)
    return sum(draw(rng) for _ in range(200_000)) / 200_000


# The interval


@pytest.mark.parametrize("share", [0.5, 0.1])
@pytest.mark.parametrize("kind", SCORES)
@pytest.mark.parametrize("gain", [0.0, 0.15])
def test_coverage_at_all_times(kind: str, share: float, gain: float) -> None:
    """Looked at after each of 1,000 scores: outside even once in 5 % of runs."""
    draw, rng = SCORES[kind], random.Random(f"{kind} {share} {gain}")
    factor = 1 - gain if kind == "costs" else 1 + gain
    runs, outside = 400, 0
    for _ in range(runs):
        found = Gain()
        for _ in range(1000):
            if rng.random() < share:
                found.record("default", draw(rng))
                continue
            found.record("model", factor * draw(rng))
            interval = found.interval(0.95)
            if interval and not interval[1] <= gain <= interval[2]:
                outside += 1
                break
    assert outside / runs <= 0.05


def test_the_interval_closes_around_the_truth() -> None:
    rng, gain = random.Random(1), Gain()
    widths = []
    for i in range(1, 20_001):
        gain.record("default", rng.gauss(100, 20))
        gain.record("model", rng.gauss(110, 20))
        if i in (100, 1000, 20_000):
            interval = gain.interval()
            assert interval is not None
            widths.append(interval[2] - interval[1])
            assert interval[1] < 0.1 < interval[2]
    assert widths[0] < 0.25
    assert widths[2] < 0.02
    assert widths == sorted(widths, reverse=True)


def test_more_confidence_is_wider() -> None:
    gain = Gain()
    rng = random.Random(2)
    for _ in range(100):
        gain.record("default", rng.gauss(100, 20))
        gain.record("model", rng.gauss(110, 20))
    narrow, wide = gain.interval(0.8), gain.interval(0.999)
    assert narrow is not None
    assert wide is not None
    assert wide[1] < narrow[1] < narrow[0] == wide[0] < narrow[2] < wide[2]


def test_nothing_is_said_too_early() -> None:
    gain = Gain(least=5)
    assert gain.interval() is None
    assert gain.mean("model") is None
    for i in range(5):
        assert gain.interval() is None
        gain.record("model", 10.0 + i)
        gain.record("default", 10.0 + i)
    assert gain.interval() is not None
    assert gain.count("model") == 5
    assert gain.mean("model") == 12.0
    gain.reset()
    assert (gain.interval(), gain.count("model")) == (None, 0)


def test_nothing_is_said_of_a_default_that_may_be_zero() -> None:
    gain, rng = Gain(), random.Random(3)
    for _ in range(1000):
        gain.record("default", rng.gauss(0, 1))
        gain.record("model", rng.gauss(5, 1))
    assert gain.interval() is None


def test_no_variance_is_no_division_by_zero() -> None:
    gain = Gain()
    for _ in range(30):
        gain.record("default", 100.0)
        gain.record("model", 120.0)
    assert gain.interval() == pytest.approx((0.2, 0.2, 0.2))
    zero = Gain()
    for _ in range(30):
        zero.record("default", 0.0)
        zero.record("model", 1.0)
    assert zero.interval() is None


def test_garbage_is_counted_and_nothing_else() -> None:
    gain = Gain()
    for score in (math.nan, math.inf, -math.inf, 1e200):
        gain.record("model", score)
    assert (gain.bad, gain.count("model")) == (4, 0)
    rng = random.Random(4)
    for _ in range(2000):
        gain.record(rng.choice(("default", "model")), 10.0 ** rng.uniform(-90, 90))
        interval = gain.interval()
        assert interval is None or all(map(math.isfinite, interval))


# The ladder


def in_collaboration(**parameters: Any) -> Ladder:
    ladder = Ladder(apply=True, least_decisions=1, **parameters)
    assert ladder.note_decision(True)
    assert ladder.mode == "collaboration"
    return ladder


@pytest.mark.parametrize("kind", SCORES)
def test_false_promotions(kind: str) -> None:
    """A model that is no better, looked at after each of 2,000 scores."""
    draw, rng, runs, promoted = SCORES[kind], random.Random(kind), 300, 0
    for _ in range(runs):
        ladder = in_collaboration()
        for _ in range(2000):
            ladder.note_score("model" if rng.random() < 0.5 else "default", draw(rng))
            # a demotion starts another attempt
            ladder.note_decision(True)
            if ladder.mode == "recommendation":
                promoted += 1
                break
    assert promoted / runs <= 0.05


def test_a_better_model_is_promoted() -> None:
    """10 % more with a deviation of 20 %: within some hundred scores."""
    rng, needed = random.Random(5), []
    for _ in range(100):
        ladder = in_collaboration()
        scores = 0
        while ladder.mode == "collaboration":
            arm = "model" if rng.random() < 0.5 else "default"
            ladder.note_score(arm, rng.gauss(110 if arm == "model" else 100, 20))
            scores += 1
        assert ladder.mode == "recommendation"
        needed.append(scores)
    assert sorted(needed)[50] < 400
    assert "collaboration to recommendation: gain +" in ladder.reason
    assert "scores of the model and" in ladder.reason


def recommending(rng: random.Random) -> Ladder:
    ladder = in_collaboration()
    while ladder.mode != "recommendation":
        ladder.note_score("model", rng.gauss(120, 20))
        ladder.note_score("default", rng.gauss(100, 20))
    return ladder


@pytest.mark.parametrize(("loss", "within"), [(0.2, 60), (0.4, 12), (0.9, 6)])
def test_a_loss_ends_it_at_once(loss: float, within: int) -> None:
    """Scores of the model until it does not decide any more; the median of 100."""
    rng, delays = random.Random(6), []
    for _ in range(100):
        ladder = recommending(rng)
        scores = 0
        while ladder.mode == "recommendation":
            if rng.random() < 0.1:
                ladder.note_score("default", rng.gauss(100, 20))
            ladder.note_score("model", rng.gauss(100 * (1 - loss), 20))
            scores += 1
        assert ladder.mode == "learning"
        delays.append(scores)
    assert sorted(delays)[50] <= within
    assert ladder.reason.startswith("back to learning: ")
    assert any(c.isdigit() for c in ladder.reason)


@pytest.mark.parametrize("kind", ["normal", "skewed"])
def test_false_alarms_are_rare(kind: str) -> None:
    """A model as good as the default, which has one score in ten of 5,000."""
    draw, rng, alarms = SCORES[kind], random.Random(kind), 0
    for _ in range(30):
        ladder = in_collaboration(highest="collaboration")
        for _ in range(5000):
            ladder.note_score("default" if rng.random() < 0.1 else "model", draw(rng))
            if ladder.mode == "learning":
                alarms += 1
                break
    assert alarms / 30 <= 0.2


def test_worse_in_the_long_run() -> None:
    """A loss too small for the alarm is found by the interval."""
    rng, ladder = random.Random(7), in_collaboration()
    for _ in range(20_000):
        arm = "model" if rng.random() < 0.5 else "default"
        if ladder.note_score(arm, rng.gauss(95 if arm == "model" else 100, 20)):
            break
    assert ladder.mode == "learning"


def test_learning_ends_by_sane_decisions_in_a_row() -> None:
    ladder = Ladder(apply=True, least_decisions=3)
    found = [ladder.note_decision(sane) for sane in (1, 1, 0, 1, 1)]
    assert found == [False] * 5
    assert "2 sane decisions in a row, 3 needed" in ladder.reason
    assert ladder.note_decision(True)
    assert (ladder.mode, ladder.changes) == ("collaboration", 1)


def test_without_permission_nothing_is_applied() -> None:
    ladder = Ladder(least_decisions=1)
    for _ in range(1000):
        assert not ladder.note_decision(True)
        assert not ladder.note_score("model", 200.0)
        assert not ladder.note_score("default", 100.0)
    assert (ladder.mode, ladder.changes) == ("learning", 0)
    assert ladder.reason == "learning: nobody has allowed to apply"


def test_the_user_may_set_an_end() -> None:
    ladder = in_collaboration(highest="collaboration")
    for i in range(1000):
        ladder.note_score("model", 200.0 + i % 7)
        ladder.note_score("default", 100.0 + i % 5)
    assert ladder.mode == "collaboration"
    low = Ladder(apply=True, least_decisions=1, highest="learning")
    assert not low.note_decision(True)


def test_each_demotion_asks_for_more() -> None:
    ladder = Ladder(apply=True, least_decisions=2)
    for times in range(1, 10):
        # 64 times as many in the end
        needed = 2 << min(times - 1, 6)
        found = [ladder.note_decision(True) for _ in range(needed)]
        assert found == [False] * (needed - 1) + [True]
        ladder.demote()
        assert ladder.mode == "learning"
        assert ladder.gain.count("model") == 0
    assert ladder.reason == "back to learning: by hand"


@pytest.mark.parametrize(
    "parameters",
    [
        {"confidence": 0.3},
        {"confidence": 1.0},
        {"confidence": math.nan},
        {"least_scores": 1},
        {"least_decisions": 0},
        {"highest": "emergency"},
        {"highest": "x"},
    ],
)
def test_impossible_parameters_are_refused(parameters: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="expected"):
        Ladder(**parameters)


def test_unknown_arms_are_refused() -> None:
    arm: Any = "both"
    for call in (Gain().record, Ladder().note_score):
        with pytest.raises(ValueError, match="expected"):
            call(arm, 1.0)


# The holdout


def arms(mode: str, periods: int, seed: int = 1) -> list[str]:
    holdout = Holdout(10.0, seed=seed)
    holdout.start(mode, 5.0)
    return [holdout.arm_then(5.0 + 10 * i + 0.1) for i in range(periods)]


def test_shares_of_each_mode() -> None:
    assert set(arms("learning", 100)) == {"default"}
    found = arms("collaboration", 2000)
    pairs = list(zip(found[::2], found[1::2], strict=True))
    assert all(set(pair) == {"default", "model"} for pair in pairs)
    assert sum(pair[0] == "model" for pair in pairs) == pytest.approx(500, abs=60)
    found = arms("recommendation", 5000)
    tens = [found[i : i + 10] for i in range(0, 5000, 10)]
    assert all(ten.count("default") == 1 for ten in tens)
    places = [ten.index("default") for ten in tens]
    assert all(25 <= places.count(i) <= 80 for i in range(10))
    assert arms("collaboration", 50, seed=1) != arms("collaboration", 50, seed=2)


def test_scores_are_mean_rates_without_the_washout() -> None:
    holdout = Holdout(10.0, washout=0.2)
    holdout.start("collaboration", 100.0)
    scores = []
    for i in range(400):
        begin = 100.0 + i / 4
        # 1000 per second while washing out, else 8 (model) or 4 (default)
        rate = 8.0 if holdout.arm_then(begin) == "model" else 4.0
        if (begin - 100.0) % 10 < 2:
            rate = 1000.0
        ended = holdout.note(begin, begin + 0.25, rate / 4)
        if ended:
            scores.append(ended)
    assert len(scores) == 9
    assert set(scores) == {("model", 8.0), ("default", 4.0)}


def test_what_was_hardly_seen_is_not_scored() -> None:
    holdout = Holdout(10.0, washout=0.0)
    holdout.start("collaboration", 0.0)
    # less than half of the first period, then nothing for long
    assert holdout.note(0.0, 4.0, 4.0) is None
    assert holdout.note(55.0, 56.0, 1.0) is None
    # across a border
    assert holdout.note(58.0, 61.0, 3.0) is None
    assert holdout.note(61.0, 62.0, 1.0) is None
    # enough
    assert holdout.note(62.0, 69.0, 14.0) is None
    assert holdout.note(70.0, 71.0, 1.0) == (holdout.arm_then(65.0), 15.0 / 8)


def test_clocks_that_jump() -> None:
    holdout = Holdout(10.0)
    holdout.start("recommendation", 1000.0)
    for now in (-1e9, 0.0, 999.0, 1e9, 1001.0):
        assert holdout.arm_then(now) in ("default", "model")
        assert holdout.note(now, now - 5.0, 1.0) is None
        assert holdout.note(now, now, math.nan) is None


def test_another_mode_starts_a_new_period() -> None:
    holdout = Holdout(10.0, washout=0.0)
    holdout.start("collaboration", 0.0)
    holdout.note(0.0, 9.0, 90.0)
    holdout.start("recommendation", 9.0)
    assert holdout.note(9.0, 10.0, 1.0) is None
    assert holdout.note(18.0, 19.0, 1.0) is None


@pytest.mark.parametrize(
    ("period", "washout"), [(0.0, 0.2), (-1.0, 0.2), (math.nan, 0.2), (1.0, 0.95)]
)
def test_impossible_periods_are_refused(period: float, washout: float) -> None:
    with pytest.raises(ValueError, match="expected"):
        Holdout(period, washout=washout)


SETUP = """
from pymlk.evidence import Gain, Holdout, Ladder
ladder = Ladder(apply=True, least_decisions=5)
holdout = Holdout(1e-3)
holdout.start("collaboration", 0.0)
state = [0.0]
record, decide, note = ladder.note_score, ladder.note_decision, holdout.note
score, begin, end = 7.5, 1.0, 1.25
"""


def test_nothing_is_allocated() -> None:
    work = "record('model', score); decide(True); note(begin, end, score)"
    assert count_mallocs(SETUP, work) == 0
