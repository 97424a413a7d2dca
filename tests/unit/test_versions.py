# SPDX-License-Identifier: MIT
"""Versions: what was learnt is tried, kept if it is good, taken back if it is not."""

import json
import random
from typing import Any

import pytest
from helpers.bandit import Device, as_bytes, program, regret

from pymlk.evidence import Gain
from pymlk.head import read_head
from pymlk.learn import Learner
from pymlk.versions import Versions


def begin(**parameters: Any) -> tuple[Device, bytes, Learner, Versions]:
    device = Device(1)
    shipped = program(device.effects)
    learner = Learner(read_head(shipped))
    return device, shipped, learner, Versions(shipped, learner, **parameters)


def learn(device: Device, learner: Learner, times: int) -> None:
    """Every action by lot, with its score."""
    for _ in range(times):
        row = device.context()
        action = device.random.randrange(device.actions)
        learner.note(1, as_bytes(row), action, 1.0 / device.actions)
        learner.learn(1, device.score(row, action))


def measure(gain: Gain, model: float, seed: int = 1, times: int = 300) -> None:
    """Scores of the default of 100 on average, and of the model."""
    rng = random.Random(seed)
    for _ in range(times):
        gain.record("default", rng.gauss(100, 10))
        gain.record("model", rng.gauss(model, 10))


def test_a_version_after_so_many_updates() -> None:
    device, shipped, learner, versions = begin(every=100)
    learn(device, learner, 99)
    assert versions.propose() is None
    learn(device, learner, 1)
    written = versions.propose()
    assert written is not None
    assert written != shipped
    assert versions.current.program == written
    assert (versions.current.number, versions.gain.count("model")) == (1, 0)
    assert versions.previous is not None
    assert versions.previous.program == shipped
    assert versions.reason == (
        "version 1: learnt from 100 scores; version 0 gained not measured"
    )
    # the next one only after this one is known
    learn(device, learner, 500)
    assert versions.propose() is None
    measure(versions.gain, 110)
    assert versions.judge() is None
    assert versions.propose() is not None
    assert versions.current.number == 2
    assert "version 1 gained +" in versions.reason


def test_a_version_that_loses_goes_back() -> None:
    device, shipped, learner, versions = begin(every=100)
    known = learner.state()
    learn(device, learner, 100)
    versions.propose()
    assert versions.judge() is None
    learn(device, learner, 50)
    measure(versions.gain, 90)
    assert versions.judge() == shipped
    assert versions.current.number == 0
    assert versions.previous is None
    assert versions.reason.startswith(
        "version 0: back from version 1, worse than the default: gain -"
    )
    # what had made it worse is forgotten
    assert learner.state() == known
    assert versions.judge() is None
    assert versions.propose() is None
    learn(device, learner, 100)
    versions.propose()
    # no number twice
    assert versions.current.number == 2


def test_a_version_worse_than_the_one_before_goes_back() -> None:
    device, _, learner, versions = begin(every=100)
    learn(device, learner, 100)
    first = versions.propose()
    measure(versions.gain, 130)
    learn(device, learner, 100)
    second = versions.propose()
    assert second not in (None, first)
    # still better than the default
    measure(versions.gain, 110)
    assert versions.judge() == first
    assert versions.current.number == 1
    assert "back from version 2, worse than version 1, +" in versions.reason


def test_no_difference_is_no_reason() -> None:
    for seed in range(20):
        device, _, learner, versions = begin(every=10)
        learn(device, learner, 10)
        versions.propose()
        measure(versions.gain, 105, seed)
        learn(device, learner, 10)
        versions.propose()
        measure(versions.gain, 105, seed + 100)
        assert versions.judge() is None


def test_it_goes_on_after_a_restart() -> None:
    device, shipped, learner, versions = begin(every=100)
    learn(device, learner, 100)
    versions.propose()
    measure(versions.gain, 110)
    learn(device, learner, 150)
    versions.propose()
    learn(device, learner, 20)
    saved = json.loads(json.dumps(versions.to_dict()))
    other = Learner(read_head(shipped))
    again = Versions(shipped, other, every=100)
    assert again.restore(saved) is None
    assert again.current.program == versions.current.program
    assert again.previous is not None
    assert versions.previous is not None
    assert again.previous.program == versions.previous.program
    assert (again.current.number, again.reason) == (2, versions.reason)
    assert other.state() == learner.state()
    assert again.to_dict() == saved
    assert again.roll_back("by hand") == versions.previous.program
    assert again.reason == "version 1: back from version 2, by hand"
    assert again.roll_back("by hand") is None


def damaged(saved: dict[str, Any]) -> list[Any]:
    first = saved["versions"][0]
    found: list[Any] = [{}, {"versions": []}, {**saved, "versions": [[]]}]
    for key in saved:
        found += [{**saved, key: value} for value in (None, "x", -1.5e400, [], {})]
    for key in first:
        for value in (None, "zz", "00", 1e400, []):
            found.append({**saved, "versions": [{**first, key: value}]})
    nan = "0000c07f" * (len(first["weights"]) // 8)
    found.append({**saved, "versions": [{**first, "weights": nan}]})
    return found


def test_a_damaged_state_is_refused_with_a_reason() -> None:
    device, shipped, learner, versions = begin(every=100)
    learn(device, learner, 100)
    versions.propose()
    refused = 0
    for bad in damaged(versions.to_dict()):
        other = Learner(read_head(shipped))
        again = Versions(shipped, other)
        reason = again.restore(bad)
        if reason is None:
            continue
        refused += 1
        assert reason.startswith("what was learnt is refused: ")
        assert (again.current.number, again.current.program) == (0, shipped)
        assert other.updates == 0
    assert refused > 35


def test_a_state_of_another_program_is_refused() -> None:
    device, _, learner, versions = begin(every=10)
    learn(device, learner, 10)
    versions.propose()
    wide = program(Device(2, features=9).effects)
    again = Versions(wide, Learner(read_head(wide)))
    assert "refused" in (again.restore(versions.to_dict()) or "")


@pytest.mark.parametrize("seed", range(3))
def test_versions_of_a_wrong_model_become_better(seed: int) -> None:
    """From start to end, by what is measured alone."""
    device = Device(seed)
    shipped = program(device.draw(0.07))
    learner = Learner(read_head(shipped))
    versions = Versions(shipped, learner, every=500, least_scores=30)
    for _ in range(12):
        learn(device, learner, 500)
        head = read_head(versions.current.program)
        for _ in range(150):
            row = device.context()
            logits = [
                head.bias[a]
                + sum(
                    head.weights[a * 8 + i] * head.in_scale * q
                    for i, q in enumerate(row)
                )
                for a in range(5)
            ]
            action = logits.index(max(logits))
            versions.gain.record("model", device.score(row, action))
            versions.gain.record("default", device.score(device.context(), 0))
        if versions.judge() is None:
            versions.propose()
    assert versions.current.number > 2
    assert regret(device, versions.current.program) < 0.3 * regret(device, shipped)
