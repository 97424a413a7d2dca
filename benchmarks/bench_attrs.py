# SPDX-License-Identifier: MIT
"""Time snapshots of sysfs/procfs text, beside every other way to take them.

Every rival runs once a round, in one process, in an order that changes from round
to round; each figure is a rival's median, each ratio the quotient of two medians of
the same run. The limit is a C loop of ``pread`` on kept descriptors that parses
nothing: what the kernel itself takes.

    python benchmarks/bench_attrs.py [--rounds N] [--json]
"""

import argparse
import ctypes
import functools
import glob
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from pymlk.attrs import AttrSet

HERE = Path(__file__).resolve().parent

# figure: (the ratio it is the bar of, bar, "max" or "min")
BARS = {
    "read_over_limit_64": (1.10, "max"),
    "python_over_read_64": (15.0, "min"),
    "psutil_over_read_64": (1.5, "min"),
    "psutil_over_read_calls": (1.5, "min"),
}

# The text that the kernel keeps for a whole system: several records a file.
MIXED = {
    "/proc/stat": (
        "cpu.0",
        "cpu.2",
        "cpu.3",
        "cpu.4",
        "cpu0.0",
        "ctxt",
        "processes",
        "procs_running",
        "softirq.0",
    ),
    "/proc/meminfo": (
        "MemTotal",
        "MemFree",
        "MemAvailable",
        "Cached",
        "Dirty",
        "Writeback",
        "SwapFree",
    ),
    "/proc/vmstat": (
        "nr_free_pages",
        "nr_dirty",
        "pgpgin",
        "pgpgout",
        "pgfault",
        "pgmajfault",
        "pgscan_kswapd",
        "workingset_refault_file",
    ),
    "/proc/loadavg": ("0", "1", "2"),
    "/proc/uptime": ("0",),
    "/proc/diskstats": (),
    "/proc/interrupts": ("LOC.0", "RES.0"),
    "/proc/softirqs": ("TIMER.0", "BLOCK.0", "SCHED.0"),
    "/proc/net/dev": ("lo.0", "lo.8"),
    "/proc/net/sockstat": ("TCP.inuse", "UDP.inuse"),
    "/proc/pressure/cpu": ("some.avg10", "some.total"),
    "/proc/pressure/io": ("some.avg10", "full.avg10", "full.total"),
    "/proc/pressure/memory": ("some.avg10", "full.total"),
    "/proc/self/statm": ("0", "1"),
    "/proc/self/io": ("rchar", "read_bytes"),
    "/proc/sys/fs/file-nr": ("0",),
    "/proc/buddyinfo": ("Node.3",),
    "/proc/self/stat": ("13", "14"),
}


def one_value_files(n: int) -> list[str]:
    """Return n sysfs files of one number each, spread over subsystems."""
    patterns = (
        "/sys/block/*/queue/*",
        "/sys/class/net/*/statistics/*",
        "/sys/class/net/*/*",
        "/sys/block/*/*",
    )
    found: list[str] = []
    for pattern in patterns:
        found += sorted(glob.glob(pattern))
    good = []
    for path in found:
        try:
            with open(path) as file:
                int(file.read())
        except (OSError, ValueError):
            continue
        good.append(path)
    if len(good) < n:
        sys.exit(f"this machine has only {len(good)} one-value files, wanted {n}")
    step = len(good) / n
    return [good[int(i * step)] for i in range(n)]


def limits() -> ctypes.CDLL:
    """Build pread_loop.c, and load it."""
    cc = os.environ.get("CC") or shutil.which("cc") or "gcc"
    with tempfile.TemporaryDirectory() as room:
        library = Path(room) / "pread_loop.so"
        subprocess.run(
            [cc, "-O2", "-shared", "-fPIC", "-o", library, HERE / "pread_loop.c"],
            check=True,
        )
        return ctypes.CDLL(str(library))


def c_loop() -> Callable[[list[int], int], int]:
    """Return a function (descriptors, size) -> nanoseconds of a pread each."""
    loop = limits().mlk_pread_loop
    loop.restype = ctypes.c_int64

    def run(descriptors: list[int], size: int) -> Callable[[], int]:
        array = (ctypes.c_int * len(descriptors))(*descriptors)
        return functools.partial(loop, array, len(descriptors), size)

    return run  # type: ignore[return-value]


def timed(call: Callable[[], Any]) -> Callable[[], int]:
    """Turn a call into one that returns its own duration in nanoseconds."""
    clock = time.perf_counter_ns

    def run() -> int:
        start = clock()
        call()
        return clock() - start

    return run


def medians(rivals: dict[str, Callable[[], int]], rounds: int) -> dict[str, float]:
    """Run all rivals interleaved; return the median nanoseconds of each."""
    names = list(rivals)
    times: dict[str, list[int]] = {name: [] for name in names}
    for name in names:
        for _ in range(3):
            rivals[name]()
    for turn in range(rounds):
        shift = turn % len(names)
        for name in names[shift:] + names[:shift]:
            times[name].append(rivals[name]())
    return {name: statistics.median(values) for name, values in times.items()}


def python_open_read(paths: list[str]) -> Callable[[], list[int]]:
    """Return what most scripts do: open, read, int, for every file."""

    def run() -> list[int]:
        out = []
        for path in paths:
            with open(path) as file:
                out.append(int(file.read()))
        return out

    return run


def python_kept(paths: list[str]) -> Callable[[], list[int]]:
    """Return the best of plain Python: kept descriptors and os.pread."""
    descriptors = [os.open(path, os.O_RDONLY | os.O_CLOEXEC) for path in paths]
    pread = os.pread
    return lambda: [int(pread(fd, 4096, 0)) for fd in descriptors]


def psutil_cat(paths: list[str]) -> Callable[[], list[int]]:
    """Return psutil's own way to one-value files: what its sensors_* calls use."""
    from psutil._common import bcat

    return lambda: [int(bcat(path)) for path in paths]


def psutil_calls() -> tuple[Callable[[], Any], list[str]]:
    """Return psutil's public calls, and the fields which give the same numbers."""
    import psutil

    def run() -> Any:
        return (
            psutil.virtual_memory(),
            psutil.swap_memory(),
            psutil.cpu_times(percpu=True),
            psutil.disk_io_counters(perdisk=True),
            psutil.net_io_counters(pernic=True),
        )

    cpus = range(os.cpu_count() or 1)
    fields = [
        f"/proc/meminfo[{key}]"
        for key in (
            "MemTotal MemFree MemAvailable Buffers Cached Shmem Active Inactive "
            "Slab SReclaimable SwapTotal SwapFree"
        ).split()
    ]
    fields += ["/proc/vmstat[pswpin]", "/proc/vmstat[pswpout]"]
    fields += [f"/proc/stat[cpu{cpu}.{i}]" for cpu in cpus for i in range(10)]
    fields += [f"/sys/block/*/stat[{i}]" for i in (0, 1, 2, 3, 4, 5, 6, 7, 9)]
    nics = sorted(os.listdir("/sys/class/net"))
    fields += [f"/proc/net/dev[{nic}.{i}]" for nic in nics for i in range(16)]
    return run, fields


def run(rounds: int) -> dict[str, Any]:
    """Run everything; return figures (nanoseconds and ratios) by name."""
    loop = c_loop()
    figures: dict[str, Any] = {"rounds": rounds}

    paths = one_value_files(64)
    one = AttrSet(paths)
    for _ in range(100):  # a counter may move between the two
        assert one.read() == 0, one.errors()
        if list(one.row) == python_open_read(paths)():
            break
    else:
        sys.exit("AttrSet and Python read different numbers")
    kept = [os.open(path, os.O_RDONLY | os.O_CLOEXEC) for path in paths]
    rivals = {
        "limit": loop(kept, 4096),
        "read": timed(one.read),
        "kept": timed(python_kept(paths)),
        "python": timed(python_open_read(paths)),
        "psutil": timed(psutil_cat(paths)),
    }
    got = medians(rivals, rounds)  # type: ignore[arg-type]
    figures |= {f"{name}_64_ns": value for name, value in got.items()}
    figures["read_over_limit_64"] = got["read"] / got["limit"]
    figures["kept_over_read_64"] = got["kept"] / got["read"]
    figures["python_over_read_64"] = got["python"] / got["read"]
    figures["psutil_over_read_64"] = got["psutil"] / got["read"]

    mixed_paths = [path for path in MIXED if os.path.exists(path)][:16]
    mixed = AttrSet(
        [
            f"{path}[{selector}]"
            for path in mixed_paths
            for selector in MIXED[path] or ("7.10",)
        ]
    )
    mixed.read()
    size = 64 << 10
    rivals = {
        "limit": loop([os.open(path, os.O_RDONLY) for path in mixed_paths], size),
        "read": timed(mixed.read),
        "python": timed(lambda: [Path(path).read_text() for path in mixed_paths]),
    }
    got = medians(rivals, rounds)  # type: ignore[arg-type]
    figures["mixed_files"] = len(mixed_paths)
    figures["mixed_fields"] = len(mixed)
    figures["mixed_invalid"] = [error.name for error in mixed.errors()]
    figures |= {f"{name}_mixed_ns": value for name, value in got.items()}
    figures["read_over_limit_mixed"] = got["read"] / got["limit"]

    call, fields = psutil_calls()
    same = AttrSet(fields)
    same.read()
    got = medians({"read": timed(same.read), "psutil": timed(call)}, rounds)
    figures["calls_fields"] = len(same)
    figures |= {f"{name}_calls_ns": value for name, value in got.items()}
    figures["psutil_over_read_calls"] = got["psutil"] / got["read"]
    return figures


def verdict(figures: dict[str, Any], name: str) -> tuple[str, bool]:
    """Return one line about a bar, and whether it is met."""
    bar, side = BARS[name]
    met = figures[name] <= bar if side == "max" else figures[name] >= bar
    sign = "<=" if side == "max" else ">="
    word = "met" if met else "MISSED"
    return f"{name:26} {figures[name]:8.3f}   bar {sign} {bar:<6g} {word}", met


def main(arguments: list[str] | None = None) -> int:
    """Print the figures; exit status 1 if a bar is missed."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--rounds", type=int, default=2000)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args(arguments)
    figures = run(options.rounds)
    lines = [verdict(figures, name) for name in BARS]
    if options.json:
        figures["bars"] = {name: list(bar) for name, bar in BARS.items()}
        print(json.dumps(figures, indent=1))
    else:
        print(f"medians of {options.rounds} interleaved rounds, microseconds")
        for name, value in figures.items():
            if name.endswith("_ns"):
                print(f"  {name[:-3]:24} {value / 1000:10.2f}")
        print(
            f"  mixed: {figures['mixed_fields']} fields of {figures['mixed_files']} "
            f"files, {figures['read_over_limit_mixed']:.3f} x the bare preads"
        )
        print(f"  calls: {figures['calls_fields']} fields that psutil gives, too")
        for line, _ in lines:
            print(line)
    return 0 if all(met for _, met in lines) else 1


if __name__ == "__main__":
    sys.exit(main())
