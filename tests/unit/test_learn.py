# SPDX-License-Identifier: MIT
"""Learning from scores: bounded, finite, and better choices on a simulated device."""

import math
import random
from typing import Any

import pytest
from helpers import bandit
from helpers.bandit import SCALE, Device, as_bytes, live, program, regret
from helpers.malloc_count import count_mallocs
from helpers.models import network

from pymlk import Model, Program
from pymlk.compile import compile_model
from pymlk.head import read_head, replace_head
from pymlk.learn import Explorer, Learner

SEEDS = range(4)


def learner_of(shipped: bytes, **parameters: Any) -> Learner:
    return Learner(read_head(shipped), **parameters)


# What is learnt on simulated devices. An action's worth has a standard deviation of
# 0.2 (20 %) there; the best head has a regret of 0.


@pytest.mark.parametrize("seed", SEEDS)
def test_a_right_head_stays_right(seed: int) -> None:
    device = Device(seed)
    shipped = program(device.effects)
    assert regret(device, shipped) < 0.005
    for steps in (500, 8000):
        assert regret(device, live(device, shipped, learner_of(shipped), steps)) < 0.06


@pytest.mark.parametrize("noise", [0.1, 0.3])
@pytest.mark.parametrize("seed", SEEDS)
def test_a_wrong_head_becomes_right(seed: int, noise: float) -> None:
    device = Device(seed, noise=noise)
    shipped = program(device.draw(0.2 / math.sqrt(8)))
    before = regret(device, shipped)
    assert before > 0.1
    after = regret(device, live(device, shipped, learner_of(shipped), 12_000))
    assert after < 0.2 * before


@pytest.mark.parametrize("seed", SEEDS)
def test_it_follows_a_device_that_changes(seed: int) -> None:
    device = Device(seed)
    shipped = program(device.effects)
    learner = learner_of(shipped)
    live(device, shipped, learner, 6000)
    device.effects = device.draw(0.2 / math.sqrt(8))
    stale = regret(device, shipped)
    assert stale > 0.1
    followed = live(device, shipped, learner, 12_000)
    assert regret(device, followed) < 0.35 * stale


GARBAGE = {
    "huge": lambda step, score: score * 10.0 ** random.Random(step).uniform(-300, 300),
    "signs": lambda step, score: score * random.Random(step).choice((-1, 1)),
    "not numbers": lambda step, score: (math.nan, math.inf, -math.inf)[step % 3],
    "zeros": lambda step, score: 0.0,
    "always the worst": lambda step, score: -score,
    "lies": lambda step, score: 1e9 if random.Random(step).random() < 0.5 else 1e-9,
}


@pytest.mark.parametrize("kind", GARBAGE)
def test_garbage_scores_leave_bounded_weights(kind: str) -> None:
    device = Device(1)
    shipped = program(device.effects)
    learner = learner_of(shipped)
    written = live(device, shipped, learner, 3000, spoil=GARBAGE[kind])
    Program(written)
    head = read_head(shipped)
    weights, _ = learner.weights()
    # an input of the largest size changes a logit by this at most
    most = 1.0 / 0.05 / (128 * SCALE)
    for new, old in zip(weights, head.weights, strict=True):
        assert math.isfinite(new)
        assert abs(new - old) <= most * 1.001
    for new, old in zip(learner.weights()[1], head.bias, strict=True):
        assert math.isfinite(new)
        # what all are lowered by comes on top
        assert abs(new - old) <= 20.0 + 9 * 20.0 + 100
    assert learner.updates + learner.bad + learner.lost <= 3000
    if kind == "not numbers":
        assert (learner.updates, learner.bad > 2000) == (0, True)
        assert written == shipped
    # and it recovers
    assert regret(device, live(device, shipped, learner, 12_000)) < 0.06


def test_logits_stay_in_the_outputs_range() -> None:
    """No two actions become equal because both are cut off."""
    device = Device(3)
    shipped = program(device.effects, 30.0)
    learner = learner_of(shipped)
    written = live(device, shipped, learner, 4000)
    assert regret(device, written) < 0.06
    head = read_head(written)
    top = head.out_scale * (127 - head.out_zero)
    found = [max(bandit.logits(head, device.context())) for _ in range(500)]
    assert sum(value > top for value in found) < 0.05 * len(found)


def test_nothing_learnt_is_the_shipped_head() -> None:
    shipped = compile_model(network())
    assert replace_head(shipped, *learner_of(shipped).weights()) == shipped


def test_forgotten_decisions_are_counted() -> None:
    shipped = compile_model(network())
    learner = learner_of(shipped, memory=4)
    row = bytes(learner.features)
    for key in range(6):
        learner.note(key, row, 0)
    found = [learner.learn(key, 1.0) for key in range(7)]
    assert found == [False, False, True, True, True, True, False]
    assert (learner.updates, learner.lost) == (4, 3)
    # a second score of the same decision
    assert not learner.learn(5, 1.0)
    # keys are compared as a whole
    learner.note(2**63 + 1, row, 0)
    assert not learner.learn(1, 1.0)
    assert learner.learn(2**63 + 1, 1.0)


def test_a_better_action_is_told_apart() -> None:
    """The gain is the logarithm of the ratio of scores, whatever their unit."""
    shipped = compile_model(network())
    for unit in (1e-6, 1.0, 1e12):
        learner = learner_of(shipped)
        row = bytes(learner.features)
        for key in range(4000):
            learner.note(key, row, key % 4)
            learner.learn(key, unit * (120.0 if key % 4 == 2 else 100.0))
        gains = learner.gains(row)
        assert gains[2] - gains[0] == pytest.approx(math.log(1.2), abs=0.02)
        assert (
            max(gains[i] for i in (0, 1, 3)) - min(gains[i] for i in (0, 1, 3)) < 0.02
        )


def test_costs_are_negative_scores() -> None:
    shipped = compile_model(network())
    learner = learner_of(shipped)
    row = bytes(learner.features)
    for key in range(4000):
        learner.note(key, row, key % 4)
        learner.learn(key, -100.0 if key % 4 == 2 else -120.0)
    gains = learner.gains(row)
    assert gains[2] - gains[0] == pytest.approx(math.log(1.2), abs=0.02)


def test_state_goes_on_where_it_was() -> None:
    device = Device(2)
    shipped = program(device.effects)
    first, second = learner_of(shipped), learner_of(shipped)
    live(device, shipped, first, 500)
    second.restore(first.state())
    assert second.weights()[0] == first.weights()[0]
    assert (second.updates, second.state()) == (first.updates, first.state())
    row = as_bytes(device.context())
    for learner in (first, second):
        learner.note(9, row, 1, 0.3)
        learner.learn(9, 777.0)
    assert first.state() == second.state()
    second.reset()
    assert (second.updates, replace_head(shipped, *second.weights())) == (0, shipped)


def test_impossible_states_are_refused() -> None:
    shipped = compile_model(network())
    learner = learner_of(shipped)
    learner.note(1, bytes(learner.features), 2)
    learner.learn(1, 5.0)
    good = learner.state()
    nan = good[:-4] + b"\0\0\xc0\x7f"
    large = good[:-4] + b"\0\0\x00\x40"
    counts = b"\xff" * 16 + good[16:]
    for bad in (b"", good[:-1], good + b"\0", nan, large, counts):
        with pytest.raises(ValueError, match="state of a learner"):
            learner.restore(bad)
        assert learner.state() == good
    rng = random.Random(6)
    for _ in range(300):
        bad = bytearray(good)
        bad[rng.randrange(len(bad))] = rng.randrange(256)
        try:
            learner.restore(bytes(bad))
        except ValueError:
            continue
        assert all(map(math.isfinite, learner.weights()[0]))


@pytest.mark.parametrize(
    "parameters",
    [
        {"temperature": 0.0},
        {"rate": 0.0},
        {"rate": math.nan},
        {"rate": 0.2, "first_rate": 0.1},
        {"forget": -0.1},
        {"max_weight": 0.5},
        {"memory": 0},
        {"memory": 100},
        {"memory": 1 << 21},
    ],
)
def test_impossible_parameters_are_refused(parameters: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="expected"):
        learner_of(compile_model(network()), **parameters)


def test_impossible_decisions_are_refused() -> None:
    learner = learner_of(compile_model(network()))
    row = bytes(learner.features)
    for arguments in (
        (1, row[:-1], 0, 0.5),
        (1, row, 4, 0.5),
        (1, row, -1, 0.5),
        (1, row, 0, 0.0),
        (1, row, 0, 1.1),
        (1, row, 0, math.nan),
    ):
        with pytest.raises(ValueError, match="expected"):
            learner.note(*arguments)
    with pytest.raises(ValueError, match="expected"):
        learner.gains(row[:-1])


# Exploration


def test_explores_next_to_the_knob_and_says_how_likely_it_was() -> None:
    explorer = Explorer(5, epsilon=0.2, seed=3)
    found: dict[int, int] = {}
    told: dict[int, float] = {}
    for _ in range(50_000):
        place, propensity = explorer.pick(4, 1, 2)
        found[place] = found.get(place, 0) + 1
        told[place] = propensity
    # 3 is where the guard lets the choice arrive; 0, 1 and 2 are next to the knob
    assert set(found) == {0, 1, 2, 4}
    for place, times in found.items():
        assert times / 50_000 == pytest.approx(told[place], abs=0.006)
    assert sum(told.values()) == pytest.approx(1.0)
    assert explorer.explored == 50_000 - found[4]


@pytest.mark.parametrize("place", range(3))
@pytest.mark.parametrize("choice", range(3))
def test_never_leaves_the_knobs_places(choice: int, place: int) -> None:
    explorer = Explorer(3, epsilon=0.5)
    for _ in range(2000):
        found, propensity = explorer.pick(choice, place, 1)
        assert 0 <= found < 3
        assert found == choice or abs(found - place) <= 1
        assert 0.0 < propensity <= 1.0


def test_a_choice_is_held() -> None:
    """A guard that wants equal recommendations in a row gets them."""
    explorer = Explorer(9, epsilon=0.5, hold=4, seed=5)
    places = [explorer.pick(8, 4, 1)[0] for _ in range(400)]
    groups = [places[i : i + 4] for i in range(0, 400, 4)]
    assert all(len(set(group)) == 1 for group in groups)
    assert {group[0] for group in groups} == {3, 4, 8}


def test_without_exploration_the_model_decides() -> None:
    explorer = Explorer(4, epsilon=0.0)
    assert {explorer.pick(2, 0, 1) for _ in range(100)} == {(2, 1.0)}


@pytest.mark.parametrize(
    "parameters",
    [{"epsilon": -0.1}, {"epsilon": 0.6}, {"epsilon": math.nan}, {"hold": 0},
     {"seed": 0}],
)  # fmt: skip
def test_impossible_exploration_is_refused(parameters: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="expected"):
        Explorer(4, **parameters)
    with pytest.raises(ValueError, match="expected"):
        Explorer(1)
    with pytest.raises(ValueError, match="expected"):
        Explorer(4).pick(4, 0, 1)
    with pytest.raises(ValueError, match="expected"):
        Explorer(4).pick(0, 0, 0)


SETUP = """
from pymlk import Model
from pymlk.head import read_head
from pymlk.learn import Learner
model = Model("models/readahead/model.tflite")
learner = Learner(read_head(bytes(model.program)))
note, learn, row, score = learner.note, learner.learn, bytes(learner.features), 7.5
"""


def test_nothing_is_allocated() -> None:
    assert count_mallocs(SETUP, "learn(1, score)") == 0
    # `note` makes a bytes of what it is given; the rest is as above
    once = count_mallocs(SETUP, "note(1, row, 1)", 1000)
    both = count_mallocs(SETUP, "note(1, row, 1); learn(1, score)", 1000)
    assert both == once


def test_the_model_may_be_swapped_meanwhile() -> None:
    device = Device(5)
    shipped = program(device.effects)
    learner, model = learner_of(shipped), Model(Program(shipped))
    row = as_bytes(device.context())
    for _ in range(3):
        model.input.cast("B")[:] = row
        # the head is the whole model here
        assert learner.infer(model) == row
        model.swap(Program(shipped))
