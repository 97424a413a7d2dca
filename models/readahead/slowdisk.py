# SPDX-License-Identifier: MIT
"""A slow disk: a loop device behind cgroup limits, and with little page cache."""

import contextlib
import os
import shutil
import signal
import subprocess
import time
import zlib
from collections.abc import Iterator
from pathlib import Path
from types import FrameType

# name: (read requests per second, bytes per second)
PROFILES = {
    "2000iops-100mb": (2000, 100_000_000),
    "500iops-150mb": (500, 150_000_000),
    "8000iops-60mb": (8000, 60_000_000),
    "160iops-80mb": (160, 80_000_000),
    "1000iops-200mb": (1000, 200_000_000),
    "4000iops-120mb": (4000, 120_000_000),
}
MEMORY_LIMIT = 128 << 20
FILE_BYTES = 1 << 30
IMAGE_BYTES = 2560 << 20


class CollectError(Exception):
    """Something the user has to know or to repair."""


def call(*argv: str | Path) -> str:
    """Run a tool to its end; return what it printed."""
    try:
        done = subprocess.run(
            [str(a) for a in argv], check=True, capture_output=True, text=True
        )
    except FileNotFoundError as e:
        raise CollectError(f"{argv[0]}: not installed") from e
    except subprocess.CalledProcessError as e:
        raise CollectError(f"{argv[0]}: {e.stderr.strip()}") from e
    return done.stdout


class Bench:
    """The slow disk: image, loop device, file system, two control groups."""

    def __init__(self, work: Path, loop: str) -> None:
        self.work, self.loop = work, loop
        self.image, self.mount = work / "image", work / "mnt"
        # Of its own per directory: a teardown must not end another's programs.
        group = f"pymlk-readahead-{zlib.crc32(bytes(work)):08x}"
        self.block = Path("/sys/fs/cgroup/blkio") / group
        self.memory = Path("/sys/fs/cgroup/memory") / group

    def check(self) -> None:
        """Refuse early, with what is missing."""
        if os.geteuid():
            raise CollectError("needs root (loop device, mount, cgroups)")
        for group in (self.block, self.memory):
            if not (group.parent / "cgroup.procs").exists():
                raise CollectError(
                    f"{group.parent}: no cgroup v1 controller there; boot with "
                    "systemd.unified_cgroup_hierarchy=0"
                )
        if self.image.exists() or self.block.exists():
            raise CollectError("left over from an earlier run; use --teardown first")
        if shutil.disk_usage(self.work).free < IMAGE_BYTES + (1 << 30):
            raise CollectError(f"{self.work}: less than {IMAGE_BYTES >> 20} MiB free")

    def setup(self) -> None:
        """Make the disk, with one big file on it."""
        source = Path(__file__).resolve().with_name("reader.c")
        call("gcc", "-O2", "-Wall", source, "-o", self.work / "reader")
        with self.image.open("wb") as f:
            os.posix_fallocate(f.fileno(), 0, IMAGE_BYTES)
        # Direct: the image must not have a second copy in the host's page cache.
        where = [self.loop] if self.loop else ["--find", "--show"]
        options = ["--direct-io=on", *where, str(self.image)]
        self.loop = call("losetup", *options).strip() or self.loop
        call("mkfs.ext4", "-q", "-E", "lazy_itable_init=0", self.loop)
        self.mount.mkdir(exist_ok=True)
        call("mount", "-o", "noatime", self.loop, self.mount)
        for group in (self.block, self.memory):
            group.mkdir()
        (self.memory / "memory.limit_in_bytes").write_text(str(MEMORY_LIMIT))
        block = b"\1" * (1 << 20)
        with (self.mount / "file").open("wb") as f:
            for _ in range(FILE_BYTES >> 20):
                f.write(block)
        call("sync")

    @property
    def sys(self) -> Path:
        """Return the disk's directory in sysfs."""
        return Path("/sys/block") / Path(self.loop).name

    def prepare(self, profile: str, ra_kb: int) -> None:
        """Set knob and limits, and empty the page cache of this file system alone."""
        iops, bps = PROFILES[profile]
        for name, value in (("iops", 0), ("bps", 0)):
            self.limit(name, value)
        call("umount", self.mount)
        (self.sys / "queue/read_ahead_kb").write_text(str(ra_kb))
        call("mount", "-o", "noatime", self.loop, self.mount)
        for name, value in (("iops", iops), ("bps", bps)):
            self.limit(name, value)

    def limit(self, name: str, value: int) -> None:
        """Set one limit of the blkio controller; 0 lifts it."""
        number = (self.sys / "dev").read_text().strip()
        path = self.block / f"blkio.throttle.read_{name}_device"
        path.write_text(f"{number} {value}")

    def start(self, argv: list[str]) -> "subprocess.Popen[str]":
        """Start a program inside both control groups."""
        groups = f"{self.block}/cgroup.procs", f"{self.memory}/cgroup.procs"
        enter = 'echo $$ >"$0"; echo $$ >"$1"; shift; exec "$@"'
        return subprocess.Popen(
            ["sh", "-c", enter, *groups, *argv],
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )

    def teardown(self) -> None:
        """Undo whatever of the set-up is there; safe to call at any time."""
        if self.block.exists():
            for pid in (self.block / "cgroup.procs").read_text().split():
                with contextlib.suppress(ProcessLookupError):
                    os.kill(int(pid), signal.SIGKILL)
            time.sleep(0.2)
        if os.path.ismount(self.mount):
            call("umount", self.mount)
        if self.image.exists():
            for line in call("losetup", "-j", self.image).splitlines():
                call("losetup", "-d", line.partition(":")[0])
            self.image.unlink()
        for group in (self.block, self.memory):
            if group.exists():
                group.rmdir()
        (self.work / "reader").unlink(missing_ok=True)
        if self.mount.exists():
            self.mount.rmdir()


@contextlib.contextmanager
def cleaned_up(bench: Bench) -> Iterator[None]:
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
        bench.teardown()
