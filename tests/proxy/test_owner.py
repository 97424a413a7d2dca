# SPDX-License-Identifier: MIT
"""The owner: recommendations, heartbeats, and its end, however that comes."""

import errno
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator

import pytest
from helpers.kernels import Kernel
from helpers.mlk_abi import refused

from pymlk.proxy import Proxy

DEADLINE_MS = 200
# a machine's or a guest's: timers, threads, work queues
SLACK = 5.0
# an owner in a process of its own: says when it is the owner, then beats
OWNER = """
import sys, time
from pymlk.proxy import Proxy
proxy = Proxy("guest0", root=sys.argv[1])
proxy.own()
proxy.recommend([256, 5])
print("owner", flush=True)
while True:
    proxy.heartbeat()
    time.sleep(0.02)
"""


def wait_for(proxy: Proxy, mode: str) -> None:
    end = time.monotonic() + SLACK
    while proxy.mode != mode and time.monotonic() < end:
        time.sleep(0.005)
    assert proxy.mode == mode


@pytest.fixture
def process(kernel: Kernel, running: Proxy) -> Iterator[subprocess.Popen[str]]:
    running.write_attr("options/deadline_ms", DEADLINE_MS)
    with subprocess.Popen(
        [sys.executable, "-P", "-c", OWNER, kernel.root],
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "owner\n"
        running.set_mode("recommendation")
        yield process
        process.kill()


def test_recommendations_are_followed(kernel: Kernel, owner: Proxy) -> None:
    owner.set_mode("recommendation")
    seq = kernel.push(1, 2, 3, 4)
    owner.recommend([256, 5], 0.9, seq)
    decision = kernel.decide(seq=seq)
    assert decision.use
    assert (decision.seq, decision.value) == (seq, [256, 5])
    assert [owner.read_attr(f"knobs/k{i}") for i in range(2)] == ["256", "5"]
    for name in ("answer_latency", "decision_latency"):
        buckets = [int(word) for word in owner.read_attr(f"stats/{name}").split()]
        assert (len(buckets), sum(buckets)) == (32, 1)
    assert owner.read_attr("stats/recommendations") == "1"


def test_recommendations_are_checked(owner: Proxy) -> None:
    owner.write_attr("options/max_refused", 1000)
    for values in ([0, 0], [4100, 0], [130, 0], [128, 101], [128, -101]):
        with refused(errno.ERANGE):
            owner.recommend(values)
    with refused(errno.EINVAL):
        owner.recommend([128, 0], seq=1 << 40)
    for values in ([128], [128, 0, 0], []):
        with pytest.raises(ValueError, match="2 expected"):
            owner.recommend(values)
    for confidence in (-0.1, 1.1, float("nan")):
        with pytest.raises(ValueError, match="confidence"):
            owner.recommend([128, 0], confidence)
    assert owner.read_attr("stats/recommendations") == "0"
    assert owner.read_attr("stats/refused") == "6"


def test_too_many_refused_ones_are_an_emergency(owner: Proxy) -> None:
    owner.set_mode("recommendation")
    owner.write_attr("options/max_refused", 3)
    for turn in range(2):
        for _ in range(2):
            with refused(errno.ERANGE):
                owner.recommend([257, 0])
        assert owner.mode == "recommendation"
        if not turn:
            owner.recommend([256, 0])
    with refused(errno.ERANGE):
        owner.recommend([257, 0])
    assert (owner.mode, owner.reason) == ("emergency", "guard")


def test_only_a_running_model_is_advised(proxy: Proxy) -> None:
    proxy.own()
    for word in ("init", "start"):
        with refused(errno.EBUSY):
            proxy.recommend([128, 0])
        proxy.control(word)
    with refused(errno.EBUSY):
        proxy.recommend([128, 0])


def test_one_owner(kernel: Kernel, running: Proxy) -> None:
    with Proxy("guest0", root=kernel.root) as other:
        running.own()
        running.own()
        assert running.info()["owner"]
        assert not other.info()["owner"]
        with refused(errno.EBUSY):
            other.own()
        for forbidden in (other.heartbeat, lambda: other.recommend([128, 0])):
            with refused(errno.EPERM):
                forbidden()
        running.set_mode("collaboration")
        other.disown()
        assert running.mode == "collaboration"
        running.disown()
        assert (running.mode, running.reason) == ("emergency", "owner")
        with refused(errno.EPERM):
            running.heartbeat()
        other.own()
        assert other.info()["owner"]


def test_a_reader_may_not_own(kernel: Kernel, running: Proxy) -> None:
    with Proxy("guest0", root=kernel.root, write=False) as reader:
        with refused(errno.EPERM):
            reader.own()
        with refused(errno.EBADF):
            reader.recommend([128, 0])
        kernel.flood(1)
        assert reader.wait(0, 1) == 1


def test_heartbeats_keep_the_mode(
    running: Proxy, kernel: Kernel, process: subprocess.Popen[str]
) -> None:
    end = time.monotonic() + 4 * DEADLINE_MS / 1000
    while time.monotonic() < end:
        assert kernel.decide().value == [256, 5]
        time.sleep(0.02)
    assert running.mode == "recommendation"
    assert running.read_attr("owner") == str(process.pid)
    assert int(running.read_attr("stats/heartbeats")) > 5
    assert running.read_attr("stats/missed") == "0"


def test_a_killed_owner(
    running: Proxy, kernel: Kernel, process: subprocess.Popen[str]
) -> None:
    assert kernel.decide().use
    process.kill()
    wait_for(running, "emergency")
    assert running.reason == "owner"
    assert running.read_attr("owner") == "0"
    assert not kernel.decide().use
    assert [running.read_attr(f"knobs/k{i}") for i in range(2)] == ["128", "0"]


def test_a_frozen_owner(
    running: Proxy, kernel: Kernel, process: subprocess.Popen[str]
) -> None:
    process.send_signal(signal.SIGSTOP)
    wait_for(running, "emergency")
    assert running.reason == "heartbeat"
    assert running.read_attr("stats/missed") == "1"
    assert running.read_attr("owner") == str(process.pid)
    process.send_signal(signal.SIGCONT)
    time.sleep(0.1)
    assert running.mode == "emergency"


def test_a_late_owner_is_not_followed_even_once(kernel: Kernel, owner: Proxy) -> None:
    owner.write_attr("options/deadline_ms", 1)
    owner.recommend([256, 5])
    owner.set_mode("recommendation")
    time.sleep(0.05)
    assert not kernel.decide().use
    assert owner.reason == "heartbeat"


def test_recommendations_are_heartbeats(owner: Proxy) -> None:
    owner.write_attr("options/deadline_ms", 1000)
    owner.set_mode("learning")
    for _ in range(15):
        owner.recommend([256, 5])
        time.sleep(0.1)
    assert owner.mode == "learning"


def test_closing_is_an_emergency(kernel: Kernel, running: Proxy) -> None:
    owner = Proxy("guest0", root=kernel.root)
    owner.own()
    owner.set_mode("recommendation")
    owner.close()
    wait_for(running, "emergency")
    assert running.reason == "owner"


def test_a_child_that_ends_does_not_end_the_owner(owner: Proxy) -> None:
    """The descriptor is one; it is closed when the last copy is."""
    owner.set_mode("learning")
    child = os.fork()
    if not child:
        os._exit(0)
    os.waitpid(child, 0)
    time.sleep(0.05)
    assert owner.mode == "learning"
    owner.heartbeat()
