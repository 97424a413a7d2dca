#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""A slow disk: a loop device behind cgroup limits, and with little page cache.

WORK/root has what a policy reads of it, and nothing of other disks and programs: the
disk as /sys/block/slow, and as /proc/vmstat the counters of its programs' control
group. `pymlk collect` and `pymlk run` take it as --root.
"""

import argparse
import contextlib
import os
import re
import shutil
import signal
import subprocess
import sys
import time
import zlib
from pathlib import Path

MEMORY_LIMIT = 128 << 20
FILE_BYTES = 1 << 30
IMAGE_BYTES = 2560 << 20
DB_KEYS = 1_500_000
DB_ENTRY_BYTES = 420
COMMANDS = "setup prepare exec db scan".split()
EPILOG = """\
examples:
  sudo ./slowdisk.py WORK setup                    make the disk, a file, a database
  sudo ./slowdisk.py WORK prepare 500iops-150mb    new limits, an empty page cache
  sudo ./slowdisk.py WORK exec WORK/reader WORK/mnt/file rand 5 1 mmap
  sudo ./slowdisk.py WORK db --benchmarks=readrandom --duration=5
  sudo ./slowdisk.py WORK scan readseq 500iops-150mb 128 5
  sudo ./slowdisk.py WORK teardown

Needs root, cgroup v1 (blkio and memory), losetup, mkfs.ext4, gcc, and db_bench
(Debian: rocksdb-tools).
"""


class SlowDiskError(Exception):
    """Something the user has to know or to repair."""


def call(*argv: str | Path) -> str:
    """Run a tool to its end; return what it printed."""
    try:
        done = subprocess.run(
            [str(a) for a in argv], check=True, capture_output=True, text=True
        )
    except FileNotFoundError as e:
        raise SlowDiskError(f"{argv[0]}: not installed") from e
    except subprocess.CalledProcessError as e:
        raise SlowDiskError(f"{argv[0]}: {e.stderr.strip()}") from e
    return done.stdout


def limits_of(profile: str) -> tuple[int, int]:
    """Read requests and bytes per second."""
    match = re.fullmatch(r"(\d+)iops-(\d+)mb", profile)
    if not match:
        raise SlowDiskError(f"{profile!r} found, expected such as 500iops-150mb")
    return int(match[1]), int(match[2]) * 1_000_000


class SlowDisk:
    """Image, loop device, file system, two control groups; all named by a folder."""

    def __init__(self, work: Path) -> None:
        self.work = work.resolve()
        # In memory: a real disk below would be slow whenever others use it.
        self.memory_fs = self.work / "memory"
        self.image, self.mount = self.memory_fs / "image", self.work / "mnt"
        self.root = self.work / "root"
        # Of its own per directory: a teardown must not end another's programs.
        group = f"pymlk-slow-{zlib.crc32(bytes(self.work)):08x}"
        self.block = Path("/sys/fs/cgroup/blkio") / group
        self.memory = Path("/sys/fs/cgroup/memory") / group

    def check(self) -> None:
        """Refuse early, with what is missing."""
        if os.geteuid():
            raise SlowDiskError("needs root (loop device, mount, cgroups)")
        for group in (self.block, self.memory):
            if not (group.parent / "cgroup.procs").exists():
                raise SlowDiskError(
                    f"{group.parent}: no cgroup v1 controller there; boot with "
                    "systemd.unified_cgroup_hierarchy=0"
                )
        if os.path.ismount(self.memory_fs) or self.block.exists():
            raise SlowDiskError(f"{self.work}: there is one already: teardown first")
        # MemAvailable's line is "MemAvailable:   12345 kB"
        text = Path("/proc/meminfo").read_text().partition("MemAvailable:")[2]
        if int(text.split()[0]) << 10 < IMAGE_BYTES + (1 << 30):
            raise SlowDiskError(f"less than {(IMAGE_BYTES >> 20) + 1024} MiB available")

    def setup(self) -> None:
        """Make the disk, with one big file and a database on it."""
        self.work.mkdir(parents=True, exist_ok=True)
        self.check()
        source = Path(__file__).resolve().with_name("reader.c")
        call("gcc", "-O2", "-Wall", source, "-o", self.work / "reader")
        self.memory_fs.mkdir(exist_ok=True)
        size = f"size={IMAGE_BYTES + (64 << 20)}"
        call("mount", "-t", "tmpfs", "-o", size, "tmpfs", self.memory_fs)
        with self.image.open("wb") as f:
            f.truncate(IMAGE_BYTES)
        call("losetup", "--find", self.image)
        call("mkfs.ext4", "-q", "-E", "lazy_itable_init=0", self.loop)
        self.mount.mkdir(exist_ok=True)
        call("mount", "-o", "noatime", self.loop, self.mount)
        for group in (self.block, self.memory):
            group.mkdir()
        (self.memory / "memory.limit_in_bytes").write_text(str(MEMORY_LIMIT))
        for link, to in (
            ("sys/block/slow", self.sys),
            ("proc/vmstat", self.memory / "memory.stat"),
        ):
            (self.root / link).parent.mkdir(parents=True, exist_ok=True)
            (self.root / link).unlink(missing_ok=True)
            (self.root / link).symlink_to(to)
        block = b"\1" * (1 << 20)
        with (self.mount / "file").open("wb") as f:
            for _ in range(FILE_BYTES >> 20):
                f.write(block)
        call(*self.db("--use_existing_db=0", "--benchmarks=fillseq"))
        call("sync")

    @property
    def loop(self) -> str:
        """The loop device of the image."""
        found = call("losetup", "-j", self.image).partition(":")[0]
        if not found:
            raise SlowDiskError(f"{self.work}: there is no disk: setup first")
        return found

    @property
    def sys(self) -> Path:
        """The disk's directory in sysfs."""
        return Path("/sys/block") / Path(self.loop).name

    @property
    def knob(self) -> Path:
        """Where the read-ahead size is."""
        return self.sys / "queue/read_ahead_kb"

    def prepare(self, profile: str) -> None:
        """Set limits, and empty the page cache of this file system alone."""
        iops, bps = limits_of(profile)
        self.limit(0, 0)
        call("umount", self.mount)
        call("mount", "-o", "noatime", self.loop, self.mount)
        self.limit(iops, bps)

    def limit(self, iops: int, bps: int) -> None:
        """Set both limits of the blkio controller; 0 lifts one."""
        number = (self.sys / "dev").read_text().strip()
        for name, value in (("iops", iops), ("bps", bps)):
            path = self.block / f"blkio.throttle.read_{name}_device"
            path.write_text(f"{number} {value}")

    def enter(self) -> None:
        """Put this process into both control groups."""
        for group in (self.block, self.memory):
            (group / "cgroup.procs").write_text(str(os.getpid()))

    def db(self, *more: str) -> list[str]:
        """A call of db_bench on the database."""
        return [
            *["db_bench", f"--db={self.mount}/db", f"--num={DB_KEYS}"],
            *["--value_size=400", "--key_size=16", "--compression_type=none"],
            *["--cache_size=8388608", "--open_files=500", "--disable_wal=1"],
            "--disable_auto_compactions=1",
            # Without mmap RocksDB's own hints hide the knob.
            *["--mmap_read=1", "--advise_random_on_open=0"],
            # The default, 1000, is many seconds on a slow disk.
            *["--ops_between_duration_checks=16", "--seek_nexts=20"],
            *["--use_existing_db=1", *more],
        ]

    def scan(self, kind: str, profile: str, ra_kb: str, seconds: str) -> list[str]:
        """A scan of about that length: db_bench knows no time limit for it."""
        iops, bps = limits_of(profile)
        reads = min(iops * int(ra_kb) * 1024, bps) * float(seconds) / DB_ENTRY_BYTES
        # a mapped scan gets about half of what the limits allow
        bound = min(DB_KEYS, int(reads / 2))
        return self.db(f"--benchmarks={kind}", f"--reads={bound}")

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
        if os.path.ismount(self.memory_fs):
            call("umount", self.memory_fs)
            self.memory_fs.rmdir()
        for group in (self.block, self.memory):
            if group.exists():
                group.rmdir()
        (self.work / "reader").unlink(missing_ok=True)
        shutil.rmtree(self.root, ignore_errors=True)
        if self.mount.exists():
            self.mount.rmdir()


def main() -> int:
    """Read the command line and do what it says."""
    parser = argparse.ArgumentParser(
        description=(__doc__ or "").partition("\n")[0],
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("work", type=Path, help="folder of the disk")
    parser.add_argument("what", choices=[*COMMANDS, "teardown"], help="what to do")
    parser.add_argument("words", nargs=argparse.REMAINDER, help="profile or command")
    args = parser.parse_args()
    disk = SlowDisk(args.work)
    try:
        if args.what == "setup":
            disk.setup()
        elif args.what == "prepare":
            disk.prepare(*args.words)
        elif args.what == "teardown":
            disk.teardown()
        else:
            disk.enter()
            words = list(args.words)
            if args.what == "db":
                words = disk.db(*words)
            elif args.what == "scan":
                words = disk.scan(*words)
            os.execvp(words[0], words)
    except (SlowDiskError, OSError) as e:
        print(f"slowdisk.py: {e}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
