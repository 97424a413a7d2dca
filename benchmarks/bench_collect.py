# SPDX-License-Identifier: MIT
"""What does recording snapshots cost, beside taking them and throwing them away?

Attributes: the readahead policy's six fields of one disk at 1 kHz, processor time of
the sampler's thread, beside the same thread that reads and keeps nothing (the limit: a
timer's wake-up and a read behind it, with cold caches), and beside open().read() and
CSV in Python. A ring: sixteen features at 10 kHz.
"""

import csv
import os
import statistics
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path

from common import Bars, Figures
from common import main as run_main

from pymlk import rows
from pymlk.attrs import AttrSet
from pymlk.emulator import Emulator
from pymlk.policy import load
from pymlk.proxy import Feature, Proxy
from pymlk.sampler import AttrSampler, RingSampler, Sampler

ROUNDS = 10
BARS: Bars = {
    "kept / thrown away ratio": (1.1, "max"),
    "16 fields at 10 kHz, of a processor percent": (2.0, "max"),
    "16 fields at 10 kHz, missed count": (0.0, "max"),
}
SECONDS = 0.5


def thread_ns(sampler: Sampler, feed: Callable[[], None], settle: float = 0.0) -> float:
    """Processor time of a sampler's thread while something is fed."""
    used: list[float] = []

    def run() -> None:
        start = time.thread_time_ns()
        sampler.run(settle)
        used.append(time.thread_time_ns() - start)

    thread = threading.Thread(target=run)
    thread.start()
    feed()
    sampler.stop()
    thread.join()
    return used[0]


def size(sampler: Sampler, n: int) -> tuple[int, int]:
    """Rows and bytes of what a sampler has."""
    blocks = sampler.blocks()
    for _, count, data in blocks:
        rows.decode(rows.block(0, count, data), n)
    return sum(count for _, count, _ in blocks), sum(len(b[2]) for b in blocks)


def attributes(specs: list[str], folder: Path) -> dict[str, float]:
    """One round of the three ways to record attributes."""
    with AttrSet(specs) as attrs:
        places = [list(range(len(specs)))]
        sampler = AttrSampler(attrs, places, 1000.0)
        used = thread_ns(sampler, lambda: time.sleep(SECONDS))
        count, length = size(sampler, len(specs))
        idle = AttrSampler(attrs, places, 1000.0)
        thrown = thread_ns(idle, lambda: time.sleep(SECONDS), 1e6)
        turns = range(500)
        start = time.thread_time_ns()
        for _ in turns:
            attrs.read()
        bare = (time.thread_time_ns() - start) / len(turns)
    with (folder / "rows.csv").open("w") as file:
        writer = csv.writer(file)
        start = time.thread_time_ns()
        for _ in turns:
            texts = [Path(spec.partition("[")[0]).read_text() for spec in specs]
            writer.writerow([time.monotonic_ns(), *map(len, texts)])
        python = (time.thread_time_ns() - start) / len(turns)
    return {
        "sampled at 1 kHz ns": used / count,
        "a read without sleep before it ns": bare,
        "kept / thrown away ratio": used / thrown,
        "Python's open().read() to CSV, unparsed ns": python,
        "1 kHz, of a processor percent": used / (SECONDS * 1e7),
        "six fields of a quiet disk bytes": length / count,
        "1 kHz, missed percent": 100 * sampler.missed(0) / (SECONDS * 1000),
    }


def ring(folder: Path) -> dict[str, float]:
    """One round of a kernel model that gives 10,000 samples a second."""
    with Emulator(folder) as kernel:
        features = [Feature(f"f{i}") for i in range(16)]
        model = kernel.register("bench", "one", features, [], records=1024)
        with Proxy("bench/one", root=kernel.root, write=False) as proxy:
            sampler = RingSampler(proxy, range(16), 1000.0)
            sent = 0

            def feed() -> None:
                nonlocal sent
                start = time.monotonic()
                while (past := time.monotonic() - start) < SECONDS:
                    while sent < past * 10_000:
                        sent += 1
                        row = [sent * (i + 1) * 37 % 1000 + sent for i in range(16)]
                        model._ring.write(1, row)
                    time.sleep(0.0005)
                time.sleep(0.01)

            used = thread_ns(sampler, feed)
            count, length = size(sampler, 16)
    return {
        "16 fields at 10 kHz, of a processor percent": used / (SECONDS * 1e7),
        "16 fields at 10 kHz ns": used / count,
        "16 fields that all move bytes": length / count,
        "16 fields at 10 kHz, missed count": float(sent - count),
    }


def run(rounds: int) -> Figures:
    """Measure."""
    plan = load("readahead", model=False)
    disk = next(
        name
        for name in sorted(os.listdir("/sys/block"))
        if not name.startswith(("loop", "ram", "zram"))
    )
    specs = [
        spec.replace("{device}", f"/sys/block/{disk}")
        for spec in plan["fields"].values()
    ]
    found: dict[str, list[float]] = {}
    for turn in range(rounds):
        with tempfile.TemporaryDirectory() as name:
            figures = attributes(specs, Path(name)) | ring(Path(name) / str(turn))
        for key, value in figures.items():
            found.setdefault(key, []).append(value)
    medians: Figures = {key: statistics.median(taken) for key, taken in found.items()}
    python = medians["Python's open().read() to CSV, unparsed ns"]
    medians["Python / sampled ratio"] = python / medians["sampled at 1 kHz ns"]
    return medians


def main() -> int:
    """Run from the command line."""
    return run_main(__doc__ or "", run, BARS, ROUNDS)


if __name__ == "__main__":
    raise SystemExit(main())
