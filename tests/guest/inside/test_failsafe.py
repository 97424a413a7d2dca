# SPDX-License-Identifier: MIT
"""Whatever becomes of the owner, the default algorithm is back within the deadline."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from helpers.mlk_abi import Device, Proxy, client, numbers
from helpers.reference import ROOT

DEADLINE_MS = 200
# what a deadline may take longer: jiffies, a work queue, a guest that is emulated
SLACK = 3.0
# an owner in a process of its own: says when it is the owner, then beats
OWNER = """
import sys, time
sys.path.insert(0, "tests")
from helpers.mlk_abi import Device, Proxy
device = Device(Proxy())
device.own()
device.advise(256, 5)
print("owner", flush=True)
while True:
    device.beat()
    time.sleep(float(sys.argv[1]))
"""


@pytest.fixture
def running(proxy: Proxy) -> Proxy:
    proxy.to("running")
    proxy["options/deadline_ms"] = DEADLINE_MS
    proxy["options/holdout_permil"] = 0
    return proxy


class Owner:
    """A process that owns the model, and decisions that follow it."""

    def __init__(self, proxy: Proxy, every: float = 0.03) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-c", OWNER, str(every)],
            stdout=subprocess.PIPE,
            text=True,
            cwd=ROOT,
        )
        assert self.process.stdout.readline() == "owner\n"
        proxy["mode"] = "recommendation"
        assert proxy["mode"] == "recommendation"

    def end(self) -> None:
        self.process.kill()
        self.process.wait()
        self.process.stdout.close()


@pytest.fixture
def owner(running: Proxy) -> Iterator[Owner]:
    owner = Owner(running)
    yield owner
    owner.end()


def is_back(proxy: Proxy, reason: str, start: float, limit: float = SLACK) -> None:
    """The client has its default again, was told, and user space can read why."""
    proxy.wait_for("mode", "emergency", limit)
    assert time.monotonic() - start < DEADLINE_MS / 1000 + limit
    assert proxy["reason"] == reason
    assert proxy.decide()["use"] is False
    assert [proxy["knobs/k0"], proxy["knobs/k1"]] == ["128", "0"]


def test_heartbeats_keep_the_mode(running: Proxy, owner: Owner) -> None:
    end = time.monotonic() + 5 * DEADLINE_MS / 1000
    while time.monotonic() < end:
        assert running.decide()["value"] == [256, 5]
        time.sleep(0.02)
    assert running["mode"] == "recommendation"
    assert running["owner"] == str(owner.process.pid)
    assert running.stat("heartbeats") > 5
    assert running.stat("missed") == 0


def test_a_killed_owner(running: Proxy, owner: Owner) -> None:
    assert running.decide()["use"] is True
    # where all is emulated it may be late before it is gone
    running["options/deadline_ms"] = 3_600_000
    start = time.monotonic()
    owner.process.kill()
    is_back(running, "owner", start)
    assert running["owner"] == "0"


def test_a_frozen_owner(running: Proxy, owner: Owner) -> None:
    before = numbers("calls")[5]
    start = time.monotonic()
    owner.process.send_signal(signal.SIGSTOP)
    is_back(running, "heartbeat", start)
    assert running.stat("missed") == 1
    assert running["owner"] == str(owner.process.pid)
    # the callback runs in a process of its own, soon afterwards
    while numbers("calls")[5] == before and time.monotonic() < start + 5:
        time.sleep(0.01)
    assert numbers("calls")[5:] == [before + 1, 3]
    # it goes on: still the owner, but the mode is up to somebody else
    owner.process.send_signal(signal.SIGCONT)
    time.sleep(0.1)
    assert running["mode"] == "emergency"


def test_a_late_owner_is_not_followed_even_once(running: Proxy) -> None:
    """The decision itself looks at the clock, not only the timer."""
    running["options/deadline_ms"] = 1
    with Device(running) as device:
        device.own()
        device.advise(256, 5)
        running["mode"] = "recommendation"
        time.sleep(0.05)
        assert running.decide()["use"] is False
        assert running["reason"] == "heartbeat"


def test_a_closed_descriptor(running: Proxy) -> None:
    device = Device(running)
    device.own()
    device.advise(256, 5)
    running["mode"] = "recommendation"
    start = time.monotonic()
    device.close()
    assert running["mode"] == "emergency"
    is_back(running, "owner", start)


def test_the_owner_steps_back(running: Proxy) -> None:
    with Device(running) as device:
        device.own()
        running["mode"] = "learning"
        device.own(0)
        assert running["mode"] == "emergency"
        assert running["reason"] == "owner"


def test_kill_at_random_points(running: Proxy) -> None:
    """Whatever it was doing: a write, an ioctl, between the two."""
    # an emulated owner may be too slow for a short one, which is not meant here
    running["options/deadline_ms"] = 3_600_000
    for turn in range(5):
        owner = Owner(running, every=0.0)
        time.sleep(0.005 * turn)
        start = time.monotonic()
        owner.process.kill()
        is_back(running, "owner", start)
        owner.end()


def test_a_deadline_that_shrinks(running: Proxy) -> None:
    running["options/deadline_ms"] = 3_600_000
    with Device(running) as device:
        device.own()
        running["mode"] = "learning"
        time.sleep(0.1)
        assert running["mode"] == "learning"
        start = time.monotonic()
        running["options/deadline_ms"] = 100
        is_back(running, "heartbeat", start)


def test_no_deadline(running: Proxy) -> None:
    running["options/deadline_ms"] = 0
    with Device(running) as device:
        device.own()
        running["mode"] = "learning"
        time.sleep(0.5)
        assert running["mode"] == "learning"
        running["mode"] = "emergency"


def test_suspend(running: Proxy, owner: Owner) -> None:
    power = Path("/sys/power")
    Path("/sys/module/suspend/parameters/pm_test_delay").write_text("1")
    (power / "pm_test").write_text("freezer")
    try:
        # everything up to and with frozen processes, and back
        (power / "state").write_text("mem")
    finally:
        (power / "pm_test").write_text("none")
    is_back(running, "suspend", time.monotonic())


def test_a_client_never_waits(running: Proxy, owner: Owner) -> None:
    owner.process.send_signal(signal.SIGSTOP)
    start = time.monotonic()
    client("flood 10000")
    client("rounds 10000 1 1")
    # ten thousand calls that waited for a frozen process would take for ever
    assert time.monotonic() - start < 20
    os.kill(owner.process.pid, signal.SIGCONT)
