# SPDX-License-Identifier: MIT
"""A loop that learns: on a device where the shipped model is wrong."""

import time
from pathlib import Path

from helpers.fakesys import POLICY, FakeSys

from pymlk.adapt import Adaptation
from pymlk.journal import Journal
from pymlk.learnt import Store
from pymlk.loop import Loop
from pymlk.policy import load
from pymlk.record import Recorder
from pymlk.replay import Replay
from pymlk.stream import Decision
from pymlk.write import Layer, mlp

LEARN = """
[trial]
min_decisions = 5
min_scores = 5
period_s = 0.02
washout = 0.1

[learn]
every = 50
epsilon = 0.2
"""
# What a second brings at each value of the knob; the model recommends 128 for all.
RATES = {8: 400e3, 32: 300e3, 128: 150e3}


class Learning:
    """A run that learns, on a device whose reads depend on time and knob only."""

    def __init__(self, fake: FakeSys, learnt: Path) -> None:
        policy = POLICY.replace('"delta"', '"rate"').replace("max_step = 1", "")
        policy = policy.replace("mean = 100.0", "mean = 100000.0")
        fake.write_policy(policy.replace("std = 10.0", "std = 10000.0") + LEARN)
        # not so sure of itself that nothing could teach it
        layer = Layer([[-20], [0], [20]], [0, 640, 0], [0.01], 0.25, 0, "NONE")
        (fake.policy / "model.tflite").write_bytes(mlp([layer], 0.125, 0))
        self.fake, self.plan = fake, load(str(fake.policy))
        journal = Journal("test", str(fake.state))
        self.loop = Loop(
            self.plan,
            root=str(fake.root),
            apply=True,
            journal=journal,
            highest="recommendation",
            learnt=str(learnt),
        )
        journal.claim(self.loop.knobs)
        self.time = time.monotonic()
        self.said: list[str] = []

    @property
    def adaptation(self) -> Adaptation:
        """The loop's."""
        found = self.loop.adaptation
        assert found is not None
        return found

    def step(self) -> Decision:
        """One decision, a moment later."""
        time.sleep(0.0005)
        now = time.monotonic()
        self.fake.load("vda", int(RATES[self.fake.value("vda")] * (now - self.time)))
        self.time = now
        self.loop.step()
        self.said += self.loop.look()
        return self.loop.decision(0)

    def until_learnt(self, updates: int) -> None:
        """Go on until so much was learnt."""
        end = time.monotonic() + 120
        while self.adaptation.learner.updates < updates:
            assert time.monotonic() < end
            self.step()


def test_a_wrong_model_is_corrected(fake_sys: FakeSys, tmp_path: Path) -> None:
    run = Learning(fake_sys, tmp_path / "learnt")
    shipped = run.adaptation.versions.current.program
    run.until_learnt(1500)
    adaptation = run.adaptation
    # at the feature's largest value, where it is most of the time
    gains = adaptation.learner.gains(bytes([127]))
    assert gains[0] > gains[1] > gains[2]
    assert adaptation.versions.current.number > 3
    assert adaptation.versions.current.program != shipped
    assert bytes(run.loop.model.program) == adaptation.versions.current.program
    assert any(text.startswith("version 1: learnt from 5") for text in run.said)
    assert run.loop.close() == []
    assert fake_sys.value("vda") == 32

    again = Learning(fake_sys, tmp_path / "learnt")
    kept = adaptation.versions.current
    assert again.adaptation.versions.current.number == kept.number
    assert bytes(again.loop.model.program) == kept.program
    assert again.adaptation.learner.updates == adaptation.learner.updates
    again.loop.close()

    assert Store("test", str(tmp_path / "learnt")).reset()
    fresh = Learning(fake_sys, tmp_path / "learnt")
    assert bytes(fresh.loop.model.program) == shipped
    fresh.loop.close()


def test_what_was_explored_and_learnt_is_replayed(
    fake_sys: FakeSys, tmp_path: Path
) -> None:
    run = Learning(fake_sys, tmp_path / "learnt")
    recorder = Recorder(str(tmp_path / "record"), run.plan, mode=run.loop.mode)
    run.loop.record(recorder)
    run.until_learnt(250)
    assert run.loop.close() == []
    recorder.close()
    replayed = list(Replay(str(tmp_path / "record")))
    assert [found.difference for found in replayed if found.difference] == []
    assert len({found.decision.version for found in replayed}) > 2


def test_drift_is_told(fake_sys: FakeSys, tmp_path: Path) -> None:
    run = Learning(fake_sys, tmp_path)
    run.until_learnt(300)
    assert any("vda: drift: reads_delta: " in text for text in run.said)
    run.loop.close()


def test_what_another_model_learnt_is_refused(
    fake_sys: FakeSys, tmp_path: Path
) -> None:
    Store("test", str(tmp_path)).save(b"another program", {})
    run = Learning(fake_sys, tmp_path)
    (said,) = run.loop.look()
    assert said.endswith(
        "refused: learnt with another shipped program: the shipped model runs"
    )
    run.loop.close()


def test_a_folder_that_takes_nothing_costs_no_decision(
    fake_sys: FakeSys, tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("no folder")
    run = Learning(fake_sys, tmp_path / "file" / "learnt")
    run.until_learnt(120)
    assert any("cannot keep what was learnt" in text for text in run.said)
    assert run.step().reason != "refused"
    run.loop.close()


def test_nothing_is_learnt_in_shadow(fake_sys: FakeSys, tmp_path: Path) -> None:
    run = Learning(fake_sys, tmp_path)
    run.loop.close()
    loop = Loop(run.plan, root=str(fake_sys.root), learnt=str(tmp_path))
    assert loop.adaptation is None
    loop.close()
