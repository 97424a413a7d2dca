# SPDX-License-Identifier: MIT
"""What a service manager and the journal are told, over sockets of our own."""

import contextlib
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from helpers.fakesys import FakeSys
from helpers.need import absent, need

from pymlk.service import NOTICE, Log, Notifier

ROOT = Path(__file__).resolve().parents[2]
UNITS = sorted((ROOT / "packaging" / "systemd").glob("*.service"))


@pytest.fixture
def listener(tmp_path: Path) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener:
        listener.bind(str(tmp_path / "socket"))
        listener.settimeout(10)
        yield listener


def test_a_manager_is_told(listener: socket.socket) -> None:
    notifier = Notifier(
        {"NOTIFY_SOCKET": listener.getsockname(), "WATCHDOG_USEC": "200000"}
    )
    assert notifier.interval_s == 0.1
    notifier.ready("two devices")
    notifier.alive()
    notifier.alive()  # too soon: says nothing
    notifier.stopping()
    said = [listener.recv(4096) for _ in range(3)]
    assert said == [b"READY=1\nSTATUS=two devices", b"WATCHDOG=1", b"STOPPING=1"]


def test_an_abstract_socket_will_do() -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener:
        listener.bind("\0pymlk-test")
        Notifier({"NOTIFY_SOCKET": "@pymlk-test"}).stopping()
        listener.settimeout(10)
        assert listener.recv(64) == b"STOPPING=1"


def test_without_a_manager_nothing_happens(tmp_path: Path) -> None:
    Notifier({}).ready("")
    Notifier({"NOTIFY_SOCKET": str(tmp_path / "nobody")}).ready("")


def test_another_process_watchdog_is_not_ours(listener: socket.socket) -> None:
    environ = {
        "NOTIFY_SOCKET": listener.getsockname(),
        "WATCHDOG_USEC": "200000",
        "WATCHDOG_PID": "1",
    }
    assert Notifier(environ).interval_s == 0


def test_a_log_line_has_fields(listener: socket.socket) -> None:
    log = Log("readahead", listener.getsockname())
    log.write(NOTICE, "two\nlines", device="vda", seq=7)
    data = listener.recv(4096)
    assert data == (
        b"MESSAGE\n\x09\0\0\0\0\0\0\0two\nlines\nPRIORITY=5\n"
        b"SYSLOG_IDENTIFIER=pymlk\nPYMLK_POLICY=readahead\nPYMLK_DEVICE=vda\n"
        b"PYMLK_SEQ=7\n"
    )


def test_a_log_that_is_gone_is_printed(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    Log("readahead", str(tmp_path / "nobody")).write(NOTICE, "text", device="vda")
    assert capfd.readouterr().err == "pymlk: readahead: text device=vda\n"


def start(fake: FakeSys, *arguments: str, **environ: str) -> subprocess.Popen[str]:
    command = (
        *(sys.executable, "-P", "-m", "pymlk", "run", str(fake.policy)),
        *("--root", str(fake.root), "--state-dir", str(fake.state), *arguments),
    )
    return subprocess.Popen(
        command,
        env={**os.environ, **environ},
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )


def test_a_service_lives_and_ends(fake_sys: FakeSys, listener: socket.socket) -> None:
    process = start(
        fake_sys,
        *("--quiet", "--apply", "--mode", "always"),
        NOTIFY_SOCKET=listener.getsockname(),
        WATCHDOG_USEC="100000",
    )
    assert listener.recv(4096) == b"READY=1\nSTATUS=1 devices"
    assert [listener.recv(4096) for _ in range(3)] == [b"WATCHDOG=1"] * 3
    # its counter stands still, so it recommends less and less
    deadline = time.monotonic() + 30
    while fake_sys.value("vda") == 32 and time.monotonic() < deadline:
        time.sleep(0.01)
    assert fake_sys.value("vda") == 8
    process.send_signal(signal.SIGTERM)
    out, err = process.communicate(timeout=30)
    assert process.returncode == 0, err
    assert fake_sys.value("vda") == 32
    assert re.search(
        r"^pymlk: test: vda: 32 -> 8 KiB: the knob was changed device=vda "
        r"reason=applied mode=apply seq=\d+ confidence=\d\.\d\d$",
        err,
        re.MULTILINE,
    )
    # one line for one change, however many decisions there were
    assert err.count("\n") == 1
    assert "mode apply" in out


def test_a_watchdog_is_not_fed_by_a_stopped_process(
    fake_sys: FakeSys, listener: socket.socket
) -> None:
    process = start(
        fake_sys, NOTIFY_SOCKET=listener.getsockname(), WATCHDOG_USEC="100000"
    )
    listener.recv(4096)
    process.send_signal(signal.SIGSTOP)
    time.sleep(0.2)
    listener.setblocking(False)
    with contextlib.suppress(BlockingIOError):
        while True:  # what it said before
            listener.recv(4096)
    time.sleep(0.3)
    with pytest.raises(BlockingIOError):
        listener.recv(4096)
    process.kill()
    process.communicate()


def test_the_units_are_there() -> None:
    assert [unit.stem for unit in UNITS] == ["pymlk-proxy@", "pymlk@"]


@pytest.mark.parametrize("unit", UNITS, ids=lambda unit: unit.name)
def test_units_are_right(tmp_path: Path, unit: Path) -> None:
    """As systemd sees them: no unknown word, and little exposure."""
    if not shutil.which("systemd-analyze"):
        absent("no systemd-analyze (package systemd)")
    text = unit.read_text().replace("/usr/bin/pymlk", shutil.which("true") or "")
    copy = tmp_path / unit.name.replace("@", "@test")
    copy.write_text(text)
    done = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", str(copy)],
        text=True,
        capture_output=True,
    )
    said = [line for line in done.stderr.splitlines() if unit.stem in line]
    assert said == []
    done = subprocess.run(
        ["systemd-analyze", "security", "--offline=yes", "--threshold=20", str(copy)],
        text=True,
        capture_output=True,
    )
    # in tenths, 100 is what a service without any of it has
    exposure = re.search(r"exposure level.*: (\d+)\.(\d)", done.stdout)
    assert exposure, done.stdout + done.stderr
    assert int(exposure[1] + exposure[2]) <= 20


def test_no_root_is_needed_to_apply(fake_sys: FakeSys, tmp_path: Path) -> None:
    """A user with the unit's one capability changes a knob of root and puts it back."""
    need(os.geteuid() == 0, "not root")
    if not shutil.which("setpriv"):
        absent("no setpriv (package util-linux)")
    for folder in (tmp_path, *tmp_path.parents):
        if folder.stat().st_uid == 0 and folder != Path("/"):
            folder.chmod(folder.stat().st_mode | 0o055)
    fake_sys.state.mkdir()
    os.chown(fake_sys.state, 65534, 65534)
    fake_sys.knob("vda").chmod(0o644)
    done = subprocess.run(
        [
            *("setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"),
            *("--inh-caps=-all,+dac_override", "--ambient-caps=-all,+dac_override"),
            *("--bounding-set=-all,+dac_override", "--no-new-privs"),
            *(sys.executable, "-P", "-m", "pymlk", "run", str(fake_sys.policy)),
            *("--root", str(fake_sys.root), "--state-dir", str(fake_sys.state)),
            *("--apply", "--mode", "always", "--decisions", "5"),
        ],
        text=True,
        capture_output=True,
    )
    assert done.returncode == 0, done.stderr
    assert "changed 32 -> 8 KiB, 1 times" in done.stdout
    assert fake_sys.value("vda") == 32


def test_a_board_without_systemd(fake_sys: FakeSys, tmp_path: Path) -> None:
    """The init script starts, tells, stops, and puts knobs back after a kill."""
    if not shutil.which("start-stop-daemon"):
        absent("no start-stop-daemon (package dpkg or busybox)")
    pymlk = tmp_path / "pymlk"
    pymlk.write_text(f'#!/bin/sh\nexec {sys.executable} -P -m pymlk "$@"\n')
    pymlk.chmod(0o755)
    conf = tmp_path / "conf"
    conf.write_text(
        f'PYMLK_POLICIES="{fake_sys.policy}"\n'
        f'PYMLK_OPTIONS="--apply --mode always --root {fake_sys.root}"\n'
    )
    environ = {
        **os.environ,
        "PYMLK": str(pymlk),
        "PYMLK_CONF": str(conf),
        "PYMLK_STATE_DIR": str(tmp_path / "run"),
    }

    def script(word: str) -> subprocess.CompletedProcess[str]:
        path = ROOT / "packaging" / "busybox" / "S60pymlk"
        return subprocess.run(
            ["sh", str(path), word],
            env=environ,
            text=True,
            stdout=subprocess.PIPE,
            timeout=60,
        )

    def wait_for(value: int) -> None:
        deadline = time.monotonic() + 30
        while fake_sys.value("vda") != value and time.monotonic() < deadline:
            time.sleep(0.01)
        assert fake_sys.value("vda") == value

    assert script("status").returncode == 3
    assert script("start").returncode == 0
    try:
        wait_for(8)
        assert script("status").stdout == f"{fake_sys.policy}: running\n"
        (pid,) = (tmp_path / "run").glob("*.pid")
        os.kill(int(pid.read_text()), signal.SIGKILL)
        wait_for(8)
    finally:
        assert script("stop").returncode == 0
    assert fake_sys.value("vda") == 32
    assert script("status").returncode == 3
    assert script("nonsense").returncode == 2
