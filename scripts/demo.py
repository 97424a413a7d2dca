#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Run a command while a small reader keeps a real disk busy.

    demo.py [--seconds N] [--megabytes M] [--folder DIR] COMMAND...

The reader works on a temporary file, first sequentially, then at random, always
with the file's page cache dropped, so that the device is really read. It says on
the screen what it does. The file has no name once it is open, so nothing is left
behind however this ends. The exit status is the command's.
"""

import argparse
import contextlib
import mmap
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

PAGE = mmap.PAGESIZE
MEMORY_ONLY = {"tmpfs", "ramfs", "devtmpfs", "hugetlbfs"}


def say(text: str) -> None:
    """One line, at once: the command writes to the same screen."""
    print(f"load: {text}", flush=True)


def file_system(folder: str) -> str:
    """Type of the file system that holds a folder."""
    device = os.stat(folder).st_dev
    wanted = f"{os.major(device)}:{os.minor(device)}"
    found = "unknown type"
    with open("/proc/self/mountinfo", encoding="utf-8") as file:
        for line in file:
            fields = line.split()
            if fields[2] == wanted:
                found = fields[fields.index("-") + 1]
    return found


def make_file(folders: list[str], megabytes: int) -> tuple[int, str]:
    """Write a file to the first folder that is on a disk; it is unlinked at once."""
    for folder in folders:
        Path(folder).mkdir(parents=True, exist_ok=True)
        if file_system(folder) in MEMORY_ONLY:
            continue
        if shortage(folder, megabytes):
            continue
        fd, name = tempfile.mkstemp(prefix="pymlk-load-", dir=folder)
        os.unlink(name)
        # not zeros: some file systems and devices do not store those
        block = random.Random(1).randbytes(1 << 20)
        for _ in range(megabytes):
            os.write(fd, block)
        os.fsync(fd)
        return fd, folder
    raise OSError(f"no folder of {', '.join(folders)} is on a disk with room")


def shortage(folder: str, megabytes: int) -> bool:
    """Would the file leave the disk nearly full?"""
    state = os.statvfs(folder)
    return state.f_bavail * state.f_frsize < 4 * megabytes << 20


class Reader:
    """Reads a mapped file until told to stop, and counts the bytes it touched."""

    def __init__(self, fd: int, parent: int) -> None:
        self.fd = fd
        self.parent = parent
        self.size = os.fstat(fd).st_size

    def orphaned(self) -> bool:
        """Whoever started the reader is gone."""
        return os.getppid() != self.parent

    @contextlib.contextmanager
    def cold_map(self) -> Iterator[mmap.mmap]:
        """A map of the file without any of its pages in the cache."""
        # dirty or mapped pages would stay
        os.posix_fadvise(self.fd, 0, 0, os.POSIX_FADV_DONTNEED)
        view = mmap.mmap(self.fd, self.size, prot=mmap.PROT_READ)
        try:
            yield view
        finally:
            view.close()

    def sequential(self, until: float) -> int:
        """Touch every page in order, again and again."""
        touched = 0
        while True:
            with self.cold_map() as view:
                for place in range(0, self.size, PAGE):
                    view[place]
                    touched += PAGE
                    if place % (PAGE * 64) == 0:
                        # a bounded rate: a fast disk must not eat a whole CPU
                        time.sleep(0.001)
                        if time.monotonic() > until or self.orphaned():
                            return touched

    def random(self, until: float) -> int:
        """Touch pages in no order; the cache is dropped before it helps."""
        numbers = random.Random(2)
        touched = 0
        while True:
            with self.cold_map() as view:
                # read-around brings many pages a touch: few touches fill the cache
                for _ in range(512):
                    view[numbers.randrange(self.size)]
                    touched += PAGE
                    if time.monotonic() > until or self.orphaned():
                        return touched
                    time.sleep(0.0002)


def read(fd: int, seconds: float, parent: int) -> None:
    """The reader's process."""
    reader = Reader(fd, parent)
    half = seconds / 2
    start = time.monotonic()
    say(f"now sequential reads, for {half:.0f} s")
    touched = reader.sequential(start + half)
    say(f"read {touched >> 20} MB in order; now random 4 KB reads, for {half:.0f} s")
    touched = reader.random(start + seconds)
    say(f"touched {touched >> 10} KB at random; done")


def run(command: list[str], fd: int, seconds: float) -> int:
    """Run the command beside the reader; its exit status."""
    child = os.fork()
    if child == 0:
        # the terminal's Ctrl-C is for the command; we are ended by our parent
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        read(fd, seconds, os.getppid())
        os._exit(0)
    # The command gets Ctrl-C from the terminal itself and then closes in order; a
    # SIGTERM that only reaches us is passed on.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    process = subprocess.Popen(
        command, preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL)
    )
    signal.signal(signal.SIGTERM, lambda *_: process.terminate())
    try:
        status = process.wait()
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.kill(child, signal.SIGTERM)
        os.waitpid(child, 0)
    return status if status >= 0 else 128 - status


def main() -> int:
    """Parse the command line, make the file, run."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--seconds", type=float, default=10)
    parser.add_argument("--megabytes", type=int, default=256)
    parser.add_argument("--folder", default="build/load")
    parser.add_argument("command", nargs=argparse.REMAINDER)
    options = parser.parse_args()
    if not options.command:
        parser.error("no command")
    try:
        say(f"writing a temporary file of {options.megabytes} MB")
        fd, folder = make_file([options.folder, "/var/tmp"], options.megabytes)
    except OSError as error:
        say(f"none: {error}; the disks are watched as they are")
        return subprocess.call(options.command)
    say(f"file in {folder} ({file_system(folder)}), without a name: gone at exit")
    return run(options.command, fd, options.seconds)


if __name__ == "__main__":
    sys.exit(main())
