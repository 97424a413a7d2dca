# SPDX-License-Identifier: MIT
"""What does a record cost beside attribute files, and the client's part of a decision?

The ring is memory of this process, of the kernel's layout, and is read by the same code
as the kernel's. The answer goes to /dev/null: what mlk.ko does with it is its own time,
see bench_kernel.py. The limits are a plain copy of the record, and that and a write().
"""

import ctypes
import mmap
import os
import struct
import subprocess
import tempfile
from pathlib import Path

from bench_attrs import one_value_files
from common import Bars, Figures, Rival, calls, interleave
from common import main as run_main

from pymlk.attrs import AttrSet
from pymlk.proxy import RingWriter

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent
ROUNDS = 40
N = 64
RECORDS = 1024
BARS: Bars = {
    "attribute files over the ring": (100.0, "min"),
    "open and read over the ring": (100.0, "min"),
    "record and answer over copy and write": (1.2, "max"),
}
TAKE, COPY, TAKE_AND_SEND, COPY_AND_WRITE = range(4)


def library() -> ctypes.CDLL:
    """Build proxy_loop.c with what the extension is made of."""
    compiler = os.environ.get("CC", "cc")
    with tempfile.TemporaryDirectory() as room:
        target = Path(room) / "proxy_loop.so"
        subprocess.run(
            [
                *(compiler, "-O2", "-std=gnu11", "-shared", "-fPIC", "-w"),
                *(f"-I{ROOT / 'pymlk'}", f"-I{ROOT / 'kernel/include/uapi'}"),
                *("-o", str(target), str(HERE / "proxy_loop.c")),
            ],
            check=True,
        )
        found = ctypes.CDLL(str(target))
    found.bench_loop.restype = ctypes.c_int64
    found.bench_loop.argtypes = (
        *(ctypes.c_int, ctypes.c_void_p, ctypes.c_size_t, ctypes.c_long),
    )
    return found


def full_ring() -> mmap.mmap:
    """A ring of samples of 64 values."""
    page, record = mmap.PAGESIZE, 24 + 8 * N
    memory = mmap.mmap(-1, page + RECORDS * record)
    header = (0x444B4C4D, 1, 48, page, record, RECORDS, N, 1, 0, 0, 0)
    struct.pack_into("<IHHIIIHHQQQ", memory, 0, *header)
    RingWriter(memory).flood(RECORDS)
    return memory


def read_files(paths: list[str]) -> None:
    """As a script does."""
    for path in paths:
        with open(path) as file:
            int(file.read())


def run(rounds: int) -> Figures:
    """Measure all in one process."""
    loops, memory = library(), full_ring()
    address = ctypes.addressof(ctypes.c_char.from_buffer(memory))

    def loop(what: int) -> Rival:
        def measure(inner: int) -> float:
            turns = inner * 100
            return float(loops.bench_loop(what, address, len(memory), turns)) / turns

        return measure

    paths = one_value_files(N)
    with AttrSet(paths) as attrs:
        found = interleave(
            {
                "take": loop(TAKE),
                "copy": loop(COPY),
                "answer": loop(TAKE_AND_SEND),
                "write": loop(COPY_AND_WRITE),
                "files": calls(attrs.read),
                "open": calls(lambda: read_files(paths)),
            },
            rounds,
            50,
        )
    ns = {name: spread.median for name, spread in found.items()}
    return {
        "64 values of the ring ns": ns["take"],
        "64 values copied ns": ns["copy"],
        "64 attribute files, kept open us": ns["files"] / 1000,
        "64 attribute files, open and read us": ns["open"] / 1000,
        "record and answer ns": ns["answer"],
        "copy and write ns": ns["write"],
        "attribute files over the ring": ns["files"] / ns["take"],
        "open and read over the ring": ns["open"] / ns["take"],
        "record over a copy": ns["take"] / ns["copy"],
        "record and answer over copy and write": ns["answer"] / ns["write"],
    }


def main() -> int:
    """Run from the command line."""
    return run_main(__doc__ or "", run, BARS, ROUNDS)


if __name__ == "__main__":
    raise SystemExit(main())
