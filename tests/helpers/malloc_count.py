# SPDX-License-Identifier: MIT
"""Counts the heap allocations (malloc and its kin) of a piece of Python.

A shim in C is preloaded into a fresh interpreter, so that allocations of C code
count, which tracemalloc does not see. By default Python's own small objects go
through malloc, too: then 0 means that really nothing was allocated.
"""

import atexit
import functools
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

_SOURCE = Path(__file__).with_suffix(".c")

_RUNNER = """
import ctypes, gc, itertools, os, sys
_count = ctypes.CDLL(None).malloc_count
_count.restype = ctypes.c_ulong
_space = {}
exec(compile(%(setup)r, "setup", "exec"), _space)
_code = "def _work(_turns):\\n for _ in _turns:\\n  " + %(work)r
exec(compile(_code, "work", "exec"), _space)
_work = _space["_work"]
_work(itertools.repeat(None, %(warm)d))
gc.collect()
gc.disable()
_turns = itertools.repeat(None, %(times)d)
_none = itertools.repeat(None, 0)
_work(_none)
_a = _count()
_work(_none)
_b = _count()
_work(_turns)
_c = _count()
os.write(1, b"\\nallocations %%d\\n" %% ((_c - _b) - (_b - _a)))
"""


class MallocCountError(Exception):
    """The piece of Python failed; the text is what it wrote to stderr."""


@functools.cache
def _shim() -> Path:
    room = tempfile.mkdtemp(prefix="malloc_count.")
    atexit.register(shutil.rmtree, room, ignore_errors=True)
    library = Path(room) / "malloc_count.so"
    cc = os.environ.get("CC") or shutil.which("cc") or "gcc"
    subprocess.run(
        [
            *cc.split(),
            "-O2",
            "-fno-builtin",
            "-shared",
            "-fPIC",
            "-o",
            library,
            _SOURCE,
        ],
        check=True,
    )
    return library


def count_mallocs(
    setup: str,
    work: str,
    times: int = 10_000,
    *,
    warm: int = 100,
    python_objects: bool = True,
) -> int:
    """Return how many allocations `times` runs of one statement make.

    Parameters
    ----------
    setup : str
        Python source that is run once before, and not counted.
    work : str
        One line of Python, which sees the names of `setup`.
    times, warm : int
        Counted runs, and uncounted ones before them.
    python_objects : bool
        Also count Python's small objects (``PYTHONMALLOC=malloc``).

    Returns
    -------
    int
        Calls of malloc, calloc, realloc and the aligned ones.

    Raises
    ------
    MallocCountError
        The source raised or crashed.
    """
    source = _RUNNER % {"setup": setup, "work": work, "times": times, "warm": warm}
    environment = dict(os.environ, LD_PRELOAD=str(_shim()))
    environment["PYTHONPATH"] = os.pathsep.join(filter(None, sys.path))
    if python_objects:
        environment["PYTHONMALLOC"] = "malloc"
    done = subprocess.run(
        [sys.executable, "-P", "-c", source],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise MallocCountError(done.stderr)
    return int(done.stdout.rsplit("allocations", 1)[1])
