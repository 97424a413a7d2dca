# SPDX-License-Identifier: MIT
"""The loop over a fake sysfs tree, one snapshot at a time."""

import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from helpers.fakesys import POLICY, FakeSys
from helpers.malloc_count import count_mallocs

from pymlk.devices import find_devices
from pymlk.errors import JournalError, PolicyError
from pymlk.journal import Journal
from pymlk.loop import Loop
from pymlk.policy import load
from pymlk.stream import Decision

LOW, MIDDLE, HIGH = 20, 100, 180


class Run:
    """A loop in apply or shadow mode, and what the device does meanwhile."""

    def __init__(self, fake: FakeSys, apply: bool) -> None:
        self.fake = fake
        plan = load(str(fake.policy))
        journal = Journal("test", str(fake.state)) if apply else None
        self.loop = Loop(plan, root=str(fake.root), apply=apply, journal=journal)
        if journal:
            journal.claim(self.loop.knobs)
        self.step(0)

    def step(self, reads: int, device: str = "vda") -> Decision:
        self.fake.load(device, reads)
        self.loop.step()
        return self.loop.decision(self.loop.devices.index(device))


@pytest.fixture
def shadow(fake_sys: FakeSys) -> Iterator[Run]:
    run = Run(fake_sys, apply=False)
    yield run
    run.loop.close()


@pytest.fixture
def apply(fake_sys: FakeSys) -> Iterator[Run]:
    run = Run(fake_sys, apply=True)
    yield run
    run.loop.close()


def test_the_first_snapshot_only_warms_up(fake_sys: FakeSys) -> None:
    loop = Loop(load(str(fake_sys.policy)), root=str(fake_sys.root))
    assert loop.step() == 1
    d = loop.decision(0)
    assert (d.reason, d.recommended, d.current, d.features) == (
        "warming-up",
        None,
        32,
        {},
    )


@pytest.mark.parametrize(("reads", "value"), [(LOW, 8), (MIDDLE, 32), (HIGH, 128)])
def test_shadow_recommends_and_changes_nothing(
    shadow: Run, reads: int, value: int
) -> None:
    d = shadow.step(reads)
    assert (d.recommended, d.current, d.mode) == (value, 32, "shadow")
    assert d.reason == ("same" if value == 32 else "would-apply")
    assert d.features == {"reads_delta": reads}
    assert 0.4 < d.confidence <= 1.0
    assert d.latency_ns > 0
    assert d.seq == 2
    assert d.objective > 0
    assert shadow.fake.value("vda") == 32


def test_apply_changes_and_close_restores(apply: Run) -> None:
    d = apply.step(HIGH)
    assert (d.reason, d.target, apply.fake.value("vda")) == ("applied", 128, 128)
    d = apply.step(LOW)
    assert (d.reason, d.recommended, d.target) == ("applied", 8, 32)
    assert apply.fake.value("vda") == 32
    apply.step(LOW)
    assert apply.fake.value("vda") == 8
    assert apply.loop.close() == []
    assert apply.fake.value("vda") == 32
    assert list(apply.fake.state.glob("*.journal")) == []


def test_an_administrators_change_is_left_alone(apply: Run) -> None:
    apply.step(HIGH)
    apply.fake.knob("vda").write_text("64\n")
    d = apply.step(LOW)
    assert (d.reason, d.current) == ("hands-off", 64)
    assert apply.step(LOW).reason == "hands-off"
    (said,) = apply.loop.close()
    assert "somebody else set it to 64" in said
    assert apply.fake.value("vda") == 64


def test_a_change_before_ours_is_respected_too(apply: Run) -> None:
    apply.fake.knob("vda").write_text("64\n")
    assert apply.step(HIGH).reason == "hands-off"
    assert apply.loop.close() == []
    assert apply.fake.value("vda") == 64


def test_a_broken_field_is_no_input(shadow: Run) -> None:
    stat = shadow.fake.root / "sys" / "block" / "vda" / "stat"
    stat.write_text("nonsense\n")
    shadow.loop.step()
    d = shadow.loop.decision(0)
    assert (d.reason, d.recommended) == ("invalid-input", None)
    stat.write_text("5000 0\n")
    shadow.loop.step()
    assert shadow.loop.decision(0).reason == "warming-up"


def test_a_broken_knob_is_no_input(shadow: Run) -> None:
    shadow.fake.knob("vda").write_text("")
    assert shadow.step(HIGH).reason == "invalid-input"
    assert shadow.loop.decision(0).current is None


def test_little_activity_is_idle(fake_sys: FakeSys) -> None:
    idle = 'min_activity = { field = "reads", rate = 1e12 }'
    fake_sys.write_policy(POLICY + idle + "\n")
    run = Run(fake_sys, apply=False)
    d = run.step(HIGH)
    assert (d.reason, d.recommended) == ("idle", None)


def test_too_late_is_refused(fake_sys: FakeSys) -> None:
    fake_sys.write_policy(POLICY.replace("10000000", "1"))
    assert Run(fake_sys, apply=True).step(HIGH).reason == "late"
    assert fake_sys.value("vda") == 32


def test_devices_come_and_go(apply: Run) -> None:
    apply.step(HIGH)
    apply.fake.add("vdb", ra=8)
    apply.fake.add("loop0")
    assert apply.loop.rescan()
    assert apply.loop.devices == ("vda", "vdb")
    apply.loop.step()
    assert apply.step(HIGH, "vdb").target == 32
    # what was known of vda is still known: its knob is still ours
    assert apply.loop.decision(0).reason != "hands-off"
    assert not apply.loop.rescan()
    for path in sorted((apply.fake.root / "sys/block/vdb").rglob("*"), reverse=True):
        path.rmdir() if path.is_dir() else path.unlink()
    (apply.fake.root / "sys/block/vdb").rmdir()
    assert apply.loop.rescan()
    assert apply.loop.devices == ("vda",)
    assert apply.loop.close() == []
    assert apply.fake.value("vda") == 32


def test_what_features_remember_outlives_a_new_device(fake_sys: FakeSys) -> None:
    fake_sys.write_policy(POLICY.replace("mean = 100.0", "ema = 0.5\nmean = 100.0"))
    loop = Loop(load(str(fake_sys.policy)), root=str(fake_sys.root))
    loop.step()
    fake_sys.load("vda", 800)
    loop.step()
    fake_sys.add("vdb")
    assert loop.rescan()
    loop.step()
    fake_sys.load("vda", 400)
    loop.step()
    # half way from 800 to 400; and the new device begins with its own first value
    assert loop.decision(0).features == {"reads_delta": 600.0}
    assert loop.decision(1).features == {"reads_delta": 0.0}
    loop.close()


def test_no_device_at_all(fake_sys: FakeSys) -> None:
    fake_sys.write_policy(POLICY.replace("/sys/block/*", "/sys/block/sd*"))
    with pytest.raises(PolicyError, match="devices: nothing matches '/sys/block/sd"):
        Loop(load(str(fake_sys.policy)), root=str(fake_sys.root))


def test_apply_without_a_journal_is_refused(fake_sys: FakeSys) -> None:
    with pytest.raises(ValueError, match="apply needs a journal"):
        Loop(load(str(fake_sys.policy)), root=str(fake_sys.root), apply=True)


def test_no_change_without_its_journal_entry(
    apply: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: Any) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "pwrite", full)
    with pytest.raises(JournalError, match="No space left"):
        apply.step(HIGH)
    assert apply.fake.value("vda") == 32


def test_latencies_are_measured(shadow: Run) -> None:
    for _ in range(20):
        shadow.step(HIGH)
    snapshot, features, inference, guard = shadow.loop.latencies
    assert snapshot.count == features.count == 21
    assert inference.count == guard.count == 20
    for latency in shadow.loop.latencies:
        assert 0 < latency.percentile(50) <= latency.percentile(99)


@pytest.mark.parametrize(("interval_ms", "held"), [(99, "stat"), (100, "vda")])
def test_seldom_loops_keep_directories_open_not_files(
    fake_sys: FakeSys, interval_ms: int, held: str
) -> None:
    fake_sys.write_policy(
        POLICY.replace("interval_ms = 10\n", f"interval_ms = {interval_ms}\n")
    )
    plan = load(str(fake_sys.policy))
    assert plan["interval_ms"] == interval_ms
    loop = Loop(plan, root=str(fake_sys.root))
    loop.step()
    links = [f"/proc/self/fd/{fd}" for fd in os.listdir("/proc/self/fd")]
    ours = [os.readlink(link) for link in links if os.path.exists(link)]
    names = {os.path.basename(p) for p in ours if p.startswith(str(fake_sys.root))}
    assert held in names
    assert names <= ({"stat", "read_ahead_kb"} if held == "stat" else {"vda", "queue"})
    assert loop.decision(0).reason == "warming-up"
    loop.close()


def test_a_step_allocates_nothing(fake_sys: FakeSys) -> None:
    setup = f"""
from pymlk.loop import Loop
from pymlk.policy import load
from pymlk.stream import Decision
loop = Loop(load({str(fake_sys.policy)!r}), root={str(fake_sys.root)!r})
step = loop.step
"""
    assert count_mallocs(setup, "step()", 2000) == 0


TRIAL = """
[trial]
min_decisions = 5
min_scores = 5
period_s = 0.02
washout = 0.1
"""


class Tried:
    """A run whose knob has an effect: reads per step at 128, and at other values."""

    def __init__(self, fake: FakeSys, at_128: int, else_: int) -> None:
        fake.write_policy(POLICY + TRIAL)
        plan = load(str(fake.policy))
        journal = Journal("test", str(fake.state))
        self.fake, self.effect = fake, {True: at_128, False: else_}
        self.loop = Loop(
            plan,
            root=str(fake.root),
            apply=True,
            journal=journal,
            highest="recommendation",
        )
        journal.claim(self.loop.knobs)
        self.modes = ["learning"]

    def report(self) -> dict[str, Any]:
        """The trial's."""
        return dict(self.loop.totals()["vda"]["trial"])

    def until(self, mode: str) -> None:
        """Step until the evidence has led there, a minute at most."""
        end = time.monotonic() + 60
        while self.modes[-1] != mode:
            assert time.monotonic() < end, self.report()
            self.step()

    def step(self) -> Decision:
        """A step in which the device does what its knob lets it."""
        time.sleep(0.001)
        self.fake.load("vda", self.effect[self.fake.value("vda") == 128])
        self.loop.step()
        d = self.loop.decision(0)
        if d.mode != self.modes[-1]:
            # the decision was made in the mode before
            self.modes.append(d.mode)
        elif d.mode == "learning":
            assert self.fake.value("vda") == 32
        return d


def test_a_model_that_helps_is_promoted(fake_sys: FakeSys) -> None:
    run = Tried(fake_sys, at_128=450, else_=150)
    run.until("recommendation")
    assert run.modes == ["learning", "collaboration", "recommendation"]
    report = run.report()
    assert report["low"] > 0
    # the time between two steps is not quite the same for both
    assert 1.0 < report["gain"] < 4.0
    reasons = {run.step().reason for _ in range(500)}
    assert {"same", "holdout"} <= reasons
    assert run.loop.close() == []
    assert fake_sys.value("vda") == 32


def test_a_model_that_harms_is_stopped(fake_sys: FakeSys) -> None:
    run = Tried(fake_sys, at_128=150, else_=450)
    run.until("collaboration")
    run.until("learning")
    report = run.report()
    assert "back to learning" in report["reason"]
    assert report["gain"] is None or report["gain"] < 0
    (said,) = run.loop.look()
    assert said.startswith("vda: mode learning (back to learning")


def test_measuring_needs_an_objective(fake_sys: FakeSys) -> None:
    fake_sys.write_policy(POLICY.replace('[objective]\nmaximise = "reads"\n', ""))
    with pytest.raises(PolicyError, match="objective: missing"):
        Loop(
            load(str(fake_sys.policy)),
            root=str(fake_sys.root),
            apply=True,
            journal=Journal("test", str(fake_sys.state)),
            highest="collaboration",
        )


def test_files_beside_devices_are_none(tmp_path: Path) -> None:
    # as in a folder of control groups
    for name in ("a", "b"):
        (tmp_path / "groups" / name).mkdir(parents=True)
    (tmp_path / "groups/tasks").write_text("")
    (tmp_path / "groups/c").symlink_to(tmp_path / "groups/a")
    found = find_devices("/groups/*", ["b"], str(tmp_path))
    assert found == [("a", "/groups/a"), ("c", "/groups/c")]
