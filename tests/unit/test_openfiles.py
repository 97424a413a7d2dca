# SPDX-License-Identifier: MIT
"""A changed read-ahead size reaches files that a program keeps open."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from helpers.fakesys import POLICY, model
from helpers.need import need

from pymlk import openfiles
from pymlk.errors import PolicyError
from pymlk.journal import Journal
from pymlk.policy import load

PYMLK = [sys.executable, "-P", "-m", "pymlk"]
# Keeps a file open and mapped; touches the page at each offset that it is told.
READER = """
import mmap, sys
file = open(sys.argv[1], "rb")
page = mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ)
file.close()  # mmap has a descriptor of its own
for line in sys.stdin:
    at = int(line)
    page[at]
    print("done", flush=True)
"""
MIB = 1 << 20


def call(*argv: str | Path) -> str:
    argv = tuple(str(a) for a in argv)
    return subprocess.run(argv, check=True, capture_output=True, text=True).stdout


class Disk:
    """A loop device with a file system and one file on it."""

    def __init__(self, folder: Path) -> None:
        image, self.mount = folder / "image", folder / "mnt"
        image.write_bytes(b"")
        os.truncate(image, 64 * MIB)
        self.device = Path(call("losetup", "--find", "--show", image).strip())
        try:
            call("mkfs.ext4", "-q", "-O", "^has_journal", self.device)
            self.mount.mkdir()
            call("mount", self.device, self.mount)
        except BaseException:
            call("losetup", "-d", self.device)
            raise
        self.sys = Path("/sys/block", self.device.name)
        self.knob = self.sys / "queue/read_ahead_kb"
        self.file = self.mount / "file"
        self.file.write_bytes(b"x" * 32 * MIB)
        call("sync")
        # nothing of it is in the page cache from here on
        call("umount", self.mount)
        self.knob.write_text("128")
        call("mount", "-o", "ro", self.device, self.mount)
        self._next = 0

    def close(self) -> None:
        call("umount", self.mount)
        call("losetup", "-d", self.device)

    def read_by(self, touch: Callable[[int], None]) -> int:
        """KiB that are read because of one touch of a place not read before."""
        self._next += 2 * MIB
        before = int((self.sys / "stat").read_text().split()[2])
        touch(self._next)
        time.sleep(0.02)
        return (int((self.sys / "stat").read_text().split()[2]) - before) // 2


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Disk]:
    need(os.geteuid() == 0, "no right to mount a loop device")
    made = Disk(tmp_path)
    yield made
    made.close()


@pytest.fixture
def touch(disk: Disk) -> Iterator[Callable[[int], None]]:
    """Makes another process, which keeps the file open, touch a place of it."""
    child = subprocess.Popen(
        [sys.executable, "-c", READER, disk.file],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    stdin, stdout = child.stdin, child.stdout
    assert stdin is not None
    assert stdout is not None

    def ask(at: int) -> None:
        stdin.write(f"{at}\n")
        stdin.flush()
        assert stdout.readline() == "done\n"

    ask(0)
    yield ask
    child.communicate(timeout=30)


def test_refresh_reaches_an_open_mapped_file(
    disk: Disk, touch: Callable[[int], None]
) -> None:
    assert disk.read_by(touch) == 128
    disk.knob.write_text("16")
    # the kernel's rule, and why all this is needed
    assert disk.read_by(touch) == 128
    assert openfiles.refresh(str(disk.knob)) == (1, None)
    assert disk.read_by(touch) == 16


def test_no_time_is_said(disk: Disk, touch: Callable[[int], None]) -> None:
    disk.knob.write_text("16")
    files, problem = openfiles.refresh(str(disk.knob), 0.0)
    assert files == 0
    assert "not all were found within 0 s" in (problem or "")
    assert disk.read_by(touch) == 128


def test_other_disks_files_are_left_alone(
    disk: Disk, touch: Callable[[int], None]
) -> None:
    disk.knob.write_text("16")
    others = [p for p in Path("/sys/block").glob("loop*") if p != disk.sys]
    need(others, "no second loop device")
    openfiles.refresh(str(others[0] / "queue/read_ahead_kb"))
    assert disk.read_by(touch) == 128


def write_policy(folder: Path, disk: Disk) -> Path:
    """Always recommends the lowest value."""
    text = POLICY.replace("/sys/block/*", str(disk.sys))
    text = text.replace('"loop*"', '"ram*"')
    text = text.replace("[knob]", '[knob]\nreach = "open-files"')
    (folder / "policy.toml").write_text(text)
    (folder / "model.tflite").write_bytes(model())
    return folder


def wait_for(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < end, "never happened"
        time.sleep(0.01)


@pytest.mark.parametrize("ending", [signal.SIGTERM, signal.SIGKILL])
def test_a_run_reaches_open_files_and_takes_it_back(
    disk: Disk, touch: Callable[[int], None], tmp_path: Path, ending: signal.Signals
) -> None:
    policy, state = write_policy(tmp_path, disk), str(tmp_path / "state")
    args = ["run", str(policy), "--apply", "--mode", "always", "--state-dir", state]
    run = subprocess.Popen([*PYMLK, *args], stdout=subprocess.DEVNULL)
    try:
        wait_for(lambda: int(disk.knob.read_text()) == 8)
        wait_for(lambda: disk.read_by(touch) == 8)
        run.send_signal(ending)
        run.communicate(timeout=30)
    finally:
        run.kill()
        run.wait()
    if ending == signal.SIGKILL:
        assert disk.read_by(touch) == 8
        subprocess.run([*PYMLK, "restore", "--state-dir", state], check=True)
    assert int(disk.knob.read_text()) == 128
    assert disk.read_by(touch) == 128


def test_without_leave_open_files_keep_their_size(
    disk: Disk, touch: Callable[[int], None], tmp_path: Path
) -> None:
    journal = Journal("test", str(tmp_path / "state"))
    journal.note(str(disk.knob), 128, 16)
    disk.knob.write_text("16")
    assert openfiles.refresh(str(disk.knob)) == (1, None)
    assert journal.restore() == []
    assert int(disk.knob.read_text()) == 128
    assert disk.read_by(touch) == 16


def test_a_folder_without_a_device_is_named(tmp_path: Path) -> None:
    knob = str(tmp_path / "queue" / "read_ahead_kb")
    assert openfiles.device_folder(knob) is None
    assert openfiles.refresh(knob) == (0, f"{knob}: belongs to no block device")


def test_only_read_ahead_can_reach_open_files(tmp_path: Path) -> None:
    text = POLICY.replace("[knob]", '[knob]\nreach = "open-files"')
    text = text.replace("read_ahead_kb", "nr_requests")
    (tmp_path / "policy.toml").write_text(text)
    with pytest.raises(PolicyError, match=r"knob\.reach: .*nr_requests' found"):
        load(str(tmp_path))
