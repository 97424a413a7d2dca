# SPDX-License-Identifier: MIT
"""Faults of `pymlk run`: each ends with the default in force and a reason to read.

A device that is removed under a loop over attributes is in tests/unit/test_loop.py and
test_run_system.py, a hostile writer of the ring in tests/unit/test_proxy_loop.py.
"""

import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from helpers.fakesys import POLICY, FakeSys
from helpers.kernels import Kernel
from helpers.need import need
from helpers.proxy_run import (
    HIGH,
    LOW,
    PATIENCE,
    TRIAL,
    Daemon,
    default_in_force,
    make_policy,
    until,
)

from pymlk.proxy import Proxy

# a second look of the daemon has come and gone
LOOKS = 2.5


@pytest.fixture
def daemon(kernel: Kernel, running: Proxy, tmp_path: Path) -> Iterator[Daemon]:
    """It owns the model, and the kernel's decisions follow it."""
    daemon = Daemon(kernel, make_policy(tmp_path))
    try:
        daemon.until_mode(running, "recommendation")
        daemon.follow()
        yield daemon
    finally:
        daemon.process.kill()
        daemon.process.wait()


def stays(proxy: Proxy, mode: str) -> None:
    """Nobody changes the mode while the daemon looks again and again."""
    end = time.monotonic() + LOOKS
    while time.monotonic() < end:
        assert proxy.mode == mode
        time.sleep(0.05)


# ------------------------------------------------------------------ its end


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_a_signal(
    kernel: Kernel, running: Proxy, daemon: Daemon, number: signal.Signals
) -> None:
    assert daemon.end(number) == (130 if number == signal.SIGINT else 0)
    default_in_force(kernel, running, "owner")
    # it was running before
    assert running.state == "running"


def test_killed_while_it_decides(
    kernel: Kernel, running: Proxy, tmp_path: Path
) -> None:
    """At random moments, and each time the next run begins where nothing was."""
    for _ in range(3):
        daemon = Daemon(kernel, make_policy(tmp_path))
        daemon.until_mode(running, "recommendation")
        daemon.follow()
        end = time.monotonic() + random.uniform(0, 0.05)
        while time.monotonic() < end:
            kernel.push(*random.choice((LOW, HIGH)))
        daemon.end(signal.SIGKILL)
        default_in_force(kernel, running, "owner")
        assert running.read_attr("owner") == "0"


def test_killed_while_it_starts(kernel: Kernel, running: Proxy, tmp_path: Path) -> None:
    policy = make_policy(tmp_path)
    start = time.monotonic()
    daemon = Daemon(kernel, policy)
    daemon.until_mode(running, "recommendation")
    takes = time.monotonic() - start
    daemon.end(signal.SIGKILL)
    for _ in range(5):
        daemon = Daemon(kernel, policy)
        time.sleep(random.uniform(0.5, 1.1) * takes)
        daemon.end(signal.SIGKILL)
        until(lambda: running.read_attr("owner") == "0", "it is the owner still")
        default_in_force(kernel, running, "owner")


def test_frozen_beyond_the_deadline(
    kernel: Kernel, running: Proxy, daemon: Daemon
) -> None:
    running.write_attr("options/deadline_ms", 300)
    daemon.process.send_signal(signal.SIGSTOP)
    default_in_force(kernel, running, "heartbeat")
    assert running.read_attr("owner") == str(daemon.process.pid)
    running.write_attr("options/deadline_ms", 60_000)
    daemon.process.send_signal(signal.SIGCONT)
    daemon.until_told("mode recommendation -> emergency (reason: heartbeat)")
    daemon.until_told("guest/guest0: mode recommendation again")
    daemon.follow()
    assert daemon.end() == 0
    default_in_force(kernel, running, "owner")


def test_nothing_to_do_is_no_silence(
    kernel: Kernel, running: Proxy, daemon: Daemon
) -> None:
    """Without a record it beats, and a deadline is kept."""
    running.write_attr("options/deadline_ms", 4000)
    beats = int(running.read_attr("stats/heartbeats"))
    until(
        lambda: int(running.read_attr("stats/heartbeats")) > beats + 3, "it is silent"
    )
    assert running.mode == "recommendation"


# ------------------------------------------------------------------ disks


def mounted(folder: Path, how: str) -> tuple[str, ...]:
    """A command's beginning: with that folder on a file system of its own."""
    need(os.geteuid() == 0, "not root")
    able = subprocess.run(["unshare", "--mount", "true"], capture_output=True)
    need(able.returncode == 0, "unshare makes no mount namespace")
    folder.mkdir()
    script = f'{how} && exec "$@"'
    return ("unshare", "--mount", "sh", "-c", script, "sh")


FULL = "mount -t tmpfs -o size=64k none {0} && ! cat /dev/zero >{0}/filler 2>/dev/null"
READ_ONLY = "mount -t tmpfs -o ro none {0}"


@pytest.mark.parametrize(
    ("how", "text"),
    [(FULL, "No space left on device"), (READ_ONLY, "Read-only file system")],
    ids=["full", "read-only"],
)
def test_a_disk_that_takes_nothing(
    kernel: Kernel, running: Proxy, tmp_path: Path, how: str, text: str
) -> None:
    """Neither a record nor what was learnt is needed to decide."""
    folder = tmp_path / "disk"
    policy = make_policy(tmp_path / "policy", TRIAL + "[learn]\nevery = 1000\n")
    daemon = Daemon(
        kernel,
        policy,
        *("--record", str(folder / "record")),
        mode="recommendation",
        before=mounted(folder, how.format(folder)),
        PYMLK_LEARNT_DIR=str(folder / "learnt"),
    )
    running.write_attr("options/collaboration_permil", 1000)
    try:
        daemon.until_mode(running, "learning")

        def promoted() -> bool:
            seq = kernel.push(*LOW)
            time.sleep(0.002)
            decision = kernel.decide(seq=seq)
            kernel.report(100)
            return decision.use and decision.value[0] == 8

        until(promoted, "it does not decide")
        daemon.until_told(text)
        # what could not be saved
        assert daemon.end() == 1
    finally:
        daemon.process.kill()
        daemon.process.wait()
    default_in_force(kernel, running, "owner")
    said = daemon.said()
    assert f"cannot keep what was learnt: {text}" in said
    assert '"not_recorded": 0' not in said


@pytest.mark.parametrize(
    ("how", "text"),
    [(FULL, "No space left on device"), (READ_ONLY, "Read-only file system")],
    ids=["full", "read-only"],
)
def test_no_journal_no_change(tmp_path: Path, how: str, text: str) -> None:
    """Attributes: what cannot be noted is not touched."""
    fake = FakeSys(tmp_path)
    fake.add("vda")
    fake.write_policy(POLICY)
    folder = tmp_path / "disk"
    done = subprocess.run(
        (
            *mounted(folder, how.format(folder)),
            *(sys.executable, "-P", "-m", "pymlk", "run", str(fake.policy)),
            *("--root", str(fake.root), "--apply", "--mode", "always"),
            *("--state-dir", str(folder / "state"), "--seconds", "1"),
        ),
        capture_output=True,
        text=True,
        timeout=PATIENCE,
    )
    assert done.returncode == 4, done
    assert text in done.stderr
    assert str(folder) in done.stderr
    assert fake.value("vda") == 32


# ------------------------------------------------------------------ clocks


def test_the_wall_clock_jumps(kernel: Kernel, running: Proxy, tmp_path: Path) -> None:
    """By years, with each reading: only the monotonic one is used to decide."""
    shim = tmp_path / "jumping_clock.so"
    source = Path(__file__).parents[1] / "helpers" / "jumping_clock.c"
    subprocess.run(["cc", "-shared", "-fPIC", "-o", shim, source], check=True)
    shown = subprocess.run(
        [sys.executable, "-c", "import time; print(time.time())"],
        env={**os.environ, "LD_PRELOAD": str(shim)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert abs(float(shown.stdout) - time.time()) > 1e7
    running.write_attr("options/deadline_ms", 10_000)
    daemon = Daemon(
        kernel,
        make_policy(tmp_path / "policy"),
        *("--record", str(tmp_path / "record"), "--seconds", "6"),
        LD_PRELOAD=str(shim),
    )
    daemon.until_mode(running, "recommendation")
    for jump in (1e8, -2e8, 1e8):
        # a guest's clock is nobody else's
        if "GUEST_KERNEL" in os.environ:
            time.clock_settime(time.CLOCK_REALTIME, time.time() + jump)
        daemon.follow(LOW, 8)
        daemon.follow(HIGH, 128)
    assert daemon.process.wait(PATIENCE) == 0
    default_in_force(kernel, running, "owner")
    assert running.read_attr("stats/missed") == "0"
    assert daemon.notices() == []


# ------------------------------------------------------------------ the other side


def test_the_client_goes_and_comes_back(
    kernel: Kernel, proxy: Proxy, running: Proxy, daemon: Daemon
) -> None:
    proxy.close()
    kernel.unregister()
    daemon.until_told("guest/guest0: ")
    kernel.register("guest0", 4, 2, 64)
    daemon.until_told("guest/guest0: is there")
    with Proxy("guest0", root=kernel.root) as again:
        again.write_attr("options/holdout_permil", 0)
        daemon.until_mode(again, "recommendation")
        daemon.follow()
        assert daemon.end() == 0
        default_in_force(kernel, again, "stop")
        # as it was found
        assert again.state == "stopped"


def test_the_module_is_unloaded_and_loaded(
    kernel: Kernel, proxy: Proxy, running: Proxy, daemon: Daemon
) -> None:
    proxy.close()
    kernel.unload()
    # nobody is left to ask: it waits, and can be stopped
    time.sleep(LOOKS)
    assert daemon.process.poll() is None
    kernel.load()
    kernel.register("guest0", 4, 2, 64)
    daemon.until_told("guest/guest0: is there")
    with Proxy("guest0", root=kernel.root) as again:
        again.write_attr("options/holdout_permil", 0)
        daemon.follow()
        daemon.end(signal.SIGKILL)
        default_in_force(kernel, again, "owner")


def test_the_client_comes_back_as_another(
    kernel: Kernel, proxy: Proxy, running: Proxy, daemon: Daemon
) -> None:
    """Without its knob it is left alone, and the daemon says so once."""
    proxy.close()
    kernel.unregister()
    daemon.until_told("guest/guest0: ")
    kernel.register("guest0", 4, 0, 64)
    daemon.until_told("knob.path: 'k0' found, but guest/guest0 has none")
    assert daemon.process.poll() is None
    with Proxy("guest0", root=kernel.root) as again:
        assert (again.mode, again.state, again.read_attr("owner")) == (
            "emergency",
            "created",
            "0",
        )
    assert daemon.end() == 0


def test_a_reader_sees_the_client_go(
    kernel: Kernel, proxy: Proxy, running: Proxy, tmp_path: Path
) -> None:
    """In shadow mode nothing is sent that could fail."""
    policy = make_policy(tmp_path)
    with (tmp_path / "out").open("w") as out:
        process = subprocess.Popen(
            [
                *(sys.executable, "-P", "-m", "pymlk", "run", str(policy)),
                *("--json", "--root", kernel.root, "--state-dir", str(tmp_path / "s")),
            ],
            stdout=out,
        )
    said = (tmp_path / "out").read_text

    def decided() -> bool:
        kernel.push(*LOW)
        return '"would-apply"' in said()

    until(decided, "no decision")
    assert running.mode == "emergency"
    proxy.close()
    kernel.unregister()
    until(lambda: '"notice"' in said(), "it does not find out")
    kernel.register("guest0", 4, 2, 64)
    until(lambda: "guest/guest0: is there" in said(), "it does not come back")
    process.terminate()
    assert process.wait(PATIENCE) == 0


def test_two_daemons(
    kernel: Kernel, running: Proxy, daemon: Daemon, tmp_path: Path
) -> None:
    second = Daemon(kernel, make_policy(tmp_path / "second"))
    assert second.process.wait(PATIENCE) == 4
    assert f"process {daemon.process.pid} is the owner" in second.said()
    assert running.read_attr("owner") == str(daemon.process.pid)
    assert running.mode == "recommendation"
    daemon.follow(HIGH, 128)
    daemon.follow(LOW, 8)


def test_suspend_and_resume(kernel: Kernel, running: Proxy, daemon: Daemon) -> None:
    # so that it cannot set the mode before this looks
    daemon.process.send_signal(signal.SIGSTOP)
    kernel.suspend()
    default_in_force(kernel, running, "suspend")
    daemon.process.send_signal(signal.SIGCONT)
    daemon.until_told("mode recommendation -> emergency (reason: suspend)")
    daemon.until_told("mode recommendation again")
    daemon.follow()


# ------------------------------------------------------------------ other opinions


@pytest.mark.parametrize(
    ("score", "mode"), [(950, "collaboration"), (800, "emergency")]
)
def test_the_kernel_demotes_by_score(
    kernel: Kernel, running: Proxy, daemon: Daemon, score: int, mode: str
) -> None:
    running.write_attr("options/min_samples", 50)
    running.write_attr("options/holdout_permil", 500)

    def demoted() -> bool:
        kernel.rounds(10, 1000, score)
        return running.mode != "recommendation"

    until(demoted, "never demoted")
    assert (running.mode, running.reason) == (mode, "score")
    daemon.until_told(f"mode recommendation -> {mode} (reason: score)")
    stays(running, mode)
    if mode == "emergency":
        default_in_force(kernel, running, "score")


def test_an_emergency_by_hand_stays(
    kernel: Kernel, running: Proxy, daemon: Daemon
) -> None:
    running.set_mode("emergency")
    daemon.until_told("mode recommendation -> emergency (reason: request)")
    stays(running, "emergency")
    default_in_force(kernel, running, "request")
    running.set_mode("recommendation")
    daemon.until_told("mode emergency -> recommendation (reason: request)")
    daemon.follow()


def test_an_emergency_by_hand_stays_on_trial(
    kernel: Kernel, running: Proxy, tmp_path: Path
) -> None:
    """However good its scores were a moment before."""
    daemon = Daemon(kernel, make_policy(tmp_path, TRIAL), mode="recommendation")
    try:
        daemon.until_mode(running, "learning")
        running.set_mode("emergency")
        end = time.monotonic() + LOOKS
        while time.monotonic() < end:
            kernel.push(*LOW)
            time.sleep(0.01)
            assert running.mode == "emergency"
        assert not any("collaboration" in text for text in daemon.notices())
        default_in_force(kernel, running, "request")
    finally:
        daemon.process.kill()
        daemon.process.wait()


def test_the_client_wants_its_default(
    kernel: Kernel, running: Proxy, daemon: Daemon
) -> None:
    kernel.emergency()
    daemon.until_told("mode recommendation -> emergency (reason: client)")
    stays(running, "emergency")
    default_in_force(kernel, running, "client")


def test_stopped_and_started_by_hand(
    kernel: Kernel, running: Proxy, daemon: Daemon
) -> None:
    running.control("stop")
    daemon.until_told("mode recommendation -> emergency (reason: stop)")
    default_in_force(kernel, running, "stop")
    stays(running, "emergency")
    assert running.state == "stopped"
    for word in ("init", "start", "run"):
        running.control(word)
    daemon.until_told("mode recommendation again")
    daemon.follow()


def test_a_deadline_that_becomes_shorter(
    kernel: Kernel, running: Proxy, daemon: Daemon
) -> None:
    """It was told another one when it began."""
    running.write_attr("options/deadline_ms", 400)
    time.sleep(LOOKS)
    missed = int(running.read_attr("stats/missed"))
    stays(running, "recommendation")
    assert int(running.read_attr("stats/missed")) == missed
