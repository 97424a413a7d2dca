# SPDX-License-Identifier: MIT
"""`pymlk run --apply` on a real knob of the kernel: a loop device's read-ahead."""

import fcntl
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from helpers.fakesys import POLICY, model
from helpers.need import need

LOOP_CTL_ADD, LOOP_CTL_REMOVE = 0x4C80, 0x4C81
PYMLK = [sys.executable, "-P", "-m", "pymlk"]


def control(request: int, number: int) -> None:
    fd = os.open("/dev/loop-control", os.O_RDWR)
    try:
        fcntl.ioctl(fd, request, number)
    finally:
        os.close(fd)


@pytest.fixture
def loop_device() -> Iterator[Path]:
    """The queue folder of a loop device that nobody else uses."""
    need(os.geteuid() == 0, "no right to add a loop device")
    number = 4242
    control(LOOP_CTL_ADD, number)
    queue = Path(f"/sys/block/loop{number}/queue")
    (queue / "read_ahead_kb").write_text("128")
    yield queue
    control(LOOP_CTL_REMOVE, number)


@pytest.fixture
def policy(tmp_path: Path) -> Path:
    """Always recommends the lowest value: an idle device has no reads at all."""
    text = POLICY.replace("/sys/block/*", "/sys/block/loop4242")
    text = text.replace('"loop*"', '"ram*"').replace('"delta"', '"value"')
    (tmp_path / "policy.toml").write_text(text)
    (tmp_path / "model.tflite").write_bytes(model())
    return tmp_path


def start(policy: Path, *more: str) -> subprocess.Popen[str]:
    state = str(policy / "state")
    args = [
        "run",
        str(policy),
        "--apply",
        "--mode",
        "always",
        "--json",
        "--state-dir",
        state,
        *more,
    ]
    return subprocess.Popen([*PYMLK, *args], stdout=subprocess.PIPE, text=True)


def wait_for(knob: Path, value: int) -> None:
    end = time.monotonic() + 30
    while int(knob.read_text()) != value:
        assert time.monotonic() < end, f"{knob} never became {value}"
        time.sleep(0.01)


def test_a_real_knob_is_changed_and_restored(loop_device: Path, policy: Path) -> None:
    knob = loop_device / "read_ahead_kb"
    run = start(policy)
    wait_for(knob, 8)
    run.send_signal(signal.SIGINT)
    run.communicate(timeout=30)
    assert run.returncode == 130
    assert int(knob.read_text()) == 128


def test_a_real_knob_survives_sigkill(loop_device: Path, policy: Path) -> None:
    knob = loop_device / "read_ahead_kb"
    run = start(policy)
    wait_for(knob, 8)
    run.kill()
    run.communicate(timeout=30)
    assert int(knob.read_text()) == 8
    state = str(policy / "state")
    subprocess.run([*PYMLK, "restore", "--state-dir", state], check=True)
    assert int(knob.read_text()) == 128


def test_what_the_kernel_rounds_is_refused_and_restored(
    loop_device: Path, policy: Path
) -> None:
    text = (policy / "policy.toml").read_text()
    # the kernel counts read-ahead in pages: 6 KiB become 4
    text = text.replace("[8, 32, 128]", "[6, 32, 128]").replace("max_step = 1", "")
    (policy / "policy.toml").write_text(text + "max_step = 2\n")
    run = start(policy, "--decisions", "1")
    out, _ = run.communicate(timeout=30)
    decision = json.loads(out.splitlines()[0])["decision"]
    assert (decision["reason"], decision["target"]) == ("refused", 4)
    assert run.returncode == 0
    assert int((loop_device / "read_ahead_kb").read_text()) == 128


def test_a_device_that_vanishes_ends_nothing(policy: Path, loop_device: Path) -> None:
    run = start(policy)
    wait_for(loop_device / "read_ahead_kb", 8)
    control(LOOP_CTL_REMOVE, 4242)
    time.sleep(0.2)
    assert run.poll() is None
    control(LOOP_CTL_ADD, 4242)
    run.send_signal(signal.SIGTERM)
    out, _ = run.communicate(timeout=30)
    reasons = json.loads(out.splitlines()[-1])["summary"]["devices"]["loop4242"]
    assert reasons["reasons"]["invalid-input"] > 0
