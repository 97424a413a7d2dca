# SPDX-License-Identifier: MIT
"""The C engine without Python around it: built once per session, called by ctypes."""

import ctypes
import functools
import os
import shutil
import subprocess
import tempfile
from pathlib import Path

from helpers.need import absent
from helpers.reference import ROOT

ENGINE = ROOT / "kernel" / "engine"
SOURCES = sorted(ENGINE.glob("mlk_*.c"))


class Diag(ctypes.Structure):
    """struct mlk_diag."""

    _fields_ = (
        ("reason", ctypes.c_int32),
        ("op", ctypes.c_int32),
        ("tensor", ctypes.c_int32),
    )


class Speed(ctypes.Structure):
    """struct mlk_speed."""

    _fields_ = (
        ("op_ps", ctypes.c_uint32),
        ("mac_ps", ctypes.c_uint32),
        ("item_ps", ctypes.c_uint32),
    )


class Limits(ctypes.Structure):
    """struct mlk_limits."""

    _fields_ = (
        ("arena_bytes", ctypes.c_uint32),
        ("macs", ctypes.c_uint64),
        ("ns", ctypes.c_uint64),
        ("speed", ctypes.POINTER(Speed)),
    )


def compiler(name: str = "") -> str:
    """Path of a C compiler; `name` empty for the machine's own."""
    wanted = name or os.environ.get("CC") or "cc"
    found = shutil.which(wanted)
    if found is None:
        absent(f"no C compiler {wanted!r}")
    return found


def compile_c(target: Path, *arguments: str, cc: str = "") -> None:
    """Run a C compiler; what it complains about is the failure's text."""
    command = [compiler(cc), *arguments, "-I", str(ENGINE), "-o", str(target)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{' '.join(command)}\n{done.stderr}"


@functools.cache
def engine() -> ctypes.CDLL:
    """The engine with the shim, as a shared library."""
    target = Path(tempfile.mkdtemp(prefix="mlk_engine.")) / "engine.so"
    shim = Path(__file__).with_name("engine_shim.c")
    flags = ("-std=gnu11", "-O2", "-g0", "-shared", "-fPIC", "-Wall", "-Werror")
    compile_c(target, *flags, str(shim), *map(str, SOURCES))
    library = ctypes.CDLL(str(target))
    library.mlk_reason_text.restype = ctypes.c_char_p
    library.mlk_program_checksum.restype = ctypes.c_uint64
    for shim_function in ("mul_high", "round_shift", "requant", "clamp"):
        getattr(library, f"shim_{shim_function}").restype = ctypes.c_int32
    return library


def verify(
    program: bytes,
    limits: Limits | None = None,
    *,
    size: int | None = None,
    misaligned: int = 0,
) -> tuple[int, Diag]:
    """Call mlk_program_verify on a copy that is aligned, or off by some bytes."""
    room = ctypes.create_string_buffer(len(program) + 64)
    start = ctypes.addressof(room)
    start += -start % 32 + misaligned
    ctypes.memmove(start, program, len(program))
    diag = Diag(-1, -2, -2)
    rc = engine().mlk_program_verify(
        ctypes.c_void_p(start),
        ctypes.c_size_t(len(program) if size is None else size),
        ctypes.byref(limits) if limits is not None else None,
        ctypes.byref(diag),
    )
    return rc, diag
