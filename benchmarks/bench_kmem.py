# SPDX-License-Identifier: MIT
"""How much of the kernel's memory does a policy hold, and what does holding less cost?

The files are those of the policy ``readahead``: two of a disk, one of procfs. Memory is
what a control group (version 1) accounts to the kernel, ``memory.kmem.usage_in_bytes``,
in whole pages: so 400 of a thing are made after 400 others are gone, and the growth is
divided. It is that between two reads; while a file is read, its own share is added. A
loop is all that one of ``pymlk run`` opens, waiting included. Whole processes have page
tables, mappings and a stack as well.

Times are those of a snapshot in this process: of files that are kept open, of files
that are opened in kept directories, and of the same system calls in C, with nothing
parsed. A loop sleeps in between, and others use the processor's caches: so each is also
taken after a sleep of the policy's interval, and that counts for the processor's share.
"""

import contextlib
import ctypes
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from bench_attrs import limits, medians, timed
from common import Bars, Figures, on_cpu
from common import main as run_main

from pymlk import AttrSet
from pymlk.devices import find_devices
from pymlk.policy import load

ROUNDS = 2000
BARS: Bars = {
    "loop bytes": (4096.0, "max"),
    "pymlk run: processor percent": (0.2, "max"),
}
MANY = 400
PROCESSES = 4
INTERVAL_S = 0.1
RESTED_ROUNDS = 60
SECONDS = 10
GROUPS = Path("/sys/fs/cgroup/memory")
USAGE = "memory.kmem.usage_in_bytes"
SIZE = 64 << 10

# Twice for nothing: then the heap, its page tables and what is cached are as they stay.
CHILD = """
import gc, os, resource, sys, time
from pymlk import AttrSet
from pymlk.loop import Loop
from pymlk.policy import load
from pymlk.serve import Server

usage, kind, many, disk, *fields = sys.argv[1:]
many = int(many)
plan = load("readahead")
plan["devices"], plan["skip"] = disk, []

def loop():
    server, loop = Server(), Loop(plan)
    server.add(loop)
    loop.step()
    loop.step()
    return server, loop

def attrs():
    attrs = AttrSet(fields, reopen=kind == "reopened")
    assert attrs.read() == attrs.read() == 0, attrs.errors()
    return attrs

def used():
    gc.collect()  # a server and its loops know each other
    time.sleep(0.1)  # what is freed with a delay
    with open(usage) as file:
        return int(file.read())

descriptors = 5 * many + 100
hard = max(descriptors, resource.getrlimit(resource.RLIMIT_NOFILE)[1])
resource.setrlimit(resource.RLIMIT_NOFILE, (descriptors, hard))
os.dup2(0, descriptors - 1)  # their table does not grow
make = loop if kind == "loop" else attrs
for _ in range(3):
    things = None
    before = used()
    things = [make() for _ in range(many)]
    after = used()
print((after - before) / many)
"""


def policy_fields(plan: dict[str, Any], disk: str) -> list[str]:
    """What the policy reads of a disk."""
    specs = [*plan["fields"].values(), plan["knob"]["path"]]
    return list(dict.fromkeys(spec.replace("{device}", disk) for spec in specs))


@contextlib.contextmanager
def group() -> Iterator[Path]:
    """A control group of our own."""
    path = Path(tempfile.mkdtemp(prefix="pymlk-kmem-", dir=GROUPS))
    try:
        yield path
    finally:
        path.rmdir()


def inside(
    path: Path, command: list[str], stderr: int | None = None
) -> subprocess.Popen[str]:
    """Start a Python in a control group."""
    enter = 'echo $$ > "$0/cgroup.procs" && exec "$@"'
    return subprocess.Popen(
        ["sh", "-c", enter, str(path), sys.executable, *command],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=stderr,
        text=True,
    )


def of_things(kind: str, disk: str, fields: list[str]) -> float:
    """Bytes of the kernel that one more of a kind holds."""
    with group() as path:
        words = [str(path / USAGE), kind, str(MANY), disk, *fields]
        child = inside(path, ["-P", "-c", CHILD, *words])
        answer, _ = child.communicate()
    if child.returncode:
        raise SystemExit(f"{kind}: ended with {child.returncode}")
    return float(answer)


def of_processes(command: list[str]) -> tuple[float, float]:
    """What a whole process holds, in bytes, and takes, in percent of a processor."""
    with group() as path:
        quiet = subprocess.DEVNULL
        children = [inside(path, command, quiet) for _ in range(PROCESSES)]
        try:
            time.sleep(2 + PROCESSES)
            start = time.monotonic_ns()
            before = sum(on_cpu(child.pid) for child in children)
            time.sleep(SECONDS)
            passed = time.monotonic_ns() - start
            used = sum(on_cpu(child.pid) for child in children) - before
            if any(child.poll() is not None for child in children):
                raise SystemExit(f"{command}: ended too early")
            held = int((path / USAGE).read_text())
            return held / PROCESSES, 100 * used / passed / PROCESSES
        finally:
            for child in children:
                child.kill()
                child.communicate()


def memory(disk: str, fields: list[str]) -> Figures:
    """What sets, a loop and whole processes hold."""
    if not (GROUPS / USAGE).exists() or not os.access(GROUPS, os.W_OK):
        return {"memory": f"not measured: needs root and {GROUPS / USAGE}"}
    kinds = ("held", "reopened", "loop")
    held, reopened, loop = (of_things(kind, disk, fields) for kind in kinds)
    bare, _ = of_processes(["-I", "-S", "-c", "import time; time.sleep(99)"])
    run = ["-P", "-m", "pymlk", "run", "--quiet", "readahead"]
    whole, percent = of_processes(run)
    files = len({field.partition("[")[0] for field in fields})
    return {
        "files": files,
        "held open bytes": held,
        "reopened bytes": reopened,
        "a file while it is read bytes": (held - reopened) / files,
        "loop bytes": loop,
        "bare python, whole process bytes": bare,
        "pymlk run, whole process bytes": whole,
        "pymlk run: processor percent": percent,
    }


def system_calls(fields: list[str]) -> dict[str, Callable[[], int]]:
    """The limits of both ways to read: C that parses nothing."""
    files = dict.fromkeys(os.path.realpath(f.partition("[")[0]) for f in fields)
    names = [os.fsencode(os.path.basename(file)) for file in files]
    folders = [os.path.dirname(file) for file in files]
    flags = os.O_PATH | os.O_CLOEXEC
    n = len(names)
    dirs = (ctypes.c_int * n)(*(os.open(folder, flags) for folder in folders))
    kept = (ctypes.c_int * n)(*(os.open(f, os.O_RDONLY | os.O_CLOEXEC) for f in files))
    pointers = (ctypes.c_char_p * n)(*names)
    library = limits()
    pread, reopen = library.mlk_pread_loop, library.mlk_reopen_loop
    pread.restype = reopen.restype = ctypes.c_int64
    return {
        "limit held": lambda: pread(kept, n, SIZE),
        "limit reopened": lambda: reopen(dirs, pointers, n, SIZE),
    }


def rested(call: Callable[[], int]) -> Callable[[], int]:
    """The same after a while in which the processor did something else."""

    def run() -> int:
        time.sleep(INTERVAL_S)
        return call()

    return run


def run(rounds: int) -> Figures:
    """Measure memory in other processes, times in this one."""
    plan = load("readahead")
    disks = find_devices(plan["devices"], plan["skip"])
    if not disks:
        return {"all": "not measured: no disk that the policy would decide on"}
    fields = policy_fields(plan, disks[0][1])
    figures = memory(disks[0][1], fields)
    with AttrSet(fields) as held, AttrSet(fields, reopen=True) as reopened:
        rivals = {"held": timed(held.read), "reopened": timed(reopened.read)}
        rivals |= system_calls(fields)
        warm = medians(rivals, rounds)
        cold = medians(
            {name: rested(call) for name, call in rivals.items()},
            min(rounds, RESTED_ROUNDS),
        )
    for when, got in ("", warm), (", rested", cold):
        figures |= {f"{name}{when} ns": value for name, value in got.items()}
        figures[f"held over limit{when}"] = got["held"] / got["limit held"]
        figures[f"reopened over limit{when}"] = got["reopened"] / got["limit reopened"]
    more = (cold["reopened"] - cold["held"]) * 1e-9
    figures["reopening: processor percent"] = 100 * more / INTERVAL_S
    return figures


def main() -> int:
    """Run from the command line."""
    return run_main((__doc__ or "").splitlines()[0], run, BARS, ROUNDS)


if __name__ == "__main__":
    raise SystemExit(main())
