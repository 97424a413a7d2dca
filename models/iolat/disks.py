# SPDX-License-Identifier: MIT
"""Disks in memory that the blkio controller slows down, and a program's I/O on them."""

import contextlib
import os
import signal
import subprocess
import time
import zlib
from collections.abc import Iterator
from pathlib import Path
from types import FrameType

import numpy as np
from numpy.typing import NDArray

HERE = Path(__file__).resolve().parent
KERNEL = HERE.parents[1] / "kernel"
CGROUPS = Path("/sys/fs/cgroup/blkio")
ZRAM = Path("/sys/class/zram-control")
DISK_BYTES = 256 << 20
# what load.c sees of a disk when it issues a request, in its order
SEEN = ["inflight", "since", "still", *(f"last_{i + 1}" for i in range(4))]
RECORD = np.dtype(
    [
        ("issued_ns", "u8"),
        ("took_us", "u4"),
        ("waited_us", "u4"),
        ("bytes", "u4"),
        ("seen", "u4", len(SEEN)),
        ("is_write", "u1"),
        ("device", "u1"),
        ("busy", "u1"),
        ("moved", "u1"),
        ("doubled", "u1"),
        ("copied", "u1"),
        ("unused", "u2"),
    ]
)
Records = NDArray[np.void]

# name: requests and megabytes per second, reads; writes have half of both
PROFILES = {
    "500iops-40mb": (500, 40),
    "1000iops-25mb": (1000, 25),
    "2000iops-100mb": (2000, 100),
    "4000iops-60mb": (4000, 60),
    "8000iops-200mb": (8000, 200),
    "1500iops-50mb": (1500, 50),
    "6000iops-100mb": (6000, 100),
    "3000iops-30mb": (3000, 30),
}


class DiskError(Exception):
    """Something the user has to know or to repair."""


def call(*argv: object) -> str:
    """Run a tool to its end; return what it printed."""
    try:
        done = subprocess.run(
            [str(a) for a in argv], check=True, capture_output=True, text=True
        )
    except FileNotFoundError as e:
        raise DiskError(f"{argv[0]}: not installed") from e
    except subprocess.CalledProcessError as e:
        raise DiskError(f"{argv[0]}: {e.stderr.strip()}") from e
    return done.stdout


class Disks:
    """Compressed disks in memory, and a control group that limits them."""

    def __init__(self, work: Path, count: int) -> None:
        self.work, self.count = work, count
        # what is to be removed after a kill -9, too
        self.note = work / "disks"
        self.disks = self.note.read_text().split() if self.note.exists() else []
        # Of its own per directory: a teardown must not end another's programs.
        name = f"pymlk-iolat-{zlib.crc32(bytes(work)):08x}"
        self.group = CGROUPS / name

    def check(self) -> None:
        """Refuse early, with what is missing."""
        if os.geteuid():
            raise DiskError("needs root (zram, cgroups)")
        if not (CGROUPS / "cgroup.procs").exists():
            raise DiskError(
                f"{CGROUPS}: no cgroup v1 controller there; boot with "
                "systemd.unified_cgroup_hierarchy=0"
            )
        if not ZRAM.exists():
            raise DiskError(f"{ZRAM}: no zram in this kernel")
        if self.disks:
            raise DiskError("left over from an earlier run; use --teardown first")

    def setup(self) -> None:
        """Build the program, make the disks."""
        engine, arch = KERNEL / "engine", KERNEL / "arch"
        sources = [*sorted(engine.glob("mlk_*.c")), *sorted(arch.glob("mlk_*.c"))]
        call(
            *["cc", "-O2", "-Wall", "-pthread", f"-I{engine}", f"-I{arch}"],
            *[HERE / "load.c", *sources, "-lm", "-o", self.work / "load"],
        )
        self.group.mkdir(exist_ok=True)
        for _ in range(self.count):
            # reading it makes a disk
            name = f"zram{(ZRAM / 'hot_add').read_text().strip()}"
            self.disks.append(f"/dev/{name}")
            self.note.write_text("\n".join(self.disks))
            (Path("/sys/block") / name / "disksize").write_text(str(DISK_BYTES))

    def limit(self, profile: str) -> None:
        """Give all disks the limits of a profile."""
        iops, megabytes = PROFILES[profile]
        for disk in self.disks:
            number = (Path("/sys/block") / Path(disk).name / "dev").read_text().strip()
            for way, share in (("read", 1), ("write", 2)):
                for unit, value in (("iops", iops), ("bps", megabytes * 1_000_000)):
                    path = self.group / f"blkio.throttle.{way}_{unit}_device"
                    path.write_text(f"{number} {value // share}")

    def run(self, seconds: float, settings: dict[str, object]) -> Records:
        """Run the program inside the control group; return its requests in order."""
        out = self.work / "records"
        argv = [str(self.work / "load"), *(f"device={disk}" for disk in self.disks)]
        argv += [f"{key}={value}" for key, value in settings.items()]
        argv += [f"seconds={seconds}", f"out={out}"]
        # a busy processor must not look like a slow disk
        enter = 'echo $$ >"$0"; exec nice -n -10 "$@"'
        procs = str(self.group / "cgroup.procs")
        call("timeout", str(4 * seconds + 60), "sh", "-c", enter, procs, *argv)
        records: Records = np.fromfile(out, RECORD)
        return records[np.argsort(records["issued_ns"], kind="stable")]

    def teardown(self) -> None:
        """Undo whatever of the set-up is there; safe to call at any time."""
        if self.group.exists():
            for pid in (self.group / "cgroup.procs").read_text().split():
                with contextlib.suppress(ProcessLookupError):
                    os.kill(int(pid), signal.SIGKILL)
            time.sleep(0.3)
        while self.disks:
            number = self.disks.pop().removeprefix("/dev/zram")
            (ZRAM / "hot_remove").write_text(number)
        self.note.unlink(missing_ok=True)
        if self.group.exists():
            with contextlib.suppress(OSError):
                self.group.rmdir()


@contextlib.contextmanager
def cleaned_up(disks: Disks) -> Iterator[None]:
    """Undo the set-up however the block ends."""

    def stop(number: int, _frame: FrameType | None) -> None:
        # A second signal must not cut the clean-up short.
        for s in (signal.SIGINT, signal.SIGTERM):
            signal.signal(s, signal.SIG_IGN)
        raise SystemExit(128 + number)

    for s in (signal.SIGINT, signal.SIGTERM):
        signal.signal(s, stop)
    try:
        yield
    finally:
        disks.teardown()
