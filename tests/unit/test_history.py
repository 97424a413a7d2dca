# SPDX-License-Identifier: MIT
"""A model that sees the last rows of features: ``[model] history``."""

import random
import time
from pathlib import Path
from typing import Any

import pytest
from helpers.fakesys import POLICY, FakeSys
from helpers.malloc_count import count_mallocs
from helpers.proxy_run import make_policy
from helpers.recording import Recording, assert_same, replay

from pymlk import PolicyError
from pymlk.emulator import Emulator, Feature, Knob
from pymlk.features import Features
from pymlk.policy import load
from pymlk.proxy_loop import ProxyLoop
from pymlk.write import Layer, mlp

FIELDS = {"a": (0, 1), "b": (1, 1)}
TWO: list[dict[str, Any]] = [
    {"name": "now", "kind": "value", "field": "a"},
    {"name": "change", "kind": "delta", "field": "b"},
]
ROWS = 3


def oldest() -> bytes:
    """The plain model, of the oldest of three rows."""
    weights = [[-100, 0, 0], [0, 0, 0], [100, 0, 0]]
    layer = Layer(weights, [0, 3200, 0], [0.01], 0.25, 0, "NONE")
    return mlp([layer], 0.125, 0)


@pytest.fixture
def fake(tmp_path: Path) -> FakeSys:
    """A device whose model goes by the oldest of three rows alone."""
    found = FakeSys(tmp_path)
    found.add("vda")
    (found.policy / "model.tflite").write_bytes(oldest())
    found.write_policy(POLICY.replace("[model]", f"[model]\nhistory = {ROWS}"))
    return found


def test_rows_are_the_single_rows_one_behind_the_other() -> None:
    one, many = Features(TWO, FIELDS), Features(TWO, FIELDS, history=ROWS)
    assert (one.history, many.history) == (1, ROWS)
    rng = random.Random(1)
    past: list[bytes] = []
    before: list[int | None] = [0, 0]
    for step in range(200):
        row: list[int | None] = [rng.randrange(-99, 99), rng.randrange(99)]
        if rng.random() < 0.1:
            row[rng.randrange(2)] = None
        seconds = 0.0 if step % 50 == 0 else 1.0
        state, single = one.step(row, before, seconds)
        found, rows = many.step(row, before, seconds)
        past = [*past[1 - ROWS :], single] if state == 0 else []
        assert found == (state or len(past) < ROWS)
        if found == 0:
            assert rows == b"".join(past)
        assert many.get_history() == b"".join(past)
        before = row


def test_history_can_be_taken_elsewhere_and_forgotten() -> None:
    first, second = (Features(TWO, FIELDS, history=ROWS) for _ in range(2))
    for value in (1, 2):
        assert first.step([value, value], [0, 0], 1.0)[0] == 1
    second.set_history(first.get_history())
    assert second.step([3, 3], [0, 0], 1.0) == (0, bytes([1, 1, 2, 2, 3, 3]))
    second.reset()
    assert second.get_history() == b""
    for wrong in (b"123", bytes(2 * ROWS + 2)):
        with pytest.raises(ValueError, match="whole rows of 2"):
            first.set_history(wrong)
    assert len(first.get_history()) == 4
    with pytest.raises(ValueError, match="whole rows"):
        Features(TWO, FIELDS).set_history(b"12")
    for history in (0, 65):
        with pytest.raises(ValueError, match="1 to 64"):
            Features(TWO, FIELDS, history=history)


def test_the_loop_waits_for_its_rows_and_decides_by_the_oldest(fake: FakeSys) -> None:
    run = Recording(fake, apply=False)
    for reads in (0, 200, 100, 0, 100, 100):
        fake.load("vda", reads)
        run.loop.step()
        run.decisions.append(run.loop.decision(0))
    run.close()
    # the first snapshot has no change over time, the two behind it fill the rows
    assert [d.reason for d in run.decisions[:3]] == ["warming-up"] * 3
    assert [d.recommended for d in run.decisions[3:]] == [128, 32, 8]
    assert_same(replay(run.log)[0], run.decisions)


def test_replay_goes_on_in_the_middle_of_a_history(fake: FakeSys) -> None:
    run = Recording(fake, segment_bytes=16 << 10)
    run.step(1500)
    run.close()
    segments = run.segments()
    assert len(segments) > 2
    decisions, log = replay(run.log)
    assert log.differences == 0
    assert_same(decisions, run.decisions)
    # a single segment has nothing but its own head to go by
    alone, log = replay(segments[-1], explain=lambda *_: True)
    assert log.differences == 0
    assert {r.why is not None for r in alone} == {True}
    asked = next(r for r in alone if r.why and "influence" in r.why)
    assert asked.why is not None
    assert asked.why["features"][0]["input"] == asked.decision.inputs[-1] - (
        256 if asked.decision.inputs[-1] > 127 else 0
    )


def test_a_step_with_a_history_allocates_nothing(fake: FakeSys) -> None:
    setup = f"""
from pymlk.loop import Loop
from pymlk.policy import load
from pymlk.proxy_loop import ProxyLoop
loop = Loop(load({str(fake.policy)!r}), root={str(fake.root)!r})
step = loop.step
"""
    assert count_mallocs(setup, "step()", 2000) == 0


def test_a_loop_over_a_kernels_model_has_a_history_too(tmp_path: Path) -> None:
    policy = make_policy(tmp_path / "p", **{"[model]": f"[model]\nhistory = {ROWS}"})
    (policy / "model.tflite").write_bytes(oldest())
    with Emulator(tmp_path / "kernel") as kernel:
        knob = Knob("k0", "KiB", 4, 4096, 4, 128)
        model = kernel.register("guest", "one", [Feature("f0")], [knob], records=64)
        for word in ("init", "start", "run"):
            model.control(word)
        loop = ProxyLoop(load(str(policy)), root=kernel.root, mode="shadow")
        said = []
        for reads in (100, 20, 180, 100, 100):
            # a device's decisions are an interval apart
            time.sleep(0.002)
            model._ring.write(1, (reads,))
            assert loop.step() == 1
            said.append(loop.decision(0))
        loop.close()
    assert [d.reason for d in said[:2]] == ["warming-up"] * 2
    assert [d.recommended for d in said[2:]] == [32, 8, 128]


def test_model_and_history_must_fit(fake: FakeSys) -> None:
    assert load(str(fake.policy))["model"]["history"] == ROWS
    fake.write_policy(POLICY.replace("[model]", "[model]\nhistory = 4"))
    with pytest.raises(PolicyError, match=r"int8 of 3, expected int8 of 4.*in 4 rows"):
        load(str(fake.policy))
    wide = "".join(
        f'\n[[feature]]\nname = "f{i}"\nkind = "delta"\nfield = "reads"\n'
        for i in range(20)
    )
    text = POLICY.replace("[model]", "[model]\nhistory = 64")
    fake.write_policy(text.replace("[knob]", wide + "\n[knob]"))
    with pytest.raises(PolicyError, match=r"64 rows of 21 features.*at most 1024"):
        load(str(fake.policy))
