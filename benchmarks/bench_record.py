# SPDX-License-Identifier: MIT
"""What does recording a decision cost, beside a bare write() of as many bytes?

Decisions of the readahead policy whose counters move as a busy disk's do, every half
a second, in the interface that the loop uses; both write to the same file system.
"""

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from common import Bars, Figures, calls, interleave
from common import main as run_main

from pymlk.engine import Program
from pymlk.features import Features
from pymlk.guard import Guard
from pymlk.policy import load
from pymlk.record import Recorder, segment_paths
from pymlk.replay import Replay

ROUNDS = 60
BARS: Bars = {
    # the encoding, its checksum and the bookkeeping
    "record / bare write ratio": (1.5, "max"),
    "record and write bytes": (64.0, "max"),
}
INNER = 1000

SOURCE = """
# cython: language_level=3
from libc.stdint cimport int8_t, int64_t, uint8_t, uint64_t
from libc.string cimport memset
from posix.time cimport CLOCK_MONOTONIC, clock_gettime, timespec
from posix.unistd cimport write
from pymlk.record cimport Recorder
from pymlk.stream cimport ASKED, KNOB_KNOWN, RecordedDecision


cdef int64_t now() noexcept nogil:
    cdef timespec t
    clock_gettime(CLOCK_MONOTONIC, &t)
    return <int64_t>t.tv_sec * 1000000000 + t.tv_nsec


cdef class Source:
    cdef Recorder recorder
    cdef RecordedDecision d
    cdef int64_t row[6]
    cdef uint8_t valid[1]
    cdef int8_t inputs[9]
    cdef int8_t outputs[5]
    cdef uint64_t state

    def __init__(self, recorder, int stream):
        self.recorder = recorder
        memset(&self.d, 0, sizeof(self.d))
        self.valid[0] = 255
        self.state = 88172645463325252
        self.d.stream, self.d.version, self.d.reason = stream, 1, 2
        self.d.row, self.d.valid = self.row, self.valid
        self.d.inputs, self.d.outputs = self.inputs, self.outputs
        self.d.flags = ASKED | KNOB_KNOWN
        self.d.current = self.d.target = self.d.wanted = 128
        self.row[2] = 128

    cdef int64_t some(self, int64_t most) noexcept nogil:
        self.state ^= self.state << 13
        self.state ^= self.state >> 7
        self.state ^= self.state << 17
        return <int64_t>(self.state % <uint64_t>most)

    cdef void next(self) noexcept nogil:
        cdef int i
        self.row[0] += self.some(3000)
        self.row[1] += self.some(200000)
        self.row[3] += self.some(20000)
        self.row[4] += self.some(2000)
        self.row[5] += self.some(500)
        for i in range(9):
            self.inputs[i] = <int8_t>self.some(256)
        for i in range(5):
            self.outputs[i] = <int8_t>(-128 + self.some(50))
        self.outputs[1] = 100
        self.d.choice = 1
        self.d.confidence = 228.0 / 256.0
        self.d.seq += 1
        self.d.time_ns += 500000000 + self.some(200000)
        self.d.seconds = 0.0 if self.d.seq == 1 else self.d.seconds
        self.d.latency_ns = 40000 + self.some(20000)
        self.d.judged_latency_ns = self.d.latency_ns - 300
        self.d.judged_ns = self.d.time_ns + 15000 + self.some(5000)

    def record(self, int count):
        cdef int64_t spent = 0, start, before
        cdef int i
        with nogil:
            for i in range(count):
                before = self.d.time_ns
                self.next()
                self.d.seconds = <double>(self.d.time_ns - before) * 1e-9
                start = now()
                self.recorder.decision(&self.d)
                spent += now() - start
        return spent / <double>count


def bare(int fd, bytes data, int count):
    cdef int64_t spent = 0, start
    cdef const char *p = data
    cdef Py_ssize_t n = len(data)
    cdef int i
    with nogil:
        for i in range(count):
            start = now()
            write(fd, p, n)
            spent += now() - start
    return spent / <double>count


def nothing(int count):
    cdef int64_t spent = 0, start
    cdef int i
    with nogil:
        for i in range(count):
            start = now()
            spent += now() - start
    return spent / <double>count
"""
BUILD = """
from Cython.Build import cythonize
from setuptools import Extension, setup
setup(name="client", ext_modules=cythonize([Extension("client", ["client.pyx"])]))
"""


def build(folder: Path) -> Any:
    """The client, as any Cython module would be built on the installed package."""
    (folder / "client.pyx").write_text(SOURCE)
    (folder / "setup.py").write_text(BUILD)
    command = [sys.executable, "-P", "setup.py", "-q", "build_ext", "--inplace"]
    done = subprocess.run(command, cwd=folder, text=True, capture_output=True)
    if done.returncode:
        raise RuntimeError(done.stderr)
    sys.path.insert(0, str(folder))
    import client  # type: ignore[import-not-found]

    return client


def make(folder: Path) -> tuple[Recorder, int]:
    """A recorder with one stream of the readahead policy."""
    plan = load("readahead")
    fields = {name: (i, 1) for i, name in enumerate(plan["fields"])}
    quant = Program(plan["program"]).inputs[0]
    features = Features(
        plan["features"], fields, quant["scale"] or 1.0, quant["zero_point"] or 0
    )
    recorder = Recorder(str(folder / "log"), plan, segment_bytes=256 << 20)
    guard = Guard.of_policy(plan, False)
    return recorder, recorder.add_stream("vda", features, guard, fields)


def replay_ns(folder: Path) -> float:
    """Time to compute one decision again."""
    start = time.perf_counter_ns()
    replay = Replay(str(folder / "log"))
    for _ in replay:
        pass
    return (time.perf_counter_ns() - start) / max(1, replay.decisions)


def run(rounds: int) -> Figures:
    """Measure."""
    with tempfile.TemporaryDirectory(dir=".") as name:
        folder = Path(name).resolve()
        client = build(folder)
        recorder, stream = make(folder)
        ((_, path),) = segment_paths(recorder.folder)
        source = client.Source(recorder, stream)
        before = os.path.getsize(path)
        source.record(INNER)
        each = (os.path.getsize(path) - before) / INNER
        data = bytes(range(256))[: round(each)]
        fd = os.open(folder / "bare", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        rivals = {
            "record": source.record,
            "write": lambda inner: client.bare(fd, data, inner),
            "clock": client.nothing,
            "tick": calls(recorder.tick),
        }
        spreads = interleave(rivals, rounds, INNER)
        os.close(fd)
        recorder.close()
        clock = spreads["clock"].median
        record, write = (spreads[k].median - clock for k in ("record", "write"))
        figures: Figures = {
            "record and write ns": record,
            "bare write ns": write,
            "encode and bookkeeping ns": record - write,
            "record / bare write ratio": record / write,
            "tick with nothing to do ns": spreads["tick"].median,
            "record and write bytes": each,
            "decisions in 8 MiB count": (8 << 20) / each,
            "not recorded count": recorder.missed,
            "replay of one decision ns": replay_ns(folder),
        }
    return figures


def main() -> int:
    """Run from the command line."""
    return run_main(__doc__ or "", run, BARS, ROUNDS)


if __name__ == "__main__":
    raise SystemExit(main())
